//! The ways to make a system call.

use std::arch::asm;

use x_calls::{TABLE, Table};

/// The slot that is jumped to, with the return address in rcx: behind those that are called.
pub const JUMP: usize = x_calls::NUMBERS as usize + 1;
/// All slots.
pub const SLOTS: usize = JUMP + 1;

/// What names the slot in an instruction: the lower half of its address.
pub const SLOT_OF_JUMP: u32 = x_calls::JUMP as u32;

/// How a system call is made.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    /// By the instruction.
    Instruction,
    /// By a call through the table.
    Table(Table),
    /// By a jump through the table.
    Jump,
}

/// What a child does in one of them; 0 if all is well.
pub type Act = fn(Way) -> i32;

/// All ways.
#[derive(Clone, Copy, Debug)]
pub struct Ways {
    /// By the instruction.
    pub instruction: Way,
    /// By the table.
    pub table: Way,
    /// By the table's jump.
    pub jump: Way,
}

impl Ways {
    /// All, if there is a table.
    pub fn find() -> Option<Self> {
        // SAFETY: any key may be asked for.
        let hwcap2 = unsafe { libc::getauxval(libc::AT_HWCAP2) };
        Table::find(hwcap2).map(|table| Self { instruction: Way::Instruction, table: Way::Table(table), jump: Way::Jump })
    }

    /// With names for checks.
    pub fn named(self) -> [(&'static str, Way); 3] {
        [("instruction", self.instruction), ("table", self.table), ("jump", self.jump)]
    }
}

impl Way {
    /// Makes system call `nr`.
    ///
    /// # Safety
    /// The arguments must be right for it.
    #[inline(always)]
    pub unsafe fn call<const N: usize>(self, nr: i64, arguments: [usize; N]) -> isize {
        let nr = nr as usize;
        let mut all = [0; 6];
        all[..N].copy_from_slice(&arguments);
        let [a, b, c, d, e, f] = all;
        let result;
        match self {
            Self::Instruction => {}
            // SAFETY: the caller's obligation.
            Self::Table(table) => return unsafe { table.call(nr, all) },
            Self::Jump => {
                // SAFETY: as below; nothing of the stack is used.
                unsafe {
                    asm!("lea rcx, [rip + 2f]", ".byte 0xff, 0x24, 0x25", ".long {slot}", "2:", slot = const SLOT_OF_JUMP,
                         inlateout("rax") nr => result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e,
                         in("r9") f, lateout("rcx") _, lateout("r11") _);
                }
                return result;
            }
        }
        // SAFETY: the caller's obligation; the registers named are those that the instruction changes.
        unsafe {
            asm!("syscall", inlateout("rax") nr => result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e,
                 in("r9") f, lateout("rcx") _, lateout("r11") _);
        }
        result
    }

    /// This process's number, asked for in this way.
    pub fn pid(self) -> i32 {
        // SAFETY: it has no arguments.
        unsafe { self.call(libc::SYS_getpid, []) as i32 }
    }

    /// Sends a signal to this thread.
    pub fn raise(self, signal: i32) -> isize {
        let pid = self.pid() as usize;
        // SAFETY: no memory is named; what a handler does is the handler's matter.
        unsafe { self.call(libc::SYS_tgkill, [pid, pid, signal as usize]) }
    }

    /// Ends the process.
    pub fn exit(self, status: i32) -> ! {
        // SAFETY: it ends the process.
        unsafe { self.call(libc::SYS_exit_group, [status as usize]) };
        unreachable!("the process has ended")
    }
}

/// The address that slot `index` of the table holds: what is called there.
pub fn stub(index: usize) -> usize {
    assert!(index < SLOTS);
    // SAFETY: the table is there, or nobody has `Ways`; it can be read and has so many slots.
    unsafe { ((TABLE + 8 * index) as *const usize).read_volatile() }
}

/// The address for system call `nr`.
pub fn stub_of(nr: i64) -> usize {
    stub(nr as usize + 1)
}
