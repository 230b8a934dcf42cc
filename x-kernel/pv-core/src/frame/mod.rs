//! Typed frames (bring-up version).
use crate::pt::Slot;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct Mfn(u64);
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct Pfn(u64);
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct Maddr(u64);
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct DomId(u16);
impl Mfn {
    pub const fn new(n: u64) -> Option<Self> {
        if n < 1 << 40 { Some(Self(n)) } else { None }
    }
    pub const fn raw(self) -> u64 {
        self.0
    }
    pub const fn maddr(self) -> Maddr {
        Maddr(self.0 << 12)
    }
    pub fn checked_add(self, n: u64) -> Option<Self> {
        Self::new(self.0.checked_add(n)?)
    }
}
impl Pfn {
    pub const fn new(n: u64) -> Option<Self> {
        if n < 1 << 40 { Some(Self(n)) } else { None }
    }
    pub const fn raw(self) -> u64 {
        self.0
    }
}
impl Maddr {
    pub const fn raw(self) -> u64 {
        self.0
    }
}
impl DomId {
    pub const fn new(n: u16) -> Self {
        Self(n)
    }
    pub const fn raw(self) -> u16 {
        self.0
    }
    pub const SELF: Self = Self(0x7ff0);
    pub const IO: Self = Self(0x7ff1);
    pub const XEN: Self = Self(0x7ff2);
}
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum FrameKind {
    None = 0,
    L1 = 1,
    L2 = 2,
    L3 = 3,
    L4 = 4,
    SegDesc = 5,
    Writable = 6,
}
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Level {
    L1 = 1,
    L2 = 2,
    L3 = 3,
    L4 = 4,
}
impl Level {
    pub fn kind(self) -> FrameKind {
        match self {
            Level::L1 => FrameKind::L1,
            Level::L2 => FrameKind::L2,
            Level::L3 => FrameKind::L3,
            Level::L4 => FrameKind::L4,
        }
    }
    pub fn below(self) -> Option<Level> {
        match self {
            Level::L1 => None,
            Level::L2 => Some(Level::L1),
            Level::L3 => Some(Level::L2),
            Level::L4 => Some(Level::L3),
        }
    }
}
impl FrameKind {
    pub fn level(self) -> Option<Level> {
        match self {
            FrameKind::L1 => Some(Level::L1),
            FrameKind::L2 => Some(Level::L2),
            FrameKind::L3 => Some(Level::L3),
            FrameKind::L4 => Some(Level::L4),
            _ => None,
        }
    }
    fn from(n: u64) -> Self {
        match n {
            1 => Self::L1,
            2 => Self::L2,
            3 => Self::L3,
            4 => Self::L4,
            5 => Self::SegDesc,
            6 => Self::Writable,
            _ => Self::None,
        }
    }
}
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FrameError {
    NotRam,
    NotOwner,
    WrongType,
    BadEntry(u64),
    Busy,
    Preempted,
    NotPinned,
}
impl From<FrameError> for xen_abi::errno::Errno {
    fn from(e: FrameError) -> Self {
        match e {
            FrameError::Busy => Self::EBUSY,
            FrameError::Preempted => Self::ERESTART,
            FrameError::NotRam | FrameError::NotOwner => Self::EPERM,
            _ => Self::EINVAL,
        }
    }
}
pub struct FrameInfo {
    ty: AtomicU64,
    refs: AtomicU64,
    owner: AtomicU32,
    _p: AtomicU32,
    _l: AtomicU64,
}
const PINNED: u64 = 1 << 59;
const VALID: u64 = 1 << 58;
const COUNT: u64 = (1 << 32) - 1;
const OWNED: u32 = 1 << 17;
impl FrameInfo {
    pub const fn new() -> Self {
        Self { ty: AtomicU64::new(0), refs: AtomicU64::new(0), owner: AtomicU32::new(0), _p: AtomicU32::new(0), _l: AtomicU64::new(0) }
    }
    pub fn owner(&self) -> Option<DomId> {
        let o = self.owner.load(SeqCst);
        (o & OWNED != 0).then_some(DomId(o as u16))
    }
    pub fn kind(&self) -> FrameKind {
        FrameKind::from(self.ty.load(SeqCst) >> 60)
    }
    pub fn type_count(&self) -> u64 {
        self.ty.load(SeqCst) & COUNT
    }
    pub fn refs(&self) -> u64 {
        self.refs.load(SeqCst)
    }
    pub fn pinned(&self) -> bool {
        self.ty.load(SeqCst) & PINNED != 0
    }
}
pub trait Machine {
    fn frame(&self, m: Mfn) -> Option<&FrameInfo>;
    fn read_entry(&self, t: Mfn, s: Slot) -> u64;
    fn cmpxchg_entry(&self, t: Mfn, s: Slot, old: u64, new: u64) -> Result<(), u64>;
    fn install_hypervisor_slots(&self, l4: Mfn, d: DomId);
    fn flush_stale(&self, d: DomId);
    fn preempt(&self) -> bool;
    fn freed(&self, m: Mfn, d: DomId);
    fn max_mfn(&self) -> u64;
}
pub struct PageList;
impl PageList {
    pub const fn new() -> Self {
        Self
    }
}
pub fn get_ref(m: &impl Machine, f: Mfn, d: DomId) -> Result<(), FrameError> {
    let i = m.frame(f).ok_or(FrameError::NotRam)?;
    i.refs.fetch_update(SeqCst, SeqCst, |n| (n > 0).then(|| n + 1)).map_err(|_| FrameError::NotOwner)?;
    if i.owner() != Some(d) {
        put_ref(m, f);
        return Err(FrameError::NotOwner);
    }
    Ok(())
}
pub fn put_ref(m: &impl Machine, f: Mfn) {
    if let Some(i) = m.frame(f) {
        if i.refs.fetch_sub(1, SeqCst) == 1 {
            let d = i.owner();
            i.owner.store(0, SeqCst);
            i.ty.store(0, SeqCst);
            if let Some(d) = d {
                m.freed(f, d);
            }
        }
    }
}
pub fn get_typed(m: &impl Machine, f: Mfn, d: DomId, k: FrameKind) -> Result<(), FrameError> {
    get_ref(m, f, d)?;
    if let Err(e) = get_type(m, f, d, k) {
        put_ref(m, f);
        return Err(e);
    }
    Ok(())
}
pub fn put_typed(m: &impl Machine, f: Mfn) {
    put_type(m, f);
    put_ref(m, f)
}
fn get_type(m: &impl Machine, f: Mfn, d: DomId, k: FrameKind) -> Result<(), FrameError> {
    let i = m.frame(f).ok_or(FrameError::NotRam)?;
    loop {
        let x = i.ty.load(SeqCst);
        let (t, c) = (FrameKind::from(x >> 60), x & COUNT);
        if c == 0 && (t != k || x & VALID == 0) {
            if i.ty.compare_exchange(x, (k as u64) << 60 | 1, SeqCst, SeqCst).is_err() {
                continue;
            }
            if t != k && t != FrameKind::None {
                m.flush_stale(d)
            }
            let r = match k {
                FrameKind::Writable | FrameKind::None => Ok(()),
                FrameKind::SegDesc => validate_desc(m, f),
                _ => validate(m, f, d, k.level().unwrap_or(Level::L1)),
            };
            match r {
                Ok(()) => {
                    i.ty.fetch_or(VALID, SeqCst);
                    return Ok(());
                }
                Err(e) => {
                    i.ty.store(0, SeqCst);
                    return Err(e);
                }
            }
        }
        if t != k {
            return Err(FrameError::WrongType);
        }
        if x & VALID == 0 {
            return Err(FrameError::Busy);
        }
        if i.ty.compare_exchange(x, x + 1, SeqCst, SeqCst).is_ok() {
            return Ok(());
        }
    }
}
fn put_type(m: &impl Machine, f: Mfn) {
    let Some(i) = m.frame(f) else { return };
    let x = i.ty.load(SeqCst);
    let k = FrameKind::from(x >> 60);
    if x & COUNT == 1 {
        if let Some(l) = k.level() {
            devalidate(m, f, l, 512);
            i.ty.store((k as u64) << 60, SeqCst);
            return;
        }
    }
    i.ty.fetch_sub(1, SeqCst);
}
fn validate_desc(m: &impl Machine, f: Mfn) -> Result<(), FrameError> {
    for s in 0..512u16 {
        let s = Slot::new(s).ok_or(FrameError::Busy)?;
        let e = m.read_entry(f, s);
        match crate::descriptor::descriptor_allowed(e) {
            Some(n) if n == e => {}
            Some(n) => m.cmpxchg_entry(f, s, e, n).map_err(|_| FrameError::Busy)?,
            None => return Err(FrameError::BadEntry(e)),
        }
    }
    Ok(())
}
fn validate(m: &impl Machine, f: Mfn, d: DomId, l: Level) -> Result<(), FrameError> {
    for n in 0..512u16 {
        if l == Level::L4 && (256..272).contains(&n) {
            continue;
        }
        let s = Slot::new(n).ok_or(FrameError::Busy)?;
        let e = m.read_entry(f, s);
        let r = crate::pt::take(m, d, d, l, e)
            .and_then(|e2| if e2 != e { m.cmpxchg_entry(f, s, e, e2).map_err(|_| FrameError::Busy) } else { Ok(()) });
        if let Err(x) = r {
            devalidate(m, f, l, n);
            return Err(x);
        }
    }
    if l == Level::L4 {
        m.install_hypervisor_slots(f, d)
    }
    Ok(())
}
fn devalidate(m: &impl Machine, f: Mfn, l: Level, upto: u16) {
    for n in 0..upto {
        if l == Level::L4 && (256..272).contains(&n) {
            continue;
        }
        if let Some(s) = Slot::new(n) {
            crate::pt::drop_entry(m, l, m.read_entry(f, s))
        }
    }
}
pub fn assign(m: &impl Machine, f: Mfn, d: DomId, _: &mut PageList) {
    if let Some(i) = m.frame(f) {
        i.ty.store(0, SeqCst);
        i.owner.store(u32::from(d.0) | OWNED, SeqCst);
        i.refs.store(1, SeqCst);
    }
}
pub fn steal(m: &impl Machine, f: Mfn, d: DomId, _: &mut PageList) -> Result<(), FrameError> {
    let i = m.frame(f).ok_or(FrameError::NotRam)?;
    if i.owner() != Some(d) || i.type_count() != 0 || i.pinned() {
        return Err(FrameError::NotOwner);
    }
    i.refs.compare_exchange(1, 0, SeqCst, SeqCst).map_err(|_| FrameError::Busy)?;
    i.owner.store(0, SeqCst);
    i.ty.store(0, SeqCst);
    Ok(())
}
pub fn share(m: &impl Machine, f: Mfn, d: DomId) {
    if let Some(i) = m.frame(f) {
        i.ty.store((FrameKind::Writable as u64) << 60 | VALID | 1, SeqCst);
        i.owner.store(u32::from(d.0) | OWNED, SeqCst);
        i.refs.store(1, SeqCst);
    }
}
pub fn unshare(m: &impl Machine, f: Mfn) {
    if let Some(i) = m.frame(f) {
        i.ty.store(0, SeqCst);
        i.owner.store(0, SeqCst);
        i.refs.store(0, SeqCst);
    }
}
pub fn pin(m: &impl Machine, d: DomId, f: Mfn, l: Level) -> Result<(), FrameError> {
    get_typed(m, f, d, l.kind())?;
    if let Some(i) = m.frame(f) {
        if i.ty.fetch_or(PINNED, SeqCst) & PINNED != 0 {
            put_typed(m, f);
            return Err(FrameError::Busy);
        }
    }
    Ok(())
}
pub fn unpin(m: &impl Machine, d: DomId, f: Mfn) -> Result<(), FrameError> {
    get_ref(m, f, d)?;
    let i = m.frame(f).ok_or(FrameError::NotRam)?;
    let was = i.ty.fetch_and(!PINNED, SeqCst) & PINNED != 0;
    if was {
        put_typed(m, f)
    }
    put_ref(m, f);
    if was { Ok(()) } else { Err(FrameError::NotPinned) }
}
pub fn relinquish(m: &impl Machine, d: DomId, _: &mut PageList, mut free: impl FnMut(Mfn)) -> Result<(), FrameError> {
    for n in 0..m.max_mfn() {
        if let Some(f) = Mfn::new(n) {
            if let Some(i) = m.frame(f) {
                if i.owner() == Some(d) && i.pinned() {
                    let _ = unpin(m, d, f);
                }
            }
        }
    }
    let mut left = false;
    for n in 0..m.max_mfn() {
        if let Some(f) = Mfn::new(n) {
            if let Some(i) = m.frame(f) {
                if i.owner() == Some(d) {
                    if i.refs() == 1 && i.type_count() == 0 {
                        unshare(m, f);
                        free(f)
                    } else if i.refs() > 1 {
                        left = true
                    }
                }
            }
        }
    }
    if left { Err(FrameError::Preempted) } else { Ok(()) }
}
