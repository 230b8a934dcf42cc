//! What the code after a site still reads of what a call would lose.
//!
//! A call loses the arithmetic flags and, but for entries that are jumped to, the eight bytes below the stack pointer.
//! Every path after the site is followed until it has overwritten them, or has come to a call or a return: there the
//! ABI says that they are dead. What cannot be followed counts as a reader.

use arrayvec::ArrayVec;
use iced_x86::{Instruction, Register};

use crate::code::{Code, Reader};
use crate::effect::{self, Effect, Flags, Flow, Stack};
use crate::plain::{self, Plain};

/// So many instructions are read, over all paths: plain ones, and others.
const PLAIN: u32 = 256;
const OTHERS: usize = 64;

/// What is known about a thing that a call would lose.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Fate {
    /// No path reads it.
    Dead,
    /// A path could not be followed to the end.
    Unknown,
    /// A path reads it.
    Read,
}

/// What the code after a site reads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct After {
    /// Arithmetic flags from before the site.
    pub flags: Fate,
    /// The eight bytes below the stack pointer.
    pub below: Fate,
    /// Whether a path goes on to use the stack: so it is not gone.
    pub stack: bool,
    /// Where a path leaves the bytes that are given: with those from there, more may be known.
    pub left: Option<u64>,
}

/// A path, and what it still has to be asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Path {
    at: u64,
    /// The stack pointer less that at the site, while it is known.
    depth: Option<i64>,
    flags: bool,
    below: bool,
}

/// What is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ask {
    /// All of it.
    All,
    /// The flags only, for an entry that uses no stack: of the rest nothing is known.
    Flags,
}

/// Follows all paths from `from`, the address behind the site.
#[must_use]
pub fn scan(code: &Code<'_>, from: u64, ask: Ask) -> After {
    scan_by(&mut Reader::new(*code), from, ask)
}

/// The same by a reader that is there already.
pub(crate) fn scan_by(reader: &mut Reader<'_>, from: u64, ask: Ask) -> After {
    let mut i = Instruction::default();
    let rest = ask == Ask::All;
    let mut after = After { flags: Fate::Dead, below: Fate::Dead, stack: false, left: None };
    let mut paths: ArrayVec<Path, 8> = ArrayVec::new();
    // Other instructions that were read: each loop has one. What is behind all of them is none of them.
    let (mut done, mut furthest): (ArrayVec<Path, OTHERS>, u64) = (ArrayVec::new(), 0);
    let mut plain_left = PLAIN;
    paths.push(Path { at: from, depth: Some(0), flags: true, below: rest });
    while let Some(mut path) = paths.pop() {
        loop {
            // One reader is enough, whatever comes behind it.
            path.flags &= after.flags != Fate::Read;
            path.below &= after.below == Fate::Dead;
            if !(path.flags || path.below || rest && !after.stack) {
                break;
            }
            let here = reader.code().from(path.at);
            let plain = here.and_then(|bytes| plain::of(bytes, path.at));
            if let Some(plain) = plain.filter(|plain| matches!(plain.flow, Flow::Next | Flow::Return)) {
                let Some(left) = plain_left.checked_sub(1) else {
                    after.give_up(&path);
                    return after;
                };
                plain_left = left;
                after.plain(&mut path, &plain);
                if plain.flow == Flow::Return {
                    break;
                }
                path.at = plain.next;
                continue;
            }
            if path.at <= furthest && done.contains(&path) {
                break;
            }
            furthest = furthest.max(path.at);
            if done.try_push(path).is_err() {
                after.give_up(&path);
                return after;
            }
            let (flow, next) = if let Some(plain) = plain {
                after.plain(&mut path, &plain);
                (plain.flow, plain.next)
            } else {
                let known = if reader.read(path.at, &mut i) { effect::of(&i) } else { None };
                let Some(e) = known else {
                    if here.is_none() {
                        after.left.get_or_insert(path.at);
                    }
                    after.give_up(&path);
                    break;
                };
                after.step(&mut path, &i, &e);
                (e.flow, i.next_ip())
            };
            match flow {
                Flow::Next | Flow::Call | Flow::Syscall => path.at = next,
                Flow::Jump(to) => path.at = to,
                Flow::Branch(to) => {
                    if paths.try_push(Path { at: to, ..path }).is_err() {
                        after.give_up(&path);
                        return after;
                    }
                    path.at = next;
                }
                Flow::Return | Flow::Stop => break,
                Flow::Unknown => {
                    after.give_up(&path);
                    break;
                }
            }
        }
    }
    if !rest {
        after.below = Fate::Unknown;
    }
    after
}

impl After {
    /// What the path still asks is not known.
    fn give_up(&mut self, path: &Path) {
        let fate = |asked: bool| if asked { Fate::Unknown } else { Fate::Dead };
        self.flags = self.flags.max(fate(path.flags));
        self.below = self.below.max(fate(path.below));
    }

    /// What becomes of the flags on a path.
    const fn flags(&mut self, path: &mut Path, flags: Flags, flow: Flow) {
        if path.flags {
            if matches!(flags, Flags::Read) {
                self.flags = Fate::Read;
            }
            path.flags = matches!(flags, Flags::Kept) && !matches!(flow, Flow::Call | Flow::Return);
        }
    }

    /// One plain instruction of a path: [`Self::step`] would do the same.
    const fn plain(&mut self, path: &mut Path, plain: &Plain) {
        self.flags(path, plain.flags, plain.flow);
        if matches!(plain.flow, Flow::Return) {
            path.below = false;
            self.stack = true;
        }
    }

    /// One instruction of a path.
    fn step(&mut self, path: &mut Path, i: &Instruction, e: &Effect) {
        self.flags(path, e.flags, e.flow);
        if path.below {
            self.memory(path, i, e);
        }
        let flows = matches!(e.flow, Flow::Call | Flow::Return) || matches!(e.stack, Stack::Push(_) | Stack::Pop(_));
        self.stack |= flows || effect::has_memory(i) && i.memory_base() == Register::RSP && !e.address_only;
        path.depth = match e.stack {
            Stack::Kept => path.depth,
            Stack::Push(n) => path.depth.and_then(|d| d.checked_sub(n)),
            Stack::Pop(n) | Stack::Moved(n) => path.depth.and_then(|d| d.checked_add(n)),
            Stack::Set => None,
        };
    }

    /// Whether the instruction reads the bytes below the site's stack pointer, or overwrites them.
    fn memory(&mut self, path: &mut Path, i: &Instruction, e: &Effect) {
        // The bytes are at -8 to 0, counted from the site's stack pointer.
        let covers = |start: i64, size: i64| start <= -8 && start.saturating_add(size) >= 0;
        let touches = |start: i64, size: i64| start < 0 && start.saturating_add(size) > -8;
        match (e.stack, path.depth) {
            (Stack::Push(n), Some(d)) if covers(d.saturating_sub(n), n) => path.below = false,
            (Stack::Pop(n), Some(d)) if touches(d, n) => self.below = Fate::Read,
            _ => {}
        }
        match e.flow {
            Flow::Return => path.below = false,
            // The called function's stack begins below; the bytes are the caller's own only if it has made them so.
            Flow::Call if path.depth.is_none_or(|d| d >= 0) => path.below = false,
            // It may be told to read them.
            Flow::Syscall => self.below = self.below.max(Fate::Unknown),
            _ => {}
        }
        if !path.below || !effect::has_memory(i) {
            return;
        }
        match (i.memory_base(), path.depth) {
            (Register::RSP, Some(depth)) => {
                let start = depth.saturating_add(i.memory_displacement64().cast_signed());
                let size = effect::memory_size(i);
                let indexed = i.memory_index() != Register::None;
                if e.address_only || indexed {
                    // An address below, or one that leads there, may be kept and read by later.
                    self.below = self.below.max(if start < 0 { Fate::Read } else { Fate::Dead });
                } else if e.store {
                    path.below &= !size.is_some_and(|size| covers(start, size));
                } else if touches(start, size.unwrap_or(i64::MAX)) {
                    self.below = Fate::Read;
                }
            }
            _ if effect::below_stack(i) && !e.store => self.below = Fate::Read,
            // What another register points to: it may have been made to point there.
            (Register::RIP | Register::None, _) => {}
            _ if e.address_only || e.store || i.memory_segment() == Register::FS => {}
            _ => self.below = self.below.max(Fate::Unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Fate::{Dead, Read, Unknown};

    fn fates(bytes: &[u8]) -> (Fate, Fate, bool) {
        let after = scan(&Code::new(bytes, 0x1000), 0x1000, Ask::All);
        (after.flags, after.below, after.stack)
    }

    #[test]
    fn a_return_ends_all() {
        assert_eq!(fates(&[0xc3]), (Dead, Dead, true));
        // cmp rax,-4096; ja +1; ret; ret
        assert_eq!(fates(&[0x48, 0x3d, 0x00, 0xf0, 0xff, 0xff, 0x77, 0x01, 0xc3, 0xc3]), (Dead, Dead, true));
    }

    #[test]
    fn readers_are_found() {
        // je +0; ret
        assert_eq!(fates(&[0x74, 0x00, 0xc3]).0, Read);
        // mov rax,[rsp-8]; ret
        assert_eq!(fates(&[0x48, 0x8b, 0x44, 0x24, 0xf8, 0xc3]).1, Read);
        // mov rax,[rsp-12]; ret: half of it
        assert_eq!(fates(&[0x48, 0x8b, 0x44, 0x24, 0xf4, 0xc3]).1, Read);
        // mov rax,[rsp-16]; ret: the bytes under it
        assert_eq!(fates(&[0x48, 0x8b, 0x44, 0x24, 0xf0, 0xc3]).1, Dead);
        // pop rdx; mov rax,[rsp-16]; ret: the same bytes from another place
        assert_eq!(fates(&[0x5a, 0x48, 0x8b, 0x44, 0x24, 0xf0, 0xc3]).1, Read);
        // sub rsp,8; pop rax; ret
        assert_eq!(fates(&[0x48, 0x83, 0xec, 0x08, 0x58, 0xc3]).1, Read);
        // lea rdi,[rsp-8]; ret
        assert_eq!(fates(&[0x48, 0x8d, 0x7c, 0x24, 0xf8, 0xc3]).1, Read);
        // mov eax,[rbp-4]; ret
        assert_eq!(fates(&[0x8b, 0x45, 0xfc, 0xc3]).1, Read);
        // mov eax,1; syscall; ret
        assert_eq!(fates(&[0xb8, 1, 0, 0, 0, 0x0f, 0x05, 0xc3]).1, Unknown);
        // mov eax,[rbx]; ret
        assert_eq!(fates(&[0x8b, 0x03, 0xc3]).1, Unknown);
    }

    #[test]
    fn overwritten_is_dead() {
        // push rax; mov rax,[rsp]; add rsp,8; ret
        assert_eq!(fates(&[0x50, 0x48, 0x8b, 0x04, 0x24, 0x48, 0x83, 0xc4, 0x08, 0xc3]), (Dead, Dead, true));
        // mov [rsp-8],rax; mov rax,[rsp-8]; ret
        assert_eq!(fates(&[0x48, 0x89, 0x44, 0x24, 0xf8, 0x48, 0x8b, 0x44, 0x24, 0xf8, 0xc3]).1, Dead);
    }

    #[test]
    fn what_cannot_be_followed_is_unknown() {
        assert_eq!(fates(&[]), (Unknown, Unknown, false));
        assert_eq!(fates(&[0xff, 0xe0]), (Unknown, Unknown, false));
        // jmp +0x1000
        assert_eq!(scan(&Code::new(&[0xe9, 0xfb, 0x0f, 0, 0], 0x1000), 0x1000, Ask::All).left, Some(0x2000));
        // An endless loop reads nothing.
        assert_eq!(fates(&[0xeb, 0xfe]), (Dead, Dead, false));
    }

    #[test]
    fn flags_alone_are_answered_early() {
        // test eax,eax; then what is not known
        let after = scan(&Code::new(&[0x85, 0xc0, 0x0f, 0x0b], 0x1000), 0x1000, Ask::Flags);
        assert_eq!(after, After { flags: Dead, below: Unknown, stack: false, left: None });
    }

    #[test]
    fn code_that_needs_no_stack() {
        // xor edi,edi; mov eax,60; syscall; hlt: the end of a thread that has unmapped its stack
        assert!(!fates(&[0x31, 0xff, 0xb8, 0x3c, 0, 0, 0, 0x0f, 0x05, 0xf4]).2);
        // test eax,eax; je -4; ret: a loop that ends
        assert!(fates(&[0x85, 0xc0, 0x74, 0xfc, 0xc3]).2);
    }
}
