//! Where `unsafe` may live, and what must be said there.

use super::Finding;
use super::source::{self, Line, find_word};

/// The rooms of unsafe code: folders and files. A file elsewhere has none.
pub const ROOMS: &[&str] = &[
    // Instructions, MSRs, descriptor tables, device registers, and the door of every entry.
    "x-kernel/src/arch/",
    // Frame numbers become pointers here, and guest addresses are touched here; nowhere else.
    "x-kernel/src/mm/window.rs",
    "x-kernel/src/mm/guest_access.rs",
    // Storage of what is sized at boot, and the X-Kernel's own page tables.
    "x-kernel/src/mm/frame_table.rs",
    "x-kernel/src/mm/frame_alloc.rs",
    "x-kernel/src/mm/boot_alloc.rs",
    "x-kernel/src/mm/scratch.rs",
    "x-kernel/src/mm/heap.rs",
    "x-kernel/src/mm/hyp_pt.rs",
    "x-kernel/src/mm/page_table.rs",
    // What the linker script and the boot loader left in memory.
    "x-kernel/src/mm/image.rs",
    "x-kernel/src/mm/modules.rs",
    "x-kernel/src/symbols.rs",
    "x-kernel/src/selftest/",
    // Found from the stack pointer; locks; a stack that is walked while all else is broken.
    "x-kernel/src/percpu.rs",
    "x-kernel/src/sync/",
    "x-kernel/src/panic.rs",
    // Guests that test the X-Kernel: they are its adversaries, not part of it.
    "tests/ptk/",
    "tests/guests/",
    "tests/bench/crossings/",
    // System calls as programs make them, and what they do to registers, stacks and memory.
    "tests/linux/",
    // A system call may do anything to the process's memory.
    "x-calls/",
    // Rewritten code is executed: random code in a process of its own, programs of the machine under a tracer.
    "abom/tests/equivalence/",
    "abom/cli/tests/run/",
];

/// Whether unsafe code may be in the file.
pub fn is_room(path: &str) -> bool {
    ROOMS.iter().any(|room| if room.ends_with('/') { path.starts_with(room) } else { path == *room })
}

/// Every file with unsafe code is a room and says so before the first of it.
pub fn rooms(path: &str, text: &str) -> Vec<Finding> {
    let lines = source::lines(text);
    let Some(first) = lines.iter().position(|l| find_word(&l.code, "unsafe").is_some()) else { return Vec::new() };
    let mut findings = Vec::new();
    if !is_room(path) {
        findings.push(Finding::new(path, first, "unsafe code outside the rooms for it (see xtask/src/lint/unsafety.rs)"));
    }
    // A test kit says it once, at its root: all of it is an experiment.
    let told_elsewhere = path.starts_with("tests/") && !path.ends_with("lib.rs");
    if !told_elsewhere && !lines.iter().take(first).any(|l| l.comment.starts_with("// UNSAFETY:")) {
        findings.push(Finding::new(path, first, "no `// UNSAFETY:` before the first unsafe code"));
    }
    findings
}

/// Each unsafe block or impl has `// SAFETY:` just above, each unsafe fn and trait a section `# Safety`. Not in the
/// guests: theirs is unsound on purpose, and what a check attempts is its reason.
pub fn reasons(path: &str, text: &str) -> Vec<Finding> {
    if path.starts_with("tests/guests/") {
        return Vec::new();
    }
    let lines = source::lines(text);
    let mut findings = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let Some(at) = find_word(&line.code, "unsafe") else { continue };
        let rest = line.code.get(at + "unsafe".len()..).unwrap_or("").trim_start();
        if rest.starts_with('(') || find_word(&line.code, "fn").is_some_and(|f| f < at) {
            // An attribute, or a type: no block.
            continue;
        }
        let said = above(&lines, i);
        let block = rest.is_empty() || rest.starts_with('{') || rest.starts_with("impl");
        if block && !said.contains("SAFETY:") {
            findings.push(Finding::new(path, i, "an unsafe block or impl without `// SAFETY:` just above"));
        }
        let declaration = rest.starts_with("trait") || is_function(&line.code, at, rest);
        // The functions of a trait that is implemented are documented at the trait.
        if declaration && !said.contains("# Safety") && !in_trait_impl(&lines, i) {
            findings.push(Finding::new(path, i, "an unsafe fn or trait without a section `# Safety`"));
        }
    }
    findings
}

/// A function's declaration, rather than a function pointer's type or a block of foreign ones.
fn is_function(code: &str, at: usize, rest: &str) -> bool {
    let before = code.get(..at).unwrap_or("").trim();
    let item = before.is_empty() || before.starts_with("pub") || before == "const";
    let named = find_word(rest, "fn").and_then(|f| rest.get(f + 2..)).is_some_and(|after| after.starts_with(' '));
    item && named
}

/// Whether line `i` is in an `impl … for …` block.
fn in_trait_impl(lines: &[Line], i: usize) -> bool {
    let indent = |l: &Line| l.code.len() - l.code.trim_start().len();
    let Some(own) = lines.get(i).map(indent) else { return false };
    let outer = lines.iter().take(i).rev().find(|l| l.is_code() && indent(l) < own);
    outer.is_some_and(|l| find_word(&l.code, "impl").is_some() && find_word(&l.code, "for").is_some())
}

/// The comments that belong to line `i`: on it, and above the statement or item that it is part of.
fn above(lines: &[Line], i: usize) -> String {
    let mut said = lines.get(i).map(|l| l.comment.clone()).unwrap_or_default();
    for (back, line) in lines.iter().take(i).rev().enumerate() {
        let code = line.code.trim();
        if code.is_empty() && line.comment.is_empty() {
            break;
        }
        if line.only_comment() {
            said.push('\n');
            said.push_str(&line.comment);
            continue;
        }
        if code.starts_with("#[") || code.ends_with(']') {
            // An attribute stands between an item and its comment.
            continue;
        }
        // Above its comment is another statement; without one, this may go on; but not for ever.
        let ends = [';', '{', '}', ','].iter().any(|&c| code.ends_with(c));
        if ends || back > 5 || said.contains('\n') {
            break;
        }
    }
    said
}

/// The window gives out no references and no pointers: they would be to memory that guests write.
pub fn window(path: &str, text: &str) -> Vec<Finding> {
    let lines = source::lines(text);
    let code: Vec<&str> = lines.iter().map(|l| l.code.as_str()).collect();
    let mut findings = Vec::new();
    for (i, line) in code.iter().enumerate() {
        if !line.trim_start().starts_with("pub") || find_word(line, "fn").is_none() {
            continue;
        }
        let whole: String = code.iter().skip(i).take(12).copied().collect::<Vec<_>>().join(" ");
        let signature = whole.split_once('{').map_or(whole.as_str(), |(s, _)| s);
        let result = signature.split_once("->").map_or("", |(_, r)| r);
        if ["&", "*const", "*mut", "NonNull", "Slice"].iter().any(|p| result.contains(p)) {
            findings.push(Finding::new(path, i, "returns a reference or pointer to a frame"));
        }
        if ["Fn(", "FnMut(", "FnOnce("].iter().any(|f| signature.contains(f)) {
            findings.push(Finding::new(path, i, "lends a frame to a closure"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "//! Says.\n// UNSAFETY: why.\nfn f() {\n    // SAFETY: it is.\n    let x = unsafe { g() };\n}\n";

    #[test]
    fn a_room_and_its_notice() {
        assert!(rooms("x-kernel/src/mm/window.rs", GOOD).is_empty());
        assert_eq!(rooms("x-kernel/src/pv/mmu.rs", GOOD).len(), 1);
        assert_eq!(rooms("x-kernel/src/arch/x86_64/cr.rs", &GOOD.replace("// UNSAFETY", "// unsafe")).len(), 1);
        assert_eq!(rooms("x-kernel/src/mm/window.rs", "fn f() { unsafe { g() } }\n// UNSAFETY: late\n").len(), 1);
        assert!(rooms("tests/ptk/src/trap.rs", "fn f() { unsafe { g() } }\n").is_empty());
        assert_eq!(rooms("tests/ptk/src/lib.rs", "fn f() { unsafe { g() } }\n").len(), 1);
        assert!(rooms("x-kernel/src/pv/mmu.rs", "#![forbid(unsafe_code)]\n// unsafe\n").is_empty());
    }

    #[test]
    fn each_block_has_its_reason() {
        assert!(reasons("a.rs", GOOD).is_empty());
        assert_eq!(reasons("a.rs", &GOOD.replace("SAFETY:", "safe:")).len(), 1);
        // One reason is for one block.
        let two = GOOD.replace("g() };\n", "g() };\n    let y = unsafe { g() };\n");
        assert_eq!(reasons("a.rs", &two).len(), 1);
        assert!(reasons("a.rs", "    // SAFETY: so.\n    let x =\n        unsafe { g() };\n").is_empty());
        assert_eq!(reasons("a.rs", "    // SAFETY: so.\n\n    unsafe { g() };\n").len(), 1);
        assert_eq!(reasons("a.rs", "unsafe impl Sync for X {}\n").len(), 1);
    }

    #[test]
    fn each_unsafe_function_says_what_it_needs() {
        assert_eq!(reasons("a.rs", "/// Does.\npub unsafe fn f() {\n}\n").len(), 1);
        assert!(reasons("a.rs", "/// Does.\n///\n/// # Safety\n/// Must.\n#[inline]\npub unsafe extern \"C\" fn f() {\n}\n").is_empty());
        assert!(reasons("a.rs", "impl A for B {\n    unsafe fn f() {\n    }\n}\n").is_empty());
        assert!(reasons("a.rs", "type F = unsafe extern \"C\" fn();\n#[unsafe(no_mangle)]\nfn f(g: unsafe fn()) {}\n").is_empty());
    }

    #[test]
    fn the_window_gives_nothing_out() {
        assert!(window("w.rs", "pub fn copy_in(&self, offset: usize, buf: &mut [u8]) {\n").is_empty());
        assert!(window("w.rs", "fn with<R>(&self, a: impl FnOnce(&A) -> R) -> R {\n").is_empty());
        assert_eq!(window("w.rs", "pub fn bytes(&self) -> &[u8] {\n").len(), 1);
        assert_eq!(window("w.rs", "pub fn bytes(\n    &self,\n) -> *mut u8 {\n").len(), 1);
        assert_eq!(window("w.rs", "pub fn with(&self, a: impl FnOnce(&A)) {\n").len(), 1);
    }
}
