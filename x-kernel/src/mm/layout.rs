//! Where things are in the address space (4-level paging). Everything else in it belongs to guests.
//!
//! | PML4 slot | what |
//! |---|---|
//! | 256 | machine-to-physical table, 8 bytes per frame; the only part that guests can read |
//! | 257 | the X-Kernel's image, at its physical address + [`IMAGE_BASE`] |
//! | 258 | the running domain's own area: GDT and LDT mappings of its vCPUs |
//! | 259 | frame table, 32 bytes per frame; in its upper half the writable alias of the machine-to-physical table |
//! | 260 | device registers and other small mappings |
//! | 261–271 | direct map of all RAM |

/// Bytes in a frame.
pub const FRAME_SIZE: u64 = 4096;
/// [`FRAME_SIZE`] as a shift.
pub const FRAME_SHIFT: u32 = 12;
/// Bytes in a 2 MiB page.
pub const SIZE_2M: u64 = 2 << 20;
/// Bytes in a 1 GiB page.
pub const SIZE_1G: u64 = 1 << 30;
/// Bytes that one PML4 slot spans.
pub const SLOT_SIZE: u64 = 1 << 39;

/// The first PML4 slot that is ours in every address space.
pub const FIRST_SLOT: usize = 256;
/// The last one.
pub const LAST_SLOT: usize = 271;
/// The slot of the per-domain area.
pub const PERDOMAIN_SLOT: usize = 258;

/// The first address that is ours.
pub const HYP_START: u64 = slot_base(FIRST_SLOT);
/// The first address above that belongs to guests again.
pub const HYP_END: u64 = slot_base(LAST_SLOT + 1);
/// The first address that is not canonical.
pub const LOW_END: u64 = 1 << 47;

/// The machine-to-physical table as guests see it.
pub const M2P_BASE: u64 = slot_base(256);
/// The image's link base: a symbol's physical address is its value minus this.
pub const IMAGE_BASE: u64 = slot_base(257);
/// The per-domain area.
pub const PERDOMAIN_BASE: u64 = slot_base(PERDOMAIN_SLOT);
/// The frame table.
pub const FRAME_TABLE_BASE: u64 = slot_base(259);
/// The machine-to-physical table as we write it.
pub const M2P_ALIAS_BASE: u64 = FRAME_TABLE_BASE + SLOT_SIZE / 2;
/// Mappings made at run time: device registers, firmware tables.
pub const FIXMAP_BASE: u64 = slot_base(260);
/// The direct map.
pub const DIRECT_MAP_BASE: u64 = slot_base(261);
/// Its end.
pub const DIRECT_MAP_END: u64 = HYP_END;
/// Machine addresses at or above this cannot be used as RAM.
pub const MAX_RAM: u64 = DIRECT_MAP_END - DIRECT_MAP_BASE;

/// Bytes of a vCPU's part of the per-domain area: GDT, then LDT.
pub const PERDOMAIN_VCPU_STRIDE: u64 = 128 * 1024;
/// Where the LDT begins in it.
pub const PERDOMAIN_LDT_OFFSET: u64 = 64 * 1024;

/// Offset of vCPU `vcpu`'s GDT in its domain's area.
pub const fn guest_gdt_offset(vcpu: u32) -> u64 {
    (vcpu as u64).wrapping_mul(PERDOMAIN_VCPU_STRIDE)
}

/// Offset of vCPU `vcpu`'s LDT in its domain's area.
pub const fn guest_ldt_offset(vcpu: u32) -> u64 {
    guest_gdt_offset(vcpu).wrapping_add(PERDOMAIN_LDT_OFFSET)
}

/// Offset of page `page` of vCPU `vcpu`'s GDT in its domain's area.
pub const fn guest_gdt_page(vcpu: u32, page: u64) -> u64 {
    guest_gdt_offset(vcpu).wrapping_add(page << FRAME_SHIFT)
}

/// Offset of page `page` of vCPU `vcpu`'s LDT in its domain's area.
pub const fn guest_ldt_page(vcpu: u32, page: u64) -> u64 {
    guest_ldt_offset(vcpu).wrapping_add(page << FRAME_SHIFT)
}

/// The address where vCPU `vcpu`'s GDT is mapped while its domain runs.
pub const fn guest_gdt(vcpu: u32) -> u64 {
    PERDOMAIN_BASE.wrapping_add(guest_gdt_offset(vcpu))
}

/// The address where vCPU `vcpu`'s LDT is mapped while its domain runs.
pub const fn guest_ldt(vcpu: u32) -> u64 {
    PERDOMAIN_BASE.wrapping_add(guest_ldt_offset(vcpu))
}

/// The selector, its privilege bits clear, of the descriptor at `va`; None outside the area of guests' tables.
pub const fn selector_of(va: u64) -> Option<u16> {
    /// The bit of a selector that chooses the LDT.
    const LOCAL: u64 = 4;
    if va < PERDOMAIN_BASE || va >= FRAME_TABLE_BASE {
        return None;
    }
    let within = va.wrapping_sub(PERDOMAIN_BASE) % PERDOMAIN_VCPU_STRIDE;
    let table = if within >= PERDOMAIN_LDT_OFFSET { LOCAL } else { 0 };
    Some(low16((within % PERDOMAIN_LDT_OFFSET) & 0xfff8 | table))
}

/// The low 16 bits of a number.
#[expect(clippy::cast_possible_truncation, reason = "that is what is asked for")]
const fn low16(value: u64) -> u16 {
    value as u16
}

/// A 64-bit number as an address or index of this machine.
#[expect(clippy::cast_possible_truncation, reason = "usize has 64 bits here")]
pub const fn to_usize(value: u64) -> usize {
    const { assert!(usize::BITS == u64::BITS) };
    value as usize
}

/// The address of PML4 slot `slot` of the upper half.
const fn slot_base(slot: usize) -> u64 {
    0xffff_0000_0000_0000 | (slot as u64) << 39
}

/// Whether `len` bytes from `va` are canonical and lie outside the X-Kernel's part: what a guest may mean when
/// it names its own memory.
pub const fn is_guest_range(va: u64, len: u64) -> bool {
    let Some(last) = va.checked_add(len.saturating_sub(1)) else { return false };
    last < LOW_END || va >= HYP_END
}

/// Whether `va` is canonical and outside the X-Kernel's part.
pub const fn is_guest_address(va: u64) -> bool {
    is_guest_range(va, 1)
}

/// Whether `va` is canonical.
pub const fn is_canonical(va: u64) -> bool {
    va < LOW_END || va >= HYP_START
}

const _: () = {
    assert!(M2P_BASE == 0xffff_8000_0000_0000);
    assert!(IMAGE_BASE == 0xffff_8080_0000_0000);
    assert!(PERDOMAIN_BASE == 0xffff_8100_0000_0000);
    assert!(FRAME_TABLE_BASE == 0xffff_8180_0000_0000);
    assert!(FIXMAP_BASE == 0xffff_8200_0000_0000);
    assert!(DIRECT_MAP_BASE == 0xffff_8280_0000_0000);
    assert!(HYP_END == 0xffff_8800_0000_0000);
    // 32 bytes per frame of the largest RAM stay below the alias of the machine-to-physical table.
    assert!(MAX_RAM / FRAME_SIZE * 32 <= SLOT_SIZE / 2);
};
