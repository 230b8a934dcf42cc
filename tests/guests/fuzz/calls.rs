//! One random call at a time.

use ptk::memory::{self, PAGE, RO, RW, TABLE};
use ptk::rng::Rng;
use ptk::trap::fault_of;
use ptk::{hypercall, instr};
use xen_abi::hypercall::*;
use xen_abi::memory::XENMEM_maximum_ram_page;

use crate::PAGES;

/// Numbers that tend to be on the edge of something.
const EDGES: [u64; 24] = [
    0,
    1,
    2,
    3,
    7,
    8,
    63,
    64,
    255,
    256,
    511,
    512,
    1023,
    1024,
    4095,
    4096,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 40,
    1 << 52,
    1 << 63,
    u64::MAX,
    u64::MAX - 7,
    0x7ff0,
];
/// Calls that are worth most of the time; those with much behind them more than once.
const OFFERED: [u64; 34] = [
    __HYPERVISOR_mmu_update,
    __HYPERVISOR_mmu_update,
    __HYPERVISOR_mmu_update,
    __HYPERVISOR_mmuext_op,
    __HYPERVISOR_mmuext_op,
    __HYPERVISOR_mmuext_op,
    __HYPERVISOR_mmuext_op,
    __HYPERVISOR_update_va_mapping,
    __HYPERVISOR_update_va_mapping,
    __HYPERVISOR_update_va_mapping,
    __HYPERVISOR_update_va_mapping_otherdomain,
    __HYPERVISOR_set_gdt,
    __HYPERVISOR_update_descriptor,
    __HYPERVISOR_update_descriptor,
    __HYPERVISOR_memory_op,
    __HYPERVISOR_memory_op,
    __HYPERVISOR_memory_op,
    __HYPERVISOR_grant_table_op,
    __HYPERVISOR_grant_table_op,
    __HYPERVISOR_grant_table_op,
    __HYPERVISOR_grant_table_op,
    __HYPERVISOR_event_channel_op,
    __HYPERVISOR_event_channel_op,
    __HYPERVISOR_event_channel_op,
    __HYPERVISOR_multicall,
    __HYPERVISOR_multicall,
    __HYPERVISOR_vcpu_op,
    __HYPERVISOR_sched_op,
    __HYPERVISOR_set_timer_op,
    __HYPERVISOR_set_segment_base,
    __HYPERVISOR_set_debugreg,
    __HYPERVISOR_xen_version,
    __HYPERVISOR_vm_assist,
    __HYPERVISOR_physdev_op,
];
/// Addresses that no guest has any business with.
const FORBIDDEN: [u64; 6] = [
    0xffff_8000_0000_0000,
    0xffff_8080_0010_0000,
    0xffff_8280_0000_0000,
    0x8000_0000_0000_0000,
    0x0000_8000_0000_0000,
    0xffff_87ff_ffff_fff8,
];

/// Makes calls.
pub struct Fuzzer {
    rng: Rng,
    pages: [u64; PAGES],
    /// Their machine frames when it began.
    frames: [u64; PAGES],
    /// How many frames the machine has.
    machine_frames: u64,
    /// A page for arguments, always writable. Behind it is nothing, so that lists of absurd length end there, and not in
    /// the guest's own ground.
    arguments: u64,
    /// Calls answered with success, with an error, with `-ENOSYS`, and calls not made.
    pub taken: u64,
    pub refused: u64,
    pub absent: u64,
    pub left_out: u64,
}

impl Fuzzer {
    pub fn new(rng: Rng, pages: [u64; PAGES]) -> Self {
        let frames = pages.map(memory::mfn);
        let machine_frames = hypercall(__HYPERVISOR_memory_op, &[XENMEM_maximum_ram_page.into()]).max(0) as u64;
        let (arguments, guard) = (memory::page(), memory::page());
        memory::set_va(guard, 0);
        Self { rng, pages, frames, machine_frames, arguments, taken: 0, refused: 0, absent: 0, left_out: 0 }
    }

    /// A number of any kind, but none that names a frame of the guest's own ground, by number or by address: writing there
    /// by call, it would only confuse itself.
    fn number(&mut self) -> u64 {
        let number = self.any_number();
        if self.is_ground(number) || self.is_ground(number >> 12) { self.rng.one_of(&self.frames.clone()) } else { number }
    }

    /// Whether `mfn` is a frame of the guest's that is not of the region.
    fn is_ground(&self, mfn: u64) -> bool {
        let pfn = if mfn < self.machine_frames { memory::m2p(mfn) } else { u64::MAX };
        pfn < memory::total_pages() && memory::p2m(pfn) == mfn && !self.frames.contains(&mfn)
    }

    fn any_number(&mut self) -> u64 {
        match self.rng.below(8) {
            0 => self.rng.next(),
            1 => self.rng.one_of(&EDGES),
            2 => self.rng.below(64),
            3 => self.frame(),
            4 => self.frame() << 12 | self.rng.below(512) * 8,
            5 => self.entry(),
            6 => self.rng.one_of(&self.pages.clone()),
            _ => 1 << self.rng.below(64),
        }
    }

    /// A machine frame: mostly one of the region's.
    fn frame(&mut self) -> u64 {
        let mfn = match self.rng.below(10) {
            0 => self.rng.below(0x10000),
            1 => self.rng.one_of(&EDGES),
            _ => self.rng.one_of(&self.frames.clone()),
        };
        if self.is_ground(mfn) { self.rng.one_of(&self.frames.clone()) } else { mfn }
    }

    /// A page-table entry: mostly a good one.
    fn entry(&mut self) -> u64 {
        let flags = match self.rng.below(6) {
            0 => RW,
            1 => RO,
            2 => TABLE,
            3 => 0,
            4 => TABLE | 0x80,
            _ => self.rng.next() & 0xfff0_0000_0000_0fff,
        };
        self.frame() << 12 | flags
    }

    /// An address to read arguments from or write answers to.
    fn pointer(&mut self) -> u64 {
        match self.rng.below(16) {
            0 => self.rng.one_of(&FORBIDDEN),
            1 => self.rng.next(),
            2 => 0,
            3 => self.arguments + PAGE - self.rng.below(32),
            _ => self.arguments + self.rng.below(64) * 8,
        }
    }

    /// Fills the page of arguments. Half words, because many fields are.
    fn fill(&mut self) {
        for at in (0..640).step_by(8) {
            let value = match self.rng.below(3) {
                0 => self.number() & 0xffff_ffff | self.rng.below(16) << 32,
                1 => self.rng.below(16) << 32 | self.rng.below(16),
                _ => self.number(),
            };
            instr::store64(self.arguments + at, value);
        }
        // Lists of pointers to lists.
        for at in [0u64, 16, 32, 64] {
            if self.rng.below(2) == 0 {
                let list = self.pointer();
                instr::store64(self.arguments + at, list);
            }
        }
        // A domain's number where one usually is.
        for at in [0u64, 2, 16, 24] {
            if self.rng.below(3) == 0 {
                let domain = self.rng.one_of(&[0x7ff0u64, 0, 1, 2, 0x7ff1, 0x7ff2, 0x7ff4, 0xffff]);
                instr::store(self.arguments + at, domain as u8);
                instr::store(self.arguments + at + 1, (domain >> 8) as u8);
            }
        }
    }

    /// Whether a call would end the guest or take its ground away.
    fn suicidal(&self, nr: u64, args: &[u64; 5]) -> bool {
        match nr {
            // Exceptions and upcalls would go nowhere, or the stack.
            __HYPERVISOR_set_trap_table | __HYPERVISOR_set_callbacks | __HYPERVISOR_callback_op | __HYPERVISOR_stack_switch => true,
            __HYPERVISOR_iret | __HYPERVISOR_nmi_op | __HYPERVISOR_sched_op_compat => true,
            // Only yields, and polls that are over at once.
            __HYPERVISOR_sched_op => args[0] as u32 != 0,
            // Not the console: it would be drowned.
            __HYPERVISOR_console_io => true,
            // A new root of any kind, or the vCPU down.
            __HYPERVISOR_vcpu_op => matches!(args[0] as u32, 0..=2),
            _ => false,
        }
    }

    /// One call.
    pub fn one(&mut self) {
        self.fill();
        let nr = match self.rng.below(40) {
            0 => self.rng.next(),
            1 => 56 + self.rng.below(100),
            2 => self.rng.below(56),
            _ => self.rng.one_of(&OFFERED),
        };
        let command = match self.rng.below(20) {
            0 => self.number(),
            1 => self.rng.below(36),
            // Most calls have about a dozen operations.
            _ => self.rng.below(13),
        };
        let mut args = [command, self.pointer(), self.number(), self.number(), self.number()];
        match nr {
            __HYPERVISOR_mmu_update => args = self.updates(),
            __HYPERVISOR_mmuext_op => args = self.extended(),
            __HYPERVISOR_update_va_mapping | __HYPERVISOR_update_va_mapping_otherdomain => {
                args = [self.rng.one_of(&self.pages.clone()), self.entry(), self.rng.below(8), 0x7ff0, 0];
            }
            __HYPERVISOR_grant_table_op | __HYPERVISOR_set_gdt if self.rng.below(2) == 0 => args[2] = self.rng.below(4),
            __HYPERVISOR_multicall => args = self.list(),
            _ => {}
        }
        if self.suicidal(nr, &args) {
            self.left_out += 1;
            return;
        }
        let mut answer = -1;
        // A page of the region may be gone by now, and with it a selector or a breakpoint may hit.
        let _ = fault_of(|| answer = hypercall(nr, &args));
        match answer {
            -38 => self.absent += 1,
            0.. => self.taken += 1,
            _ => self.refused += 1,
        }
        if self.rng.below(64) == 0 {
            self.tidy();
        }
    }

    /// Requests of `mmu_update` that stay within the region.
    fn updates(&mut self) -> [u64; 5] {
        let count = self.rng.below(6);
        for n in 0..count {
            let at = self.rng.one_of(&self.frames.clone()) * PAGE + self.rng.below(512) * 8 + self.rng.below(4);
            instr::store64(self.arguments + 1024 + n * 16, at);
            let value = self.entry();
            instr::store64(self.arguments + 1032 + n * 16, value);
        }
        let count = if self.rng.below(20) == 0 { self.number() } else { count };
        let list = if self.rng.below(20) == 0 { self.pointer() } else { self.arguments + 1024 };
        self.counted(list, count)
    }

    /// Operations of `mmuext_op`, but for those that load a root.
    fn extended(&mut self) -> [u64; 5] {
        let count = self.rng.below(4);
        for n in 0..count {
            let at = self.arguments + 2048 + n * 24;
            let operation = match self.rng.below(22) {
                5 => 4,
                operation => operation,
            };
            instr::store64(at, operation);
            let (first, second) = (self.frame(), self.number());
            instr::store64(at + 8, first);
            instr::store64(at + 16, second);
        }
        let list = self.arguments + 2048;
        self.counted(list, count)
    }

    /// The arguments of a call that takes a list, how long it is, where to say how much was done, and a domain.
    fn counted(&mut self, list: u64, count: u64) -> [u64; 5] {
        [
            list,
            count,
            if self.rng.below(2) == 0 { 0 } else { self.pointer() },
            if self.rng.below(10) == 0 { self.number() } else { 0x7ff0 },
            0,
        ]
    }

    /// A list of calls.
    fn list(&mut self) -> [u64; 5] {
        let count = self.rng.below(6);
        for n in 0..count {
            let at = self.arguments + 3072 + n * 64;
            let mut nr = self.rng.below(60);
            let mut args = [self.rng.below(36), self.pointer(), self.number(), self.number(), self.number()];
            match nr {
                __HYPERVISOR_mmu_update => args = self.updates(),
                __HYPERVISOR_mmuext_op => args = self.extended(),
                __HYPERVISOR_update_va_mapping | __HYPERVISOR_update_va_mapping_otherdomain => {
                    args = [self.rng.one_of(&self.pages.clone()), self.entry(), self.rng.below(8), 0x7ff0, 0];
                }
                _ => {}
            }
            if self.suicidal(nr, &args) {
                nr = __HYPERVISOR_xen_version;
                args[0] = 0;
            }
            instr::store64(at, nr);
            for (k, arg) in (0..).zip(args) {
                instr::store64(at + 16 + k * 8, arg);
            }
        }
        [self.arguments + 3072, count, 0, 0, 0]
    }

    /// Gives pages of the region back to ordinary use, so that there is something to work on.
    fn tidy(&mut self) {
        for n in 0..PAGES {
            let mfn = self.frames[n];
            let _ = hypercall(__HYPERVISOR_set_gdt, &[0, 0]);
            ptk::table::unpin(mfn);
            if memory::set_va(self.pages[n], mfn * PAGE | RW) == 0 && self.rng.below(2) == 0 {
                for word in 0..4 {
                    let value = if self.rng.below(2) == 0 { self.entry() } else { 0 };
                    instr::store64(self.pages[n] + word * 8, value);
                }
                if self.rng.below(2) == 0 {
                    memory::set_va(self.pages[n], mfn * PAGE | RO);
                }
            }
        }
    }
}
