//! Threads that meet an overwritten instruction.

use alloc::sync::Arc;

use abom::Fixup;
use abom::patch::LONGEST_PATCH;
use arrayvec::ArrayVec;

use super::written::Written;
use super::{PAGE, PRESENT, USER, mapped, moved};
use crate::arch::x86_64::entry::GuestRegs;
use crate::domain::Domain;
use crate::domain::vcpu::{Vcpu, VcpuState};
use crate::mm::guest_access;
use crate::pv::bounce;

/// The most patches that can be around a place: one for each of its bytes.
const NEAR: usize = 2 * LONGEST_PATCH;

/// A process has met an invalid opcode: whether it is one of a patch's, and the thread was put right.
pub fn invalid_opcode(regs: &mut GuestRegs, vcpu: &Vcpu, domain: &Arc<Domain>, state: &mut VcpuState) -> bool {
    if state.wishes.word == 0 || state.in_kernel {
        return false;
    }
    let Some(fixup) = fixup(regs.rip, domain, state) else { return false };
    domain.abom_counters.caught.bump();
    match fixup {
        Fixup::At(address) => regs.rip = address,
        Fixup::Syscall { next } => {
            regs.rip = next;
            regs.rcx = next;
            regs.r11 = regs.rflags;
            domain.counters.syscalls_trap.bump();
            bounce::syscall(regs, vcpu, domain, state);
        }
    }
    true
}

/// What to do with a thread at `rip`, if a patch is there.
fn fixup(rip: u64, domain: &Domain, state: &VcpuState) -> Option<Fixup> {
    let frame = mapped(state, rip, PRESENT | USER, 0)?;
    // Guest memory is not accessed under the lock.
    let mut around: ArrayVec<Written, NEAR> = ArrayVec::new();
    let offset = rip & (PAGE - 1);
    if let Some(abom) = domain.sites.lock().as_ref() {
        let close = offset.saturating_sub(LONGEST_PATCH as u64)..offset.saturating_add(1);
        let reaches = |w: &&Written| close.contains(&(w.patch.address() & (PAGE - 1)));
        around.extend(abom.patches.of(frame, close.clone()).filter(reaches).take(NEAR).cloned());
    }
    around.iter().find_map(|Written { patch, writing, .. }| {
        let delta = moved(patch, rip);
        if *writing {
            // Until it is whole, whoever meets any of it tries again.
            return patch.fixup(rip.wrapping_sub(delta)).map(|_| Fixup::At(rip));
        }
        let mut bytes = [0u8; LONGEST_PATCH];
        let now = bytes.get_mut(..patch.new_bytes().len())?;
        guest_access::copy_in(patch.address().wrapping_add(delta), now).ok()?;
        if now != patch.new_bytes() {
            return None;
        }
        match patch.fixup(rip.wrapping_sub(delta))? {
            Fixup::Syscall { next } => Some(Fixup::Syscall { next: next.wrapping_add(delta) }),
            // The bytes are whole: an invalid opcode where they begin is the program's own.
            Fixup::At(_) => None,
        }
    })
}
