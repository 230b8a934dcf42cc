//! How much there is of everything: lines, unsafe code, and the X-Kernel's image.

use std::path::Path;

use anyhow::Result;
use object::{Object, ObjectSection, SectionFlags, elf};

use super::File;
use super::source::{self, Line, find_word};
use super::unsafety::is_room;

/// Parts of the tree by their beginning; a file belongs to the first that fits.
const AREAS: &[(&str, &[&str])] = &[
    ("x-kernel: arch", &["x-kernel/src/arch/"]),
    ("x-kernel: mm", &["x-kernel/src/mm/"]),
    ("x-kernel: pv", &["x-kernel/src/pv/"]),
    ("x-kernel: domain, sched", &["x-kernel/src/domain/", "x-kernel/src/sched"]),
    ("x-kernel: the rest", &["x-kernel/src/", "x-kernel/build.rs", "boot/", "linker.ld"]),
    ("pv-core", &["x-kernel/pv-core/"]),
    ("xen-abi", &["x-kernel/xen-abi/"]),
    ("dom-image", &["x-kernel/dom-image/"]),
    ("abom: the tool", &["abom/cli/"]),
    ("abom", &["abom/"]),
    ("x-init", &["x-init/"]),
    ("x-image", &["x-image/"]),
    ("test guests", &["tests/"]),
    ("xtask", &["xtask/"]),
];

/// What is counted of a part.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Count {
    /// Lines of code that are not tests.
    code: usize,
    /// Lines of tests.
    tests: usize,
    /// Of the lines of code, those in unsafe blocks and functions.
    unsafe_lines: usize,
    /// Unsafe blocks.
    blocks: usize,
    /// Of the lines of code, those in files that may hold unsafe code and do.
    rooms: usize,
}

impl Count {
    fn add(&mut self, other: Self) {
        self.code += other.code;
        self.tests += other.tests;
        self.unsafe_lines += other.unsafe_lines;
        self.blocks += other.blocks;
        self.rooms += other.rooms;
    }
}

/// Counts one source.
pub fn count(path: &str, text: &str) -> Count {
    let name = Path::new(path).file_stem().and_then(|n| n.to_str()).unwrap_or("");
    if !path.ends_with(".rs") {
        let code = text.lines().filter(|l| !l.trim().is_empty() && !l.trim_start().starts_with(['#', '/', '*'])).count();
        return Count { code, ..Count::default() };
    }
    let lines = source::lines(text);
    let all = lines.iter().filter(|l| l.is_code()).count();
    if name.ends_with("tests") || path.contains("/tests/") {
        return Count { tests: all, ..Count::default() };
    }
    // A module of tests stands at a file's end.
    let test_module = lines.windows(2).position(|w| matches!(w, [a, b] if a.code == "#[cfg(test)]" && b.code.ends_with('{')));
    let own = lines.get(..test_module.unwrap_or(lines.len())).unwrap_or_default();
    let code = own.iter().filter(|l| l.is_code()).count();
    let (blocks, unsafe_lines) = unsafe_code(own);
    let rooms = if is_room(path) && own.iter().any(|l| find_word(&l.code, "unsafe").is_some()) { code } else { 0 };
    Count { code, tests: all - code, unsafe_lines, blocks, rooms }
}

/// Unsafe blocks, and the lines of code in them and in unsafe functions.
fn unsafe_code(lines: &[Line]) -> (usize, usize) {
    let (mut blocks, mut count) = (0, 0);
    // Depth of braces; at which depth the unsafe part ends; whether its opening brace is yet to come.
    let (mut depth, mut until, mut coming) = (0_usize, None, false);
    for line in lines {
        let mut within = until.is_some() || coming;
        let at = find_word(&line.code, "unsafe");
        for (i, c) in line.code.char_indices() {
            if at == Some(i) {
                let rest = line.code.get(i + "unsafe".len()..).unwrap_or("").trim_start();
                blocks += usize::from(rest.starts_with('{') || rest.is_empty());
                let opens = rest.is_empty()
                    || rest.starts_with('{')
                    || rest.starts_with("fn ")
                    || rest.starts_with("extern") && line.code.contains("fn ");
                if until.is_none() && opens && !line.code.trim_end().ends_with(';') || rest.starts_with('{') && until.is_none() {
                    coming = true;
                }
                within = true;
            }
            match c {
                '{' => {
                    if std::mem::take(&mut coming) {
                        until = Some(depth);
                    }
                    depth += 1;
                }
                '}' => {
                    depth = depth.saturating_sub(1);
                    until = until.filter(|&u| u < depth);
                }
                _ => {}
            }
        }
        count += usize::from(within && line.is_code());
    }
    (blocks, count)
}

/// Prints the table.
pub fn print(files: &[File]) -> Result<()> {
    let mut counts = vec![Count::default(); AREAS.len()];
    for file in files.iter().filter(|f| [".rs", ".S", ".ld"].iter().any(|end| f.path.ends_with(end))) {
        let area = AREAS.iter().position(|(_, starts)| starts.iter().any(|s| file.path.starts_with(s)));
        if let Some(sum) = area.and_then(|a| counts.get_mut(a)) {
            sum.add(count(&file.path, &file.text));
        }
    }
    let percent = |part: usize, whole: usize| part as f64 * 100.0 / whole.max(1) as f64;
    println!("{:<26}{:>8}{:>8}{:>10}{:>8}{:>8}{:>8}", "lines of", "code", "tests", "in rooms", "unsafe", "share", "blocks");
    let show = |name: &str, c: Count| {
        let share = format!("{:.1} %", percent(c.unsafe_lines, c.code));
        println!("{name:<26}{:>8}{:>8}{:>10}{:>8}{share:>8}{:>8}", c.code, c.tests, c.rooms, c.unsafe_lines, c.blocks);
    };
    let (mut kernel, mut all) = (Count::default(), Count::default());
    for (&(name, _), &count) in AREAS.iter().zip(&counts) {
        show(name, count);
        all.add(count);
        if !["xtask", "x-init", "test guests", "abom: the tool"].contains(&name) {
            kernel.add(count);
        }
    }
    show("X-Kernel with its crates", kernel);
    show("all", all);
    println!("In rooms: in files with unsafe code. Unsafe: in unsafe blocks and functions; share: of the lines of code.");
    Ok(())
}

/// Prints how large the X-Kernel is, if it has been built.
pub fn image(elf: &Path) -> Result<()> {
    if !elf.is_file() {
        println!("X-Kernel image: not built");
        return Ok(());
    }
    let data = std::fs::read(elf)?;
    let file = object::File::parse(&*data)?;
    let loaded =
        |s: &object::Section<'_, '_>| matches!(s.flags(), SectionFlags::Elf { sh_flags } if sh_flags & u64::from(elf::SHF_ALLOC) != 0);
    let kib = |bytes: u64| bytes.div_ceil(1024);
    let sections: Vec<_> = file.sections().filter(loaded).map(|s| format!("{} {}", s.name().unwrap_or("?"), kib(s.size()))).collect();
    println!("X-Kernel image, KiB: {}; the file with its symbols {}", sections.join(", "), kib(data.len() as u64));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted() {
        let text = "//! Says.\nfn f() {\n    // SAFETY: so.\n    let x = unsafe { g() };\n    unsafe {\n        h();\n    }\n}\n\n/// Doc.\nunsafe fn k() {\n    l();\n}\n#[cfg(test)]\nmod tests {\n    fn t() {}\n}\n";
        let count = count("x-kernel/src/arch/a.rs", text);
        assert_eq!(count, Count { code: 9, tests: 4, unsafe_lines: 7, blocks: 2, rooms: 9 });
        assert_eq!(super::count("a/tests/b.rs", "fn f() {}\n").tests, 1);
        assert_eq!(super::count("boot/a.S", "# comment\nmov rax, 1\n").code, 1);
    }

    #[test]
    fn every_source_has_an_area() {
        for path in ["x-kernel/src/main.rs", "x-kernel/xen-abi/src/lib.rs", "xtask/src/main.rs", "boot/multiboot2.S"] {
            assert!(AREAS.iter().any(|(_, starts)| starts.iter().any(|s| path.starts_with(s))), "{path}");
        }
    }
}
