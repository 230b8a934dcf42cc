# Entries by exception and interrupt, and the one way out to a guest.
# Contract: the CPU has pushed ss, rsp, rflags, cs, rip and, on some vectors, an error code.

.macro TRAP_STUB vec
    .balign 16
trap_stub_\vec:
    .if (\vec == 8) || (\vec == 10) || (\vec == 11) || (\vec == 12) || (\vec == 13) || (\vec == 14) || (\vec == 17) || (\vec == 21) || (\vec == 29) || (\vec == 30)
    .else
    push 0
    .endif
    mov dword ptr [rsp + 4], \vec
    .if (\vec == 1) || (\vec == 2) || (\vec == 8) || (\vec == 18)
    jmp trap_ist_common
    .else
    jmp trap_common
    .endif
.endm

.macro SAVE_GPRS
    push rdi
    push rsi
    push rdx
    push rcx
    push rax
    push r8
    push r9
    push r10
    push r11
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    # Speculation must not carry guest values into the handlers.
    xor ebx, ebx
    xor ebp, ebp
    xor r8d, r8d
    xor r9d, r9d
    xor r10d, r10d
    xor r11d, r11d
    xor r12d, r12d
    xor r13d, r13d
    xor r14d, r14d
    xor r15d, r15d
.endm

.macro RESTORE_GPRS
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    pop r11
    pop r10
    pop r9
    pop r8
    pop rax
    pop rcx
    pop rdx
    pop rsi
    pop rdi
.endm

.section .entry.text, "ax"

.altmacro
.set i, 0
.rept 256
    TRAP_STUB %i
    .set i, i+1
.endr
.noaltmacro

# in: frame complete but for the registers; any stack that is not an interrupt stack
.balign 16
trap_common:
    cld
    SAVE_GPRS
    mov rdi, rsp
    test byte ptr [rsp + {REGS_CS}], 3
    jz trap_from_x_kernel
trap_from_guest:
    # rdi = rsp = GuestRegs at its fixed place; the stack is 8 off 16-byte alignment
    sub rsp, 8
    call {trap_from_guest}
    add rsp, 8
    # falls through

# in: rsp = GuestRegs of the current vCPU. Does not return here.
.balign 16
.global xk_exit_to_guest
.type xk_exit_to_guest, @function
xk_exit_to_guest:
    mov rdi, rsp
    sub rsp, 8
    call {exit_to_guest}
    add rsp, 8
    test al, al
    jnz xk_sysret_to_guest
    RESTORE_GPRS
    add rsp, 8
.global xk_iretq_to_guest
xk_iretq_to_guest:
    iretq
.size xk_exit_to_guest, . - xk_exit_to_guest

# The frame says what sysretq would load, and rip is canonical: rcx and r11 are given up to it.
.balign 16
xk_sysret_to_guest:
    RESTORE_GPRS
    mov rcx, [rsp + 8]
    mov r11, [rsp + 24]
    mov rsp, [rsp + 32]
.global xk_sysretq
xk_sysretq:
    sysretq

# A fault of the X-Kernel's own. out of the handler: rax = 0 to resume, or a GuestRegs to leave with.
.balign 16
trap_from_x_kernel:
    mov rbp, rsp
    and rsp, -16
    call {trap_from_x_kernel}
    mov rsp, rbp
    test rax, rax
    jnz trap_leave_with
    RESTORE_GPRS
    add rsp, 8
    iretq
trap_leave_with:
    mov rsp, rax
    jmp xk_exit_to_guest

# On an interrupt stack. From a guest: continue on the main stack, so that the interrupt stack is free again.
.balign 16
trap_ist_common:
    cld
    SAVE_GPRS
    mov rdi, rsp
    test byte ptr [rsp + {REGS_CS}], 3
    jz trap_from_x_kernel
    mov rsi, rsp
    mov rdi, rsp
    or rdi, 0xffff
    sub rdi, 15 + {REGS_SIZE}
    mov rdx, rdi
    mov ecx, {REGS_SIZE} / 8
    rep movsq
    mov rsp, rdx
    mov rdi, rdx
    jmp trap_from_guest

.section .rodata
.balign 8
.global xk_trap_stubs
xk_trap_stubs:
.altmacro
.set i, 0
.macro STUB_ADDR vec
    .quad trap_stub_\vec
.endm
.rept 256
    STUB_ADDR %i
    .set i, i+1
.endr
.noaltmacro
