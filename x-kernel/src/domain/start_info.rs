//! What a guest finds when it starts: the start_info page, and the hypercall page where its kernel has one.

use dom_image::Layout;
use xen_abi::hypercall::{HYPERCALL_STUB_BYTES, stub};
use xen_abi::shared_info::offset;
use xen_abi::start_info::{MAX_GUEST_CMDLINE, SIF_INITDOMAIN, SIF_MOD_START_PFN, SIF_PRIVILEGED, StartInfo};

use super::build::{Memory, console_port};
use super::{Domain, console};
use crate::arch::x86_64::rtc;
use crate::mm::window::FrameWindow;

/// Writes start_info, and the wall clock into shared_info.
pub fn write(domain: &Domain, plan: &Layout, memory: &Memory, initrd_len: u64, cmdline: &str) -> Option<()> {
    let mut info = StartInfo::default();
    info.magic[..14].copy_from_slice(b"xen-3.0-x86_64");
    info.nr_pages = domain.max_pages.load(core::sync::atomic::Ordering::Relaxed);
    info.shared_info = domain.shared_info.maddr().raw();
    if domain.initial {
        info.flags = SIF_INITDOMAIN | SIF_PRIVILEGED;
    }
    // An initial domain is offered one: not every kernel knows how to be one, and it looks for its console here then. One
    // that does reads a frame buffer's description from the same words, of length 0, the frame number's upper half.
    let (frame, port) = (memory.mfn(plan.console_pfn)?, console_port(domain)?);
    info.console_mfn = frame.raw();
    info.console_evtchn = port;
    if domain.initial {
        console::offer_ring(domain, frame, port);
    } else {
        console::set_ring(domain, frame, port)?;
    }
    info.pt_base = plan.va(plan.root_pfn);
    info.nr_pt_frames = plan.tables;
    info.mfn_list = plan.p2m_va;
    if plan.p2m_apart {
        info.first_p2m_pfn = plan.p2m_pfn;
        info.nr_p2m_frames = plan.p2m_frames.saturating_add(plan.p2m_tables);
    }
    if initrd_len > 0 {
        info.mod_len = initrd_len;
        if plan.initrd_mapped {
            info.mod_start = plan.va(plan.initrd_pfn);
        } else {
            info.mod_start = plan.initrd_pfn;
            info.flags |= SIF_MOD_START_PFN;
        }
    }
    // The last byte stays 0; the domain builder has refused longer lines.
    for (to, from) in info.cmd_line.iter_mut().take(MAX_GUEST_CMDLINE - 1).zip(cmdline.bytes()) {
        *to = from;
    }
    memory.write(plan.start_info_pfn << 12, zerocopy::IntoBytes::as_bytes(&info))?;
    wall_clock(domain)
}

/// Publishes the wall-clock time at system time 0.
fn wall_clock(domain: &Domain) -> Option<()> {
    let window = FrameWindow::new(domain.shared_info)?;
    let at_boot = rtc::boot_wall_ns();
    let (secs, nanos) = (at_boot / 1_000_000_000, (at_boot % 1_000_000_000) as u32);
    window.write_u32(offset::WC_SEC, (secs & 0xffff_ffff) as u32);
    window.write_u32(offset::WC_SEC_HI, (secs >> 32) as u32);
    window.write_u32(offset::WC_NSEC, nanos);
    window.write_u32(offset::WC_VERSION, 2);
    Some(())
}

/// The hypercall page: a stub per number.
pub fn hypercall_page() -> [u8; 4096] {
    let mut page = [0; 4096];
    for (nr, place) in (0u32..).zip(page.chunks_exact_mut(HYPERCALL_STUB_BYTES)) {
        place.copy_from_slice(&stub(nr));
    }
    page
}
