//! One case: a program, run as it is and rewritten.

use std::collections::BTreeMap;

use abom::gaps::{self, Gaps};
use abom::hop::{Hop, hop};
use abom::{Code, Facts, Form, Inside, Patch, Plan, Reach, RedZone, Refusal, Seen, Table, Ways, plan};
use iced_x86::Mnemonic;

use crate::layout::*;
use crate::machine::{Machine, Registers};
use crate::program::Program;
use crate::random::Random;

/// Something that is done wrong on purpose.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Nobody looks at the red zone.
    RedZone,
    /// Nobody looks at the flags behind the site.
    Flags,
    /// Nobody catches those who come to an overwritten instruction.
    NoFixup,
    /// The wrong slot is called.
    WrongSlot,
    /// A stub lacks its last instruction but for the jump.
    LostInstruction,
    /// What is executed in a gap instead of the instruction that made room is lost.
    LostInGap,
    /// All padding is taken for gaps, whether it is executed or not.
    Padding,
    /// A site in a gap returns to the instruction behind the one behind it.
    Return,
    /// The jump entry uses the stack.
    JumpPushes,
    /// A stub in the annex leaves the return address as it is.
    NotFurther,
    /// A stub in the annex takes what is addressed from rip for a byte further on.
    Beside,
}

/// What was done, for the summary.
pub type Counts = BTreeMap<String, u64>;

/// What is compared.
#[derive(Debug, Eq, PartialEq)]
struct Outcome {
    registers: [u64; 16],
    stack: Vec<u8>,
    /// What is below the stack pointer that the program had at first.
    below: Vec<u8>,
    data: Vec<u8>,
    near: Vec<u8>,
    file: Vec<u8>,
}

/// A program and what it begins with.
struct Case {
    program: Program,
    registers: Registers,
    contents: Vec<u8>,
}

/// How a case is rewritten.
#[derive(Debug)]
struct Way {
    ways: Ways,
    known: bool,
    caught: bool,
    /// Whether gaps are used: always, or where there is no other plan.
    gaps: Option<bool>,
    /// Whether the kernel has an annex: besides gaps, or instead.
    annex: Option<bool>,
}

/// Runs a case. An error says how the rewritten program differs.
pub fn run(machine: &mut Machine, seed: u64, index: u64, fault: Fault, counts: &mut Counts) -> Result<(), String> {
    let mut r = Random::of(seed, index);
    let case = Case::random(&mut r, machine);
    let seen = case.probe(machine);
    let original = case.outcome(machine).ok_or_else(|| format!("case {index}: the original crashed: {:x?}", case.program))?;
    let way = Way::random(&mut r);
    case.load(machine);
    let patches = case.rewrite(machine, &way, &seen, fault, counts);
    machine.catch(if fault == Fault::NoFixup { &[] } else { &patches });
    machine.set_jump_entry(fault == Fault::JumpPushes);
    let mut rewritten = case.outcome_of_loaded(machine);
    machine.catch(&[]);
    // The jump entry touches no byte of the stack; a call does.
    let pushes = patches.iter().any(|p| !matches!(p.how().form, Form::StubJump | Form::HopJump));
    if let Some(rewritten) = rewritten.as_mut().filter(|_| pushes) {
        rewritten.below.clone_from(&original.below);
    }
    if machine.calls() > 0 {
        *counts.entry("called".into()).or_default() += 1;
    }
    if rewritten.as_ref() == Some(&original) {
        return Ok(());
    }
    let how: Vec<String> =
        patches.iter().map(|p| format!("{:x} {} {:x?} -> {:x?}", p.address(), p.how(), p.old(), p.new_bytes())).collect();
    let differs = rewritten.map_or("it crashed".into(), |o| original.difference(&o));
    Err(format!("seed {seed} case {index}: {differs}\n{how:#?}\n{:x?}\n{:x?}", way, case.program))
}

impl Outcome {
    /// What differs, in words.
    fn difference(&self, other: &Self) -> String {
        let mut all = String::new();
        for (n, (a, b)) in self.registers.iter().zip(&other.registers).enumerate().filter(|(_, (a, b))| a != b) {
            all += &format!("register {n}: {a:x}, rewritten {b:x}; ");
        }
        for (name, a, b) in [
            ("stack", &self.stack, &other.stack),
            ("below it", &self.below, &other.below),
            ("data", &self.data, &other.data),
            ("data near the code", &self.near, &other.near),
            ("file", &self.file, &other.file),
        ] {
            for (n, (a, b)) in a.iter().zip(b).enumerate().filter(|(_, (a, b))| a != b) {
                all += &format!("{name} at {n:#x}: {a:x}, rewritten {b:x}; ");
            }
        }
        all
    }
}

impl Way {
    fn random(r: &mut Random) -> Self {
        let table = Table::new(TABLE, NUMBERS).expect("a table in reach");
        let table = if r.one_in(2) { table.with_jump(JUMP_SLOT).expect("a slot in reach") } else { table };
        let stubs = r.pick(&[None, None, None, Some(Reach::Near), Some(Reach::Near), Some(Reach::Slot)]);
        let gaps = if stubs.is_none() { r.pick(&[None, Some(false), Some(true)]) } else { None };
        Self {
            ways: Ways { table, stubs },
            known: r.one_in(2),
            caught: r.one_in(2),
            gaps,
            annex: r.pick(&[None, None, Some(false), Some(true)]),
        }
    }
}

impl Case {
    fn random(r: &mut Random, machine: &Machine) -> Self {
        let program = Program::random(r, machine.fd());
        let mut registers = Registers::default();
        for register in &mut registers.general {
            *register = r.next();
        }
        registers.general[4] = STACK_TOP - 8;
        registers.general[5] = DATA + 0x80;
        registers.general[3] = DATA + 0x100;
        registers.general[12] = DATA + 0x40;
        registers.rip = CODE;
        // The arithmetic flags at random.
        registers.flags = 0x202 | r.next() & 0x8d5;
        let contents = (0..0x400).map(|_| r.next() as u8).collect();
        Self { program, registers, contents }
    }

    /// Everything as it is at the start, but for the code.
    fn reset(&self, machine: &mut Machine) {
        let mut stack = self.contents.clone();
        stack[0x200 - 8..0x200].copy_from_slice(&machine.leave().to_le_bytes());
        machine.put(STACK_TOP - 0x200, &stack);
        machine.put(DATA, &self.contents[..0x200]);
        machine.put(NEAR_DATA, &self.contents[0x100..0x180]);
        machine.put(FILE, &self.contents[0x200..0x300]);
        machine.rewind();
    }

    fn load(&self, machine: &mut Machine) {
        machine.put(CODE, &self.program.code);
    }

    /// Runs with a trap at each site, and returns what was seen there.
    fn probe(&self, machine: &mut Machine) -> Vec<Option<Seen>> {
        let mut all = Vec::new();
        for &site in &self.program.sites {
            self.load(machine);
            self.reset(machine);
            machine.put(site, &[0x06]);
            machine.watch(site);
            // Which way was taken then says nothing about the next time.
            let mut registers = self.registers;
            registers.general[13] = self.registers.general[14];
            machine.run(&registers, 1);
            all.push(machine.seen());
            machine.watch(0);
        }
        all
    }

    fn outcome(&self, machine: &mut Machine) -> Option<Outcome> {
        self.load(machine);
        self.outcome_of_loaded(machine)
    }

    fn outcome_of_loaded(&self, machine: &mut Machine) -> Option<Outcome> {
        self.reset(machine);
        let mut registers = machine.run(&self.registers, 0x5a5a_5a5a_5a5a_5a5a ^ self.registers.general[0])?.general;
        // A system call changes them, each in its own way.
        registers[1] = 0;
        registers[11] = 0;
        Some(Outcome {
            registers,
            stack: machine.get(STACK_TOP, 0x100),
            below: machine.get(STACK_TOP - 0x200, 0x200),
            data: machine.get(DATA, 0x200),
            near: machine.get(NEAR_DATA, 0x80),
            file: machine.get(FILE, 0x100),
        })
    }

    /// Plans and applies a patch for each site that was reached.
    fn rewrite(&self, machine: &mut Machine, way: &Way, seen: &[Option<Seen>], fault: Fault, counts: &mut Counts) -> Vec<Patch> {
        // What is ahead of the program is another function.
        let mut bytes = [0xcc, 0x90].repeat(32);
        bytes.extend(&self.program.code);
        let code = Code::new(&bytes, CODE - 64);
        let (mut patches, mut taken, mut tail) = (Vec::<Patch>::new(), Vec::new(), None);
        let (mut stub, mut far) = (STUBS, FAR_STUBS);
        for (n, (&site, seen)) in self.program.sites.iter().zip(seen).enumerate() {
            let Some(seen) = seen else { continue };
            let red_zone = match (fault, way.known) {
                (Fault::RedZone, _) => RedZone::Unused,
                (_, true) => {
                    if self.program.red_zone {
                        RedZone::Used
                    } else {
                        RedZone::Unused
                    }
                }
                (_, false) => RedZone::Unknown,
            };
            let facts = Facts {
                starts: way.known.then_some(&self.program.starts),
                inside: if way.caught || fault == Fault::NoFixup {
                    Inside::Caught
                } else if way.known {
                    Inside::Entered(&self.program.entered)
                } else {
                    Inside::Unknown
                },
                red_zone,
                taken: &taken,
                tail,
                page: None,
                seen: (fault != Fault::RedZone).then_some(*seen),
            };
            let mut planned = plan(&code, site, &way.ways, &facts);
            let cut;
            if fault == Fault::Flags && matches!(planned, Err(Refusal::FlagsLive)) {
                // As if the function ended behind the site.
                let end = usize::try_from(site + 2 - code.start()).expect("inside");
                cut = [&bytes[..end], &[0xc3; 32]].concat();
                planned = plan(&Code::new(&cut, code.start()), site, &Ways { stubs: None, ..way.ways }, &facts);
            }
            if way.gaps == Some(true) || way.gaps == Some(false) && matches!(planned, Err(refusal) if !refusal.is_final()) {
                let gaps = match way.known {
                    _ if fault == Fault::Padding => self.padding(&code),
                    _ if way.annex == Some(true) => Gaps::new(),
                    true => gaps::find(&code, &self.program.starts),
                    false => gaps::behind(&code, site + 2),
                };
                let mut place = |bytes: &[u8]| way.annex.map(|_| put(bytes, fault, &mut stub, machine));
                match hop(&code, site, &way.ways, &facts, &gaps, &mut place) {
                    Ok(hop) => {
                        write(&hop, fault, machine);
                        *counts.entry(hop.site.how().to_string()).or_default() += 1;
                        taken.extend(hop.gaps.iter().chain([&hop.site]).map(|p| p.region().clone()));
                        let made = hop.gaps.iter().find_map(|p| p.tail(&way.ways.table));
                        *counts.entry("shared tails".into()).or_default() += u64::from(made.is_some());
                        tail = tail.or(made);
                        patches.extend(hop.gaps.into_iter().chain([hop.site]));
                    }
                    Err(refusal) => *counts.entry(format!("refused {}", refusal.name())).or_default() += 1,
                }
                continue;
            }
            let patch = match planned {
                Err(refusal) => {
                    *counts.entry(format!("refused {}", refusal.name())).or_default() += 1;
                    continue;
                }
                Ok(Plan::Call(patch)) => patch,
                Ok(Plan::Stub(plan)) => {
                    let slot = STUB_SLOTS + 8 * n as u64;
                    let placed = if way.ways.stubs == Some(Reach::Slot) {
                        plan.place(stub, Some(slot)).map(|p| (stub, p))
                    } else {
                        plan.first_fit(stub, STUBS_END).or_else(|| plan.first_fit(far, FAR_STUBS_END))
                    };
                    let Some((at, mut placed)) = placed else {
                        *counts.entry("no place".into()).or_default() += 1;
                        continue;
                    };
                    if fault == Fault::LostInstruction && placed.stub.len() > 12 {
                        let end = placed.stub.len() - 5;
                        placed.stub[end - 2..end].copy_from_slice(&[0x66, 0x90]);
                    }
                    machine.put(at, &placed.stub);
                    machine.put(slot, &at.to_le_bytes());
                    let next = if at < STUBS_END { &mut stub } else { &mut far };
                    *next = at + 0x100;
                    placed.patch
                }
            };
            *counts.entry(patch.how().to_string()).or_default() += 1;
            machine.put(patch.address(), patch.new_bytes());
            if fault == Fault::WrongSlot && patch.how().form == Form::Call {
                let last = patch.address() + patch.new_bytes().len() as u64 - 4;
                machine.put(last, &u32::try_from(TABLE + 8 * 111).expect("low").to_le_bytes());
            }
            taken.push(patch.region().clone());
            patches.push(patch);
        }
        patches
    }

    /// All padding of the program, executed or not.
    fn padding(&self, code: &Code<'_>) -> Gaps {
        let fills = |at: u64| code.instruction(at).filter(|i| matches!(i.mnemonic(), Mnemonic::Nop | Mnemonic::Int3));
        let mut gaps: Vec<std::ops::Range<u64>> = Vec::new();
        for i in self.program.starts.iter().filter_map(|&at| fills(at)) {
            match gaps.last_mut().filter(|g| g.end == i.ip()) {
                Some(gap) => gap.end = i.next_ip(),
                None => gaps.push(i.ip()..i.next_ip()),
            }
        }
        gaps.into_iter().filter(|g| g.end - g.start >= 5).take(gaps::MOST).collect()
    }
}

/// Writes a stub of the annex, at `next` and behind its slot, with the fault. Returns the slot's address.
fn put(stub: &[u8], fault: Fault, next: &mut u64, machine: &mut Machine) -> u64 {
    let slot = STUB_SLOTS + (*next - STUBS) / 32;
    let mut bytes = stub.to_vec();
    let further = bytes.len() - 8;
    match fault {
        Fault::NotFurther => bytes[further] = 0,
        Fault::Beside if bytes.starts_with(&[0x48, 0x8b]) && bytes[3] == 0x24 => bytes[7] = bytes[7].wrapping_add(1),
        _ => {}
    }
    machine.put(*next, &bytes);
    machine.put(slot, &next.to_le_bytes());
    *next += 0x100;
    slot
}

/// Writes what is in gaps and at the site, with the fault.
fn write(hop: &Hop, fault: Fault, machine: &mut Machine) {
    for patch in hop.gaps.iter().chain([&hop.site]) {
        let mut bytes = patch.new_bytes().to_vec();
        let first = hop.gaps.first().is_some_and(|gap| gap == patch);
        let lea = bytes.windows(3).position(|w| w == [0x48, 0x8d, 0x0d]);
        match (fault, lea) {
            // It is the first part, or all of it.
            (Fault::LostInGap, _) if first && hop.site.new_bytes().len() == 5 => bytes[..2].copy_from_slice(&[0xeb, 0]),
            (Fault::Return, Some(at)) if hop.site.how().form == Form::HopJump => bytes[at + 3] = bytes[at + 3].wrapping_add(2),
            _ => {}
        }
        machine.put(patch.address(), &bytes);
    }
}
