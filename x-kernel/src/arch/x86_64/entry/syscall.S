# Entry by `syscall`. GS belongs to the guest, so each CPU has a stub of its own (see entry::lstar_stub) that
# finds the stack by absolute address. It arrives here with
#   rsp = top of the main stack, rax = the guest's rsp, [rsp] = the guest's rax, rcx = rip, r11 = rflags

.section .entry.text, "ax"

.balign 16
.global xk_lstar_common
.type xk_lstar_common, @function
xk_lstar_common:
    push {GUEST_SS}
    push rax
    push r11
    push {GUEST_CS}
    push rcx
    push 0
    mov dword ptr [rsp + 4], {VECTOR_SYSCALL}
    mov rax, [rsp + 48]
    SAVE_GPRS
    mov rdi, rsp
    sub rsp, 8
    call {syscall_from_guest}
    add rsp, 8
    jmp xk_exit_to_guest
.size xk_lstar_common, . - xk_lstar_common

.balign 16
.global xk_cstar_common
.type xk_cstar_common, @function
xk_cstar_common:
    push {GUEST_SS}
    push rax
    push r11
    push {GUEST_CS32}
    push rcx
    push 0
    mov dword ptr [rsp + 4], {VECTOR_SYSCALL32}
    mov rax, [rsp + 48]
    SAVE_GPRS
    mov rdi, rsp
    jmp trap_from_guest
.size xk_cstar_common, . - xk_cstar_common

# Room for each CPU's two stubs of 64 bytes; written through the direct map.
.balign 4096
.global xk_stub_area
xk_stub_area:
    .fill 8192, 1, 0xcc
