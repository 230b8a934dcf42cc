//! System calls by the instruction, in code whose bytes are known.

use std::arch::global_asm;

/// More often than the hypervisor needs to see a site.
pub const OFTEN: usize = 100;
/// What a call through the table begins with.
pub const CALL: u8 = 0xff;
/// What a short jump begins with.
pub const JUMP: u8 = 0xeb;
/// And a longer one.
pub const LONG_JUMP: u8 = 0xe9;
/// `mov eax, 39; syscall`, and a return where a function ends with it.
const ORIGINAL: [u8; 7] = [0xb8, 39, 0, 0, 0, 0x0f, 0x05];

global_asm!(
    ".pushsection .text.sites, \"ax\", @progbits",
    ".globl site_getpid, site_into_the_middle, site_through_red_zone, site_through_flags, site_red_zone, site_flags",
    ".globl site_read, site_getuid, site_getuid_moved, site_framed, site_framed_number, site_across, site_across_moved, site_ahead, site_through_part",
    ".globl site_access, site_access_moved, site_access_behind",
    ".balign 64",
    // getpid(), as a library's wrapper.
    "site_getpid:",
    "mov eax, 39",
    "site_getpid_middle:",
    "syscall",
    "ret",
    ".ascii \"the site of getpid\"",
    ".balign 64",
    // Makes system call rdi at the instruction of the function above.
    "site_into_the_middle:",
    "mov eax, edi",
    "jmp site_getpid_middle",
    ".balign 64",
    // Returns rdi, which it keeps below the stack pointer during a system call.
    "site_through_red_zone:",
    "mov [rsp - 8], rdi",
    "site_red_zone:",
    "mov eax, 39",
    "syscall",
    "mov rax, [rsp - 8]",
    "ret",
    ".balign 64",
    // Returns rdi, 0 or 1, which it keeps in the zero flag during a system call.
    "site_through_flags:",
    "cmp rdi, 1",
    "site_flags:",
    "mov eax, 39",
    "syscall",
    "sete al",
    "movzx eax, al",
    "ret",
    ".balign 64",
    // read(), as glibc has it: no room for a call, and a gap behind the return.
    "site_read:",
    ".cfi_startproc",
    "xor eax, eax",
    "syscall",
    "cmp rax, -4096",
    "ja 2f",
    "ret",
    ".byte 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0",
    "2: mov rax, -1",
    "ret",
    ".cfi_endproc",
    ".balign 64",
    // getuid(), with an instruction between the number and the site that has to move.
    "site_getuid:",
    ".cfi_startproc",
    "mov eax, 102",
    "site_getuid_moved:",
    "xor edi, edi",
    "syscall",
    "ret",
    ".byte 0x66, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0, 0x0f, 0x1f, 0x40, 0",
    "ret",
    ".cfi_endproc",
    ".balign 64",
    // getpid(), and a look through a pointer before the function returns: to nothing below its stack pointer, as all of it shows.
    "site_framed:",
    ".cfi_startproc",
    "push rbx",
    "mov rbx, rdi",
    "sub rsp, 16",
    "site_framed_number:",
    "mov eax, 39",
    "syscall",
    "mov [rsp + 8], rax",
    "mov rax, [rbx]",
    "add rax, [rsp + 8]",
    "add rsp, 16",
    "pop rbx",
    "ret",
    ".cfi_endproc",
    // Returns rdi, which it keeps below the stack pointer, while a part of it that is elsewhere makes a system call.
    ".balign 64",
    "site_through_part:",
    ".cfi_startproc",
    "mov [rsp - 8], rdi",
    "jmp 5f",
    "4: mov rax, [rsp - 8]",
    "ret",
    ".cfi_endproc",
    ".balign 64",
    ".cfi_startproc",
    "5: mov eax, 39",
    "syscall",
    "jmp 4b",
    ".cfi_endproc",
    ".balign 64",
    ".balign 64",
    // getppid(), whose instruction's second byte is in the next page.
    ".balign 4096",
    ".cfi_startproc",
    "ret",
    ".cfi_endproc",
    ".fill 4096 - 1 - 1 - 10, 1, 0xcc",
    "site_across:",
    ".cfi_startproc",
    "mov eax, 110",
    "site_across_moved:",
    "mov edi, -100",
    "syscall",
    "ret",
    ".cfi_endproc",
    // getppid(), whose instruction is behind one that begins in the page before.
    ".balign 64",
    ".cfi_startproc",
    "ret",
    ".cfi_endproc",
    ".fill 4096 - 64 - 1 - 5 - 4, 1, 0xcc",
    "site_ahead:",
    ".cfi_startproc",
    "mov eax, 110",
    "lea rsi, [rdi + 2288]",
    "syscall",
    "ret",
    // No gap is near.
    ".fill 200, 1, 0x50",
    ".cfi_endproc",
    // access("/", F_OK): no gap is near, and an instruction is long enough for a call.
    "site_access:",
    ".cfi_startproc",
    "xor esi, esi",
    "mov eax, 21",
    "site_access_moved:",
    "lea rdi, [rip + site_root]",
    "syscall",
    "site_access_behind:",
    "ret",
    "site_root: .asciz \"/\"",
    ".fill 200, 1, 0x50",
    ".cfi_endproc",
    ".popsection",
);

unsafe extern "C" {
    fn site_getpid() -> u32;
    fn site_into_the_middle(number: u64) -> u64;
    fn site_through_red_zone(word: u64) -> u64;
    fn site_through_flags(bit: u64) -> u64;
    static site_red_zone: [u8; 7];
    static site_flags: [u8; 7];
    fn site_read(file: i32, to: *mut u8, length: usize) -> isize;
    fn site_getuid() -> u32;
    static site_getuid_moved: [u8; 7];
    fn site_framed(word: *const u64) -> u64;
    static site_framed_number: [u8; 7];
    fn site_through_part(word: u64) -> u64;
    fn site_across() -> u32;
    static site_across_moved: [u8; 7];
    fn site_ahead() -> u32;
    fn site_access() -> i32;
    static site_access_moved: [u8; 7];
    static site_access_behind: [u8; 7];
}

/// getpid.
pub fn getpid() -> u32 {
    // SAFETY: it only makes that system call.
    unsafe { site_getpid() }
}

/// System call `number` without arguments, by a jump to the instruction.
pub fn into_the_middle(number: u64) -> u64 {
    // SAFETY: callers name such that touch no memory.
    unsafe { site_into_the_middle(number) }
}

/// The word, out of the red zone.
pub fn through_red_zone(word: u64) -> u64 {
    // SAFETY: it only makes a system call that touches no memory.
    unsafe { site_through_red_zone(word) }
}

/// The bit, out of a flag.
pub fn through_flags(bit: u64) -> u64 {
    // SAFETY: as above.
    unsafe { site_through_flags(bit) }
}

/// read.
pub fn read(file: i32, to: &mut [u8]) -> isize {
    // SAFETY: there is room for so much.
    unsafe { site_read(file, to.as_mut_ptr(), to.len()) }
}

/// getuid.
pub fn getuid() -> u32 {
    // SAFETY: it only makes that system call.
    unsafe { site_getuid() }
}

/// The process's number, and the word.
pub fn framed(word: &u64) -> u64 {
    // SAFETY: it only makes a system call that touches no memory, and reads the word.
    unsafe { site_framed(word) }
}

/// The word, out of the red zone of a function in two parts.
pub fn through_part(word: u64) -> u64 {
    // SAFETY: it only makes a system call that touches no memory.
    unsafe { site_through_part(word) }
}

/// getppid.
pub fn across() -> u32 {
    // SAFETY: it only makes that system call.
    unsafe { site_across() }
}

/// getppid.
pub fn ahead() -> u32 {
    // SAFETY: it only makes that system call.
    unsafe { site_ahead() }
}

/// access, of what is there.
pub fn access() -> i32 {
    // SAFETY: it only makes that system call.
    unsafe { site_access() }
}

/// The bytes of a site, as they are in memory.
#[derive(Clone, Copy)]
pub struct Site(*const [u8; 7]);

impl Site {
    /// That of [`getpid`].
    pub fn getpid() -> Self {
        Self(site_getpid as *const [u8; 7])
    }

    /// That of [`read`].
    pub fn read() -> Self {
        Self(site_read as *const [u8; 7])
    }

    /// That of [`getuid`].
    pub fn getuid() -> Self {
        Self(&raw const site_getuid_moved)
    }

    /// That of [`through_red_zone`].
    pub fn red_zone() -> Self {
        Self(&raw const site_red_zone)
    }

    /// That of [`through_flags`].
    pub fn flags() -> Self {
        Self(&raw const site_flags)
    }

    /// That of [`framed`].
    pub fn framed() -> Self {
        Self(&raw const site_framed_number)
    }

    /// That of [`across`], with the instruction before.
    pub fn across() -> Self {
        Self(&raw const site_across_moved)
    }

    /// That of [`ahead`], from the function's beginning.
    pub fn ahead() -> Self {
        Self(site_ahead as *const [u8; 7])
    }

    /// That of [`access`], with the instruction before.
    pub fn access() -> Self {
        Self(&raw const site_access_moved)
    }

    /// What is behind that.
    pub fn access_behind() -> Self {
        Self(&raw const site_access_behind)
    }

    /// Where it is.
    pub fn address(self) -> usize {
        self.0 as usize
    }

    /// The bytes.
    pub fn bytes(self) -> [u8; 7] {
        // SAFETY: it is code, which can be read; it may change, so not by an ordinary access.
        unsafe { self.0.read_volatile() }
    }

    /// The first one.
    pub fn first_byte(self) -> u8 {
        self.bytes()[0]
    }

    /// Whether the instruction is still there.
    pub fn is_original(self) -> bool {
        self.bytes() == ORIGINAL
    }

    /// Whether the site of [`getpid`] has the instruction in `file`, the content of the program's file.
    pub fn is_original_in(file: &[u8]) -> bool {
        // Written so that it is not in the file twice.
        let name = ["the site", " of getpid"].concat();
        let Some(at) = file.windows(name.len()).position(|w| w == name.as_bytes()) else { return false };
        file[..at].ends_with(&[&ORIGINAL[..], &[0xc3]].concat())
    }
}
