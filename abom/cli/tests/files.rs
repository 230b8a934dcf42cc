//! The tool on files: what it makes of them, what it takes back, and what it says of those that are broken.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

const TOOL: &str = env!("CARGO_BIN_EXE_abom");
/// A program of this build, with symbols: the tool itself.
const PROGRAM: &str = TOOL;
const LIBC: &str = "/lib/x86_64-linux-gnu/libc.so.6";

/// A folder that goes when the test ends.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder"))
    }

    fn file(&self, name: &str) -> String {
        self.0.path().join(name).to_str().expect("a plain name").to_string()
    }
}

fn abom(arguments: &[&str]) -> Output {
    Command::new(TOOL).args(arguments).output().expect("the tool runs")
}

/// The tool succeeds. Returns what it writes.
fn fine(arguments: &[&str]) -> String {
    let out = abom(arguments);
    assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("text")
}

/// The tool fails, with one line that says this.
fn fails(arguments: &[&str], why: &str) {
    let out = abom(arguments);
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{arguments:?}: {said}");
    assert!(said.contains(why) && said.lines().count() == 1 && said.starts_with("abom: "), "{arguments:?}: {said}");
}

#[test]
fn a_file_comes_back_byte_by_byte() {
    let folder = Folder::new();
    let (patched, original) = (folder.file("patched"), folder.file("original"));
    for file in [PROGRAM, LIBC].into_iter().filter(|f| Path::new(f).exists()) {
        fine(&["patch", file, "-o", &patched]);
        assert_ne!(fs::read(file).expect("read"), fs::read(&patched).expect("read"));
        assert!(fine(&["verify", &patched]).contains("all as they should be"));
        fine(&["unpatch", &patched, "-o", &original]);
        assert_eq!(fs::read(file).expect("read"), fs::read(&original).expect("read"), "{file}");
        assert_eq!(fs::metadata(file).expect("a mode").permissions(), fs::metadata(&original).expect("a mode").permissions());
        fails(&["patch", &patched, "-o", &original], "already patched");
        fails(&["scan", &patched], "already patched");
    }
}

#[test]
fn any_change_of_a_patched_file_is_found() {
    let folder = Folder::new();
    let (patched, changed) = (folder.file("patched"), folder.file("changed"));
    let file = if Path::new(LIBC).exists() { LIBC } else { PROGRAM };
    fine(&["patch", file, "-o", &patched]);
    let original_length = fs::metadata(file).expect("there").len();
    let bytes = fs::read(&patched).expect("read");
    let segment = usize::try_from(original_length).expect("small").next_multiple_of(4096);
    // Places all over the new segment: headers, stubs, record.
    for n in 0..60 {
        let at = segment + (bytes.len() - segment) / 60 * n;
        let mut copy = bytes.clone();
        copy[at] ^= 0x41;
        fs::write(&changed, copy).expect("written");
        assert!(!abom(&["verify", &changed]).status.success(), "a change at {at:#x} is not found");
    }
    // A changed site, and a file that has become longer.
    let site = bytes.windows(3).position(|w| w == [0xff, 0x14, 0x25]).expect("a call");
    let mut copy = bytes.clone();
    copy[site + 3] ^= 8;
    fs::write(&changed, copy).expect("written");
    fails(&["verify", &changed], "changed since it was patched");
    fs::write(&changed, [&bytes[..], &[0]].concat()).expect("written");
    fails(&["verify", &changed], "longer or shorter");
}

#[test]
fn what_is_no_program_is_said_in_a_line() {
    let folder = Folder::new();
    let (file, out) = (folder.file("file"), folder.file("out"));
    let program = fs::read(PROGRAM).expect("read");
    let with = |at: usize, byte: u8| {
        let mut copy = program.clone();
        copy[at] = byte;
        copy
    };
    for (bytes, why) in [
        (b"#!/bin/sh\n".to_vec(), "not an ELF file"),
        (Vec::new(), "not an ELF file"),
        (with(4, 1), "not a 64-bit ELF file"),
        (with(18, 183), "not for x86-64"),
        (with(16, 1), "link it first"),
        (program[..40].to_vec(), "the ELF header is broken"),
        (program[..4096].to_vec(), "broken"),
    ] {
        fs::write(&file, bytes).expect("written");
        fails(&["patch", &file, "-o", &out], why);
        assert!(!Path::new(&out).exists());
    }
    fails(&["scan", &folder.file("absent")], "cannot read");
    fails(&["patch", PROGRAM, "-o", &folder.file("absent/out")], "cannot write");
    fails(&["verify", PROGRAM], "not patched");
    fails(&["unpatch", PROGRAM, "-o", &out], "not patched");
}

#[test]
fn broken_files_do_no_harm() {
    let folder = Folder::new();
    let (file, out) = (folder.file("file"), folder.file("out"));
    let source = if Path::new(LIBC).exists() { LIBC } else { PROGRAM };
    fine(&["patch", source, "-o", &out]);
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    for name in [source, out.as_str()] {
        let whole = fs::read(name).expect("read");
        for n in 0..40_u64 {
            let mut bytes = whole.clone();
            for _ in 0..=n % 4 {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                // Headers, mostly.
                let most = if n % 2 == 0 { 1024 } else { bytes.len() as u64 };
                let at = usize::try_from(seed % most).expect("small");
                bytes[at] = u8::try_from(seed >> 32 & 0xff).expect("a byte");
            }
            fs::write(&file, bytes).expect("written");
            for arguments in [
                &["scan", &file][..],
                &["verify", &file],
                &["unpatch", &file, "-o", &folder.file("x")],
                &["patch", &file, "-o", &folder.file("y")],
            ] {
                let status = abom(arguments).status;
                assert!(matches!(status.code(), Some(0 | 1)), "{arguments:?} case {n}: {status}");
            }
        }
    }
}

#[test]
fn a_scan_counts_and_says_why() {
    if !Path::new(LIBC).exists() {
        return;
    }
    let json: serde_json::Value = serde_json::from_str(&fine(&["scan", "--json", LIBC])).expect("JSON");
    let number = |name: &str| json[name].as_u64().expect("a number");
    let (sites, eligible) = (number("sites"), number("eligible"));
    assert!(sites > 300 && json["list"].as_array().expect("a list").len() as u64 == sites);
    let refused: u64 = json["refusals"].as_object().expect("a map").values().filter_map(serde_json::Value::as_u64).sum();
    assert_eq!(eligible + refused, sites);
    // Of any build of glibc: nearly all.
    assert!(eligible * 100 >= sites * 98, "{}", fine(&["scan", "--list", LIBC]));
}

#[test]
fn manual_and_completions_are_written() {
    let folder = Folder::new();
    fine(&["man", "-o", folder.0.path().to_str().expect("a plain name")]);
    for page in ["abom.1", "abom-patch.1", "abom-scan.1", "abom-verify.1", "abom-unpatch.1"] {
        let text = fs::read_to_string(folder.file(page)).expect("a page");
        assert!(text.contains(".SH NAME"), "{page}");
    }
    assert!(fs::read_to_string(folder.file("abom.1")).expect("a page").contains("runs in an X\\-Container only"));
    assert!(fine(&["--help"]).contains("segmentation fault"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(fine(&["completions", shell]).contains("unpatch"), "{shell}");
    }
}
