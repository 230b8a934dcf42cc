//! Grant tables: named attacks, and long sequences against a model that keeps a plain list of uses.

#![expect(clippy::arithmetic_side_effects, reason = "the numbers are the tests' own")]

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::vec::Vec;

use proptest::prelude::*;
use xen_abi::errno::Errno;
use xen_abi::grant_table::{
    GTF_permit_access as PERMIT_ACCESS, GTF_reading as READING, GTF_readonly as READONLY, GTF_sub_page as SUB_PAGE,
    GTF_type_mask as TYPE_MASK, GTF_writing as WRITING,
};

use super::*;
use crate::frame::{DomId, Mfn};

const GRANTER: DomId = DomId::new(1);
const A: DomId = DomId::new(2);
const B: DomId = DomId::new(3);

fn mfn(n: u64) -> Mfn {
    Mfn::new(n).unwrap()
}

/// One shared frame, and a guest that may rewrite an entry right after it was read.
struct Shared {
    entries: RefCell<Vec<Entry>>,
    /// Reads so far.
    reads: Cell<u32>,
    /// What the guest writes after each read.
    racing: RefCell<Vec<(usize, Entry)>>,
}

impl Shared {
    fn new() -> Self {
        Self { entries: RefCell::new(vec_of(512)), reads: Cell::new(0), racing: RefCell::new(Vec::new()) }
    }

    fn put(&self, gref: usize, flags: u16, by: DomId, frame: u32) {
        self.entries.borrow_mut()[gref] = Entry { header: Header { flags, domid: by.raw() }, frame };
    }

    fn flags(&self, gref: usize) -> u16 {
        self.entries.borrow()[gref].header.flags
    }

    fn index(at: EntryPlace) -> usize {
        assert!(at.offset.is_multiple_of(8) && at.offset < 4096);
        usize::from(at.offset / 8)
    }
}

fn vec_of(n: usize) -> Vec<Entry> {
    std::iter::repeat_n(Entry::default(), n).collect()
}

impl SharedEntries for Shared {
    fn read(&self, at: EntryPlace) -> Entry {
        self.reads.set(self.reads.get() + 1);
        let entry = self.entries.borrow()[Self::index(at)];
        if let Some((gref, new)) = self.racing.borrow_mut().pop() {
            self.entries.borrow_mut()[gref] = new;
        }
        entry
    }
    fn compare_exchange(&self, at: EntryPlace, old: Header, new: Header) -> Result<(), Header> {
        let header = &mut self.entries.borrow_mut()[Self::index(at)].header;
        if *header == old {
            *header = new;
            Ok(())
        } else {
            Err(*header)
        }
    }
    fn clear_flags(&self, at: EntryPlace, bits: u16) {
        self.entries.borrow_mut()[Self::index(at)].header.flags &= !bits;
    }
    fn write(&self, at: EntryPlace, entry: Entry) {
        self.entries.borrow_mut()[Self::index(at)] = entry;
    }
}

fn table() -> GrantTable {
    let mut table = GrantTable::new(GRANTER, 4).unwrap();
    table.add_frame(mfn(100)).unwrap();
    table
}

fn parts(host: bool, device: bool, writable: bool) -> Parts {
    Parts { host, device, writable }
}

fn mapping(frame: Mfn, parts: Parts) -> Mapping {
    Mapping { granter: GRANTER, gref: GrantRef(8), frame, parts, contains_pte: false, host_addr: 0x5000 }
}

#[test]
fn header_words_are_as_in_memory() {
    let header = Header { flags: 0x1234, domid: 0xabcd };
    assert_eq!(header.to_word(), 0xabcd_1234);
    assert_eq!(Header::from_word(0xabcd_1234), header);
}

#[test]
fn xsa_18_231_references_end_where_the_table_does() {
    let (mut table, shared) = (table(), Shared::new());
    shared.put(511, PERMIT_ACCESS, A, 7);
    assert_eq!(table.begin_use(&shared, GrantRef(511), A, Use::HOST_READ).map(|g| g.frame), Ok(mfn(7)));
    for bad in [512, 513, 2047, 2048, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
        let gref = GrantRef(bad);
        assert_eq!(table.place(gref), Err(GrantError::BadRef));
        assert_eq!(table.begin_use(&shared, gref, A, Use::HOST_READ), Err(GrantError::BadRef));
        assert_eq!(table.end_use(&shared, gref, A, Use::HOST_READ), Err(GrantError::BadRef));
        assert_eq!(table.swap(&shared, gref, GrantRef(0)), Err(GrantError::BadRef));
        assert_eq!(table.swap(&shared, GrantRef(0), gref), Err(GrantError::BadRef));
    }
    table.add_frame(mfn(101)).unwrap();
    assert_eq!(table.place(GrantRef(513)), Ok(EntryPlace { frame: mfn(101), offset: 8 }));
}

#[test]
fn growth_ends_at_the_maximum() {
    let mut table = table();
    assert_eq!((table.nr_frames(), table.max_frames()), (1, 4));
    assert_eq!(table.missing_frames(0), Ok(0));
    assert_eq!(table.missing_frames(4), Ok(3));
    for bad in [5, 64, u32::MAX] {
        assert_eq!(table.missing_frames(bad), Err(GrantError::Invalid));
    }
    for n in 1..4 {
        table.add_frame(mfn(100 + n)).unwrap();
    }
    assert_eq!(table.add_frame(mfn(1)), Err(GrantError::NoSpace));
    assert_eq!(table.frames().len(), 4);
    assert_eq!(GrantTable::new(GRANTER, u32::MAX).unwrap().max_frames(), MAX_FRAMES);
}

#[test]
fn only_a_whole_page_grant_to_the_caller_is_usable() {
    let (mut table, shared) = (table(), Shared::new());
    for flags in 0..=u16::MAX {
        shared.put(8, flags, A, 7);
        let writable = flags & READONLY == 0;
        let granted = flags & TYPE_MASK == PERMIT_ACCESS && flags & SUB_PAGE == 0;
        for (by, how) in [(A, Use::HOST_READ), (A, Use::HOST_WRITE), (B, Use::HOST_READ)] {
            let answer = table.begin_use(&shared, GrantRef(8), by, how);
            if by != A || !granted {
                assert_eq!(answer, Err(GrantError::NotGranted));
            } else if how.writable && !writable {
                assert_eq!(answer, Err(GrantError::ReadOnly));
            } else {
                assert_eq!(answer, Ok(GrantedFrame { frame: mfn(7), writable: how.writable, first: true }));
                let marks = if how.writable { READING | WRITING } else { READING };
                assert_eq!(shared.flags(8), flags | marks);
                assert_eq!(table.end_use(&shared, GrantRef(8), by, how), Ok(Released { frame: mfn(7), last: true }));
            }
            shared.put(8, flags, A, 7);
        }
    }
    assert_eq!(table.pinned(), 0);
}

#[test]
fn another_domain_cannot_join_or_end_a_use() {
    let (mut table, shared) = (table(), Shared::new());
    shared.put(8, PERMIT_ACCESS, A, 7);
    let _used = table.begin_use(&shared, GrantRef(8), A, Use::HOST_READ).unwrap();
    // The guest now says that B may: it may, once A has finished.
    shared.put(8, PERMIT_ACCESS | READING, B, 7);
    assert_eq!(table.begin_use(&shared, GrantRef(8), B, Use::HOST_READ), Err(GrantError::Busy));
    assert_eq!(table.end_use(&shared, GrantRef(8), B, Use::HOST_READ), Err(GrantError::BadHandle));
    assert_eq!(table.end_use(&shared, GrantRef(8), A, Use::HOST_WRITE), Err(GrantError::BadHandle));
    assert_eq!(table.end_use(&shared, GrantRef(8), A, Use::device(false)), Err(GrantError::BadHandle));
    assert_eq!(table.pinned(), 1);
    assert!(table.end_use(&shared, GrantRef(8), A, Use::HOST_READ).unwrap().last);
    assert!(table.begin_use(&shared, GrantRef(8), B, Use::HOST_READ).is_ok());
}

#[test]
fn xsa_236_the_frame_is_the_one_of_the_first_use() {
    let (mut table, shared) = (table(), Shared::new());
    shared.put(8, PERMIT_ACCESS, A, 7);
    assert_eq!(table.begin_use(&shared, GrantRef(8), A, Use::HOST_READ).unwrap().frame, mfn(7));
    shared.put(8, PERMIT_ACCESS | READING, A, 9);
    let reads = shared.reads.get();
    assert_eq!(table.begin_use(&shared, GrantRef(8), A, Use::HOST_READ).unwrap().frame, mfn(7));
    assert_eq!(shared.reads.get(), reads, "an entry in use is not read again");
    assert_eq!(table.begin_use(&shared, GrantRef(8), A, Use::HOST_WRITE).unwrap().frame, mfn(7));
    for how in [Use::HOST_READ, Use::HOST_WRITE, Use::HOST_READ] {
        assert_eq!(table.end_use(&shared, GrantRef(8), A, how).unwrap().frame, mfn(7));
    }
    assert_eq!(table.begin_use(&shared, GrantRef(8), A, Use::HOST_READ).unwrap().frame, mfn(9));
}

#[test]
fn xsa_236_a_header_that_changes_after_the_read_is_read_again() {
    let (mut table, shared) = (table(), Shared::new());
    let entry = |flags, frame| Entry { header: Header { flags, domid: A.raw() }, frame };
    // Revoked between the read and the mark.
    shared.put(8, PERMIT_ACCESS, A, 7);
    shared.racing.borrow_mut().push((8, entry(0, 7)));
    assert_eq!(table.begin_use(&shared, GrantRef(8), A, Use::HOST_READ), Err(GrantError::NotGranted));
    assert_eq!(shared.flags(8), 0);
    // Made read-only between the read and the mark.
    shared.put(8, PERMIT_ACCESS, A, 7);
    shared.racing.borrow_mut().push((8, entry(PERMIT_ACCESS | READONLY, 7)));
    assert_eq!(table.begin_use(&shared, GrantRef(8), A, Use::HOST_WRITE), Err(GrantError::ReadOnly));
    // Never the same twice: bounded.
    shared.put(8, PERMIT_ACCESS, A, 7);
    let reads = shared.reads.get();
    *shared.racing.borrow_mut() = (0..100u16).map(|n| (8, entry(PERMIT_ACCESS | ((1 + n % 2) << 9), 7))).collect();
    assert_eq!(table.begin_use(&shared, GrantRef(8), A, Use::HOST_READ), Err(GrantError::Unstable));
    assert_eq!(shared.reads.get() - reads, 5);
    assert_eq!(table.pinned(), 0);
    assert!(table.swap(&shared, GrantRef(8), GrantRef(9)).is_ok(), "nothing is left in use");
}

#[test]
fn xsa_230_marks_stay_while_another_use_needs_them() {
    let (mut table, shared) = (table(), Shared::new());
    shared.put(8, PERMIT_ACCESS, A, 7);
    let gref = GrantRef(8);
    let uses = [Use::HOST_WRITE, Use::HOST_READ, Use::device(true)];
    for how in uses {
        let _used = table.begin_use(&shared, gref, A, how).unwrap();
    }
    table.end_use(&shared, gref, A, Use::HOST_WRITE).unwrap();
    assert_eq!(shared.flags(8), PERMIT_ACCESS | READING | WRITING);
    table.end_use(&shared, gref, A, Use::device(true)).unwrap();
    assert_eq!(shared.flags(8), PERMIT_ACCESS | READING);
    table.end_use(&shared, gref, A, Use::HOST_READ).unwrap();
    assert_eq!(shared.flags(8), PERMIT_ACCESS);
}

#[test]
fn a_mapping_for_cpu_and_device_is_two_uses() {
    let (mut table, shared) = (table(), Shared::new());
    shared.put(8, PERMIT_ACCESS, A, 7);
    let both = parts(true, true, true);
    assert!(table.begin_map(&shared, GrantRef(8), A, both).unwrap().first);
    assert_eq!(table.pinned(), 2);
    assert_eq!(table.begin_map(&shared, GrantRef(8), A, parts(false, false, true)), Err(GrantError::BadFlags));
    assert_eq!(table.take_frame(), Err(GrantError::Again));
    assert!(table.end_map(&shared, GrantRef(8), A, both).unwrap().last);
    assert_eq!(table.take_frame(), Ok(Some(mfn(100))));
    assert_eq!(table.take_frame(), Ok(None));
    assert_eq!(table.place(GrantRef(0)), Err(GrantError::BadRef));
}

#[test]
fn map_flags_ask_for_something() {
    for flags in [0, 4, 8, 16, 0xffff_0000, !3] {
        assert_eq!(MapFlags::decode(flags), Err(GrantError::BadFlags));
    }
    assert_eq!(MapFlags::decode(2), Ok(MapFlags { parts: parts(true, false, true), contains_pte: false }));
    assert_eq!(MapFlags::decode(0x17), Ok(MapFlags { parts: parts(true, true, false), contains_pte: true }));
}

#[test]
fn xsa_224_394_each_part_is_unmapped_once() {
    let mut track = MapTrack::new(10).unwrap();
    let made = mapping(mfn(7), parts(true, true, true));
    let handle = track.insert(made).unwrap();
    // A device address of 0 leaves the device's part.
    let unmap = track.begin_unmap(handle, 0x5000, 0).unwrap();
    assert_eq!(unmap.parts, parts(true, false, true));
    track.commit_unmap(unmap).unwrap();
    assert_eq!(track.lookup(handle).unwrap().parts, parts(false, true, true));
    // The same request again, checked anew or replayed, drops nothing more.
    assert_eq!(track.begin_unmap(handle, 0x5000, 0), Err(GrantError::BadAddress));
    assert_eq!(track.commit_unmap(unmap), Err(GrantError::BadHandle));
    assert_eq!(track.begin_unmap(handle, 0, 0), Err(GrantError::BadAddress));
    assert_eq!(track.begin_unmap(handle, 0, 0x8000), Err(GrantError::BadDevAddress));
    assert_eq!(track.begin_unmap(handle, 0, 0x7001), Err(GrantError::BadDevAddress));
    assert_eq!(track.live(), 1);
    let unmap = track.begin_unmap(handle, 0, 0x7000).unwrap();
    track.commit_unmap(unmap).unwrap();
    assert_eq!(track.live(), 0);
    assert_eq!(track.begin_unmap(handle, 0, 0x7000), Err(GrantError::BadHandle));
}

#[test]
fn xsa_234_the_mapping_says_what_its_pte_was() {
    let mut track = MapTrack::new(10).unwrap();
    for writable in [false, true] {
        let handle = track.insert(mapping(mfn(7), parts(true, false, writable))).unwrap();
        assert_eq!(track.begin_unmap(handle, 0x6000, 0), Err(GrantError::BadAddress));
        let unmap = track.begin_unmap(handle, 0x5000, 0).unwrap();
        assert!(unmap.made(mfn(7), writable));
        assert!(!unmap.made(mfn(7), !writable));
        assert!(!unmap.made(mfn(8), writable));
        // The use that is given back is the one that was taken.
        assert_eq!(unmap.parts.uses().collect::<Vec<_>>(), [Use::host(writable)]);
    }
}

#[test]
fn xsa_228_handles_are_unique_and_end_at_the_limit() {
    let mut track = MapTrack::new(300).unwrap();
    let made = mapping(mfn(7), parts(true, false, true));
    let mut seen = BTreeSet::new();
    while let Ok(handle) = track.insert(made) {
        assert!(seen.insert(handle));
    }
    assert_eq!((seen.len(), track.live()), (384, 384));
    assert_eq!(track.reserve(), Err(GrantError::NoSpace));
    for bad in [384, 1 << 18, u32::MAX] {
        assert_eq!(track.lookup(Handle(bad)), Err(GrantError::BadHandle));
        assert_eq!(track.remove(Handle(bad)), Err(GrantError::BadHandle));
    }
    track.remove(Handle(200)).unwrap();
    assert_eq!(track.remove(Handle(200)), Err(GrantError::BadHandle));
    assert_eq!(track.insert(made), Ok(Handle(200)));
    assert!(MapTrack::new(0).unwrap().insert(made).is_err());
}

#[test]
fn xsa_380_release_of_everything_is_linear_in_bounded_steps() {
    let mut track = MapTrack::new(65_536).unwrap();
    let made = mapping(mfn(7), parts(true, false, true));
    for _ in 0..65_536 {
        track.insert(made).unwrap();
    }
    // Leave holes, as a guest would.
    for n in (0..65_536).step_by(3) {
        track.remove(Handle(n)).unwrap();
    }
    let (mut calls, mut released) = (0, track.live());
    while !track.release_some(256, |_| released -= 1) {
        calls += 1;
        assert!(calls <= 256);
    }
    assert_eq!((released, track.live()), (0, 0));
    assert!(!with_one().release_some(0, |_| ()));
}

fn with_one() -> MapTrack {
    let mut track = MapTrack::new(1).unwrap();
    track.insert(mapping(mfn(7), parts(true, false, true))).unwrap();
    track
}

#[test]
fn swap_exchanges_only_what_nobody_uses() {
    let (mut table, shared) = (table(), Shared::new());
    shared.put(8, PERMIT_ACCESS, A, 7);
    shared.put(9, PERMIT_ACCESS | READONLY, B, 5);
    table.swap(&shared, GrantRef(8), GrantRef(9)).unwrap();
    table.swap(&shared, GrantRef(8), GrantRef(8)).unwrap();
    assert_eq!((shared.flags(8), shared.flags(9)), (PERMIT_ACCESS | READONLY, PERMIT_ACCESS));
    let _used = table.begin_use(&shared, GrantRef(9), A, Use::HOST_READ).unwrap();
    assert_eq!(table.swap(&shared, GrantRef(8), GrantRef(9)), Err(GrantError::Again));
    assert_eq!(table.swap(&shared, GrantRef(9), GrantRef(8)), Err(GrantError::Again));
    assert_eq!(table.swap(&shared, GrantRef(9), GrantRef(9)), Err(GrantError::Again));
}

#[test]
fn xsa_523_a_copy_stays_within_its_pages() {
    let end = |domain, offset| CopyEnd { domain, offset };
    let edges = [0, 1, 7, 2048, 4095, 4096, 4097, 8192, 0x7fff, 0x8000, 0xf000, 0xffff];
    for from in edges {
        for to in edges {
            for len in edges {
                let fits = u32::from(from.max(to)) + u32::from(len) <= 4096;
                let answer = CopyRange::decode(3, end(A, from), end(B, to), len);
                assert_eq!(answer.map(|_| ()), if fits { Ok(()) } else { Err(GrantError::BadCopy) });
            }
        }
    }
    let own = end(DomId::SELF, 0);
    for flags in 0..4 {
        let foreign_source = CopyRange::decode(flags, end(A, 0), own, 8);
        assert_eq!(foreign_source.is_ok(), flags & 1 != 0);
        let foreign_dest = CopyRange::decode(flags, own, end(A, 0), 8);
        assert_eq!(foreign_dest.is_ok(), flags & 2 != 0);
    }
}

#[test]
fn xsa_316_every_error_is_negative() {
    use GrantError::*;
    let all = [
        BadDomain,
        BadRef,
        NotGranted,
        ReadOnly,
        Unstable,
        Busy,
        BadHandle,
        BadAddress,
        BadDevAddress,
        BadFlags,
        Permission,
        BadPage,
        BadCopy,
        Again,
        NoSpace,
        Invalid,
        Unsupported,
    ];
    for error in all {
        assert!((-13..=-1).contains(&error.status()), "{error:?}");
    }
    assert_eq!(Errno::from(Unsupported), Errno::ENOSYS);
    assert_eq!(set_version(1), Ok(1));
    assert_eq!(set_version(2), Err(Unsupported));
    assert_eq!(set_version(0), Err(Invalid));
    assert_eq!(set_version(u32::MAX), Err(Invalid));
}

#[derive(Clone, Debug)]
enum Op {
    /// The granting guest writes an entry, whatever its state.
    Write {
        gref: usize,
        flags: u16,
        to_b: bool,
        frame: u32,
    },
    Map {
        gref: u32,
        b: bool,
        flags: u32,
    },
    /// The n-th mapping ever made, by one or both of its addresses, or wrong ones.
    Unmap {
        b: bool,
        nth: usize,
        host: u64,
        device: bool,
    },
    Copy {
        gref: u32,
        b: bool,
        write: bool,
    },
    EndCopy {
        nth: usize,
    },
    Swap(u32, u32),
}

fn op() -> impl Strategy<Value = Op> {
    let flags = prop_oneof![3 => Just(PERMIT_ACCESS), 1 => Just(PERMIT_ACCESS | READONLY), 1 => any::<u16>().prop_map(|f| f & !(READING | WRITING))];
    prop_oneof![
        3 => (0usize..3, flags, any::<bool>(), 0u32..5).prop_map(|(gref, flags, to_b, frame)| Op::Write { gref, flags, to_b, frame }),
        4 => (0u32..4, any::<bool>(), 0u32..8).prop_map(|(gref, b, flags)| Op::Map { gref, b, flags }),
        4 => (any::<bool>(), 0usize..8, prop_oneof![Just(0u64), Just(0x5000), Just(0x6000)], any::<bool>())
            .prop_map(|(b, nth, host, device)| Op::Unmap { b, nth, host, device }),
        2 => (0u32..3, any::<bool>(), any::<bool>()).prop_map(|(gref, b, write)| Op::Copy { gref, b, write }),
        2 => (0usize..4).prop_map(|nth| Op::EndCopy { nth }),
        1 => (0u32..3, 0u32..3).prop_map(|(a, b)| Op::Swap(a, b)),
    ]
}

/// A use that the model knows of.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Live {
    gref: u32,
    by: DomId,
    how: Use,
    frame: Mfn,
}

fn forget(live: &mut Vec<Live>, gone: Live) {
    let at = live.iter().position(|l| *l == gone).expect("a use was given back that was not there");
    live.remove(at);
}

/// Whether the model allows a use, from the entry as it is now and the uses there are.
fn allowed(entry: Entry, live: &[Live], gref: u32, by: DomId, writable: bool) -> Option<Mfn> {
    let uses: Vec<_> = live.iter().filter(|l| l.gref == gref).collect();
    if uses.iter().any(|l| l.by != by) {
        return None;
    }
    let noted = uses.first().map(|l| l.frame);
    if let Some(frame) = noted
        && (!writable || uses.iter().any(|l| l.how.writable))
    {
        return Some(frame);
    }
    let grants = entry.header.flags & (TYPE_MASK | SUB_PAGE) == PERMIT_ACCESS && entry.header.domid == by.raw();
    let ok = grants && (!writable || entry.header.flags & READONLY == 0);
    ok.then(|| noted.unwrap_or(mfn(u64::from(entry.frame))))
}

proptest! {
    #[test]
    fn sequences_agree_with_a_list_of_uses(ops in proptest::collection::vec(op(), 0..80)) {
        let (mut table, shared) = (table(), Shared::new());
        let mut tracks = [MapTrack::new(256).unwrap(), MapTrack::new(256).unwrap()];
        let mut handles: [Vec<(Handle, Mapping)>; 2] = Default::default();
        let mut live: Vec<Live> = Vec::new();
        let mut copies: Vec<Live> = Vec::new();
        // Entries whose marks the guest has overwritten while they were in use.
        let mut tampered = BTreeSet::new();
        let dom = |b: bool| if b { B } else { A };
        for op in ops {
            match op {
                Op::Write { gref, flags, to_b, frame } => {
                    shared.put(gref, flags, dom(to_b), frame);
                    tampered.insert(gref);
                }
                Op::Map { gref, b, flags } => {
                    let by = dom(b);
                    let Ok(MapFlags { parts, .. }) = MapFlags::decode(flags) else { continue };
                    let entry = shared.entries.borrow()[usize::try_from(gref).unwrap()];
                    let expected = allowed(entry, &live, gref, by, parts.writable);
                    let answer = table.begin_map(&shared, GrantRef(gref), by, parts);
                    prop_assert_eq!(answer.ok().map(|g| g.frame), expected);
                    if let Some(frame) = expected {
                        let made = Mapping { granter: GRANTER, gref: GrantRef(gref), frame, parts, contains_pte: false, host_addr: 0x5000 };
                        let track = &mut tracks[usize::from(b)];
                        let handle = track.insert(made).unwrap();
                        prop_assert!(!handles[usize::from(b)].iter().any(|(h, _)| *h == handle));
                        handles[usize::from(b)].push((handle, made));
                        live.extend(parts.uses().map(|how| Live { gref, by, how, frame }));
                    }
                }
                Op::Unmap { b, nth, host, device } => {
                    let by = dom(b);
                    let (handle, frame) = handles[usize::from(b)].get(nth).map_or((Handle(255), mfn(0)), |(h, m)| (*h, m.frame));
                    let dev_bus_addr = if device { frame.raw() << 12 } else { 0 };
                    let track = &mut tracks[usize::from(b)];
                    let Ok(unmap) = track.begin_unmap(handle, host, dev_bus_addr) else { continue };
                    prop_assert!(unmap.parts.host == (host == 0x5000) && (!unmap.parts.device || device));
                    track.commit_unmap(unmap).unwrap();
                    prop_assert!(track.commit_unmap(unmap).is_err());
                    let GrantRef(gref) = unmap.mapping.gref;
                    let released = table.end_map(&shared, unmap.mapping.gref, by, unmap.parts).unwrap();
                    for how in unmap.parts.uses() {
                        forget(&mut live, Live { gref, by, how, frame: released.frame });
                    }
                    prop_assert_eq!(released.last, !live.iter().any(|l| l.gref == gref));
                    if track.lookup(handle).is_err() {
                        handles[usize::from(b)].retain(|(h, _)| *h != handle);
                    }
                }
                Op::Copy { gref, b, write } => {
                    let entry = shared.entries.borrow()[usize::try_from(gref).unwrap()];
                    let expected = allowed(entry, &live, gref, dom(b), write);
                    let answer = table.begin_use(&shared, GrantRef(gref), dom(b), Use::host(write));
                    prop_assert_eq!(answer.ok().map(|g| g.frame), expected);
                    if let Some(frame) = expected {
                        let using = Live { gref, by: dom(b), how: Use::host(write), frame };
                        live.push(using);
                        copies.push(using);
                    }
                }
                Op::EndCopy { nth } => {
                    if nth < copies.len() {
                        let using = copies.swap_remove(nth);
                        let released = table.end_use(&shared, GrantRef(using.gref), using.by, using.how).unwrap();
                        prop_assert_eq!(released.frame, using.frame);
                        forget(&mut live, using);
                    }
                }
                Op::Swap(a, b) => {
                    let busy = live.iter().any(|l| l.gref == a || l.gref == b);
                    prop_assert_eq!(table.swap(&shared, GrantRef(a), GrantRef(b)).is_err(), busy);
                }
            }
            prop_assert_eq!(table.pinned(), u64::try_from(live.len()).unwrap());
            for gref in 0..3u32 {
                let at = usize::try_from(gref).unwrap();
                let uses: Vec<_> = live.iter().filter(|l| l.gref == gref).collect();
                if uses.is_empty() {
                    continue;
                }
                prop_assert!(uses.iter().all(|l| l.frame == uses[0].frame && l.by == uses[0].by));
                if !tampered.contains(&at) {
                    prop_assert!(shared.flags(at) & READING != 0);
                    prop_assert_eq!(shared.flags(at) & WRITING != 0, uses.iter().any(|l| l.how.writable));
                }
            }
            // Marks are ours again once an entry rests.
            tampered.retain(|&at| live.iter().any(|l| usize::try_from(l.gref) == Ok(at)));
        }
        // Teardown gives back everything.
        for using in copies {
            table.end_use(&shared, GrantRef(using.gref), using.by, using.how).unwrap();
        }
        for (track, by) in tracks.iter_mut().zip([A, B]) {
            let mut all = Vec::new();
            while !track.release_some(7, |m| all.push(m)) {}
            for m in all {
                table.end_map(&shared, m.gref, by, m.parts).unwrap();
            }
        }
        prop_assert_eq!(table.pinned(), 0);
        prop_assert!(table.take_frame().is_ok());
    }
}
