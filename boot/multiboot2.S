# From the boot loader to 64-bit Rust: the multiboot2 header and the boot CPU's way to long mode.
#
# A multiboot2 loader, under BIOS or UEFI, enters bsp_start in 32-bit protected mode with flat segments, paging
# off and interrupts off (Multiboot2 specification, 3.3): eax = magic, ebx = machine address of the boot
# information. Under UEFI it has left boot services, since no tag here asks it not to.
#
# The tables built here live until mm::init loads its own. They map, writable and executable, in 2 MiB pages:
#   slot 0     machine address = virtual address, the first 4 GiB: this code, until it has jumped
#   slot 257   the image, the first 1 GiB at {IMAGE_BASE}
#   slot 261   the direct map of the first 4 GiB: boot information, modules and mm::init's first tables

.set MB2_MAGIC, 0xe85250d6
.set MB2_LOADER_MAGIC, 0x36d76289

# No framebuffer tag: a text console that nobody reads is better than a mode set that some firmware dies of.
.section .multiboot2, "a"
.balign 8
mb2_header:
    .long MB2_MAGIC
    .long 0
    .long mb2_header_end - mb2_header
    .long 0x100000000 - (MB2_MAGIC + (mb2_header_end - mb2_header))
# information request: command line, modules, memory map
.balign 8
    .short 1, 0
    .long 20
    .long 1, 3, 6
# the same, not insisted on: boot loader name, ACPI RSDP old and new, EFI 64-bit system table
.balign 8
    .short 1, 1
    .long 24
    .long 2, 14, 15, 12
# entry address
.balign 8
    .short 3, 0
    .long 12
    .long bsp_start_phys
# modules on page boundaries
.balign 8
    .short 6, 0
    .long 8
.balign 8
    .short 0, 0
    .long 8
mb2_header_end:

# Physical addresses of what the 32-bit code names.
.set bsp_start_phys, bsp_start - {IMAGE_BASE}
.set bsp_long_phys, bsp_long - {IMAGE_BASE}
.set bsp_gdt_phys, bsp_gdt - {IMAGE_BASE}
.set bsp_gdt_pointer_phys, bsp_gdt_pointer - {IMAGE_BASE}
.set bsp_pml4_phys, bsp_pml4 - {IMAGE_BASE}
.set bsp_pdpt_phys, bsp_pdpt - {IMAGE_BASE}
.set bsp_pdpt_image_phys, bsp_pdpt_image - {IMAGE_BASE}
.set bsp_pds_phys, bsp_pds - {IMAGE_BASE}
.set bsp_scratch_top_phys, bsp_scratch_top - {IMAGE_BASE}

.section .boot.text, "ax"
.code32

# in: eax = loader's magic, ebx = boot information. Does not return.
.balign 16
.global bsp_start
.type bsp_start, @function
bsp_start:
    cli
    cld
    mov esp, offset bsp_scratch_top_phys
    mov ebp, eax
    cmp eax, MB2_LOADER_MAGIC
    jne bsp_no_loader

    # Long mode and NX, or not at all. cpuid clobbers ebx: keep the boot information in esi.
    mov esi, ebx
    mov eax, 0x80000000
    cpuid
    cmp eax, 0x80000001
    jb bsp_no_long_mode
    mov eax, 0x80000001
    cpuid
    bt edx, 29
    jnc bsp_no_long_mode
    bt edx, 20
    jnc bsp_no_long_mode

    # Four page directories: 2048 pages of 2 MiB; present, writable, accessed, dirty, large.
    mov edi, offset bsp_pds_phys
    mov eax, 0xe3
    xor edx, edx
1:  mov [edi], eax
    mov [edi + 4], edx
    add eax, 0x200000
    add edi, 8
    cmp edi, offset bsp_pds_phys + 4 * 4096
    jb 1b

    mov edi, offset bsp_pdpt_phys
    mov eax, offset bsp_pds_phys + 0x23
    mov ecx, 4
2:  mov [edi], eax
    mov [edi + 4], edx
    add eax, 4096
    add edi, 8
    dec ecx
    jnz 2b

    mov eax, offset bsp_pds_phys + 0x23
    mov edi, offset bsp_pdpt_image_phys
    mov [edi], eax
    mov [edi + 4], edx

    mov edi, offset bsp_pml4_phys
    mov eax, offset bsp_pdpt_phys + 0x23
    mov [edi], eax
    mov [edi + 4], edx
    mov [edi + 261 * 8], eax
    mov [edi + 261 * 8 + 4], edx
    mov eax, offset bsp_pdpt_image_phys + 0x23
    mov [edi + 257 * 8], eax
    mov [edi + 257 * 8 + 4], edx

    # CR4: PAE, PGE, OSFXSR, OSXMMEXCPT. What else the CPU has is cpu.rs's business.
    mov eax, 0x6a0
    mov cr4, eax
    mov cr3, edi
    # EFER: SCE, LME, NXE.
    mov ecx, 0xc0000080
    rdmsr
    or eax, 0x901
    wrmsr
    # CR0: PG, WP, NE, ET, MP, PE; EM and TS clear.
    mov eax, 0x80010033
    mov cr0, eax

    lgdt [bsp_gdt_pointer_phys]
    push 0x08
    mov eax, offset bsp_long_phys
    push eax
    retf

# Not loaded as multiboot2 says, or a CPU without long mode: say so on COM1 as it stands, and stop.
bsp_no_loader:
    mov esi, offset bsp_text_loader - {IMAGE_BASE}
    jmp bsp_say
bsp_no_long_mode:
    mov esi, offset bsp_text_cpu - {IMAGE_BASE}
bsp_say:
    mov edx, 0x3f8
3:  lodsb
    test al, al
    jz 4f
    out dx, al
    jmp 3b
4:  hlt
    jmp 4b
.size bsp_start, . - bsp_start

.code64
# in: esi = boot information; 64-bit mode, still at low addresses
.balign 16
bsp_long:
    movabs rax, offset bsp_high
    jmp rax

# in: esi = boot information; at the link address from here on
bsp_high:
    mov eax, 0x10
    mov ds, eax
    mov es, eax
    mov ss, eax
    xor eax, eax
    mov fs, eax
    mov gs, eax
    # The main stack of the boot CPU's block; its top is kept for the frames of guests.
    lea rsp, [rip + {BOOT_STACK} + {BOOT_STACK_OFFSET}]
    # A frame-pointer walk ends here.
    xor ebp, ebp
    mov edi, esi
    call {start}
    ud2

.section .rodata.boot, "a"
bsp_text_loader:
    .asciz "X-Kernel: not started by a multiboot2 boot loader\r\n"
bsp_text_cpu:
    .asciz "X-Kernel: this CPU has no long mode or no NX\r\n"
.balign 8
bsp_gdt:
    .quad 0
    .quad 0x00af9b000000ffff
    .quad 0x00cf93000000ffff
bsp_gdt_pointer:
    .short 23
    .long bsp_gdt_phys
    .long 0

.section .bss.page_aligned, "aw", @nobits
.balign 4096
bsp_pml4:
    .skip 4096
bsp_pdpt:
    .skip 4096
bsp_pdpt_image:
    .skip 4096
bsp_pds:
    .skip 4 * 4096
bsp_scratch:
    .skip 256
bsp_scratch_top:
    .balign 4096
.text
