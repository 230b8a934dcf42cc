//! Every interleaving of the steps that write a patch with a processor that executes the bytes.
//!
//! The processor is as bad as the architecture lets it be: it fetches in parts, in any order that a boundary of cache
//! lines at any place can make, or byte by byte from either end, and keeps what it has fetched, until it serialises, for
//! as many instructions as that lasts. Stores become visible byte by byte, in order. Processors do not see each other, so
//! one stands for all.

use std::collections::HashSet;

use abom::gaps::Gaps;
use abom::hop::hop;
use abom::steps::{Others, Step};
use abom::{Code, Facts, Fixup, Form, Inside, Patch, Plan, Reach, RedZone, Seen, Table, Ways, gaps, plan};
use iced_x86::{Code as Opcode, Decoder, DecoderOptions};

const BASE: u64 = 0x7000;
const STUB: u64 = 0x9000;
/// Where gaps are, if not within reach of a short jump.
const GAPS: u64 = BASE + 0x100;
/// A slot that holds a stub's address.
const SITE_SLOT: u64 = 0xffff_ffff_ff60_2000;
/// The number in the code, and another, with which a thread comes to the `syscall` instruction by another way.
const NUMBER: u32 = 39;
const OTHER: u32 = 102;

/// What the patcher does, byte by byte.
#[derive(Clone, Copy, Debug)]
enum Act {
    Byte(usize, u8),
    Serialise,
}

/// A processor: where it is, what it has fetched, and what it has done.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
struct Processor {
    at: usize,
    /// Bytes from `at` on, as they were when they were fetched.
    held: Vec<Option<u8>>,
    /// How many groups of the fetch are done.
    groups: usize,
    eax: u32,
    called: Option<u32>,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct State {
    memory: Vec<u8>,
    next: usize,
    processor: Processor,
}

/// In what groups, and in what order, the bytes at offsets are fetched.
#[derive(Clone, Copy, Debug)]
enum Fetch {
    /// Two lines, the second beginning at the offset.
    Lines {
        boundary: usize,
        second_first: bool,
    },
    Ascending,
    Descending,
}

impl Fetch {
    fn all(len: usize) -> Vec<Self> {
        let lines = (0..=len).flat_map(|boundary| [false, true].map(|second_first| Self::Lines { boundary, second_first }));
        lines.chain([Self::Ascending, Self::Descending]).collect()
    }

    /// The groups for a fetch of the bytes from `at` to `len`.
    fn groups(self, at: usize, len: usize) -> Vec<Vec<usize>> {
        match self {
            Self::Lines { boundary, second_first } => {
                let (first, second) = (at..len).partition(|&o| o < boundary);
                let groups: Vec<Vec<usize>> = if second_first { vec![second, first] } else { vec![first, second] };
                groups.into_iter().filter(|g| !g.is_empty()).collect()
            }
            Self::Ascending => (at..len).map(|o| vec![o]).collect(),
            Self::Descending => (at..len).rev().map(|o| vec![o]).collect(),
        }
    }
}

struct Model<'a> {
    patch: &'a Patch,
    acts: Vec<Act>,
    fetch: Fetch,
    len: usize,
    /// Where the `syscall` instruction is.
    site: usize,
    /// Whether the code loads the number.
    loads: bool,
}

impl Model<'_> {
    /// All states from a start; the first wrong one, if there is any.
    fn explore(&self, start: State, expected: Option<u32>) -> Result<usize, String> {
        let mut seen = HashSet::new();
        let mut open = vec![start];
        while let Some(state) = open.pop() {
            if !seen.insert(state.clone()) {
                continue;
            }
            if state.processor.at >= self.len {
                if state.processor.called != expected {
                    return Err(format!("called {:?}, not {expected:?}: {state:x?}", state.processor.called));
                }
                continue;
            }
            if let Some(act) = self.acts.get(state.next) {
                let mut after = state.clone();
                after.next += 1;
                match *act {
                    Act::Byte(offset, byte) => after.memory[offset] = byte,
                    Act::Serialise => after.processor = Processor { held: Vec::new(), groups: 0, ..after.processor },
                }
                open.push(after);
            }
            open.extend(self.run(&state)?);
        }
        Ok(seen.len())
    }

    /// What the processor may do next.
    fn run(&self, state: &State) -> Result<Vec<State>, String> {
        let groups = self.fetch.groups(state.processor.at, self.len);
        let fetched = state.processor.held.len() == self.len - state.processor.at && state.processor.held.iter().all(Option::is_some);
        if !fetched {
            let mut after = state.clone();
            let p = &mut after.processor;
            p.held.resize(self.len - p.at, None);
            for &offset in &groups[p.groups] {
                p.held[offset - p.at] = Some(after.memory[offset]);
            }
            p.groups += 1;
            return Ok(vec![after]);
        }
        let bytes: Vec<u8> = state.processor.held.iter().flatten().copied().collect();
        let length = self.execute(state, &bytes)?;
        let mut after = state.clone();
        let p = &mut after.processor;
        *p = length.0;
        if length.1 == 0 || p.at >= self.len {
            p.held.clear();
            p.groups = 0;
            return Ok(vec![after]);
        }
        // What is left may be used for the next instruction, or be fetched anew.
        let mut anew = after.clone();
        anew.processor.held.clear();
        anew.processor.groups = 0;
        after.processor.held.drain(..length.1);
        Ok(vec![after, anew])
    }

    /// The processor after one instruction, and how many bytes of what it holds that has used up; 0: all is forgotten.
    fn execute(&self, state: &State, bytes: &[u8]) -> Result<(Processor, usize), String> {
        let mut p = state.processor.clone();
        let rip = BASE + p.at as u64;
        let i = Decoder::with_ip(64, bytes, rip, DecoderOptions::NONE).decode();
        let wrong = || Err(format!("executed {bytes:x?} at {rip:x}: {state:x?}"));
        let to = |target: u64| if target >= STUB { None } else { usize::try_from(target.checked_sub(BASE)?).ok() };
        match i.code() {
            Opcode::Mov_r32_imm32 | Opcode::Mov_rm64_imm32 => {
                p.eax = i.immediate32();
                p.at += i.len();
                return Ok((p, i.len()));
            }
            Opcode::Syscall if p.called.is_none() => {
                p.called = Some(p.eax);
                p.at += i.len();
                return Ok((p, i.len()));
            }
            // A stub, in the annex or not: the load, and the call behind the site.
            Opcode::Call_rm64 | Opcode::Jmp_rm64 if i.memory_displacement64() == SITE_SLOT => {
                p.called = Some(NUMBER);
                p.at = self.len;
            }
            Opcode::Call_rm64 => {
                let slot = u32::try_from((i.memory_displacement64() - Table::X_CONTAINER.any()) / 8).expect("a small number");
                p.called = Some(slot - 1);
                p.at += i.len();
            }
            // All that the stub does, and back: to the `syscall` instruction's end, or to that of what was moved.
            Opcode::Jmp_rel32_64 if i.near_branch64() >= STUB => {
                p.called = Some(if self.loads { NUMBER } else { p.eax });
                p.at = self.len;
            }
            // A gap: with the number that is there, or with the load, which is in the gap too.
            Opcode::Jmp_rel8_64 => {
                p.called = Some(p.eax);
                p.at = self.len;
            }
            Opcode::Jmp_rel32_64 if i.near_branch64() >= GAPS => {
                p.called = Some(NUMBER);
                p.at = self.len;
            }
            // What is moved from behind a site.
            Opcode::Cmp_RAX_imm32 | Opcode::Mov_rm64_r64 => {
                p.at += i.len();
                return Ok((p, i.len()));
            }
            Opcode::INVALID => match self.patch.fixup(rip) {
                Some(Fixup::Syscall { next }) => {
                    p.called = Some(p.eax);
                    p.at = to(next).unwrap_or(self.len);
                }
                Some(Fixup::At(target)) => {
                    // At the site the stub makes the call; behind it that has been made.
                    if target >= STUB && p.at == self.site {
                        p.called = Some(p.eax);
                    }
                    p.at = to(target).unwrap_or(self.len);
                }
                None => return wrong(),
            },
            _ => return wrong(),
        }
        Ok((p, 0))
    }
}

fn patch(bytes: &[u8], stubs: Option<Reach>, site: usize) -> Patch {
    // A call ahead of it cannot be moved.
    let mut all = vec![0x90; 59];
    all.extend([0xe8, 0, 0, 0, 0]);
    all.extend(bytes);
    all.resize(256, 0xc3);
    let code = Code::new(&all, BASE - 64);
    let ways = Ways { table: Table::X_CONTAINER, stubs };
    let red_zone = if stubs.is_some() { RedZone::Used } else { RedZone::Unused };
    let facts = Facts {
        starts: None,
        inside: Inside::Caught,
        red_zone,
        taken: &[],
        tail: None,
        page: None,
        seen: Some(Seen { rax: NUMBER.into(), ..Seen::default() }),
    };
    match plan(&code, BASE + site as u64, &ways, &facts).expect("a plan") {
        Plan::Call(patch) => patch,
        Plan::Stub(stub) if stubs == Some(Reach::Slot) => stub.place(STUB, Some(SITE_SLOT)).expect("a place").patch,
        Plan::Stub(stub) => stub.first_fit(STUB, STUB + 0x10_0000).expect("a place").1.patch,
    }
}

/// The patch at a site that reaches the jump entry through a gap, near by or not.
fn by_gap(bytes: &[u8], near: bool, site: usize) -> Patch {
    let mut all = bytes.to_vec();
    all.push(0xc3);
    all.resize(if near { 32 } else { 0x100 }, 0x50);
    all.push(0xc3);
    all.resize(all.len() + 40, 0xcc);
    let code = Code::new(&all, BASE);
    let starts: Vec<u64> = code.starts(BASE).collect();
    let facts =
        Facts { starts: Some(&starts), inside: Inside::Caught, red_zone: RedZone::Used, taken: &[], tail: None, page: None, seen: None };
    let ways = Ways { table: Table::X_CONTAINER, stubs: None };
    hop(&code, BASE + site as u64, &ways, &facts, &gaps::find(&code, &starts), &mut |_| None).expect("a plan").site
}

/// The patch at a site without gaps, in a kernel with an annex.
fn by_annex(bytes: &[u8], site: usize) -> Patch {
    let all = [bytes, &[0xc3]].concat();
    let code = Code::new(&all, BASE);
    let starts: Vec<u64> = code.starts(BASE).collect();
    let facts =
        Facts { starts: Some(&starts), inside: Inside::Caught, red_zone: RedZone::Unused, taken: &[], tail: None, page: None, seen: None };
    let ways = Ways { table: Table::X_CONTAINER, stubs: None };
    hop(&code, BASE + site as u64, &ways, &facts, &Gaps::new(), &mut |_| Some(SITE_SLOT)).expect("a plan").site
}

const MOV_EAX: &[u8] = &[0xb8, 39, 0, 0, 0, 0x0f, 0x05];
/// Sites that have nothing before them, and room behind.
const CMP: &[u8] = &[0x0f, 0x05, 0x48, 0x3d, 0x00, 0xf0, 0xff, 0xff];
const MOV: &[u8] = &[0x0f, 0x05, 0x48, 0x89, 0xc3];
const MOV_RAX: &[u8] = &[0x48, 0xc7, 0xc0, 39, 0, 0, 0, 0x0f, 0x05];

/// Where the `syscall` instruction is.
fn site(bytes: &[u8]) -> usize {
    bytes.windows(2).position(|w| w == [0x0f, 0x05]).expect("a site")
}

fn acts(patch: &Patch, keep: impl Fn(&Step) -> bool) -> Vec<Act> {
    let mut acts = Vec::new();
    for step in patch.apply(Others::Any).into_iter().chain(patch.undo(Others::Any)).filter(|s| keep(s)) {
        match step {
            Step::Serialise => acts.push(Act::Serialise),
            Step::Store { address, bytes } => {
                assert!(address / 8 == (address + bytes.len() as u64 - 1) / 8, "one aligned word");
                let offset = usize::try_from(address - BASE).expect("inside");
                acts.extend(bytes.iter().enumerate().map(|(n, &b)| Act::Byte(offset + n, b)));
            }
        }
    }
    acts
}

fn explore(bytes: &[u8], patch: &Patch, acts: &[Act]) -> Result<usize, String> {
    let mut states = 0;
    let site = site(bytes);
    let loads = site > 0;
    for fetch in Fetch::all(bytes.len()) {
        let model = Model { patch, acts: acts.to_vec(), fetch, len: bytes.len(), site, loads };
        let state = |at, eax| State { memory: bytes.to_vec(), next: 0, processor: Processor { at, eax, ..Processor::default() } };
        states += model.explore(state(0, OTHER), Some(if loads { NUMBER } else { OTHER }))?;
        states += model.explore(state(site, OTHER), Some(OTHER))?;
        if site + 2 < bytes.len() {
            states += model.explore(state(site + 2, OTHER), None)?;
        }
    }
    Ok(states)
}

#[test]
fn every_interleaving_is_right() {
    let near = Some(Reach::Near);
    for (bytes, stubs) in
        [(MOV_EAX, None), (MOV_RAX, None), (MOV_EAX, near), (MOV_RAX, near), (MOV_EAX, Some(Reach::Slot)), (CMP, near), (MOV, near)]
    {
        let patch = patch(bytes, stubs, site(bytes));
        assert!(patch.is_caught());
        let states = explore(bytes, &patch, &acts(&patch, |_| true)).unwrap_or_else(|e| panic!("{}: {e}", patch.how()));
        println!("{}: {states} states", patch.how());
        assert!(states > 500, "{states}");
    }
}

#[test]
fn every_interleaving_of_a_jump_into_a_gap_is_right() {
    for bytes in [MOV_EAX, MOV_RAX, CMP, MOV] {
        let patch = by_gap(bytes, true, site(bytes));
        assert_eq!((patch.how().form, patch.new_bytes().len()), (Form::HopJump, 2));
        let states = explore(bytes, &patch, &acts(&patch, |_| true)).unwrap_or_else(|e| panic!("{}: {e}", patch.how()));
        assert!(states > 200, "{states}");
    }
    for bytes in [MOV_EAX, MOV_RAX] {
        let patch = by_gap(bytes, false, site(bytes));
        assert_eq!((patch.how().form, patch.new_bytes().len()), (Form::HopJump, 5));
        let states = explore(bytes, &patch, &acts(&patch, |_| true)).unwrap_or_else(|e| panic!("{}: {e}", patch.how()));
        assert!(states > 500, "{states}");
        assert!(explore(bytes, &patch, &acts(&patch, |s| *s != Step::Serialise)).is_err());
    }
}

#[test]
fn every_interleaving_of_a_call_of_the_annex_is_right() {
    let patch = by_annex(MOV_RAX, site(MOV_RAX));
    assert_eq!((patch.how().form, patch.new_bytes().len()), (Form::Annex, 7));
    let states = explore(MOV_RAX, &patch, &acts(&patch, |_| true)).unwrap_or_else(|e| panic!("{}: {e}", patch.how()));
    assert!(states > 500, "{states}");
    assert!(explore(MOV_RAX, &patch, &acts(&patch, |s| *s != Step::Serialise)).is_err());
}

#[test]
fn without_serialising_some_are_wrong() {
    for bytes in [MOV_EAX, MOV_RAX] {
        let patch = patch(bytes, None, site(bytes));
        assert!(explore(bytes, &patch, &acts(&patch, |s| *s != Step::Serialise)).is_err());
    }
}

#[test]
fn without_the_fault_bytes_some_are_wrong() {
    let patch = patch(MOV_EAX, None, 5);
    let plain: Vec<Act> = patch.new_bytes().iter().enumerate().map(|(n, &b)| Act::Byte(n, b)).collect();
    assert!(explore(MOV_EAX, &patch, &plain).is_err());
    let mut backwards = plain.clone();
    backwards.reverse();
    assert!(explore(MOV_EAX, &patch, &backwards).is_err());
}

#[test]
fn steps_end_with_the_bytes() {
    for address in BASE..BASE + 64 {
        let mut all = vec![0x90; 64];
        all.extend(MOV_EAX);
        all.resize(256, 0xc3);
        let code = Code::new(&all, address - 64);
        let seen = Seen { rax: NUMBER.into(), ..Seen::default() };
        let ways = Ways { table: Table::X_CONTAINER, stubs: None };
        let Ok(Plan::Call(patch)) = plan(&code, address + 5, &ways, &Facts::trapped(seen, &[])) else { panic!("no call at {address:x}") };
        for others in [Others::None, Others::Any] {
            let mut memory = MOV_EAX.to_vec();
            for (steps, end) in [(patch.apply(others), patch.new_bytes()), (patch.undo(others), patch.old())] {
                for step in steps {
                    let Step::Store { address: at, bytes } = step else { continue };
                    assert_eq!(at / 8, (at + bytes.len() as u64 - 1) / 8);
                    let offset = usize::try_from(at - address).expect("inside");
                    memory[offset..offset + bytes.len()].copy_from_slice(&bytes);
                }
                assert_eq!(memory, end);
            }
        }
    }
}
