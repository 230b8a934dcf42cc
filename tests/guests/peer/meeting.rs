//! Who one is, and taking turns.

use core::cell::Cell;

use ptk::check::{equal, finish, holds};
use ptk::grant::{Table, map, unmap};
use ptk::start::{option, says};
use ptk::{hypercall, instr, memory};
use xen_abi::grant_table::{GNTMAP_host_map, GNTST_okay, GTF_permit_access, GTF_readonly};
use xen_abi::hypercall::__HYPERVISOR_sched_op;

/// The granter's grants: the page to meet in, one to use, one to read, one for a third domain, one that grants nothing.
pub const MEETING: u32 = 8;
pub const OPEN: u32 = 9;
pub const READ: u32 = 10;
pub const STRANGERS: u32 = 11;
pub const NOTHING: u32 = 12;
/// A domain that is none.
pub const STRANGER: u16 = 77;

/// How long the other one is waited for: much longer than it can take.
const PATIENCE_NS: u64 = 300_000_000_000;

/// Which of the two one is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    Granter,
    Mapper,
}

/// One of the two.
pub struct Me {
    pub role: Role,
    /// The other's domid.
    pub other: u16,
    /// One's own grants.
    pub table: Table,
    /// The granter's pages: what [`OPEN`] and [`READ`] show.
    pub open: u64,
    pub read: u64,
    /// Where the meeting page is, and how the mapper has mapped it.
    page: u64,
    handle: u32,
    step: Cell<u64>,
}

/// Lets others run until `there` says so. Without an end to it, the experiment has failed.
pub fn wait(what: &str, mut there: impl FnMut() -> bool) {
    let start = memory::now_ns();
    while !there() {
        if memory::now_ns().saturating_sub(start) > PATIENCE_NS {
            holds(what, false);
            finish();
        }
        hypercall(__HYPERVISOR_sched_op, &[0]);
    }
}

impl Me {
    /// Finds the other one.
    pub fn new() -> Self {
        let role = if says("granter") { Role::Granter } else { Role::Mapper };
        let other = option("other").unwrap_or(0) as u16;
        let [page, open, read, hidden] = [(); 4].map(|()| memory::page());
        let table = Table::new();
        let mut handle = 0;
        if role == Role::Granter {
            instr::store64(open, 0x5eed);
            instr::store64(read, 0xbeef);
            table.grant(OPEN, other, open, GTF_permit_access);
            table.grant(READ, other, read, GTF_permit_access | GTF_readonly);
            table.grant(STRANGERS, STRANGER, hidden, GTF_permit_access);
            table.grant(NOTHING, other, hidden, 0);
            // Last, because it is what the other one waits for.
            table.grant(MEETING, other, page, GTF_permit_access);
        } else {
            wait("the granter is there", || {
                let mapped = map(other, MEETING, GNTMAP_host_map, page);
                handle = mapped.handle;
                mapped.status == GNTST_okay
            });
        }
        Self { role, other, table, open, read, page, handle, step: Cell::new(0) }
    }

    /// `f` is done by the one in `role`; both go on when it is, with its answer.
    pub fn turn(&self, role: Role, f: impl FnOnce() -> u64) -> u64 {
        let step = self.step.get() + 1;
        self.step.set(step);
        // Two places by turns: who is late still finds the answer when the next one is written.
        let answer = self.page + 16 + (step & 1) * 8;
        if self.role == role {
            instr::store64(answer, f());
        }
        let [own, theirs] = if self.role == Role::Granter { [0, 8] } else { [8, 0] };
        instr::store64(self.page + own, step);
        wait("the other one comes as far", || instr::load64(self.page + theirs) >= step);
        instr::load64(answer)
    }

    /// As [`Self::turn`], where there is nothing to tell.
    pub fn act(&self, role: Role, f: impl FnOnce()) {
        self.turn(role, || {
            f();
            0
        });
    }

    /// Both do `f` at the same time.
    pub fn together(&self, f: impl FnOnce()) {
        self.act(self.role, f);
    }

    /// The end: the mapper lets go of the meeting page, and the granter sees it.
    pub fn part(&self) {
        if self.role == Role::Mapper {
            return equal("the meeting page is unmapped", unmap(self.handle, self.page), GNTST_okay);
        }
        wait("the meeting page is let go", || self.table.in_use(MEETING) == (false, false));
    }
}
