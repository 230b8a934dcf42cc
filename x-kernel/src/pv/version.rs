//! `xen_version`: what the hypervisor is and which features of the ABI it offers.

use xen_abi::errno::Errno;
use xen_abi::version::{
    FeatureInfo, XENFEAT_gnttab_map_avail_bits, XENFEAT_mmu_pt_update_preserve_ad, XENFEAT_pae_pgdir_above_4gb, XENVER_capabilities,
    XENVER_changeset, XENVER_commandline, XENVER_compile_info, XENVER_extraversion, XENVER_get_features, XENVER_guest_handle,
    XENVER_pagesize, XENVER_platform_parameters, XENVER_version,
};

use super::hypercall::{Args, HcCx, HcResult, OK, Outcome};
use crate::mm::layout;

/// The version whose PV ABI is followed: 4.17.
const VERSION: i64 = 4 << 16 | 17;

/// A string in a zeroed field of `N` bytes, so that no stale byte leaves the X-Kernel (XSA-122).
fn field<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    for (to, from) in bytes.iter_mut().zip(text.bytes().take(N.saturating_sub(1))) {
        *to = from;
    }
    bytes
}

/// `struct xen_compile_info`: compiler, who, where, when.
fn compile_info() -> [u8; 64 + 16 + 32 + 32] {
    let mut all = [0; 144];
    let (compiler, rest) = all.split_at_mut(64);
    compiler.copy_from_slice(&field::<64>("rustc"));
    let (by, rest) = rest.split_at_mut(16);
    by.copy_from_slice(&field::<16>("x-containers"));
    let (domain, _) = rest.split_at_mut(32);
    domain.copy_from_slice(&field::<32>("invalid"));
    all
}

/// `xen_version(cmd, arg)`.
///
/// # Errors
/// `-EFAULT`, `-EINVAL` for an unknown feature page, `-ENOSYS` for an unknown command.
pub fn xen_version(cx: &mut HcCx<'_>, args: &mut Args) -> HcResult {
    let command = args.u32::<0>();
    match command {
        c if c == XENVER_version => return Ok(Outcome::Done(VERSION)),
        c if c == XENVER_pagesize => return Ok(Outcome::Done(4096)),
        c if c == XENVER_extraversion => args.ptr::<[u8; 16], 1>().write(&field(".0-x-kernel"))?,
        c if c == XENVER_compile_info => args.ptr::<[u8; 144], 1>().write(&compile_info())?,
        c if c == XENVER_capabilities => args.ptr::<[u8; 1024], 1>().write(&field("xen-3.0-x86_64 "))?,
        c if c == XENVER_changeset => args.ptr::<[u8; 64], 1>().write(&field("x-kernel"))?,
        c if c == XENVER_platform_parameters => args.ptr::<u64, 1>().write(&layout::M2P_BASE)?,
        c if c == XENVER_commandline => args.ptr::<[u8; 1024], 1>().write(&field(""))?,
        c if c == XENVER_guest_handle => args.ptr::<[u8; 16], 1>().write(&[0; 16])?,
        c if c == XENVER_get_features => {
            let pointer = args.ptr::<FeatureInfo, 1>();
            let mut info = pointer.read()?;
            if info.submap_idx != 0 {
                return Err(Errno::EINVAL);
            }
            info.submap = [XENFEAT_pae_pgdir_above_4gb, XENFEAT_mmu_pt_update_preserve_ad, XENFEAT_gnttab_map_avail_bits]
                .into_iter()
                .fold(0, |map, bit| map | 1 << bit);
            if cx.domain.initial {
                info.submap |= 1 << xen_abi::version::XENFEAT_dom0;
            }
            pointer.write(&info)?;
        }
        _ => return Err(Errno::ENOSYS),
    }
    OK
}
