//! What an instruction does, as far as a plan must know: to flags, to the stack pointer, to the flow of control.
//!
//! Only the instructions that stand around system calls are known. Of all others nothing is assumed: they end a scan and
//! are never moved.

use iced_x86::{Code, Instruction, MemorySize, Mnemonic, OpKind, Register};

/// What becomes of the arithmetic flags.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Flags {
    /// They stay as they are, or only some are written.
    Kept,
    /// All are written, none is read.
    Written,
    /// Some are read.
    Read,
}

/// Where control goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Flow {
    /// To the next instruction.
    Next,
    /// To an address, or to the next instruction.
    Branch(u64),
    /// To an address.
    Jump(u64),
    /// To a function, and then to the next instruction.
    Call,
    /// To the caller.
    Return,
    /// To the kernel, and then to the next instruction.
    Syscall,
    /// Nowhere: it faults, or stops the thread.
    Stop,
    /// It cannot be told.
    Unknown,
}

/// What becomes of the stack pointer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stack {
    /// It stays.
    Kept,
    /// So many bytes are pushed: written below it.
    Push(i64),
    /// So many bytes are popped: read above it.
    Pop(i64),
    /// It moves by so many bytes, and nothing is touched.
    Moved(i64),
    /// It is set to something else.
    Set,
}

/// What a known instruction does.
#[derive(Clone, Copy, Debug)]
pub struct Effect {
    /// To the arithmetic flags.
    pub flags: Flags,
    /// To the flow of control.
    pub flow: Flow,
    /// To the stack pointer.
    pub stack: Stack,
    /// Whether its memory operand, if it has one, is only written.
    pub store: bool,
    /// Whether its memory operand, if it has one, is only an address.
    pub address_only: bool,
}

/// What the instruction does, if it is a known one.
#[must_use]
pub fn of(i: &Instruction) -> Option<Effect> {
    let (flags, flow) = flags_and_flow(i)?;
    let stack = stack(i)?;
    let store = store_only(i.mnemonic()) && i.op0_kind() == OpKind::Memory;
    let address_only = matches!(i.mnemonic(), Mnemonic::Lea | Mnemonic::Nop);
    Some(Effect { flags, flow, stack, store, address_only })
}

/// Whether a memory operand that comes first is written and not read.
const fn store_only(mnemonic: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(
        mnemonic,
        M::Mov
            | M::Movaps
            | M::Movups
            | M::Movapd
            | M::Movupd
            | M::Movdqa
            | M::Movdqu
            | M::Movq
            | M::Movd
            | M::Movss
            | M::Movsd
            | M::Movhps
            | M::Movlps
            | M::Pop
    )
}

fn flags_and_flow(i: &Instruction) -> Option<(Flags, Flow)> {
    use Mnemonic as M;
    let near = |f: fn(u64) -> Flow| if i.op0_kind() == OpKind::NearBranch64 { f(i.near_branch64()) } else { Flow::Unknown };
    Some(match i.mnemonic() {
        M::Mov
        | M::Lea
        | M::Movzx
        | M::Movsx
        | M::Movsxd
        | M::Push
        | M::Pop
        | M::Nop
        | M::Endbr64
        | M::Leave
        | M::Xchg
        | M::Bswap
        | M::Not
        | M::Cdqe
        | M::Cwde
        | M::Cdq
        | M::Cqo
        | M::Pause
        | M::Movaps
        | M::Movups
        | M::Movapd
        | M::Movupd
        | M::Movdqa
        | M::Movdqu
        | M::Movq
        | M::Movd
        | M::Movss
        | M::Movsd
        | M::Movhps
        | M::Movlps
        | M::Pxor
        | M::Xorps
        | M::Punpcklqdq
        | M::Punpcklbw
        | M::Pshufd
        | M::Inc
        | M::Dec
        | M::Bt
        | M::Bts
        | M::Btr
        | M::Bsf
        | M::Bsr
        | M::Shl
        | M::Shr
        | M::Sar
        | M::Rol
        | M::Ror
        | M::Imul
        | M::Mul
        | M::Div
        | M::Idiv
        | M::Mfence
        | M::Lfence
        | M::Sfence => {
            // MOVSD and MOVQ are also string and MMX instructions; those have no such operands.
            if i.has_rep_prefix() || i.has_repne_prefix() || is_string(i) {
                return None;
            }
            (Flags::Kept, Flow::Next)
        }
        M::Cmp | M::Test | M::Add | M::Sub | M::And | M::Or | M::Xor | M::Neg | M::Xadd | M::Cmpxchg => (Flags::Written, Flow::Next),
        M::Adc
        | M::Sbb
        | M::Cmova
        | M::Cmovae
        | M::Cmovb
        | M::Cmovbe
        | M::Cmove
        | M::Cmovg
        | M::Cmovge
        | M::Cmovl
        | M::Cmovle
        | M::Cmovne
        | M::Cmovno
        | M::Cmovnp
        | M::Cmovns
        | M::Cmovo
        | M::Cmovp
        | M::Cmovs
        | M::Seta
        | M::Setae
        | M::Setb
        | M::Setbe
        | M::Sete
        | M::Setg
        | M::Setge
        | M::Setl
        | M::Setle
        | M::Setne
        | M::Setno
        | M::Setnp
        | M::Setns
        | M::Seto
        | M::Setp
        | M::Sets => (Flags::Read, Flow::Next),
        M::Ja
        | M::Jae
        | M::Jb
        | M::Jbe
        | M::Je
        | M::Jg
        | M::Jge
        | M::Jl
        | M::Jle
        | M::Jne
        | M::Jno
        | M::Jnp
        | M::Jns
        | M::Jo
        | M::Jp
        | M::Js => (Flags::Read, near(Flow::Branch)),
        M::Jmp => (Flags::Kept, near(Flow::Jump)),
        M::Call => (Flags::Kept, Flow::Call),
        M::Ret if i.op_count() == 0 => (Flags::Kept, Flow::Return),
        M::Syscall => (Flags::Kept, Flow::Syscall),
        M::Int3 | M::Int | M::Ud2 | M::Hlt => (Flags::Kept, Flow::Stop),
        _ => return None,
    })
}

/// Whether the operands are those of a string instruction.
fn is_string(i: &Instruction) -> bool {
    (0..i.op_count()).any(|n| !matches!(i.op_kind(n), OpKind::Register | OpKind::Memory) && !is_plain(i.op_kind(n)))
}

const fn is_plain(kind: OpKind) -> bool {
    use OpKind as K;
    matches!(
        kind,
        K::Immediate8
            | K::Immediate8_2nd
            | K::Immediate16
            | K::Immediate32
            | K::Immediate64
            | K::Immediate8to16
            | K::Immediate8to32
            | K::Immediate8to64
            | K::Immediate32to64
    )
}

fn stack(i: &Instruction) -> Option<Stack> {
    use Mnemonic as M;
    let to_rsp = i.op_count() > 0
        && i.op0_kind() == OpKind::Register
        && matches!(i.op0_register(), Register::RSP | Register::ESP | Register::SP | Register::SPL);
    Some(match i.mnemonic() {
        M::Push => match i.code() {
            Code::Push_r64 | Code::Push_rm64 | Code::Pushq_imm8 | Code::Pushq_imm32 => Stack::Push(8),
            _ => return None,
        },
        M::Pop if to_rsp => Stack::Set,
        M::Pop => match i.code() {
            Code::Pop_r64 | Code::Pop_rm64 => Stack::Pop(8),
            _ => return None,
        },
        M::Leave => Stack::Set,
        M::Add | M::Sub if to_rsp => {
            if !is_plain(i.op1_kind()) {
                return Some(Stack::Set);
            }
            let by = i.immediate(1).cast_signed();
            Stack::Moved(if i.mnemonic() == M::Add { by } else { by.checked_neg()? })
        }
        M::Lea if to_rsp && i.memory_base() == Register::RSP && i.memory_index() == Register::None => {
            Stack::Moved(i.memory_displacement64().cast_signed())
        }
        // Compares and pushes name the stack pointer and do not change it.
        M::Cmp | M::Test => Stack::Kept,
        M::Xchg if i.op_count() > 1 && i.op1_kind() == OpKind::Register && i.op1_register() == Register::RSP => Stack::Set,
        _ if to_rsp => Stack::Set,
        _ => Stack::Kept,
    })
}

/// Whether the instruction leaves a register of 64 bits as it is, and goes on to the next one.
#[must_use]
pub fn keeps(i: &Instruction, register: Register) -> bool {
    use Mnemonic as M;
    // Those write what is not their first operand.
    let more = matches!(
        i.mnemonic(),
        M::Xchg | M::Xadd | M::Cmpxchg | M::Mul | M::Imul | M::Div | M::Idiv | M::Cdq | M::Cqo | M::Cdqe | M::Cwde | M::Leave
    );
    let number = (register as usize).checked_sub(Register::RAX as usize);
    let written = if i.op_count() > 0 && i.op0_kind() == OpKind::Register { i.op0_register() } else { Register::None };
    let other = match written as usize {
        r if r == Register::None as usize || r >= Register::XMM0 as usize && r <= Register::XMM15 as usize => true,
        r if r >= Register::RAX as usize && r <= Register::R15 as usize => Some(r.wrapping_sub(Register::RAX as usize)) != number,
        r if r >= Register::EAX as usize && r <= Register::R15D as usize => Some(r.wrapping_sub(Register::EAX as usize)) != number,
        _ => false,
    };
    other && !more && of(i).is_some_and(|e| e.flow == Flow::Next)
}

/// Whether the instruction has a memory operand.
#[must_use]
pub fn has_memory(i: &Instruction) -> bool {
    (0..i.op_count()).any(|n| i.op_kind(n) == OpKind::Memory)
}

/// Whether a memory operand, or the address that is made, may be below the stack pointer: based on it with a negative
/// displacement, or on a frame pointer of a frame of unknown size.
#[must_use]
pub fn below_stack(i: &Instruction) -> bool {
    has_memory(i) && matches!(i.memory_base(), Register::RSP | Register::RBP) && i.memory_displacement64().cast_signed() < 0
}

/// How many bytes the memory operand has, if that is known.
#[must_use]
pub fn memory_size(i: &Instruction) -> Option<i64> {
    use MemorySize as S;
    Some(match i.memory_size() {
        S::UInt8 | S::Int8 => 1,
        S::UInt16 | S::Int16 => 2,
        S::UInt32 | S::Int32 | S::Float32 => 4,
        S::UInt64 | S::Int64 | S::QwordOffset | S::Float64 => 8,
        S::Packed128_Float32 | S::Packed128_Float64 | S::Packed128_Int32 | S::UInt128 | S::Int128 => 16,
        _ => return None,
    })
}

/// Whether control can come to the instruction behind this one by falling through. Of unknown ones it is assumed.
#[must_use]
pub fn falls_through(i: &Instruction) -> bool {
    !matches!(i.mnemonic(), Mnemonic::Ret | Mnemonic::Jmp | Mnemonic::Int3 | Mnemonic::Ud2 | Mnemonic::Hlt)
}
