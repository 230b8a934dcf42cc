//! PTEs (bring-up).
use crate::frame::*;
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(u16);
impl Slot {
    pub fn new(n: u16) -> Option<Self> {
        (n < 512).then_some(Self(n))
    }
    pub fn index(self) -> usize {
        self.0 as usize
    }
}
const P: u64 = 1;
const RW: u64 = 2;
const US: u64 = 4;
const PS: u64 = 0x80;
const G: u64 = 0x100;
const ADDR: u64 = 0x000f_ffff_ffff_f000;
const GK: u64 = 1 << 52;
pub fn target(e: u64) -> Option<Mfn> {
    Mfn::new((e & ADDR) >> 12)
}
pub fn take(m: &impl Machine, d: DomId, owner: DomId, l: Level, e: u64) -> Result<u64, FrameError> {
    if e & P == 0 {
        return Ok(e);
    }
    let f = target(e).ok_or(FrameError::BadEntry(e))?;
    if f.raw() >= 1 << 36 || (l != Level::L1 && e & PS != 0) || (l == Level::L1 && e & 0x80 != 0) {
        return Err(FrameError::BadEntry(e));
    }
    match l.below() {
        None => {
            if e & RW != 0 {
                get_typed(m, f, owner, FrameKind::Writable)?
            } else {
                get_ref(m, f, owner)?
            }
            Ok(if e & US == 0 { (e | US | GK) & !G } else { e & !G })
        }
        Some(b) => {
            get_typed(m, f, d, b.kind())?;
            Ok(e | US)
        }
    }
}
pub fn drop_entry(m: &impl Machine, l: Level, e: u64) {
    if e & P == 0 {
        return;
    }
    if let Some(f) = target(e) {
        if l == Level::L1 && e & RW == 0 { put_ref(m, f) } else { put_typed(m, f) }
    }
}
pub fn update(m: &impl Machine, d: DomId, owner: DomId, t: Mfn, s: Slot, v: u64, ad: bool) -> Result<bool, FrameError> {
    get_ref(m, t, d)?;
    let r = update2(m, d, owner, t, s, v, ad);
    put_ref(m, t);
    r
}
fn update2(m: &impl Machine, d: DomId, owner: DomId, t: Mfn, s: Slot, v: u64, ad: bool) -> Result<bool, FrameError> {
    let i = m.frame(t).ok_or(FrameError::NotRam)?;
    match i.kind().level().filter(|_| i.type_count() > 0) {
        None => {
            get_typed(m, t, d, FrameKind::Writable)?;
            let mut o = m.read_entry(t, s);
            while let Err(n) = m.cmpxchg_entry(t, s, o, v) {
                o = n
            }
            put_typed(m, t);
            Ok(false)
        }
        Some(l) => {
            if l == Level::L4 && (256..272).contains(&s.index()) {
                return Err(FrameError::BadEntry(v));
            }
            let n = take(m, d, owner, l, v)?;
            let mut o = m.read_entry(t, s);
            loop {
                let w = if ad && n & 1 != 0 { n | (o & 0x60) } else { n };
                match m.cmpxchg_entry(t, s, o, w) {
                    Ok(()) => break,
                    Err(x) => o = x,
                }
            }
            drop_entry(m, l, o);
            Ok(l != Level::L1)
        }
    }
}
