//! X-mode: one page table for kernel and processes.

use core::sync::atomic::{AtomicU64, Ordering};

use xen_abi::xmode::{__HYPERVISOR_xmode_op, XMODE_VERSION, XMODEOP_enable, XmodeEnable};

use crate::memory::{self, PAGE};
use crate::{call, instr, table, user};

/// The word that holds the kernel stack, and the stack.
static WORD: AtomicU64 = AtomicU64::new(0);
static STACK: AtomicU64 = AtomicU64::new(0);

/// Asks for X-mode with the word at `kernel_sp`.
pub fn ask(version: u32, flags: u32, kernel_sp: u64) -> i64 {
    call(__HYPERVISOR_xmode_op, XMODEOP_enable, &mut XmodeEnable { version, flags, kernel_sp })
}

/// Switches X-mode on, with a stack of one page. Initial mappings are written again, to become what they are in X-mode.
pub fn enable() -> i64 {
    let (word, stack) = (memory::page(), memory::page());
    instr::store64(word, stack + PAGE);
    WORD.store(word, Ordering::Relaxed);
    STACK.store(stack, Ordering::Relaxed);
    ask(XMODE_VERSION, 0, word)
}

/// The address of the word.
pub fn word() -> u64 {
    WORD.load(Ordering::Relaxed)
}

/// Whether `at` lies on the stack that entries from processes start on.
pub fn is_entry_stack(at: u64) -> bool {
    at.wrapping_sub(STACK.load(Ordering::Relaxed)) < PAGE
}

/// Puts the process that [`user::prepare`] has made into the kernel's own page table.
pub fn adopt_process() -> i64 {
    let low = instr::load64(user::root());
    table::update(memory::mfn(crate::start::start_info().pt_base) * PAGE, low)
}
