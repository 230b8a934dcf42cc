//! All interleavings of two CPUs that take, drop and retype one frame.
//!
//! Run by `RUSTFLAGS="--cfg loom" cargo test -p pv-core --release --lib loom`. The machine has a frame and, beside it, a
//! model of what translations CPUs remember: a writable one lives on after its count until somebody flushes. The tests
//! that must fail leave out or swap a step.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
use loom::thread;

use super::{DomId, FrameError, FrameInfo, FrameKind, Machine, Mfn, assign, get_ref, get_typed, put_ref, put_typed, share, steal};
use crate::pt::Slot;

const A: DomId = DomId::new(1);
const B: DomId = DomId::new(2);

fn mfn() -> Mfn {
    Mfn::new(0).unwrap()
}

#[derive(Default)]
struct World {
    info: FrameInfo,
    /// A CPU may still write to the frame by a translation that it remembers.
    stale: AtomicBool,
    flushes: AtomicU32,
    freed: AtomicU32,
}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// A frame of A's.
    fn with_frame() -> Arc<Self> {
        let world = Self::new();
        assign(&*world, mfn(), A);
        world
    }

    /// A guest that maps the frame writable and unmaps it again, without a flush: the CPU remembers.
    fn write_for_a_while(&self) {
        if get_typed(self, mfn(), A, FrameKind::Writable).is_ok() {
            self.stale.store(true, Ordering::SeqCst);
            put_typed(self, mfn());
        }
    }
}

impl Machine for World {
    fn frame(&self, mfn: Mfn) -> Option<&FrameInfo> {
        (mfn.raw() == 0).then_some(&self.info)
    }
    fn max_mfn(&self) -> u64 {
        1
    }
    /// The content is looked at only where nobody can change it any more.
    fn read_entry(&self, _: Mfn, slot: Slot) -> u64 {
        if slot.number() == 0 {
            assert!(!self.stale.load(Ordering::SeqCst), "checked while it can be written");
        }
        0
    }
    fn cmpxchg_entry(&self, _: Mfn, _: Slot, _: u64, _: u64) -> Result<(), u64> {
        Ok(())
    }
    fn install_hypervisor_slots(&self, _: Mfn, _: DomId) {}
    fn clear_hypervisor_slots(&self, _: Mfn) {}
    fn flush_stale(&self, _: DomId) {
        self.stale.store(false, Ordering::SeqCst);
        self.flushes.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }
    fn preempt(&self) -> bool {
        false
    }
    fn freed(&self, _: Mfn, owner: DomId) {
        assert_eq!(owner, A);
        self.freed.fetch_add(1, Ordering::SeqCst);
    }
}

/// One CPU writes while another makes the frame descriptors; `retype` is how.
fn retype_races_a_writer(retype: fn(&World) -> Result<(), FrameError>) {
    loom::model(move || {
        let world = World::with_frame();
        let writer = {
            let world = world.clone();
            thread::spawn(move || world.write_for_a_while())
        };
        if retype(&world).is_ok() {
            assert_eq!((world.info.kind(), world.info.type_count()), (FrameKind::SegDesc, 1));
            assert!(!world.stale.load(Ordering::SeqCst), "in use as descriptors while it can be written");
            put_typed(&*world, mfn());
        }
        writer.join().unwrap();
        assert_eq!((world.info.refs(), world.info.type_count()), (1, 0));
    });
}

/// XSA-401: claim, flush, check, publish.
#[test]
fn loom_frame_retype_races_a_writer() {
    retype_races_a_writer(|world| get_typed(world, mfn(), A, FrameKind::SegDesc));
}

/// The flush comes before the claim: a writer slips in between.
#[test]
#[should_panic(expected = "while it can be written")]
fn loom_notices_a_flush_before_the_claim() {
    retype_races_a_writer(|world| {
        use super::info::TypeWord;
        get_ref(world, mfn(), A)?;
        let word = world.info.load();
        if word.count() > 0 {
            put_ref(world, mfn());
            return Err(FrameError::WrongType);
        }
        if word.kind() != FrameKind::None {
            world.flush_stale(A);
        }
        // As if the word were claimed whatever its kind has become meanwhile.
        let now = world.info.load();
        if now.count() > 0 || !world.info.replace(now, TypeWord::fresh(FrameKind::SegDesc)) {
            put_ref(world, mfn());
            return Err(FrameError::Busy);
        }
        let _entry = world.read_entry(mfn(), Slot::new(0).unwrap());
        world.info.store(TypeWord::fresh(FrameKind::SegDesc).with_validated());
        Ok(())
    });
}

/// Two CPUs take the same frame as different types: one of them at most has it at a time.
#[test]
fn loom_frame_is_never_two_types() {
    loom::model(|| {
        let world = World::with_frame();
        let threads = [FrameKind::SegDesc, FrameKind::Writable].map(|kind| {
            let world = world.clone();
            thread::spawn(move || {
                if get_typed(&*world, mfn(), A, kind).is_ok() {
                    assert_eq!(world.info.kind(), kind);
                    put_typed(&*world, mfn());
                }
            })
        });
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!((world.info.refs(), world.info.type_count()), (1, 0));
    });
}

/// XSA-287: the last reference is dropped while another CPU takes one. Either it gets one and the frame lives until it is
/// dropped, or it gets none; the frame is freed once.
#[test]
fn loom_frame_last_reference_races_get() {
    loom::model(|| {
        let world = World::with_frame();
        let taker = {
            let world = world.clone();
            thread::spawn(move || {
                if get_ref(&*world, mfn(), A).is_ok() {
                    assert_eq!(world.freed.load(Ordering::SeqCst), 0, "freed while referenced");
                    put_ref(&*world, mfn());
                }
            })
        };
        put_ref(&*world, mfn());
        taker.join().unwrap();
        assert_eq!(world.freed.load(Ordering::SeqCst), 1);
        assert_eq!((world.info.refs(), world.info.owner()), (0, None));
    });
}

/// A frame changes hands, from A to B, while A takes references: none that A gets is of B's frame.
fn steal_races_get(take: fn(&World) -> bool) {
    loom::model(move || {
        let world = World::with_frame();
        let taker = {
            let world = world.clone();
            thread::spawn(move || {
                if take(&world) {
                    assert_eq!(world.info.owner(), Some(A), "a reference to another's frame");
                    put_ref(&*world, mfn());
                }
            })
        };
        if steal(&*world, mfn(), A).is_ok() {
            assign(&*world, mfn(), B);
        }
        taker.join().unwrap();
        assert_eq!(world.info.refs(), 1);
    });
}

#[test]
fn loom_frame_steal_races_get() {
    steal_races_get(|world| get_ref(world, mfn(), A).is_ok());
}

/// The owner is looked at before the reference is there to keep it.
#[test]
#[should_panic(expected = "another's frame")]
fn loom_notices_an_owner_looked_at_too_early() {
    steal_races_get(|world| world.info.owner() == Some(A) && world.info.add_ref().is_ok());
}

/// A frame that the X-Kernel shares is writable from the first moment that a guest can take it.
fn share_races_get(share: fn(&World)) {
    loom::model(move || {
        let world = World::new();
        let taker = {
            let world = world.clone();
            thread::spawn(move || {
                assert!(get_typed(&*world, mfn(), A, FrameKind::SegDesc).is_err(), "another type first");
            })
        };
        share(&world);
        taker.join().unwrap();
        assert_eq!((world.info.kind(), world.info.type_count(), world.info.refs()), (FrameKind::Writable, 1, 1));
    });
}

#[test]
fn loom_frame_share_races_get() {
    share_races_get(|world| share(world, mfn(), A));
}

/// First a frame of the domain's, then writable.
#[test]
#[should_panic(expected = "another type first")]
fn loom_notices_a_frame_shared_in_two_steps() {
    use super::info::TypeWord;
    share_races_get(|world| {
        assign(world, mfn(), A);
        world.info.store(TypeWord::fresh(FrameKind::Writable).with_validated());
    });
}
