//! Grants, version 1: a domain's own table, and the use of what others grant.

use xen_abi::domid::DOMID_SELF;
use xen_abi::grant_table::*;
use xen_abi::hypercall::__HYPERVISOR_grant_table_op;

use crate::hypercall::{FromBytes, IntoBytes, call_many};
use crate::memory::{self, PAGE, RW};
use crate::{check, instr};

/// The first frame of a domain's own table, where it can see it.
#[derive(Clone, Copy, Debug)]
pub struct Table(u64);

impl Table {
    /// Sets the table up and maps its first frame.
    pub fn new() -> Self {
        let mut frame = 0u64;
        let frame_list = core::ptr::from_mut(&mut frame) as u64;
        let (answer, done) = op(GNTTABOP_setup_table, GnttabSetupTable { dom: DOMID_SELF, nr_frames: 1, frame_list, ..Default::default() });
        check::equal("a grant table", (answer, done.status), (0, GNTST_okay));
        let va = memory::page();
        check::equal("it can be mapped", memory::set_va(va, instr::load64(frame_list) * PAGE | RW), 0);
        Self(va)
    }

    /// Grants the page at `va` to `domid`.
    pub fn grant(&self, gref: u32, domid: u16, va: u64, flags: u16) {
        self.grant_frame(gref, domid, memory::mfn(va), flags);
    }

    /// Grants a machine frame, whoever's it is.
    pub fn grant_frame(&self, gref: u32, domid: u16, mfn: u64, flags: u16) {
        instr::store64(self.at(gref), u64::from(flags) | u64::from(domid) << 16 | mfn << 32);
    }

    /// Takes a grant back, whether it is in use or not.
    pub fn revoke(&self, gref: u32) {
        instr::store64(self.at(gref), 0);
    }

    /// The flags of an entry.
    pub fn flags(&self, gref: u32) -> u16 {
        instr::load64(self.at(gref)) as u16
    }

    /// Whether an entry says that it is in use: for reading, for writing.
    pub fn in_use(&self, gref: u32) -> (bool, bool) {
        let flags = self.flags(gref);
        (flags & GTF_reading != 0, flags & GTF_writing != 0)
    }

    fn at(&self, gref: u32) -> u64 {
        self.0 + u64::from(gref) * 8
    }
}

/// One operation: what the call said, and the request as it came back.
pub fn op<T: FromBytes + IntoBytes>(command: u32, op: T) -> (i64, T) {
    let mut list = [op];
    let answer = call_many(__HYPERVISOR_grant_table_op, command, &mut list);
    let [op] = list;
    (answer, op)
}

/// Maps a grant of `dom`.
pub fn map(dom: u16, gref: u32, flags: u32, host_addr: u64) -> GnttabMapGrantRef {
    op(GNTTABOP_map_grant_ref, GnttabMapGrantRef { host_addr, flags, r#ref: gref, dom, ..Default::default() }).1
}

/// Unmaps the CPU's part of a mapping: the status.
pub fn unmap(handle: u32, host_addr: u64) -> i16 {
    unmap_parts(handle, host_addr, 0)
}

/// Unmaps the parts whose address is not 0: the status.
pub fn unmap_parts(handle: u32, host_addr: u64, dev_bus_addr: u64) -> i16 {
    op(GNTTABOP_unmap_grant_ref, GnttabUnmapGrantRef { host_addr, dev_bus_addr, handle, ..Default::default() }).1.status
}

/// One end of a copy.
#[derive(Clone, Copy, Debug)]
pub enum End {
    /// The caller's own page at an address.
    Page(u64),
    /// A frame by its number, of the domain that is named.
    Frame(u16, u64),
    /// What a domain grants.
    Grant(u16, u32),
}

/// Copies `len` bytes between two offsets: the status.
pub fn copy(from: (End, u16), to: (End, u16), len: u16) -> i16 {
    let end = |(end, offset): (End, u16)| {
        let (domid, u) = match end {
            End::Page(va) => (DOMID_SELF, memory::mfn(va)),
            End::Frame(domid, mfn) => (domid, mfn),
            End::Grant(domid, gref) => (domid, gref.into()),
        };
        GnttabCopyPtr { u, domid, offset, ..Default::default() }
    };
    let by_grant = |end: End, flag: u16| if matches!(end, End::Grant(..)) { flag } else { 0 };
    let flags = by_grant(from.0, GNTCOPY_source_gref) | by_grant(to.0, GNTCOPY_dest_gref);
    op(GNTTABOP_copy, GnttabCopy { source: end(from), dest: end(to), len, flags, ..Default::default() }).1.status
}
