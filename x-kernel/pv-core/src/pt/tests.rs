//! Random operations on a small machine, checked after each step against a recount from the real tables.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "the numbers are the tests' own, and a test that panics has failed"
)]

extern crate std;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::vec::Vec;

use proptest::prelude::*;

use super::{Slot, bits, check_for_tests, target, update};
use crate::frame::{self, DomId, FrameError, FrameInfo, FrameKind, Level, Machine, Mfn, Mm, Relinquish};

const FRAMES: u64 = 24;
const A: DomId = DomId::new(1);
const B: DomId = DomId::new(2);
/// Slots that the tests use: the ends, the middle, and one of the X-Kernel's.
const SLOTS: [u16; 6] = [0, 1, 63, 64, 300, 511];

struct TestMachine {
    infos: Vec<FrameInfo>,
    memory: RefCell<Vec<[u64; 512]>>,
    /// Stops at every n-th question; 0 for never.
    stop_every: Cell<u32>,
    asked: Cell<u32>,
    freed: RefCell<Vec<(Mfn, DomId)>>,
    flushes: Cell<u32>,
}

impl TestMachine {
    fn new() -> Self {
        let mut infos = Vec::new();
        infos.resize_with(FRAMES as usize, FrameInfo::new);
        let m = Self {
            infos,
            memory: RefCell::new(std::vec![[0; 512]; FRAMES as usize]),
            stop_every: Cell::new(0),
            asked: Cell::new(0),
            freed: RefCell::new(Vec::new()),
            flushes: Cell::new(0),
        };
        for n in 0..FRAMES {
            let owner = if n % 3 == 2 { B } else { A };
            frame::assign(&m, mfn(n), owner);
        }
        m
    }

    fn write(&self, at: u64, slot: u16, value: u64) {
        self.memory.borrow_mut()[at as usize][slot as usize] = value;
    }

    fn read(&self, at: u64, slot: u16) -> u64 {
        self.memory.borrow()[at as usize][slot as usize]
    }
}

impl Machine for TestMachine {
    fn frame(&self, mfn: Mfn) -> Option<&FrameInfo> {
        self.infos.get(usize::try_from(mfn.raw()).ok()?)
    }
    fn max_mfn(&self) -> u64 {
        FRAMES
    }
    fn read_entry(&self, table: Mfn, slot: Slot) -> u64 {
        self.read(table.raw(), slot.number())
    }
    fn cmpxchg_entry(&self, table: Mfn, slot: Slot, old: u64, new: u64) -> Result<(), u64> {
        let now = self.read_entry(table, slot);
        if now != old {
            return Err(now);
        }
        self.write(table.raw(), slot.number(), new);
        Ok(())
    }
    fn install_hypervisor_slots(&self, l4: Mfn, _: DomId) {
        for slot in 256..=271 {
            self.write(l4.raw(), slot, 0x7e57 << 12 | 3);
        }
    }
    fn clear_hypervisor_slots(&self, l4: Mfn) {
        for slot in 256..=271 {
            self.write(l4.raw(), slot, 0);
        }
    }
    fn flush_stale(&self, _: DomId) {
        self.flushes.set(self.flushes.get() + 1);
    }
    fn preempt(&self) -> bool {
        self.asked.set(self.asked.get() + 1);
        self.stop_every.get() != 0 && self.asked.get().is_multiple_of(self.stop_every.get())
    }
    fn freed(&self, mfn: Mfn, dom: DomId) {
        self.freed.borrow_mut().push((mfn, dom));
    }
}

fn mfn(n: u64) -> Mfn {
    Mfn::new(n).unwrap()
}

/// Repeats until it is not preempted any more.
fn finish(mut f: impl FnMut() -> Result<(), FrameError>) -> Result<(), FrameError> {
    for _ in 0..100_000 {
        match f() {
            Err(FrameError::Preempted) => {}
            done => return done,
        }
    }
    panic!("preempted for ever");
}

/// What every frame's counts must be, recounted: pins, roots, and the entries that are held.
fn audit(m: &TestMachine, roots: &[u64], pins: &[u64]) {
    let mut types: HashMap<u64, u64> = HashMap::new();
    let mut refs: HashMap<u64, u64> = HashMap::new();
    let mut writable: HashMap<u64, u64> = HashMap::new();
    for &held in roots.iter().chain(pins) {
        *types.entry(held).or_default() += 1;
        *refs.entry(held).or_default() += 1;
    }
    for n in 0..FRAMES {
        let info = &m.infos[n as usize];
        let Some(level) = info.kind().level() else { continue };
        if info.is_partial() {
            *refs.entry(n).or_default() += 1;
        }
        let held = info.held_entries();
        for slot in Slot::all().take(usize::from(held)) {
            let entry = m.read_entry(mfn(n), slot);
            if entry & bits::PRESENT == 0 || level == Level::L4 && slot.is_hypervisor() {
                continue;
            }
            let to = target(entry).unwrap().raw();
            *refs.entry(to).or_default() += 1;
            if level != Level::L1 {
                *types.entry(to).or_default() += 1;
                assert_eq!(m.infos[to as usize].kind().level(), level.below(), "frame {n} slot {slot:?}");
                assert!(m.infos[to as usize].is_table());
            } else if entry & bits::WRITE != 0 {
                *types.entry(to).or_default() += 1;
                *writable.entry(to).or_default() += 1;
            }
            assert_eq!(entry & bits::USER, bits::USER);
            assert_eq!(check_for_tests(level, entry), Ok(entry), "frame {n} slot {slot:?} holds {entry:#x}");
        }
    }
    for n in 0..FRAMES {
        let info = &m.infos[n as usize];
        if info.owner().is_none() {
            assert_eq!(info.refs(), 0);
            continue;
        }
        assert_eq!(info.type_count(), types.get(&n).copied().unwrap_or(0), "type count of frame {n}: {info:?}");
        assert_eq!(info.refs(), 1 + refs.get(&n).copied().unwrap_or(0), "references of frame {n}: {info:?}");
        if writable.contains_key(&n) {
            assert_eq!(info.kind(), FrameKind::Writable, "frame {n} is mapped writable");
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Update { table: u64, slot: usize, to: u64, flags: u64, foreign: bool },
    Scribble { at: u64, slot: usize, to: u64, flags: u64 },
    Pin { at: u64, level: u8 },
    Unpin { at: u64 },
    Root { at: u64 },
    DropRoot,
    Steal { at: u64 },
    Stop { every: u32 },
    GiveUp,
}

fn flags() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => Just(bits::PRESENT),
        4 => Just(bits::PRESENT | bits::WRITE),
        2 => Just(bits::PRESENT | bits::WRITE | bits::USER),
        1 => Just(0),
        1 => Just(bits::PRESENT | bits::LARGE),
        1 => (0u64..512).prop_map(|low| low | bits::PRESENT),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let frame = 0..FRAMES;
    prop_oneof![
        6 => (frame.clone(), 0..SLOTS.len(), frame.clone(), flags(), any::<bool>())
            .prop_map(|(table, slot, to, flags, foreign)| Op::Update { table, slot, to, flags, foreign }),
        6 => (frame.clone(), 0..SLOTS.len(), frame.clone(), flags())
            .prop_map(|(at, slot, to, flags)| Op::Scribble { at, slot, to, flags }),
        5 => (frame.clone(), 1u8..=4).prop_map(|(at, level)| Op::Pin { at, level }),
        3 => frame.clone().prop_map(|at| Op::Unpin { at }),
        1 => frame.clone().prop_map(|at| Op::Root { at }),
        1 => Just(Op::DropRoot),
        1 => frame.prop_map(|at| Op::Steal { at }),
        1 => (0u32..4).prop_map(|every| Op::Stop { every }),
        1 => Just(Op::GiveUp),
    ]
}

fn level(n: u8) -> Level {
    [Level::L1, Level::L2, Level::L3, Level::L4][usize::from(n - 1)]
}

/// Runs one operation. With `persist` it is repeated until it is not preempted, else tried once and left as it is.
fn run(m: &TestMachine, mm: &mut Mm, roots: &mut Vec<u64>, pins: &mut Vec<u64>, op: &Op, persist: bool) {
    let mut attempt = |f: &mut dyn FnMut(&mut Mm) -> Result<(), FrameError>| {
        if persist { finish(|| f(mm)) } else { f(mm) }
    };
    match *op {
        Op::Update { table, slot, to, flags, foreign } => {
            let slot = Slot::new(SLOTS[slot]).unwrap();
            let owner = if foreign { B } else { A };
            let _ = attempt(&mut |p| update(m, p, owner, mfn(table), slot, to << 12 | flags, false));
        }
        // A guest writes to memory that it has mapped writable: not to a frame in use as anything else.
        Op::Scribble { at, slot, to, flags } => {
            let info = &m.infos[at as usize];
            let free = info.type_count() == 0 && !info.is_partial() || info.kind() == FrameKind::Writable;
            if free && info.owner() == Some(A) {
                m.write(at, SLOTS[slot], to << 12 | flags);
            }
        }
        Op::Pin { at, level: l } => {
            if attempt(&mut |p| frame::pin(m, p, mfn(at), level(l))) == Ok(()) {
                pins.push(at);
            }
        }
        Op::Unpin { at } => {
            if attempt(&mut |p| frame::unpin(m, p, mfn(at))) == Ok(()) {
                pins.retain(|&p| p != at);
            }
        }
        Op::Root { at } => {
            let taken = attempt(&mut |p| {
                frame::settle(m, p)?;
                frame::get_table(m, p, mfn(at), Level::L4)
            });
            if taken == Ok(()) {
                roots.push(at);
            }
        }
        Op::DropRoot => {
            if let Some(at) = roots.pop() {
                frame::put_table(m, mm, mfn(at));
            }
        }
        Op::Steal { at } => {
            if frame::steal(m, mfn(at), A) == Ok(()) {
                frame::assign(m, mfn(at), A);
            }
        }
        Op::Stop { every } => m.stop_every.set(every),
        Op::GiveUp => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Counts agree with the tables after every step, whatever is preempted or given up half-way, and a dead domain
    /// leaves nothing.
    #[test]
    fn counts_are_what_a_recount_says(ops in proptest::collection::vec((op(), any::<bool>()), 1..120)) {
        let m = TestMachine::new();
        let (mut mm, mut roots, mut pins) = (Mm::new(A), Vec::new(), Vec::new());
        for (op, persist) in &ops {
            run(&m, &mut mm, &mut roots, &mut pins, op, *persist);
            audit(&m, &roots, &pins);
        }
        for at in roots.drain(..) {
            frame::put_table(&m, &mut mm, mfn(at));
        }
        let mut state = Relinquish::new();
        finish(|| frame::relinquish(&m, &mut mm, &mut state, &(0..u64::MAX))).unwrap();
        for n in 0..FRAMES {
            let info = &m.infos[n as usize];
            if n % 3 == 2 {
                prop_assert_eq!((info.refs(), info.type_count()), (1, 0), "frame {} of the other domain", n);
            } else {
                prop_assert_eq!((info.owner(), info.refs(), info.type_count()), (None, 0, 0));
            }
        }
        prop_assert!(mm.is_settled());
    }
}

/// A machine with a validated tree 3 → 1 → 0 → 4 (L4, L3, L2, L1), and frame 6 as data.
fn tree(m: &TestMachine, mm: &mut Mm) {
    let link = bits::PRESENT | bits::WRITE | bits::USER;
    m.write(3, 0, 1 << 12 | link);
    m.write(1, 0, link);
    m.write(0, 0, 4 << 12 | link);
    m.write(4, 0, 6 << 12 | link);
    frame::pin(m, mm, mfn(3), Level::L4).unwrap();
}

#[test]
fn each_bit_alone_keeps_the_counts_true() {
    for (table, level) in [(3u64, Level::L4), (1, Level::L3), (0, Level::L2), (4, Level::L1)] {
        for bit in 0..64 {
            let (m, mut mm) = (TestMachine::new(), Mm::new(A));
            tree(&m, &mut mm);
            let slot = Slot::new(0).unwrap();
            let old = m.read_entry(mfn(table), slot);
            let done = finish(|| update(&m, &mut mm, A, mfn(table), slot, old ^ 1 << bit, false));
            finish(|| frame::settle(&m, &mut mm)).unwrap();
            audit(&m, &[], &[3]);
            if bit == 7 {
                // A large page is refused where the bit means one (XSA-148), and is no attribute at level 1.
                assert_eq!(done.is_err(), level != Level::L1);
            }
            assert_eq!(m.read_entry(mfn(table), slot) & (bits::GLOBAL | bits::LARGE), 0);
        }
    }
}

#[test]
fn a_table_is_never_writable() {
    let (m, mut mm) = (TestMachine::new(), Mm::new(A));
    tree(&m, &mut mm);
    let slot = Slot::new(1).unwrap();
    for table in [3u64, 1, 0, 4] {
        let writable = table << 12 | bits::PRESENT | bits::WRITE;
        assert_eq!(update(&m, &mut mm, A, mfn(4), slot, writable, false), Err(FrameError::WrongType));
        assert_eq!(update(&m, &mut mm, A, mfn(4), slot, writable & !bits::WRITE, false), Ok(()));
        assert_eq!(frame::get_typed(&m, mfn(table), A, FrameKind::Writable), Err(FrameError::WrongType));
    }
    assert_eq!(frame::pin(&m, &mut mm, mfn(6), Level::L1), Err(FrameError::WrongType), "mapped writable");
}

#[test]
fn no_table_contains_itself() {
    for (table, l) in [(3u64, Level::L4), (1, Level::L3), (0, Level::L2)] {
        let (m, mut mm) = (TestMachine::new(), Mm::new(A));
        m.write(table, 5, table << 12 | bits::PRESENT);
        assert_eq!(frame::pin(&m, &mut mm, mfn(table), l), Err(FrameError::WrongType));
        finish(|| frame::settle(&m, &mut mm)).unwrap();
        audit(&m, &[], &[]);
    }
}

#[test]
fn the_hypervisor_slots_are_ours() {
    let (m, mut mm) = (TestMachine::new(), Mm::new(A));
    m.write(3, 256, 0xdead_beef);
    tree(&m, &mut mm);
    assert_eq!(m.read(3, 256), 0x7e57 << 12 | 3);
    for slot in 256..=271 {
        let done = update(&m, &mut mm, A, mfn(3), Slot::new(slot).unwrap(), 0, false);
        assert_eq!(done, Err(FrameError::BadEntry(0)));
    }
    frame::unpin(&m, &mut mm, mfn(3)).unwrap();
    finish(|| frame::settle(&m, &mut mm)).unwrap();
    assert_eq!(m.read(3, 256), 0, "nothing of ours is left for the guest to read");
}

#[test]
fn others_frames_are_refused() {
    let (m, mut mm) = (TestMachine::new(), Mm::new(A));
    tree(&m, &mut mm);
    let slot = Slot::new(1).unwrap();
    for alleged in [2u64 << 12, FRAMES << 12, 0xf_ffff_ffff << 12] {
        let done = update(&m, &mut mm, A, mfn(4), slot, alleged | bits::PRESENT, false);
        assert!(matches!(done, Err(FrameError::NotOwner | FrameError::NotRam)), "{alleged:#x}: {done:?}");
    }
}

#[test]
fn a_retyped_frame_is_flushed_first() {
    let (m, mut mm) = (TestMachine::new(), Mm::new(A));
    frame::get_typed(&m, mfn(0), A, FrameKind::Writable).unwrap();
    frame::put_typed(&m, mfn(0));
    assert_eq!(m.flushes.get(), 0);
    frame::pin(&m, &mut mm, mfn(0), Level::L1).unwrap();
    assert_eq!(m.flushes.get(), 1, "a stale writable translation may be left");
    frame::unpin(&m, &mut mm, mfn(0)).unwrap();
    finish(|| frame::settle(&m, &mut mm)).unwrap();
    frame::get_typed(&m, mfn(0), A, FrameKind::Writable).unwrap();
    assert_eq!(m.flushes.get(), 2, "a page walk may still go through it");
}
