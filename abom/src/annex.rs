//! A way by memory of the kernel's, an *annex*: for sites that have no gap, and to leave gaps to those that have nothing else.
//!
//! An instruction of seven bytes or more ahead of the site becomes a call of a stub there, through a slot as the table has
//! them. It, and those between it and the site, are executed by the stub; the return address says where the code is, for what
//! addresses from rip, and is moved on behind the site before the kernel is entered:
//!
//! ```text
//! site:  call [slot]   [what is between]   syscall
//! stub:  [the same]   add qword [rsp], to behind the site   jmp [slot for any number]
//! ```
//!
//! No instruction begins inside of the call, and all others stay as they are, for whoever comes to them by another way. A stub
//! has no address of the program's in it: a page that several processes have, each at its own place, has one; and so have
//! sites that look alike.

use alloc::vec::Vec;

use arrayvec::ArrayVec;
use iced_x86::{Instruction, Register};

use crate::code::Code;
use crate::effect::{self, Stack};
use crate::filling::Hop;
use crate::moved::constants;
use crate::patch::Form;
use crate::plan::Site;
use crate::table::{call_by, displacement, jump_by};

/// So many bytes of an annex are for one stub: its slot, which has the address of what is behind it, and its code.
pub const CELL: usize = 64;
/// An annex is a page: so many stubs.
const MOST_STUBS: usize = 4096 / CELL;
/// The length of a slot.
pub const SLOT: usize = 8;
/// The most bytes of a stub.
pub const LONGEST_STUB: usize = CELL - SLOT;
/// The length of `call [slot]`.
const CALL: usize = 7;
/// The most instructions that are executed in a stub.
const MOST_MOVED: usize = 4;
/// Bytes that the call has pushed.
const PUSHED: i32 = 8;

/// A stub's bytes.
pub type Stub = ArrayVec<u8, LONGEST_STUB>;

/// The stubs that an annex has, each once.
#[derive(Debug, Default)]
pub struct Stubs(Vec<Stub>);

impl Stubs {
    /// None yet, with room for all that there can be: nothing is allocated later. Nothing if memory is short.
    #[must_use]
    pub fn new() -> Option<Self> {
        let mut stubs = Vec::new();
        stubs.try_reserve_exact(MOST_STUBS).ok()?;
        Some(Self(stubs))
    }

    /// The offset of a stub's cell in the annex: its own, or the next one that is free.
    pub fn cell(&mut self, stub: &[u8]) -> Option<u64> {
        let known = self.0.iter().position(|s| **s == *stub);
        let index = known.unwrap_or(self.0.len());
        if known.is_none() {
            if index >= MOST_STUBS {
                return None;
            }
            self.0.try_reserve(1).ok()?;
            self.0.push(Stub::try_from(stub).ok()?);
        }
        Some(index.checked_mul(CELL)? as u64)
    }
}

/// Puts a stub into the annex, or finds it there. Returns the address of the slot that has the stub's, which a displacement
/// can name.
pub type Place<'p> = dyn FnMut(&[u8]) -> Option<u64> + 'p;

/// The plan by a stub, if there is an instruction that can become the call, and `place` has room.
pub(crate) fn call(site: &Site<'_, '_>, place: &mut Place<'_>) -> Option<Hop> {
    if site.is_cancellation_point() || site.may_push(None).is_err() {
        return None;
    }
    let long = |&(n, i): &(usize, &Instruction)| i.len() >= CALL && (0..=n).all(|n| site.can_go(n));
    let (n, first) = site.before.iter().enumerate().take(MOST_MOVED).find(long)?;
    let pushed = first.ip().checked_add(CALL as u64)?;
    let mut stub = Stub::new();
    for i in site.before.get(..=n)?.iter().rev() {
        add(&mut stub, &site.code, i, pushed)?;
    }
    let further = i8::try_from(site.behind.checked_sub(pushed)?).ok()?;
    stub.try_extend_from_slice(&[0x48, 0x83, 0x04, 0x24, further.cast_unsigned()]).ok()?;
    stub.try_extend_from_slice(&jump_by(displacement(site.ways.table.any())?)).ok()?;
    site.written(Form::Annex, &[], (first.ip(), &call_by(displacement(place(&stub)?)?)))
}

/// Adds an instruction to a stub that has `pushed` on the stack, as if that were not there.
fn add(stub: &mut Stub, code: &Code<'_>, i: &Instruction, pushed: u64) -> Option<()> {
    let old = code.bytes(i.ip(), i.len())?;
    if effect::of(i).is_none_or(|e| e.stack != Stack::Kept) || names_stack_pointer(i) {
        return None;
    }
    match i.memory_base() {
        Register::RIP => return from_rip(stub, old, i, pushed),
        Register::RSP => {}
        // Half of it: eight bytes further may be beyond its end.
        Register::ESP => return None,
        _ => return stub.try_extend_from_slice(old).ok(),
    }
    let offsets = constants(old, i);
    let at = stub.len().checked_add(offsets.displacement_offset())?;
    stub.try_extend_from_slice(old).ok()?;
    match offsets.displacement_size() {
        1 => {
            let byte = stub.get_mut(at)?;
            *byte = i8::try_from(i32::from(byte.cast_signed()).checked_add(PUSHED)?).ok()?.cast_unsigned();
        }
        4 => {
            let field = stub.get_mut(at..)?.first_chunk_mut::<4>()?;
            *field = i32::from_le_bytes(*field).checked_add(PUSHED)?.to_le_bytes();
        }
        _ => return None,
    }
    Some(())
}

/// `lea r, [rip + d]` or `mov r, [rip + d]`: the register has the return address first.
fn from_rip(stub: &mut Stub, old: &[u8], i: &Instruction, pushed: u64) -> Option<()> {
    let (rex, opcode, modrm) = match *old {
        [rex @ 0x40..=0x4f, opcode, modrm, _, _, _, _] => (rex, opcode, modrm),
        [opcode, modrm, _, _, _, _] => (0x40, opcode, modrm),
        _ => return None,
    };
    // An address of 64 bits, or a load.
    if !(opcode == 0x8d && rex & 8 != 0 || opcode == 0x8b) || modrm & 0xc7 != 0x05 {
        return None;
    }
    let (register, high) = (modrm >> 3 & 7, rex >> 2 & 1);
    stub.try_extend_from_slice(&[0x48 | high << 2, 0x8b, 0x04 | register << 3, 0x24]).ok()?;
    // The prefix's other bits mean nothing where the base is rip.
    stub.try_extend_from_slice(&[rex & 0x4c | high, opcode, 0x80 | register << 3 | register]).ok()?;
    if register == 4 {
        // As a base, these three bits say that there is a byte more.
        stub.try_push(0x24).ok()?;
    }
    let distance = i32::try_from(i.memory_displacement64().wrapping_sub(pushed).cast_signed()).ok()?;
    stub.try_extend_from_slice(&distance.to_le_bytes()).ok()
}

/// Whether the stack pointer is an operand by itself.
fn names_stack_pointer(i: &Instruction) -> bool {
    (0..i.op_count()).any(|n| matches!(i.op_register(n), Register::RSP | Register::ESP | Register::SP | Register::SPL))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{Facts, RedZone, Seen};
    use crate::gaps::Gaps;
    use crate::hop::hop;
    use crate::plan::Ways;
    use crate::table::Table;
    use crate::trial::{AT, facts, starts};

    const WAYS: Ways = Ways { table: Table::X_CONTAINER, stubs: None };
    const PLACED: u64 = 0xffff_ffff_8123_4040;
    /// `syscall; cmp rax,-4096; ja +1; ret; ret`.
    const END: &[u8] = &[0x0f, 0x05, 0x48, 0x3d, 0x00, 0xf0, 0xff, 0xff, 0x77, 0x01, 0xc3, 0xc3];
    /// `mov eax,14; lea rsi,[rip+0x1178dd]`: glibc 2.36's `pthread_create`.
    const CREATE: &[u8] = &[0xb8, 0x0e, 0, 0, 0, 0x48, 0x8d, 0x35, 0xdd, 0x78, 0x11, 0x00];

    /// The plan for the site behind `ahead`, at `at`, if there are no gaps; and the stub.
    fn plan_at(at: u64, ahead: &[u8], change: impl FnOnce(&mut Facts<'_>)) -> Option<(Hop, Vec<u8>)> {
        let bytes = [ahead, END].concat();
        let code = Code::new(&bytes, at);
        let starts = starts(&code);
        let mut facts = facts(&starts, &[]);
        change(&mut facts);
        let mut stub = Vec::new();
        let place: &mut Place<'_> = &mut |bytes| {
            stub.extend(bytes);
            Some(PLACED)
        };
        let hop = hop(&code, at + ahead.len() as u64, &WAYS, &facts, &Gaps::new(), place).ok()?;
        Some((hop, stub))
    }

    fn plan(ahead: &[u8]) -> Option<(Hop, Vec<u8>)> {
        plan_at(AT, ahead, |_| {})
    }

    #[test]
    fn an_address_from_rip() {
        let (hop, stub) = plan(CREATE).expect("a plan");
        // mov rsi,[rsp]; lea rsi,[rsi+0x1178dd]; add qword [rsp],2; jmp [slot for any number]
        assert_eq!(stub[..11], [0x48, 0x8b, 0x34, 0x24, 0x48, 0x8d, 0xb6, 0xdd, 0x78, 0x11, 0x00]);
        assert_eq!(stub[11..], [0x48, 0x83, 0x04, 0x24, 0x02, 0xff, 0x24, 0x25, 0x00, 0x00, 0x60, 0xff]);
        assert!(hop.gaps.is_empty());
        assert_eq!((hop.site.address(), hop.site.new_bytes()), (AT + 5, &[0xff, 0x14, 0x25, 0x40, 0x40, 0x23, 0x81][..]));
        assert_eq!((hop.site.how().form, hop.site.inner().count()), (Form::Annex, 0));
        assert_eq!(*hop.site.region(), AT + 5..AT + 14);
        // Where else the page is, it is the same stub.
        assert_eq!(plan_at(AT + 0x0123_4567_8000, CREATE, |_| {}).expect("a plan").1, stub);
    }

    #[test]
    fn what_is_between_goes_with_it() {
        // lea rsi,[rip+16]; mov edi,eax; mov eax,edx
        let ahead = [0x48, 0x8d, 0x35, 0x10, 0, 0, 0, 0x89, 0xc7, 0x89, 0xd0];
        let (hop, stub) = plan(&ahead).expect("a plan");
        assert_eq!(stub[11..20], [0x89, 0xc7, 0x89, 0xd0, 0x48, 0x83, 0x04, 0x24, 0x06]);
        assert_eq!((hop.site.address(), hop.site.region().end), (AT, AT + 13));
    }

    #[test]
    fn operands_as_if_nothing_was_pushed() {
        let stub = |ahead: &[u8], length: usize| plan(ahead).map(|(_, stub)| stub[..length].to_vec());
        // lea r12,[rip+0]: a base with a byte more. mov r9d,[rip+0].
        let r12 = [0x4c, 0x8b, 0x24, 0x24, 0x4d, 0x8d, 0xa4, 0x24, 0, 0, 0, 0];
        assert_eq!(stub(&[0x4c, 0x8d, 0x25, 0, 0, 0, 0], 12).as_deref(), Some(&r12[..]));
        assert_eq!(stub(&[0x4f, 0x8d, 0x25, 0, 0, 0, 0], 12).as_deref(), Some(&r12[..]));
        let r9 = [0x4c, 0x8b, 0x0c, 0x24, 0x45, 0x8b, 0x89, 0, 0, 0, 0];
        assert_eq!(stub(&[0x44, 0x8b, 0x0d, 0, 0, 0, 0], 11).as_deref(), Some(&r9[..]));
        // mov rdi,[rsp+0x100]; mov dword [rsp+0x3c],2
        let far = [0x48, 0x8b, 0xbc, 0x24, 0x08, 0x01, 0, 0];
        assert_eq!(stub(&[0x48, 0x8b, 0xbc, 0x24, 0x00, 0x01, 0, 0], 8).as_deref(), Some(&far[..]));
        let store = [0xc7, 0x44, 0x24, 0x44, 2, 0, 0, 0];
        assert_eq!(stub(&[0xc7, 0x44, 0x24, 0x3c, 2, 0, 0, 0], 8).as_deref(), Some(&store[..]));
        // One that would go beyond a byte; one without a displacement, behind a long one.
        assert_eq!(stub(&[0xc7, 0x44, 0x24, 0x78, 2, 0, 0, 0], 8), None);
        assert_eq!(stub(&[0x48, 0xc7, 0xc7, 1, 0, 0, 0, 0x48, 0x8b, 0x34, 0x24], 8), None);
    }

    #[test]
    fn what_stays() {
        const LONG: &[u8] = &[0x48, 0xc7, 0xc7, 1, 0, 0, 0];
        let behind_long = |between: &[u8]| plan(&[LONG, between].concat()).is_some();
        assert!(behind_long(&[0x31, 0xf6]));
        // push, pop, a copy of the stack pointer, a call, a load that may fault.
        for between in [&[0x50][..], &[0x58], &[0x48, 0x89, 0xe6], &[0xe8, 0, 0, 0, 0], &[0x8b, 0x06]] {
            assert!(!behind_long(between), "{between:x?}");
        }
        // lea rsi,[esp+8], by half of the stack pointer.
        assert!(!behind_long(&[0x67, 0x48, 0x8d, 0x74, 0x24, 0x08]));
        // A store, and an address of 32 bits, by rip; nothing that is long enough.
        assert!(plan(&[0x48, 0x89, 0x35, 0, 0, 0, 0]).is_none());
        assert!(plan(&[0x67, 0x48, 0x8d, 0x35, 0, 0, 0, 0]).is_none());
        assert!(plan(&[0xbf, 1, 0, 0, 0, 0x31, 0xf6]).is_none());
        // A musl cancellation point: mov [rsp+8],r9 next to the site.
        assert!(!behind_long(&[0x4c, 0x89, 0x4c, 0x24, 0x08]));
    }

    #[test]
    fn only_where_something_may_be_pushed() {
        assert!(plan_at(AT, CREATE, |f| f.red_zone = RedZone::Used).is_none());
        assert!(plan_at(AT, CREATE, |f| f.red_zone = RedZone::Unused).is_some());
        let below = Seen { rsp: 0x1000, arguments: [0xff8; 6], ..Seen::default() };
        assert!(plan_at(AT, CREATE, |f| f.seen = Some(below)).is_none());
        // Another page's bytes.
        assert!(plan_at(AT, CREATE, |f| f.page = Some(AT + 0x1000)).is_none());
        assert!(plan_at(AT, CREATE, |f| f.page = Some(AT)).is_some());
    }

    #[test]
    fn each_stub_has_a_cell() {
        let mut stubs = Stubs::new().expect("memory");
        let cells: Vec<_> = [1, 2, 1, 3].into_iter().map(|n| stubs.cell(&[n; 20])).collect();
        assert_eq!(cells, [Some(0), Some(64), Some(0), Some(128)]);
        // One that is too long is none, and takes no place.
        assert_eq!(stubs.cell(&[4; 57]), None);
        assert_eq!(stubs.cell(&[5; 56]), Some(192));
        let more = (6..=u8::MAX).filter(|&n| stubs.cell(&[n]).is_some()).count();
        assert_eq!(more, 60);
        assert_eq!((stubs.cell(&[2; 20]), stubs.cell(&[65]), stubs.cell(&[66])), (Some(64), Some(63 * 64), None));
    }

    #[test]
    fn without_room_it_stays() {
        let bytes = [CREATE, END].concat();
        let code = Code::new(&bytes, AT);
        let starts = starts(&code);
        let site = AT + CREATE.len() as u64;
        let with = |slot: Option<u64>| hop(&code, site, &WAYS, &facts(&starts, &[]), &Gaps::new(), &mut |_| slot);
        assert!(with(None).is_err());
        assert!(with(Some(PLACED)).is_ok());
        // A slot that no displacement names.
        assert!(with(Some(0xffff_8000_0000_0000)).is_err());
    }
}
