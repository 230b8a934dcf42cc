//! Sites whose system calls become function calls: who is told, what is written, and what is refused.

use ptk::check::{equal, holds};
use ptk::memory::{self, PAGE};
use ptk::table::{fresh, link, update};
use ptk::user::{self, CODE};
use ptk::{call, instr, start};
use xen_abi::xmode::*;

/// A page of a process that it may execute and not write; one that it may write.
const CODE_RO: u64 = 0x65;
const CODE_RW: u64 = 0x67;

/// `mov eax, 39; syscall; ret`, and what it becomes: a call of the slot of number 39.
const SITE: [u8; 8] = [0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3];
const PATCHED: [u8; 8] = [0xff, 0x14, 0x25, 0x40, 0x01, 0x60, 0xff, 0xc3];
const SLOT: u64 = 0xffff_ffff_ff60_0140;
/// The slot of the jump entry.
const JUMP: u64 = 0xffff_ffff_ff60_0ff8;
/// Where the site begins, behind one-byte instructions: where instructions begin is told from the bytes before.
const START: u64 = CODE + 64;
/// Of the instruction.
const AT: u64 = START + 5;
/// An address that no displacement names, and its slot of the root.
const FAR: u64 = 0xffff_9600_0000_0000;
const FAR_SLOT: u64 = FAR >> 39 & 511;
/// More often than a site has to trap.
const OFTEN: usize = 20;

fn keep(word: u64, flags: u64) -> i64 {
    call(__HYPERVISOR_xmode_op, XMODEOP_sites, &mut XmodeSites { word, flags })
}

fn patch(site: u64, alias: u64, flags: u64) -> i64 {
    call(__HYPERVISOR_xmode_op, XMODEOP_patch, &mut XmodePatch { site, alias, flags, ..XmodePatch::default() })
}

fn offer(at: u64, alias: u64, flags: u64) -> i64 {
    call(__HYPERVISOR_xmode_op, XMODEOP_annex, &mut XmodeAnnex { at, alias, flags })
}

/// The process's code page with these rights.
fn protect(rights: u64) -> i64 {
    memory::set_va(CODE, memory::mfn(user::code_page()) * PAGE | rights)
}

/// Puts code where the site is.
fn write(code: [u8; 8]) {
    let mut all = [0x90; 72];
    all[64..].copy_from_slice(&code);
    user::write_code(&all);
}

fn bytes() -> [u8; 8] {
    instr::load64(user::code_page() + 64).to_le_bytes()
}

/// What comes of running the code: the vector, and where it was.
fn outcome(rip: u64) -> Option<(u64, u64)> {
    user::run(rip, 0x202).map(|f| (f.vector, f.rip))
}

/// Makes the system call until the kernel is told of it.
fn told(word: u64) -> bool {
    instr::store64(word, 0);
    (0..OFTEN).any(|_| outcome(START) == Some((258, AT + 2)) && instr::load64(word) == AT)
}

pub fn run() {
    let word = memory::page();
    let alias = user::code_page() + 64 + 5;
    for (name, at, flags) in [
        ("sites with flags", word, 1),
        ("a word of sites that is not aligned", word + 4, 0),
        ("a word of sites in the lower half", 0x1000, 0),
        ("a word of sites of the hypervisor's", 0xffff_8080_0010_0000, 0),
    ] {
        equal(name, keep(at, flags), -22);
    }
    equal("an annex before sites are kept", offer(word, word, 0), -38);
    write(SITE);
    equal("code that cannot be written", protect(CODE_RO), 0);
    holds("nobody is told of a site without asking", !told(word));
    equal("sites are kept", keep(word, 0), 0);
    equal("nothing was told of yet", patch(AT, alias, 0), -11);
    holds("a hot site is told of", told(word));

    let other = memory::page() + 64 + 5;
    for (name, site, at, flags) in [
        ("a patch with flags", AT, alias, 4),
        ("a patch in the page before, which is none", AT, alias, XMODE_PATCH_AHEAD),
        ("a patch at another offset", AT, alias + 1, 0),
        ("a patch of the kernel's code", alias, alias, 0),
        ("a patch through a process's mapping", AT, AT, 0),
        ("a patch through another page", AT, other, 0),
        ("a patch through nothing", AT, 0xffff_ffff_ff60_0045, 0),
        ("a patch through the hypervisor's memory", AT, 0xffff_8080_0010_0045, 0),
    ] {
        holds("the site is told of again", told(word));
        equal(name, patch(site, at, flags), -22);
    }
    holds("the site is told of again", told(word));
    equal("a patch of another site", patch(AT + 2, alias + 2, 0), -11);
    equal("nothing has changed", bytes(), SITE);
}

/// What follows once a kernel is told: apart, because a site is told of so often only.
pub fn patched() {
    let word = memory::page();
    let alias = user::code_page() + 64 + 5;
    // Another number, so another site.
    let (mut site, mut after) = (SITE, PATCHED);
    (site[1], after[3]) = (40, 0x48);
    equal("code that can be written", protect(CODE_RW), 0);
    write(site);
    equal("sites are kept elsewhere", keep(word, 0), 0);
    holds("a hot site of writable code is told of", told(word));
    equal("but not patched", patch(AT, alias, 0), -22);
    equal("code that cannot be written", protect(CODE_RO), 0);
    holds("the site is told of again", told(word));
    equal("it is patched", patch(AT, alias, 0), 0);
    equal("into a call", bytes(), after);
    equal("which is executed", user::run(START, 0x202).map(|f| (f.vector, f.rip, f.cr2)), Some((14, START, SLOT + 8)));
    equal("who jumps to the instruction makes the system call", outcome(AT), Some((258, AT + 2)));
    equal("told of once", patch(AT, alias, 0), -11);

    // `mov rax, [rsp - 8]` behind it: a red zone. The way to the jump entry is in the padding behind the return.
    let mut leaf = [0xcc; 64 + 40];
    leaf[..64].fill(0x90);
    leaf[64..77].copy_from_slice(&[0xb8, 43, 0, 0, 0, 0x0f, 0x05, 0x48, 0x8b, 0x44, 0x24, 0xf8, 0xc3]);
    user::write_code(&leaf);
    holds("a hot site with a red zone is told of", told(word));
    equal("it is patched, too, and one other place", patch(AT, alias, 0), 1);
    equal("into a jump", bytes(), [0xb8, 43, 0, 0, 0, 0xeb, 0x06, 0x48]);
    equal("to the jump entry", user::run(START, 0x202).map(|f| (f.vector, f.rip, f.cr2)), Some((14, CODE + 84, JUMP)));
    equal("with the return address", instr::load64(user::code_page() + 80).to_le_bytes(), [0xf3, 0xff, 0xff, 0xff, 0xff, 0x24, 0x25, 0xf8]);
    equal("who jumps to the instruction gets there", user::run(AT, 0x202).map(|f| (f.vector, f.rip)), Some((14, CODE + 84)));

    // The page is put to another use: what was remembered is not believed.
    write([0x90, 0x90, 0x90, 0x90, 0x90, 0x60, 0x90, 0x90]);
    equal("an invalid opcode is one again", outcome(AT), Some((6, AT)));
    write([0xb8, 40, 0, 0, 0, 0x0f, 0x0b, 0xc3]);
    equal("and elsewhere", outcome(START), Some((6, AT)));

    // The bytes change between the word and the call.
    let mut third = SITE;
    third[1] = 41;
    write(third);
    holds("a third site is told of", told(word));
    write([0x90; 8]);
    equal("bytes that are no site any more", patch(AT, alias, 0), -1);
    equal("stay", bytes(), [0x90; 8]);
}

/// A page with several sites: once it is ready, those that trap later are patched at once, while its mappings are what they were,
/// if the domain has one vCPU.
pub fn ready() {
    let alone = start::option("vcpus").is_none();
    let (word, page, elsewhere) = (memory::page(), user::code_page(), memory::page());
    let at = |n: u64| START + 16 * n;
    let mut code = [0x90; 64 + 16 * 5];
    for (n, place) in (0..).zip(code[64..].chunks_exact_mut(16)) {
        place[..8].copy_from_slice(&[0xb8, 50 + n, 0, 0, 0, 0x0f, 0x05, 0xc3]);
    }
    user::write_code(&code);
    // It makes its system call; whether the kernel is told then.
    let told = |n: u64| {
        instr::store64(word, 0);
        holds("a system call", outcome(at(n)) == Some((258, at(n) + 7)));
        instr::load64(word) == at(n) + 5
    };
    let is_patched = |n: u64| instr::load64(page + 64 + 16 * n) & 0xff_ffff == 0x25_14ff;
    let drop = |flags| call(__HYPERVISOR_xmode_op, XMODEOP_drop, &mut XmodeDrop { alias: page + 8, flags });
    // The first page of its module, for what the X-Kernel knows of that.
    let head = |frame: u64| memory::set_va(user::STACK, memory::mfn(frame) * PAGE | CODE_RW);
    let first = memory::page();
    equal("a module begins somewhere", head(first), 0);
    equal("sites are kept", keep(word, 0), 0);
    holds("the first one is told of", told(0));
    let (site, alias, module) = (at(0) + 5, page + 64 + 5, user::STACK);
    let mut wish = XmodePatch { site, alias, module, flags: XMODE_PATCH_MORE, ..XmodePatch::default() };
    equal("and patched, as others may be", call(__HYPERVISOR_xmode_op, XMODEOP_patch, &mut wish), 0);
    equal("another module is there", head(elsewhere), 0);
    holds("the second one is told of", told(1) && !is_patched(1));
    equal("the module is there again", head(first), 0);
    equal("the second one is told of, unless nobody else runs", told(1), !alone);
    equal("it is patched at once then", is_patched(1), alone);
    let mapping = memory::mfn(page) * PAGE;
    equal("the kernel cannot write any more", memory::set_va(page, mapping | 0x21), 0);
    holds("the third one is told of", told(2) && !is_patched(2));
    equal("the kernel writes elsewhere", memory::set_va(page, memory::mfn(elsewhere) * PAGE | 0x63), 0);
    holds("the third one is told of then, too", told(2));
    holds("and nothing is written there", instr::load64(elsewhere + 64 + 32) == 0);
    equal("the kernel can write again", memory::set_va(page, mapping | 0x63), 0);
    equal("the process can write", protect(CODE_RW), 0);
    holds("the third one is told of again", told(2) && !is_patched(2));
    equal("the process cannot write", protect(CODE_RO), 0);
    equal("to drop it with flags", drop(1), -22);
    equal("the page is dropped", drop(0), 0);
    holds("the fourth one is told of", told(3) && !is_patched(3));
}

/// Sites that have no room for a call, and code of the kernel's that they call instead. Some are patched without asking, in a
/// domain with one vCPU.
pub fn annex() {
    let (word, page, room, other) = (memory::page(), user::code_page(), memory::page(), memory::page());
    let mapping = |bits: u64| memory::set_va(room, memory::mfn(room) * PAGE | bits);
    // The same page out of reach.
    let branch = (0..2).fold(fresh(&[(0, memory::mfn(room) * PAGE | 0x63)]), |below, _| fresh(&[(0, link(below))]));
    let slot = memory::mfn(start::start_info().pt_base) * PAGE + 8 * FAR_SLOT;
    equal("it is mapped far off", update(slot, link(branch)), 0);
    for (name, at, alias, flags) in [
        ("an annex with flags", room, room, 1),
        ("one that is not aligned", room + 64, room + 64, 0),
        ("one that is written elsewhere", room, other, 0),
        ("one that is written by a process's mapping", room, CODE, 0),
        ("one that no displacement names", FAR, room, 0),
        ("one in the lower half", CODE, page, 0),
        ("another one there", CODE, room, 0),
        ("one of nothing", 0xffff_ffff_ff60_0000, room, 0),
        ("one of the hypervisor's", 0xffff_8080_0010_0000, 0xffff_8080_0010_0000, 0),
    ] {
        equal(name, offer(at, alias, flags), -22);
    }
    equal("a page that cannot be executed", mapping(1 << 63 | 0x63), 0);
    equal("is none", offer(room, room, 0), -22);
    equal("a page that cannot be written", mapping(0x61), 0);
    equal("is none, either", offer(room, room, 0), -22);
    equal("a page that can be both", mapping(0x63), 0);
    equal("is one", offer(room, room, 0), 0);

    // Seventy sites: mov eax, 70; mov rdi, n; syscall; ret. The first two are the same.
    let at = |n: u64| START + 16 * n;
    let mut code = [0x90; 64 + 16 * 70];
    for (n, place) in (0_u8..).zip(code[64..].chunks_exact_mut(16)) {
        place[..15].copy_from_slice(&[0xb8, 70, 0, 0, 0, 0x48, 0xc7, 0xc7, n.max(1), 0, 0, 0, 0x0f, 0x05, 0xc3]);
    }
    user::write_code(&code);
    let traps = |n: u64| outcome(at(n)) == Some((258, at(n) + 14));
    equal("sites are kept", keep(word, 0), 0);
    holds("the first one is told of", (0..OFTEN).any(|_| traps(0) && instr::load64(word) == at(0) + 12));
    equal("and patched, as others may be", patch(at(0) + 12, page + 64 + 12, XMODE_PATCH_MORE), 0);
    let call_of = |cell: u64| ((room + 64 * cell) << 32 >> 8 | 0x25_14ff) & 0xff_ffff_ffff_ffff;
    let now = |n: u64| instr::load64(page + 64 + 16 * n + 5) & 0xff_ffff_ffff_ffff;
    equal("into a call", now(0), call_of(0));
    equal("whose slot has what is behind it", instr::load64(room), room + 8);
    let stub = [room + 8, room + 16, room + 24].map(instr::load64).map(u64::to_le_bytes);
    let end = [0x48, 0x83, 0x04, 0x24, 0x02, 0xff, 0x24, 0x25, 0x00, 0x00, 0x60, 0xff];
    holds("the same instruction", stub.as_flattened()[..7] == [0x48, 0xc7, 0xc7, 1, 0, 0, 0]);
    holds("and a jump to the table", stub.as_flattened()[7..19] == end);
    let fault = user::run(at(0), 0x202);
    equal("which is executed", fault.as_ref().map(|f| (f.vector, f.rip, f.cr2)), Some((14, room + 20, 0xffff_ffff_ff60_0000)));
    equal("to come back behind the site", fault.map(|f| instr::load64(f.rsp)), Some(at(0) + 14));
    equal("who jumps to the instruction makes the system call", outcome(at(0) + 12), Some((258, at(0) + 14)));

    holds("the others make their system calls", (1..70).all(traps));
    equal("one that is the same shares it", now(1), call_of(0));
    equal("another has its own", now(2), call_of(1));
    equal("as many as there is room for", (0..70).filter(|&n| now(n) & 0xff_ffff == 0x25_14ff).count(), 65);
    holds("all within the page", (1..65).all(|n| now(n) == call_of(n - 1)));
    holds("the rest stays", (65..70).all(traps));

    // It is taken away: nothing is written to it any more, and sites stay.
    let mut code = [0x90; 64 + 16];
    code[64..79].copy_from_slice(&[0xb8, 71, 0, 0, 0, 0x48, 0xc7, 0xc7, 99, 0, 0, 0, 0x0f, 0x05, 0xc3]);
    equal("a fresh annex", offer(room, room, 0), 0);
    equal("that cannot be written any more", mapping(0x61), 0);
    user::write_code(&code);
    holds("one more site makes its system call", traps(0));
    equal("is as it was", now(0), u64::from_le_bytes([0x48, 0xc7, 0xc7, 99, 0, 0, 0, 0]));
    equal("and the annex, too", instr::load64(room), room + 8);
}
