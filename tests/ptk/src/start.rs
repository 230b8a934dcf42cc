//! Where the domain builder starts a guest: ELF notes, first stack, start_info.

use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering};

use xen_abi::start_info::StartInfo;

global_asm!(
    ".macro xen_note kind, body:vararg",
    ".balign 4",
    ".long 2f - 1f, 4f - 3f, \\kind",
    "1: .asciz \"Xen\"",
    "2: .balign 4",
    "3: \\body",
    "4: .balign 4",
    ".endm",
    ".pushsection .note.Xen, \"a\", @note",
    "xen_note 6, .asciz \"ptk\"",
    "xen_note 5, .asciz \"xen-3.0\"",
    "xen_note 3, .quad 0xffffffff80000000",
    "xen_note 1, .quad ptk_entry",
    "xen_note 2, .quad ptk_hypercall_page",
    "xen_note 8, .asciz \"generic\"",
    ".popsection",
    // Stubs are written here by the domain builder.
    ".pushsection .hypercall_page, \"aw\", @progbits",
    ".balign 4096",
    ".globl ptk_hypercall_page",
    "ptk_hypercall_page: .skip 4096, 0xcc",
    ".popsection",
    ".pushsection .bss, \"aw\", @nobits",
    ".balign 4096",
    "ptk_stack: .skip 131072",
    ".globl ptk_stack_top",
    "ptk_stack_top:",
    ".popsection",
    ".pushsection .text",
    ".globl ptk_entry",
    // rsi: start_info.
    "ptk_entry:",
    "lea rsp, [rip + ptk_stack_top]",
    "cld",
    "mov rdi, rsi",
    "call {start}",
    "ud2",
    ".popsection",
    start = sym start,
);

unsafe extern "C" {
    fn ptk_main();
    static ptk_hypercall_page: [u8; 4096];
}

static START_INFO: AtomicU64 = AtomicU64::new(0);

extern "C" fn start(start_info: u64) -> ! {
    START_INFO.store(start_info, Ordering::Relaxed);
    crate::memory::map_shared_info();
    crate::trap::install();
    crate::event::install();
    // SAFETY: the guest's own function, by `guest!`.
    unsafe { ptk_main() };
    crate::finish()
}

/// What the domain builder says.
pub fn start_info() -> StartInfo {
    // SAFETY: the page that the builder gave; nothing writes it.
    unsafe { (START_INFO.load(Ordering::Relaxed) as *const StartInfo).read_unaligned() }
}

/// The value of `key=` on the command line, as a number.
pub fn option(key: &str) -> Option<u64> {
    let info = start_info();
    let len = info.cmd_line.iter().position(|&b| b == 0).unwrap_or(info.cmd_line.len());
    let line = core::str::from_utf8(&info.cmd_line[..len]).ok()?;
    line.split(' ').filter_map(|word| word.split_once('=')).find(|(k, _)| *k == key)?.1.parse().ok()
}

/// Whether the command line has `word`.
pub fn says(word: &str) -> bool {
    let info = start_info();
    let len = info.cmd_line.iter().position(|&b| b == 0).unwrap_or(info.cmd_line.len());
    core::str::from_utf8(&info.cmd_line[..len]).is_ok_and(|line| line.split(' ').any(|w| w == word))
}

/// Calls through the hypercall page, with at most two arguments.
pub fn by_page(nr: u64, a1: u64, a2: u64) -> i64 {
    // SAFETY: the page holds a stub for each number; it keeps all registers but rax.
    unsafe {
        let stub = (&raw const ptk_hypercall_page).cast::<u8>().add(nr as usize * 32);
        let answer: i64;
        core::arch::asm!("call {stub}", stub = in(reg) stub, inlateout("rax") nr => answer, in("rdi") a1, in("rsi") a2,
            lateout("rcx") _, lateout("r11") _);
        answer
    }
}
