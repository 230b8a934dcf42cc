//! What a PV guest finds at boot (xen.h): the start_info page, whose address is in rsi at its entry point.

/// The domain is privileged.
pub const SIF_PRIVILEGED: u32 = 1 << 0;
/// The domain is the initial one.
pub const SIF_INITDOMAIN: u32 = 1 << 1;
/// `mod_start` is a list of modules, [`XenMultibootModList`].
pub const SIF_MULTIBOOT_MOD: u32 = 1 << 2;
/// `mod_start` is a pfn, and the module is not in the initial mapping.
pub const SIF_MOD_START_PFN: u32 = 1 << 3;
/// The toolstack reads the virtually mapped p2m list.
pub const SIF_VIRT_P2M_4TOOLS: u32 = 1 << 4;
/// Power management options.
pub const SIF_PM_MASK: u32 = 0xff << 8;

/// Bytes of the command line, its terminating zero included.
pub const MAX_GUEST_CMDLINE: usize = 1024;

/// `Dom0VgaConsoleInfo::video_type`: text.
pub const XEN_VGATYPE_TEXT_MODE_3: u8 = 0x03;
/// `Dom0VgaConsoleInfo::video_type`: VESA linear frame buffer.
pub const XEN_VGATYPE_VESA_LFB: u8 = 0x23;
/// `Dom0VgaConsoleInfo::video_type`: EFI linear frame buffer.
pub const XEN_VGATYPE_EFI_LFB: u8 = 0x70;

abi_structs! {
    /// `struct start_info`.
    pub struct StartInfo: 1168 {
        /// `xen-<version>-<platform>`, zero-terminated; a guest checks that it begins with `xen-3`.
        pub magic: [u8; 32],
        /// Pages of the domain.
        pub nr_pages: u64,
        /// Machine address of the shared_info page.
        pub shared_info: u64,
        /// `SIF_*`.
        pub flags: u32,
        /// Padding.
        pub _pad0: u32,
        /// Frame of the store's ring.
        pub store_mfn: u64,
        /// Event channel of the store; 0 if there is none.
        pub store_evtchn: u32,
        /// Padding.
        pub _pad1: u32,
        /// Frame of the console ring; for the initial domain see [`StartInfo::console_dom0`].
        pub console_mfn: u64,
        /// Event channel of the console; 0 for the initial domain.
        pub console_evtchn: u32,
        /// Padding.
        pub _pad2: u32,
        /// Virtual address of the level-4 table.
        pub pt_base: u64,
        /// Frames of the initial page tables.
        pub nr_pt_frames: u64,
        /// Virtual address of the p2m list: one mfn per pfn.
        pub mfn_list: u64,
        /// Virtual address, or pfn under [`SIF_MOD_START_PFN`], of the module (initrd); 0 if there is none.
        pub mod_start: u64,
        /// Bytes of the module.
        pub mod_len: u64,
        /// Command line, zero-terminated.
        pub cmd_line: [u8; MAX_GUEST_CMDLINE],
        /// First pfn of the initial p2m list, if it lies outside the initial mapping.
        pub first_p2m_pfn: u64,
        /// Pages of the initial p2m list.
        pub nr_p2m_frames: u64,
    }

    /// One module of a list (`struct xen_multiboot_mod_list`); addresses count from the start of the list.
    pub struct XenMultibootModList: 16 {
        /// First byte; 0 ends the list.
        pub mod_start: u32,
        /// Last byte.
        pub mod_end: u32,
        /// Zero-terminated command line.
        pub cmdline: u32,
        /// Zero.
        pub pad: u32,
    }

    /// The initial domain's screen (`struct dom0_vga_console_info`): its linear frame buffer reading.
    pub struct Dom0VgaConsoleInfo: 40 {
        /// `XEN_VGATYPE_*`.
        pub video_type: u8,
        /// Padding.
        pub _pad0: [u8; 3],
        /// Pixels across.
        pub width: u16,
        /// Pixels down.
        pub height: u16,
        /// Bytes per line.
        pub bytes_per_line: u16,
        /// Bits per pixel.
        pub bits_per_pixel: u16,
        /// Physical address, low half.
        pub lfb_base: u32,
        /// Size in units of 64 KiB.
        pub lfb_size: u32,
        /// Lowest bit of red.
        pub red_pos: u8,
        /// Bits of red.
        pub red_size: u8,
        /// Lowest bit of green.
        pub green_pos: u8,
        /// Bits of green.
        pub green_size: u8,
        /// Lowest bit of blue.
        pub blue_pos: u8,
        /// Bits of blue.
        pub blue_size: u8,
        /// Lowest bit of the rest.
        pub rsvd_pos: u8,
        /// Bits of the rest.
        pub rsvd_size: u8,
        /// VESA capabilities.
        pub gbl_caps: u32,
        /// VESA mode attributes.
        pub mode_attrs: u16,
        /// Zero.
        pub pad: u16,
        /// Physical address, high half.
        pub ext_lfb_base: u32,
    }
}

impl StartInfo {
    /// The initial domain's reading of the console word: offset in start_info and size, in bytes, of its
    /// [`Dom0VgaConsoleInfo`]; (0, 0) if there is no screen.
    pub const fn console_dom0(&self) -> (u32, u32) {
        ((self.console_mfn & 0xffff_ffff) as u32, (self.console_mfn >> 32) as u32)
    }

    /// Sets what [`StartInfo::console_dom0`] reads.
    pub const fn set_console_dom0(&mut self, info_off: u32, info_size: u32) {
        self.console_mfn = info_off as u64 | (info_size as u64) << 32;
        self.console_evtchn = 0;
    }
}
