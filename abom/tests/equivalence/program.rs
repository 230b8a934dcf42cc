//! Random programs around system calls, of the kinds that break a rewriting if anything does.

use crate::layout::*;
use crate::random::Random;

/// Registers that programs read and write freely. Not among them: rsp and rbp; rbx and r12, which point to data; rcx and
/// r11, which a system call changes; r13, which decides branches.
const FREE: [u8; 9] = [0, 2, 6, 7, 8, 9, 10, 14, 15];
/// Those that are no arguments of system calls.
const SPARE: [u8; 2] = [14, 15];
const RSP: u8 = 4;
const RBP: u8 = 5;
const RBX: u8 = 3;
/// What does nothing, in so many bytes.
const NOPS: [&[u8]; 9] = [
    &[0x90],
    &[0x66, 0x90],
    &[0x0f, 0x1f, 0x00],
    &[0x0f, 0x1f, 0x40, 0x00],
    &[0x0f, 0x1f, 0x44, 0x00, 0x00],
    &[0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00],
    &[0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00],
    &[0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
    &[0x66, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
];
/// Bytes that a program has above its stack pointer, at least.
const FRAME_SIZE: u8 = 0x60;

/// A program.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// Its bytes, at [`CODE`].
    pub code: Vec<u8>,
    /// Where its instructions begin.
    pub starts: Vec<u64>,
    /// Its `syscall` instructions.
    pub sites: Vec<u64>,
    /// What it jumps to.
    pub entered: Vec<u64>,
    /// Whether anything below its stack pointer is used.
    pub red_zone: bool,
    /// Bytes pushed.
    depth: i64,
    framed: bool,
    /// Whether rbx may point to the stack.
    pointer: bool,
}

impl Program {
    /// A program of the source's choice.
    pub fn random(r: &mut Random, fd: u64) -> Self {
        let mut p = Self { entered: vec![CODE], ..Self::default() };
        // Padding or junk ahead of it, as there is another function's end.
        for _ in 0..r.below(3) {
            p.instruction(&[0x0f, 0x1f, 0x44, 0x00, 0x00]);
        }
        // Room for what is stored above the stack pointer.
        p.instruction(&[0x48, 0x83, 0xec, FRAME_SIZE]);
        if r.one_in(4) {
            p.framed = true;
            p.instruction(&[0x55]);
            p.instruction(&[0x48, 0x89, 0xe5]);
            p.depth = 8;
        }
        for _ in 0..r.below(3) {
            p.stack_change(r);
        }
        p.filler(r, 8);
        for _ in 0..=r.below(3) / 2 {
            p.system_call(r, fd);
            p.filler(r, 5);
        }
        p.end(r);
        p.entered.sort_unstable();
        p.entered.dedup();
        p
    }

    fn at(&self) -> u64 {
        CODE + self.code.len() as u64
    }

    fn instruction(&mut self, bytes: &[u8]) {
        self.starts.push(self.at());
        self.code.extend(bytes);
    }

    /// `op reg, [base + displacement]`, or the other way round: all of them REX.W, opcode, ModRM.
    fn memory(&mut self, op: u8, reg: u8, base: u8, displacement: i8) {
        let rex = 0x48 | (reg >> 3) << 2 | base >> 3;
        let mut bytes = vec![rex, op, 0x44 | (reg & 7) << 3];
        if base & 7 == RSP {
            bytes.push(0x24);
        } else {
            bytes[2] = 0x40 | (reg & 7) << 3 | base & 7;
        }
        bytes.push(displacement.cast_unsigned());
        self.red_zone |= base == RSP && displacement < 0 || base == RBP && self.framed && displacement < 0;
        self.instruction(&bytes);
    }

    fn registers(&mut self, op: u8, rm: u8, reg: u8, wide: bool) {
        let rex = 0x40 | u8::from(wide) << 3 | (reg >> 3) << 2 | rm >> 3;
        let modrm = 0xc0 | (reg & 7) << 3 | rm & 7;
        if rex == 0x40 { self.instruction(&[op, modrm]) } else { self.instruction(&[rex, op, modrm]) }
    }

    fn load(&mut self, reg: u8, value: u32) {
        let mut bytes = if reg < 8 { vec![0xb8 | reg] } else { vec![0x41, 0xb8 | reg & 7] };
        bytes.extend(value.to_le_bytes());
        self.instruction(&bytes);
    }

    fn stack_change(&mut self, r: &mut Random) {
        match r.below(3) {
            0 => {
                self.instruction(&[0x50 | r.pick(&[0, 2, 6, 7])]);
                self.depth += 8;
            }
            1 => {
                self.instruction(&[0x48, 0x83, 0xec, 0x18]);
                self.depth += 0x18;
                // What is read there now was below the stack pointer at the system call.
                self.red_zone |= !self.sites.is_empty();
            }
            _ if self.depth > 8 => {
                self.instruction(&[0x48, 0x83, 0xc4, 0x08]);
                self.depth -= 8;
                // What was above the stack pointer when its address was taken is below it now.
                self.red_zone |= self.pointer;
            }
            _ => {}
        }
    }

    /// Some instructions of any kind.
    fn filler(&mut self, r: &mut Random, most: u64) {
        for _ in 0..r.below(most + 1) {
            if r.one_in(8) { self.gap(r) } else { self.any(r, &FREE, true) }
        }
    }

    /// Padding: jumped over, jumped to, or come to by falling through.
    fn gap(&mut self, r: &mut Random) {
        let size = u8::try_from(r.below(21)).expect("small");
        match r.below(6) {
            0 => self.padding(r, size, false),
            1 => {
                self.instruction(&[0xeb, 0]);
                self.entered.push(self.at());
                self.padding(r, size, false);
            }
            _ => {
                self.instruction(&[0xeb, size]);
                self.padding(r, size, true);
                self.entered.push(self.at());
            }
        }
    }

    /// So many bytes of what compilers fill gaps with.
    fn padding(&mut self, r: &mut Random, size: u8, stops: bool) {
        let mut left = usize::from(size);
        if stops && r.one_in(3) {
            (0..left).for_each(|_| self.instruction(&[0xcc]));
            return;
        }
        while left > 0 {
            let length = if r.one_in(2) { left.min(NOPS.len()) } else { 1 + r.below(left.min(NOPS.len()) as u64) as usize };
            self.instruction(NOPS[length - 1]);
            left -= length;
        }
    }

    fn any(&mut self, r: &mut Random, to: &[u8], stack: bool) {
        let (reg, from) = (r.pick(to), r.pick(&FREE));
        let near = i8::try_from(r.below(8)).expect("small") * 8;
        let below = -8 - i8::try_from(r.below(3)).expect("small") * 4;
        match r.below(if stack { 24 } else { 16 }) {
            0 | 1 => self.registers(0x89, reg, from, true),
            2 if r.one_in(2) => self.long(r, reg, stack),
            2 => self.load(reg, u32::try_from(r.below(1 << 32)).expect("32 bits")),
            3 => {
                let op = r.pick(&[0x01, 0x29, 0x21, 0x09, 0x31, 0x39, 0x85]);
                self.registers(op, reg, from, true);
            }
            4 => self.memory(0x8b, reg, 12, near),
            5 => self.memory(0x8b, reg, RSP, near),
            6 => {
                // adc: reads the carry flag.
                let wide = r.one_in(2);
                self.registers(0x11, reg, from, wide);
            }
            7 => {
                // setc, seto, sets on a low byte
                let op = r.pick(&[0x92, 0x90, 0x98]);
                self.instruction(&[0x40 | reg >> 3, 0x0f, op, 0xc0 | reg & 7]);
            }
            8 => {
                let distance = i32::try_from(NEAR_DATA + 8 * r.below(8)).expect("low") - i32::try_from(self.at() + 7).expect("low");
                let mut bytes = vec![0x48 | (reg >> 3) << 2, r.pick(&[0x8b, 0x89]), 0x05 | (reg & 7) << 3];
                bytes.extend(distance.to_le_bytes());
                self.instruction(&bytes);
            }
            9 => self.registers(0x31, reg, reg, false),
            10 => self.memory(0x89, from, RSP, near.max(8)),
            11 => self.registers(0x85, from, from, false),
            12 => {
                let displacement = -i8::try_from(r.below(2)).expect("small") * 8;
                self.red_zone |= self.pointer && displacement < 0;
                self.memory(0x8b, reg, RBX, displacement);
            }
            13 => self.instruction(&[0x48 | reg >> 3, 0x83, 0xc0 | reg & 7, 0x11]),
            14 => {
                // cmp r, -4096
                self.instruction(&[0x48 | from >> 3, 0x81, 0xf8 | from & 7, 0x00, 0xf0, 0xff, 0xff]);
            }
            15 => self.memory(0x8b, reg, RBP, if self.framed { below } else { near }),
            16 | 17 => self.memory(0x89, from, RSP, below),
            18 => self.memory(0x8b, reg, RSP, below),
            19 => {
                // lea rbx, below or above
                let displacement = if r.one_in(2) { below } else { near };
                self.memory(0x8d, RBX, RSP, displacement);
                self.pointer = true;
            }
            20 => self.stack_change(r),
            21 => self.memory(0x89, from, RBP, if self.framed { below } else { near }),
            22 => self.memory(0x89, from, 12, near),
            _ => {
                // A branch over an instruction or two.
                let condition = 0x70 | u8::try_from(r.below(16)).expect("small");
                let condition = if condition & 0xe == 0xa { 0x75 } else { condition };
                self.instruction(&[condition, 0]);
                let behind = self.code.len();
                for _ in 0..=r.below(2) {
                    self.any(r, to, false);
                }
                let distance = u8::try_from(self.code.len() - behind).expect("short");
                self.code[behind - 1] = distance;
                self.entered.push(self.at());
            }
        }
    }

    /// An instruction of seven bytes or more.
    fn long(&mut self, r: &mut Random, reg: u8, stack: bool) {
        let (high, low) = (reg >> 3, reg & 7);
        let above = 8 * u8::try_from(r.below(8)).expect("small");
        // Displacements of four bytes: to data near the code, from r12, from the stack pointer.
        let mut bytes = match r.below(if stack { 7 } else { 6 }) {
            0 | 1 => {
                let distance = NEAR_DATA + 8 * r.below(8);
                let distance = i32::try_from(distance).expect("low") - i32::try_from(self.at() + 7).expect("low");
                let mut bytes = vec![0x48 | high << 2, r.pick(&[0x8b, 0x8d, 0x8d]), 0x05 | low << 3];
                bytes.extend(distance.to_le_bytes());
                return self.instruction(&bytes);
            }
            2 => vec![0x49 | high << 2, 0x8d, 0x84 | low << 3, 0x24, above],
            3 => vec![0x48 | high << 2, r.pick(&[0x8b, 0x8d]), 0x84 | low << 3, 0x24, above],
            4 => {
                let mut bytes = vec![0x48 | high, 0xb8 | low];
                bytes.extend(r.next().to_le_bytes());
                return self.instruction(&bytes);
            }
            5 => vec![0x48 | high, 0xc7, 0xc0 | low, above],
            _ => vec![0x48 | high << 2, 0x89, 0x84 | low << 3, 0x24, above.max(8)],
        };
        bytes.extend([0; 3]);
        self.instruction(&bytes);
    }

    fn system_call(&mut self, r: &mut Random, fd: u64) {
        let nr = r.pick(&[39, 102, 600, 0, 17, 17, 18, 18]);
        let reads_file = matches!(nr, 0 | 17 | 18);
        let early = r.one_in(3);
        let by_register = r.one_in(4);
        if by_register {
            self.load(15, nr);
        }
        let by_stack = !by_register && r.one_in(5);
        let slot = if r.one_in(4) { -16 } else { 8 };
        if by_stack {
            self.load(14, nr);
            self.memory(0x89, 14, RSP, slot);
        }
        if early {
            self.number(r, nr, by_register, by_stack, slot);
        }
        if reads_file {
            self.arguments(r, fd);
        }
        if !early {
            self.number(r, nr, by_register, by_stack, slot);
        }
        for _ in 0..r.below(6).saturating_sub(3) {
            self.any(r, &SPARE[..1], false);
        }
        if r.one_in(8) {
            self.long(r, SPARE[0], false);
        }
        // Someone may come to it by another way, with another number.
        if r.one_in(5) {
            // test r13b, imm; jz over; mov eax, other; jmp in; over: mov eax, nr
            self.instruction(&[0x41, 0xf6, 0xc5, 1 << r.below(4)]);
            self.instruction(&[0x74, 7]);
            self.load(0, r.pick(&[39, 102]));
            // To the site, with an instruction ahead of it that is passed over or not, or none.
            let between = r.below(3);
            self.instruction(&[0xeb, if between == 2 { 8 } else { 5 }]);
            self.load(0, nr);
            self.entered.push(self.at() - 5);
            if between == 0 {
                self.entered.push(self.at());
            } else {
                if between == 1 {
                    self.entered.push(self.at());
                }
                let reg = r.pick(&SPARE);
                self.registers(0x89, reg, 2, true);
                if between == 2 {
                    self.entered.push(self.at());
                }
            }
        }
        self.sites.push(self.at());
        self.instruction(&[0x0f, 0x05]);
        match r.below(5) {
            0 => self.instruction(&[0x48, 0x3d, 0x00, 0xf0, 0xff, 0xff]),
            1 => self.instruction(&[0x85, 0xc0]),
            2 => self.registers(0x89, 15, 0, true),
            _ => {}
        }
    }

    fn number(&mut self, r: &mut Random, nr: u32, by_register: bool, by_stack: bool, slot: i8) {
        if by_register {
            self.registers(0x89, 0, 15, r.one_in(2));
        } else if by_stack {
            self.memory(0x8b, 0, RSP, slot);
        } else if nr == 0 && r.one_in(2) {
            self.instruction(&[0x31, 0xc0]);
        } else if r.one_in(3) {
            let mut bytes = vec![0x48, 0xc7, 0xc0];
            bytes.extend(nr.to_le_bytes());
            self.instruction(&bytes);
        } else {
            self.load(0, nr);
        }
    }

    /// A descriptor, a buffer, its length, a place in the file.
    fn arguments(&mut self, r: &mut Random, fd: u64) {
        self.load(7, u32::try_from(fd).expect("a small number"));
        match r.below(5) {
            0 => self.memory(0x8d, 6, RSP, -16),
            1 => self.memory(0x8d, 6, RSP, -8),
            2 => self.memory(0x8d, 6, RSP, 16),
            3 => self.registers(0x89, 6, RBX, true),
            _ => self.memory(0x8d, 6, 12, 32),
        }
        self.load(2, 1 + u32::try_from(r.below(8)).expect("small"));
        self.load(10, u32::try_from(r.below(64)).expect("small"));
    }

    fn end(&mut self, r: &mut Random) {
        if self.framed {
            self.instruction(&[0xc9]);
            self.depth = 0;
        }
        let mut bytes = vec![0x48, 0x8d, 0xa4, 0x24];
        bytes.extend((i64::from(FRAME_SIZE) + self.depth).to_le_bytes()[..4].iter());
        self.instruction(&bytes);
        self.instruction(&[0xc3]);
        // The next functions.
        for _ in 0..r.below(6) {
            let size = r.pick(&[0, 5, 7, 9, 12, 14, 15, 40]);
            self.padding(r, size, true);
            for _ in 0..r.below(4) * r.below(8) {
                self.instruction(&[0x48, 0x89, 0xd8]);
            }
            self.instruction(&[0xc3]);
        }
        self.padding(r, 15, true);
        self.instruction(&[0xc3]);
        assert!(self.code.len() < 0x7f0);
    }
}
