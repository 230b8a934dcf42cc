//! ELF images and notes: a good one is read right, and each broken one is refused by its line.
#![expect(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests on inputs of their own making")]

mod common;

use common::*;

#[test]
fn reads_a_stock_kernel() {
    let file = elf();
    let k = parse(&file).unwrap();
    assert_eq!(k.entry, BASE + 0x10_0040, "the ENTRY note goes before the ELF entry");
    assert_eq!((k.virt_base, k.hypercall_page, k.init_p2m), (BASE, Some(0x10_1000), Some(INIT_P2M)));
    assert!(k.mod_start_pfn);
    assert_eq!(k.end, 0x20_5000);
    let places: Vec<_> = k.segments.iter().map(|s| (s.at, s.bytes.len(), s.memsz)).collect();
    assert_eq!(places, [(0x10_0000, 0x2000, 0x2000), (0x20_0000, 0x1000, 0x5000)]);
    assert_eq!(k.segments[0].bytes, &file[TEXT..TEXT + 0x2000]);
}

#[test]
fn paddr_offset_is_subtracted() {
    let notes = [
        notes(),
        note(4, &0x8_0000u32.to_le_bytes()),
        note(1, &(BASE + 0x8_0000).to_le_bytes()),
        note(2, &(BASE + 0x8_1000).to_le_bytes()),
    ];
    let file = elf_with_notes(&notes.concat());
    assert_eq!(parse(&file).unwrap().segments[0].at, 0x8_0000);
    let file = elf_with_notes(&[common::notes(), note(4, &0x18_0000u32.to_le_bytes())].concat());
    assert_eq!(refusal(&file), "a segment's physical address is 0x100000: it lies below PADDR_OFFSET");
}

#[test]
fn other_owners_notes_are_passed_over() {
    let mut other = note(1, &[0xff; 7]);
    put(&mut other, 12, b"GNU\0");
    let file = elf_with_notes(&[other, notes()].concat());
    assert!(parse(&file).is_ok());
}

/// [`elf`] after `change`, refused with `line`.
#[track_caller]
fn broken(line: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut file = elf();
    change(&mut file);
    assert_eq!(refusal(&file), line);
}

/// [`elf`] with one field of program header `n` changed.
#[track_caller]
fn broken_header(line: &str, n: usize, field: usize, value: u64) {
    broken(line, |f| put(f, PHDR + n * 56 + field, &value.to_le_bytes()));
}

const OFFSET: usize = 8;
const PADDR: usize = 24;
const FILESZ: usize = 32;
const MEMSZ: usize = 40;

#[test]
fn truncated() {
    broken("neither an ELF image nor a bzImage", |f| f.truncate(3));
    broken("the ELF header: 0x40 bytes at 0x0 pass the end at 0x3f", |f| f.truncate(63));
    broken("the program header table: 0xa8 bytes at 0x40 pass the end at 0xe7", |f| f.truncate(PHDR + 167));
    broken("a note segment: 0xf4 bytes at 0x3000 pass the end at 0x2fff", |f| f.truncate(0x2fff));
    // The notes are read first, so they stand before what is cut here.
    let notes = notes();
    let mut early = headers(notes.len());
    early[0] = header(1, 0x4000, 0x10_0000, 0x2000, 0x2000);
    let mut file = elf_of(&early, &notes);
    file.resize(0x5fff, 0);
    assert_eq!(refusal(&file), "a segment: 0x2000 bytes at 0x4000 pass the end at 0x5fff");
}

#[test]
fn wrong_kind_of_file() {
    broken("the ELF class is 0x1: only 64-bit kernels run here", |f| f[4] = 1);
    broken("the ELF data encoding is 0x2: only little-endian kernels run here", |f| f[5] = 2);
    broken("the ELF type is 0x1: it is not an executable", |f| f[16] = 1);
    broken("the ELF machine is 0xb7: only x86-64 kernels run here", |f| f[18] = 183);
    broken("neither an ELF image nor a bzImage", |f| f[0] = 0);
}

#[test]
fn program_headers() {
    broken("the number of program headers is 0xffff: it must be 1 to 64", |f| put(f, 56, &[0xff, 0xff]));
    broken("the number of program headers is 0x0: it must be 1 to 64", |f| put(f, 56, &[0, 0]));
    broken("the size of program headers is 0x20: it must be 56", |f| f[54] = 32);
    broken("the program header table: 0xa8 bytes at 0xffffffffffffffff pass the end at 0x30f4", |f| put(f, 32, &[0xff; 8]));
    let notes = notes();
    let mut many: Vec<_> = (0..17).map(|n| header(1, 0x1000, 0x10_0000 + n * 0x1000, 0x100, 0x1000)).collect();
    many.push(headers(notes.len())[2].clone());
    assert_eq!(refusal(&elf_of(&many, &notes)), "the number of segments is 0x11: at most 16 can be loaded");
    assert_eq!(refusal(&elf_of(&headers(notes.len())[2..], &notes)), "it has no segments to load");
}

#[test]
fn segments() {
    broken_header("a segment: 0x2000 bytes at 0xffffffffffffffff pass the end at 0x30f4", 0, OFFSET, u64::MAX);
    broken_header("a segment's size in the file is 0xffffffffffffffff: it is larger than its size in memory", 0, FILESZ, u64::MAX);
    broken_header("a segment's size in the file is 0x2000: it is larger than its size in memory", 0, MEMSZ, 0x1fff);
    broken_header("a segment's memory: 0xffffffffffffffff bytes at 0x200000 pass the end at 0x40000000", 1, MEMSZ, u64::MAX);
    broken_header("a segment's memory: 0x3fe00001 bytes at 0x200000 pass the end at 0x40000000", 1, MEMSZ, 0x3fe0_0001);
    broken_header("a segment's memory: 0x5000 bytes at 0xfffffffffffff000 pass the end at 0x40000000", 1, PADDR, 0xffff_ffff_ffff_f000);
    broken_header("the segments at 0x100000 and 0x101fff overlap", 1, PADDR, 0x10_1fff);
    broken_header("the segments at 0xfc000 and 0x100000 overlap", 1, PADDR, 0xf_c000);
}

#[test]
fn notes_that_lead_nowhere() {
    let with = |extra: Vec<u8>| refusal(&elf_with_notes(&[notes(), extra].concat()));
    assert_eq!(refusal(&elf_with_notes(&[])), "it has no Xen notes: it is not a PV kernel");
    broken("it has no Xen notes: it is not a PV kernel", |f| f[PHDR + 2 * 56] = 6);
    // Without a VIRT_BASE the memory is mapped at 0, far from where this entry point is.
    assert_eq!(refusal(&elf_with_notes(&note(8, b"generic\0"))), "the entry point is 0xffffffff80100000: it must lie in a loaded segment");
    assert_eq!(with(note(1, &0u64.to_le_bytes())), "the entry point is 0x0: it must lie in a loaded segment");
    assert_eq!(with(note(1, &(BASE + 0x15_0000).to_le_bytes())), "the entry point is 0xffffffff80150000: it must lie in a loaded segment");
    assert_eq!(with(note(1, b"abc")), "ENTRY is 0x3: its note's value must have 4 or 8 bytes");
    assert_eq!(with(note(2, &(BASE + 1).to_le_bytes())), "HYPERCALL_PAGE is 0xffffffff80000001: it must be a multiple of the page size");
    assert_eq!(
        with(note(2, &u64::MAX.wrapping_sub(4095).to_le_bytes())),
        "HYPERCALL_PAGE is 0xfffffffffffff000: it must lie in a loaded segment"
    );
    assert_eq!(with(note(3, &0x123u32.to_le_bytes())), "VIRT_BASE is 0x123: it must be a multiple of the page size");
    assert_eq!(
        with(note(3, &0xffff_ffff_ffff_f000u64.to_le_bytes())),
        "VIRT_BASE is 0xfffffffffffff000: it is too close to the end of the address space"
    );
    assert_eq!(
        with(note(3, &0xffff_8100_0000_0000u64.to_le_bytes())),
        "VIRT_BASE is 0xffff810000000000: these addresses are the hypervisor's"
    );
    assert_eq!(
        with(note(3, &0x7fff_ffff_f000u64.to_le_bytes())),
        "VIRT_BASE is 0x7ffffffff000: it reaches addresses that are not canonical"
    );
    assert_eq!(
        with(note(15, &0xffff_8000_0000_0000u64.to_le_bytes())),
        "INIT_P2M is 0xffff800000000000: these addresses are the hypervisor's"
    );
    assert_eq!(with(note(15, &1u64.to_le_bytes())), "INIT_P2M is 0x1: it must be a multiple of the page size");
    assert_eq!(with(note(8, b"minios\0")), "it has no loader that is known: the LOADER note must say generic");
    assert_eq!(with(note(9, b"no\0")), "it has no 64-bit tables: its PAE_MODE note does not say yes");
}

/// A small kernel need not name an address: its memory is mapped at 0, and it starts where the ELF header says.
#[test]
fn no_address_is_address_zero() {
    let mut file = elf_with_notes(&[note(8, b"generic\0"), note(2, &0x10_1000u64.to_le_bytes())].concat());
    put(&mut file, 24, &0x10_0040u64.to_le_bytes());
    let kernel = parse(&file).unwrap();
    assert_eq!((kernel.virt_base, kernel.entry, kernel.hypercall_page), (0, 0x10_0040, Some(0x10_1000)));
}

#[test]
fn required_features() {
    let with = |text: &[u8]| refusal(&elf_with_notes(&[notes(), note(10, text)].concat()));
    assert_eq!(with(b"!auto_translated_physmap\0"), "it requires the feature auto_translated_physmap, which is not provided");
    assert_eq!(
        with(b"pae_pgdir_above_4gb|!supervisor_mode_kernel"),
        "it requires the feature supervisor_mode_kernel, which is not provided"
    );
    assert_eq!(with(b"!tele\nport\0"), "it requires the feature tele?port, which is not provided");
    let long = [b"!".as_slice(), &[b'x'; 500]].concat();
    assert_eq!(with(&long).len(), 48 + "it requires the feature , which is not provided".len());
    let file = elf_with_notes(&[notes(), note(10, b"supervisor_mode_kernel|dom0\0")].concat());
    assert!(parse(&file).is_ok(), "what is only offered is not required");
}

#[test]
fn lengths_of_notes() {
    let with = |namesz: u32, descsz: u32| {
        let mut last = note(1, &0u64.to_le_bytes());
        put(&mut last, 0, &namesz.to_le_bytes());
        put(&mut last, 4, &descsz.to_le_bytes());
        refusal(&elf_with_notes(&[notes(), last].concat()))
    };
    assert_eq!(with(u32::MAX, 8), "a note's name: 0xffffffff bytes at 0xc pass the end at 0x18");
    assert_eq!(with(4, u32::MAX), "a note's value: 0xffffffff bytes at 0x10 pass the end at 0x18");
    assert_eq!(with(4, 9), "a note's value: 0x9 bytes at 0x10 pass the end at 0x18");
    let cut = [notes(), vec![4, 0, 0]].concat();
    assert_eq!(refusal(&elf_with_notes(&cut)), "a note header: 0x4 bytes at 0x0 pass the end at 0x3");
}
