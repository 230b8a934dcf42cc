//! What is used of QEMU 7.2: its plugin interface, and four of its own functions that the program exports.
//!
//! The plugin interface of this version cannot read registers or memory. Between two translation blocks all of the
//! guest's state is in memory, so the functions behind the debugger's stub can: they are what `info registers` uses.

use std::ffi::{c_char, c_int, c_uint, c_void};

/// Which plugin this is.
pub type Id = u64;
/// A block being translated, and an instruction in it.
pub type Block = *mut c_void;
/// See [`Block`].
pub type Instruction = *mut c_void;

/// `QEMU_PLUGIN_CB_NO_REGS`.
const NO_REGS: c_int = 0;
/// `QEMU_PLUGIN_INLINE_ADD_U64`.
const ADD_U64: c_int = 0;

/// GLib's array of bytes.
#[repr(C)]
struct Bytes {
    data: *const u8,
    len: c_uint,
}

/// Called for each block that is translated.
pub type OnTranslation = extern "C" fn(Id, Block);
/// Called when a block or an instruction is executed.
pub type OnExecution = extern "C" fn(c_uint, *mut c_void);
/// Called at the end.
pub type OnExit = extern "C" fn(Id, *mut c_void);

unsafe extern "C" {
    fn qemu_plugin_register_vcpu_tb_trans_cb(id: Id, f: OnTranslation);
    fn qemu_plugin_register_atexit_cb(id: Id, f: OnExit, data: *mut c_void);
    fn qemu_plugin_tb_vaddr(block: Block) -> u64;
    fn qemu_plugin_tb_n_insns(block: Block) -> usize;
    fn qemu_plugin_tb_get_insn(block: Block, index: usize) -> Instruction;
    fn qemu_plugin_insn_data(instruction: Instruction) -> *const u8;
    fn qemu_plugin_insn_size(instruction: Instruction) -> usize;
    fn qemu_plugin_register_vcpu_tb_exec_cb(block: Block, f: OnExecution, flags: c_int, data: *mut c_void);
    fn qemu_plugin_register_vcpu_insn_exec_inline(instruction: Instruction, op: c_int, counter: *mut u64, n: u64);

    fn qemu_get_cpu(index: c_int) -> *mut c_void;
    fn x86_cpu_gdb_read_register(cpu: *mut c_void, to: *mut Bytes, register: c_int) -> c_int;
    fn x86_cpu_dump_state(cpu: *mut c_void, to: *mut c_void, flags: c_int);
    fn cpu_memory_rw_debug(cpu: *mut c_void, address: u64, buffer: *mut c_void, len: u64, write: bool) -> c_int;

    fn g_byte_array_new() -> *mut Bytes;
    fn g_byte_array_unref(bytes: *mut Bytes);

    fn open_memstream(data: *mut *mut c_char, len: *mut usize) -> *mut c_void;
    fn fclose(file: *mut c_void) -> c_int;
    fn free(data: *mut c_void);
}

/// A register, by the debugger's number.
#[derive(Clone, Copy)]
#[repr(i32)]
pub enum Register {
    /// rax.
    Rax = 0,
    /// rcx.
    Rcx = 2,
    /// rsi.
    Rsi = 4,
    /// rdi.
    Rdi = 5,
    /// rsp.
    Rsp = 7,
}

/// Asks to be called for each block and at the end.
pub fn register(id: Id, on_translation: OnTranslation, on_exit: OnExit) {
    // SAFETY: `id` is what QEMU has installed the plugin with, and the functions stay loaded as long as QEMU runs.
    unsafe { qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation) };
    // SAFETY: as above.
    unsafe { qemu_plugin_register_atexit_cb(id, on_exit, std::ptr::null_mut()) };
}

/// The address that `block` begins at.
pub fn address(block: Block) -> u64 {
    // SAFETY: called during the block's translation.
    unsafe { qemu_plugin_tb_vaddr(block) }
}

/// The instructions of `block` with their bytes.
pub fn instructions(block: Block) -> impl Iterator<Item = (Instruction, Vec<u8>)> {
    // SAFETY: called during the block's translation.
    let n = unsafe { qemu_plugin_tb_n_insns(block) };
    (0..n).map(move |i| {
        // SAFETY: `i` is below the number of instructions.
        let instruction = unsafe { qemu_plugin_tb_get_insn(block, i) };
        // SAFETY: an instruction of the block being translated.
        let data = unsafe { qemu_plugin_insn_data(instruction) };
        // SAFETY: as above.
        let size = unsafe { qemu_plugin_insn_size(instruction) };
        // SAFETY: QEMU keeps that many bytes there during the translation.
        let bytes = unsafe { std::slice::from_raw_parts(data, size) };
        (instruction, bytes.to_vec())
    })
}

/// Calls `f` with `data` each time that `block` begins.
pub fn on_block(block: Block, f: OnExecution, data: u64) {
    // SAFETY: called during the block's translation; `data` is a number, never followed.
    unsafe { qemu_plugin_register_vcpu_tb_exec_cb(block, f, NO_REGS, data as *mut c_void) };
}

/// Adds one to `counter` each time that `instruction` begins.
pub fn count(instruction: Instruction, counter: &'static std::sync::atomic::AtomicU64) {
    // SAFETY: called during the block's translation; the counter is never freed.
    unsafe { qemu_plugin_register_vcpu_insn_exec_inline(instruction, ADD_U64, counter.as_ptr(), 1) };
}

/// Reads memory of the first CPU by virtual address. False if nothing is mapped there.
pub fn read_memory(address: u64, buffer: &mut [u8]) -> bool {
    // SAFETY: called on the CPU's own thread, and CPUs are not unplugged.
    let cpu = unsafe { qemu_get_cpu(0) };
    // SAFETY: the buffer is as long as said; nothing is written to the guest.
    unsafe { cpu_memory_rw_debug(cpu, address, buffer.as_mut_ptr().cast(), buffer.len() as u64, false) == 0 }
}

/// Reads a register of the first CPU. Only right at the beginning of a block.
pub fn read_register(register: Register) -> u64 {
    // SAFETY: called on the CPU's own thread, and CPUs are not unplugged.
    let cpu = unsafe { qemu_get_cpu(0) };
    // SAFETY: no arguments.
    let bytes = unsafe { g_byte_array_new() };
    // SAFETY: a fresh array, which grows as needed.
    unsafe { x86_cpu_gdb_read_register(cpu, bytes, register as c_int) };
    // SAFETY: the array is still ours.
    let Bytes { data, len } = unsafe { bytes.read() };
    // SAFETY: GLib keeps `len` bytes at `data`, and it was just written: it is not null.
    let read = unsafe { std::slice::from_raw_parts(data, len as usize) };
    let mut value = [0; 8];
    value.iter_mut().zip(read).for_each(|(to, from)| *to = *from);
    // SAFETY: the only reference.
    unsafe { g_byte_array_unref(bytes) };
    u64::from_le_bytes(value)
}

/// The address in the first CPU's IDTR, which no debugger's register is, as `info registers` prints it.
pub fn idt() -> Option<u64> {
    // SAFETY: called on the CPU's own thread, and CPUs are not unplugged.
    let cpu = unsafe { qemu_get_cpu(0) };
    let (mut data, mut len) = (std::ptr::null_mut(), 0);
    // SAFETY: both places outlive the stream.
    let stream = unsafe { open_memstream(&raw mut data, &raw mut len) };
    if stream.is_null() {
        return None;
    }
    // SAFETY: an open stream.
    unsafe { x86_cpu_dump_state(cpu, stream, 0) };
    // SAFETY: it is not used any more, and from here on `data` and `len` are what was written.
    unsafe { fclose(stream) };
    // SAFETY: C's library has put `len` bytes there.
    let text = String::from_utf8_lossy(unsafe { std::slice::from_raw_parts(data.cast::<u8>(), len) }).into_owned();
    // SAFETY: the stream's buffer is ours to free.
    unsafe { free(data.cast()) };
    let (_, after) = text.split_once("IDT=")?;
    u64::from_str_radix(after.split_whitespace().next()?, 16).ok()
}
