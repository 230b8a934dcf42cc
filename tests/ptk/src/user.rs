//! Processes: a second root with pages of their own, and code that runs there until something ends it.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

use xen_abi::arch_x86::{FLAT_USER_CS, FLAT_USER_SS, IretContext};
use xen_abi::callback::{CALLBACKOP_register, CALLBACKTYPE_syscall, CallbackRegister};
use xen_abi::hypercall::{__HYPERVISOR_callback_op, __HYPERVISOR_stack_switch};
use xen_abi::mmu::MMUEXT_NEW_USER_BASEPTR;

use crate::memory::{self, PAGE};
use crate::table::{extended, fresh, link, pin};
use crate::trap::{Fault, catch};
use crate::{call, hypercall, instr, trap};

/// Where a process's code is, and its stack's page.
pub const CODE: u64 = 0x40_0000;
/// See [`CODE`].
pub const STACK: u64 = 0x40_1000;
/// The last page of the lower half.
pub const LAST: u64 = 0x7fff_ffff_f000;
/// A page that a process may write, and one that it may only read.
const USER_RW: u64 = 0x67;

static PAGES: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];
static ROOT: AtomicU64 = AtomicU64::new(0);

/// Makes the process, and the way back from it: a kernel stack, and an entry for system calls (vector 258).
pub fn prepare() -> i64 {
    let [code, stack, last] = [memory::page(), memory::page(), memory::page()];
    for (place, va) in PAGES.iter().zip([code, stack, last]) {
        place.store(va, Ordering::Relaxed);
    }
    let data = |va: u64| memory::mfn(va) * PAGE | USER_RW;
    let low = fresh(&[(0, data(code)), (1, data(stack))]);
    let high = fresh(&[(511, data(last))]);
    let (low2, high2) = (fresh(&[(2, link(low))]), fresh(&[(511, link(high))]));
    let (low3, high3) = (fresh(&[(0, link(low2))]), fresh(&[(511, link(high2))]));
    let root = fresh(&[(0, link(low3)), (255, link(high3))]);
    ROOT.store(root, Ordering::Relaxed);
    let mut register = CallbackRegister { r#type: CALLBACKTYPE_syscall, address: trap::stub(258), ..CallbackRegister::default() };
    call(__HYPERVISOR_callback_op, CALLBACKOP_register, &mut register);
    let kernel_stack = memory::page();
    hypercall(__HYPERVISOR_stack_switch, &[u64::from(FLAT_USER_SS), kernel_stack + PAGE]);
    let pinned = pin(4, memory::mfn(root));
    if pinned != 0 { pinned } else { extended(MMUEXT_NEW_USER_BASEPTR, memory::mfn(root), 0) }
}

/// The address of the process's root, where the kernel sees it.
pub fn root() -> u64 {
    ROOT.load(Ordering::Relaxed)
}

/// The process's code page, where the kernel sees it.
pub fn code_page() -> u64 {
    PAGES[0].load(Ordering::Relaxed)
}

/// Puts code at the start of the process's code page.
pub fn write_code(code: &[u8]) {
    write(0, 0, code);
}

/// Puts code at the end of the last page of the lower half, and returns where it begins.
pub fn write_last(code: &[u8]) -> u64 {
    let at = PAGE - code.len() as u64;
    write(2, at, code);
    LAST + at
}

fn write(page: usize, at: u64, bytes: &[u8]) {
    let va = PAGES[page].load(Ordering::Relaxed);
    for (n, byte) in (0..).zip(bytes) {
        instr::store(va + at + n, *byte);
    }
}

/// Runs the process from `rip` with `rflags`, until an exception or a system call (258) ends it.
pub fn run(rip: u64, rflags: u64) -> Option<Fault> {
    catch(|| {
        iret(&IretContext {
            rip,
            cs: FLAT_USER_CS.into(),
            rflags,
            rsp: STACK + PAGE - 64,
            ss: FLAT_USER_SS.into(),
            ..IretContext::default()
        });
    })
}

/// Writes `code` and runs it.
pub fn run_code(code: &[u8]) -> Option<Fault> {
    write_code(code);
    run(CODE, 0x202)
}

/// The iret hypercall with any frame at all.
pub fn iret(frame: &IretContext) {
    // SAFETY: what comes of it is the experiment; `catch` gets the stack back.
    unsafe {
        asm!("mov rsp, {}", "mov eax, 23", "syscall", "ud2", in(reg) core::ptr::from_ref(frame), options(noreturn));
    }
}
