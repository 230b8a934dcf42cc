/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * X-mode: into and out of the kernel without the hypervisor.
 *
 * Kernel and processes share a ring and a page table. Who runs is told by
 * the stack pointer alone: the instruction that loads it changes the mode.
 * So an event finds a process that is somewhere in here with its own stack
 * still, or again, to be just that, a process in user mode, and everything
 * else to be the kernel.
 *
 * Events are not masked on the way in or out of a system call. One that
 * arrives after the last look at the thread's flags could leave work undone;
 * these ranges are therefore marked, and xlibos_upcall undoes what has been
 * done of them:
 *
 *   xlibos_call_exit_start ..	registers are only loaded from the frame:
 *   xlibos_jump_exit_start ..	begin again
 *   xlibos_trap_exit_start ..
 *   xlibos_iret_start .. _end	nothing is left but the frame: be the event
 *				that interrupted what the frame describes
 *
 * With several processors the per-CPU data is found by GS, whose base is the
 * process's while it runs. It is kept in xlibos_process_gs, and exchanged
 * next to the instruction that loads the stack pointer; an event between the
 * two finds one of the ranges here, too. On the way in nothing but %rcx and
 * %r11 is changed before, and %rcx kept where it counts, so the whole way is
 * begun again, perhaps on another processor.
 */
#include <linux/linkage.h>
#include <asm/alternative.h>
#include <asm/asm.h>
#include <asm/asm-offsets.h>
#include <asm/errno.h>
#include <asm/page_types.h>
#include <asm/percpu.h>
#include <asm/processor-flags.h>
#include <asm/segment.h>
#include <asm/thread_info.h>
#include <asm/unistd.h>
#include <asm/unwind_hints.h>
#include <asm/xen/interface.h>
#include <asm/xen/xlibos.h>
#include <xen/interface/xen.h>

#include "calling.h"

#define EVENT_MASK	PER_CPU_VAR(xen_vcpu_info) + XEN_vcpu_info_mask
#define EVENT_PENDING	PER_CPU_VAR(xen_vcpu_info) + XEN_vcpu_info_pending

/* Flags that only iretq can set again. */
#define IRET_FLAGS	(X86_EFLAGS_TF | X86_EFLAGS_NT | X86_EFLAGS_RF)

#ifdef CONFIG_SMP
/* The address of the processor's data, by a segment whose limit is its number. */
.macro CPU_BASE to=%rcx to32=%ecx
	movl	$__CPUNODE_SEG, \to32
	lsl	\to32, \to32
	movq	__per_cpu_offset(, \to, 8), \to
.endm
#endif

/* The kernel's GS again, whichever it is now. Changes %rcx. */
.macro KERNEL_GS
#ifdef CONFIG_SMP
	CPU_BASE
	wrgsbase %rcx
#endif
.endm

/* The process's GS again, before its stack. Changes \scratch. */
.macro PROCESS_GS scratch:req
#ifdef CONFIG_SMP
	movq	PER_CPU_VAR(xlibos_process_gs), \scratch
	wrgsbase \scratch
#endif
.endm

/* Where the system calls are, by number: a slot holds the address to call. */
#define SLOT_OF(nr)	((nr) + 1)

/* The registers that C functions keep; the frame has a gap for them. */
.macro SAVE_KEPT_REGS
	movq	%rbx, RBX(%rsp)
	movq	%rbp, RBP(%rsp)
	movq	%r12, R12(%rsp)
	movq	%r13, R13(%rsp)
	movq	%r14, R14(%rsp)
	movq	%r15, R15(%rsp)
.endm

.macro LOAD_KEPT_REGS
	movq	RBX(%rsp), %rbx
	movq	RBP(%rsp), %rbp
	movq	R12(%rsp), %r12
	movq	R13(%rsp), %r13
	movq	R14(%rsp), %r14
	movq	R15(%rsp), %r15
.endm

/* The registers that a system call keeps for its caller, less those. */
.macro LOAD_ARGUMENT_REGS
	movq	R10(%rsp), %r10
	movq	R9(%rsp), %r9
	movq	R8(%rsp), %r8
	movq	RDX(%rsp), %rdx
	movq	RSI(%rsp), %rsi
	movq	RDI(%rsp), %rdi
.endm

/*
 * On the caller's stack: to the kernel's, with the part of the frame there
 * that a syscall instruction behind the call would have made. If
 * there is no return address to be read, the system call is none and returns
 * to address 0.
 */
.macro FRAME_OF_CALL have_address:req have_stack:req
#ifdef CONFIG_SMP
	CPU_BASE
	rdgsbase %r11
	movq	%r11, xlibos_process_gs(%rcx)
	movq	cpu_current_top_of_stack(%rcx), %r11
	xchgq	%rsp, %r11
\have_stack:
	wrgsbase %rcx
	movq	%r11, %rcx
#else
	movq	%rsp, %rcx
	movq	PER_CPU_VAR(cpu_current_top_of_stack), %rsp
#endif
	pushq	$__USER_DS		/* pt_regs->ss */
	leaq	8(%rcx), %r11
	pushq	%r11			/* pt_regs->sp: without the address */
	cld
	pushfq				/* pt_regs->flags */
	movq	(%rsp), %r11
.Lread_\@:
	movq	(%rcx), %rcx
	_ASM_EXTABLE(.Lread_\@, xlibos_no_return_address)
\have_address:
	pushq	$__USER_CS		/* pt_regs->cs */
	pushq	%rcx			/* pt_regs->ip */
	pushq	%rax			/* pt_regs->orig_ax */
.endm

/* The same with the return address in %rcx: the stack is not the caller's to write to. */
.macro FRAME_OF_JUMP keeps_address:req have_stack:req
#ifdef CONFIG_SMP
	CPU_BASE %r11, %r11d
\keeps_address:
	movq	%rcx, xlibos_jump_back(%r11)
	rdgsbase %rcx
	movq	%rcx, xlibos_process_gs(%r11)
	movq	cpu_current_top_of_stack(%r11), %rcx
	xchgq	%rsp, %rcx
\have_stack:
	wrgsbase %r11
	pushq	$__USER_DS		/* pt_regs->ss */
	pushq	%rcx			/* pt_regs->sp */
	movq	PER_CPU_VAR(xlibos_jump_back), %rcx
#else
	movq	%rsp, %r11
	movq	PER_CPU_VAR(cpu_current_top_of_stack), %rsp
	pushq	$__USER_DS		/* pt_regs->ss */
	pushq	%r11			/* pt_regs->sp */
#endif
	cld
	pushfq				/* pt_regs->flags */
	movq	(%rsp), %r11
	pushq	$__USER_CS		/* pt_regs->cs */
	pushq	%rcx			/* pt_regs->ip */
	pushq	%rax			/* pt_regs->orig_ax */
.endm

/*
 * From there on: the system call of number %rax, with a frame that lacks the
 * registers that C functions keep anyway. They are saved when someone may look
 * at them. Back with the caller's stack, and the return address in %rcx.
 */
.macro QUICK_SYSCALL way:req
	pushq	%rdi
	pushq	%rsi
	pushq	%rdx
	pushq	%rcx
	pushq	$-ENOSYS		/* pt_regs->ax */
	pushq	%r8
	pushq	%r9
	pushq	%r10
	pushq	%r11
	subq	$6*8, %rsp
	UNWIND_HINT_REGS
	movq	PER_CPU_VAR(current_task), %r11
	cmpq	$0, TASK_TI_syscall_work(%r11)
	jne	xlibos_enter_with_work
	incq	PER_CPU_VAR(xlibos_wish + 8)
	movq	%rsp, %rdi
	call	*sys_call_table(, %rax, 8)

SYM_INNER_LABEL(xlibos_\way\()_exit_start, SYM_L_GLOBAL)
	movq	PER_CPU_VAR(current_task), %r11
	testl	$XLIBOS_EXIT_WORK, TASK_TI_flags(%r11)
	jnz	xlibos_exit_with_work
	LOAD_ARGUMENT_REGS
	PROCESS_GS %rcx
	movq	RIP(%rsp), %rcx
	movq	RSP(%rsp), %rsp
SYM_INNER_LABEL(xlibos_\way\()_exit_end, SYM_L_GLOBAL)
	UNWIND_HINT_EMPTY
.endm

.section .entry.text, "ax"

/*
 * A system call by function call: the table's slot leads to the number's
 * stub, and that comes here. The return address is on the caller's stack,
 * %eax has the number, the arguments are where the syscall instruction wants
 * them. %rcx, %r11 and the arithmetic flags are ours, as is the stack below
 * the return address; no other register changes.
 */
SYM_CODE_START_LOCAL(xlibos_call)
	UNWIND_HINT_EMPTY
	FRAME_OF_CALL .Lhave_return_address xlibos_call_has_stack
	QUICK_SYSCALL call
	/*
	 * The caller's stack again, so the caller, for all that happens here.
	 * The address is pushed anew: nothing says that it is still there, and
	 * a return is what the processor expects after a call.
	 */
	pushq	%rcx
	RET
SYM_CODE_END(xlibos_call)

/* By a jump, with the return address in %rcx. */
SYM_CODE_START_LOCAL(xlibos_jump)
	UNWIND_HINT_EMPTY
	FRAME_OF_JUMP xlibos_jump_keeps_address xlibos_jump_has_stack
	QUICK_SYSCALL jump
	jmp	*%rcx
SYM_CODE_END(xlibos_jump)

/* The same for calls that read or write all registers of their caller. */
SYM_CODE_START_LOCAL(xlibos_call_all)
	UNWIND_HINT_EMPTY
	FRAME_OF_CALL .Lall_have_return_address xlibos_call_all_has_stack
	jmp	xlibos_enter_with_all
SYM_INNER_LABEL(xlibos_no_return_address, SYM_L_LOCAL)
	xorl	%ecx, %ecx
	movq	$-1, %rax
	jmp	.Lall_have_return_address
SYM_CODE_END(xlibos_call_all)

SYM_CODE_START_LOCAL(xlibos_jump_all)
	UNWIND_HINT_EMPTY
	FRAME_OF_JUMP xlibos_jump_all_keeps_address xlibos_jump_all_has_stack
SYM_INNER_LABEL(xlibos_enter_with_all, SYM_L_LOCAL)
	PUSH_AND_CLEAR_REGS rax=$-ENOSYS
	jmp	xlibos_do_syscall
SYM_CODE_END(xlibos_jump_all)

/* Someone traces, filters or counts this thread's system calls. */
SYM_CODE_START_LOCAL(xlibos_enter_with_work)
	UNWIND_HINT_REGS
	SAVE_KEPT_REGS
xlibos_do_syscall:
	incq	PER_CPU_VAR(xlibos_wish + 8)
	movq	%rsp, %rdi
	movslq	%eax, %rsi
	call	do_syscall_64		/* returns with events masked */
	jmp	xlibos_return_from_trap
SYM_CODE_END(xlibos_enter_with_work)

/* The thread's flags want something before it goes on. %rax: the result. */
SYM_CODE_START_LOCAL(xlibos_exit_with_work)
	UNWIND_HINT_REGS
	SAVE_KEPT_REGS
	jmp	xlibos_trap_exit_work
SYM_CODE_END(xlibos_exit_with_work)

/*
 * From a system call with a whole frame: one that the hypervisor has bounced,
 * or one that was called and took its time. Events are masked. The flags come
 * back and nothing is written to the caller's stack: as far as it knows, it
 * has executed one instruction. If the frame is no longer that of a caller who
 * expects other registers to be lost, iret is the way out.
 */
SYM_CODE_START(xlibos_return_from_trap)
	UNWIND_HINT_REGS
	movq	RIP(%rsp), %rcx
	cmpq	%rcx, RCX(%rsp)
	jne	swapgs_restore_regs_and_return_to_usermode
	movq	EFLAGS(%rsp), %r11
	cmpq	%r11, R11(%rsp)
	jne	swapgs_restore_regs_and_return_to_usermode
	testl	$IRET_FLAGS, %r11d
	jnz	swapgs_restore_regs_and_return_to_usermode
	LOAD_KEPT_REGS
	movb	$0, EVENT_MASK
	testb	$0xff, EVENT_PENDING
	jz	1f
	call	xlibos_run_events
1:
	movq	RAX(%rsp), %rax
SYM_INNER_LABEL(xlibos_trap_exit_start, SYM_L_GLOBAL)
	movq	PER_CPU_VAR(current_task), %r11
	testl	$XLIBOS_EXIT_WORK, TASK_TI_flags(%r11)
	jnz	xlibos_trap_exit_work
	LOAD_ARGUMENT_REGS
	PROCESS_GS %rcx
	movq	RIP(%rsp), %rcx
	movq	EFLAGS(%rsp), %r11
	pushq	%r11
	popfq
	movq	RSP(%rsp), %rsp
SYM_INNER_LABEL(xlibos_trap_exit_end, SYM_L_GLOBAL)
	UNWIND_HINT_EMPTY
	jmp	*%rcx
SYM_INNER_LABEL(xlibos_trap_exit_work, SYM_L_LOCAL)
	UNWIND_HINT_REGS
	movq	%rax, RAX(%rsp)
	movb	$1, EVENT_MASK
	movq	%rsp, %rdi
	call	irqentry_exit_to_user_mode
	jmp	xlibos_return_from_trap
SYM_CODE_END(xlibos_return_from_trap)

/*
 * The end of an exception or interrupt, instead of the iret hypercall. The
 * frame is on the stack, all other registers are the interrupted ones, events
 * are masked.
 */
SYM_CODE_START(xlibos_iret)
	UNWIND_HINT_IRET_REGS
	orb	$3, 1*8(%rsp)		/* the kernel's ring, too */
#ifdef CONFIG_SMP
	btq	$63, 3*8(%rsp)
	jnc	xlibos_iret_to_process
#endif
	testb	$(X86_EFLAGS_IF >> 8), 2*8+1(%rsp)
	jz	xlibos_iretq
	movb	$0, EVENT_MASK
SYM_INNER_LABEL(xlibos_iret_start, SYM_L_GLOBAL)
	testb	$0xff, EVENT_PENDING
	jnz	xlibos_iret_pending
SYM_INNER_LABEL(xlibos_iretq, SYM_L_GLOBAL)
	iretq
SYM_INNER_LABEL(xlibos_iret_end, SYM_L_GLOBAL)

#ifdef CONFIG_SMP
SYM_INNER_LABEL(xlibos_iret_to_process, SYM_L_LOCAL)
	pushq	%rcx
	movq	PER_CPU_VAR(xlibos_process_gs), %rcx
	movb	$0, EVENT_MASK
SYM_INNER_LABEL(xlibos_iret_process_start, SYM_L_GLOBAL)
	testb	$0xff, EVENT_PENDING
	jnz	xlibos_iret_process_pending
	wrgsbase %rcx
SYM_INNER_LABEL(xlibos_iret_has_gs, SYM_L_LOCAL)
	popq	%rcx
SYM_INNER_LABEL(xlibos_iretq_process, SYM_L_GLOBAL)
	iretq
SYM_INNER_LABEL(xlibos_iret_process_end, SYM_L_GLOBAL)
	_ASM_EXTABLE(xlibos_iretq_process, xlibos_iretq_failed)
#endif

SYM_INNER_LABEL(xlibos_iretq_failed, SYM_L_LOCAL)
	movb	$1, EVENT_MASK
	/*
	 * A process can make the instruction fail: by its own NT flag, which
	 * a call keeps, or by a frame that it made. Try without the first.
	 */
	pushfq
	btrl	$X86_EFLAGS_NT_BIT, (%rsp)
	jc	3f
	popfq
#ifdef CONFIG_SMP
	/* As if the process had caused it where it is. */
	pushq	%rcx
	PROCESS_GS %rcx
	popq	%rcx
#endif
	pushq	$0			/* error code */
	jmp	asm_exc_general_protection
3:	popfq
	jmp	xlibos_iret
SYM_CODE_END(xlibos_iret)
	_ASM_EXTABLE(xlibos_iretq, xlibos_iretq_failed)

SYM_CODE_START_LOCAL(xlibos_iret_pending)
	UNWIND_HINT_IRET_REGS
	movb	$1, EVENT_MASK
SYM_INNER_LABEL(xlibos_event_on_frame, SYM_L_LOCAL)
	/* The ring of the frame is ours for both: the stack tells. */
	btq	$63, 3*8(%rsp)
	jnc	asm_exc_xen_hypervisor_callback
	andb	$~3, 1*8(%rsp)
	jmp	asm_exc_xen_hypervisor_callback
SYM_CODE_END(xlibos_iret_pending)

#ifdef CONFIG_SMP
/* The same for a process, with %rcx on the stack, and GS not its own yet. */
SYM_CODE_START_LOCAL(xlibos_iret_process_pending)
	UNWIND_HINT_IRET_REGS offset=8
	movb	$1, EVENT_MASK
SYM_INNER_LABEL(xlibos_event_without_gs, SYM_L_LOCAL)
	PROCESS_GS %rcx
SYM_INNER_LABEL(xlibos_event_with_gs, SYM_L_LOCAL)
	popq	%rcx
	jmp	asm_exc_xen_hypervisor_callback
SYM_CODE_END(xlibos_iret_process_pending)
#endif

/* An event, from the hypervisor: the frame is on the stack, events masked. */
SYM_CODE_START(xlibos_upcall)
	UNWIND_HINT_IRET_REGS
	testb	$3, 1*8(%rsp)
	jnz	asm_exc_xen_hypervisor_callback

	cmpq	$xlibos_iret_start, (%rsp)
	jb	1f
	cmpq	$xlibos_iret_end, (%rsp)
	jae	1f
	movq	3*8(%rsp), %rsp
	jmp	xlibos_event_on_frame
1:
#ifdef CONFIG_SMP
	cmpq	$xlibos_iret_process_start, (%rsp)
	jb	2f
	cmpq	$xlibos_iretq_process, (%rsp)
	ja	2f
	je	3f
	cmpq	$xlibos_iret_has_gs, (%rsp)
	movq	3*8(%rsp), %rsp
	UNWIND_HINT_IRET_REGS offset=8
	jne	xlibos_event_without_gs
	jmp	xlibos_event_with_gs
3:
	UNWIND_HINT_IRET_REGS
	movq	3*8(%rsp), %rsp
	jmp	asm_exc_xen_hypervisor_callback
2:
	/* With the stack in %rsp, but not its GS: a process still, see xlibos_enter. */
.irp	way, call, call_all, jump, jump_all
	cmpq	$xlibos_\way\()_has_stack, (%rsp)
	je	xlibos_event_on_way_\way
.endr
#endif
.irp	way, call, jump
	cmpq	$xlibos_\way\()_exit_start, (%rsp)
	jb	4f
	cmpq	$xlibos_\way\()_exit_end, (%rsp)
	jae	4f
	movq	$xlibos_\way\()_exit_start, (%rsp)
	KERNEL_GS			/* %rcx is loaded again */
4:
.endr
	cmpq	$xlibos_trap_exit_start, (%rsp)
	jb	5f
	cmpq	$xlibos_trap_exit_end, (%rsp)
	jae	5f
	movq	$xlibos_trap_exit_start, (%rsp)
	KERNEL_GS
	/* The flags may have been on the stack. */
	movq	PER_CPU_VAR(cpu_current_top_of_stack), %rcx
	subq	$(SS + 8), %rcx
	movq	%rcx, 3*8(%rsp)
5:
	jmp	asm_exc_xen_hypervisor_callback
#ifdef CONFIG_SMP
SYM_INNER_LABEL(xlibos_event_on_way_call, SYM_L_LOCAL)
SYM_INNER_LABEL(xlibos_event_on_way_call_all, SYM_L_LOCAL)
	movq	%r11, 3*8(%rsp)
	jmp	6f
SYM_INNER_LABEL(xlibos_event_on_way_jump, SYM_L_LOCAL)
SYM_INNER_LABEL(xlibos_event_on_way_jump_all, SYM_L_LOCAL)
	movq	%rcx, 3*8(%rsp)
6:
	orb	$3, 1*8(%rsp)
	jmp	asm_exc_xen_hypervisor_callback
#endif
SYM_CODE_END(xlibos_upcall)

#ifdef CONFIG_SMP
/*
 * Called at the start of each exception and event, with all registers in the
 * frame above the return address: from the process's GS to the kernel's. A process that was on
 * its way into a system call is back at its start afterwards.
 */
SYM_CODE_START(xlibos_enter)
	UNWIND_HINT_REGS offset=8
	testb	$3, CS+8(%rsp)
	jz	1f
	CPU_BASE
	rdgsbase %rdx
	movq	%rdx, xlibos_process_gs(%rcx)
.irp	way, jump, jump_all
	cmpq	$xlibos_\way\()_keeps_address, RIP+8(%rsp)
	jbe	2f
	cmpq	$xlibos_\way\()_has_stack, RIP+8(%rsp)
	ja	2f
	movq	xlibos_jump_back(%rcx), %rdx
	movq	%rdx, RCX+8(%rsp)
2:
.endr
.irp	way, call, call_all, jump, jump_all
	cmpq	$xlibos_\way, RIP+8(%rsp)
	jb	2f
	cmpq	$xlibos_\way\()_has_stack, RIP+8(%rsp)
	ja	2f
	movq	$xlibos_\way, RIP+8(%rsp)
2:
.endr
	wrgsbase %rcx
	RET
1:
	/* The kernel has its own GS already, but where iretq failed. */
	cmpq	$xlibos_iretq_process, RIP+8(%rsp)
	jne	3f
	KERNEL_GS
3:
	RET
SYM_CODE_END(xlibos_enter)

/* The same for a system call that was bounced, which keeps %rcx and %r11. */
SYM_CODE_START(xlibos_enter_syscall)
	UNWIND_HINT_FUNC
	CPU_BASE
	rdgsbase %r11
	movq	%r11, xlibos_process_gs(%rcx)
	wrgsbase %rcx
	RET
SYM_CODE_END(xlibos_enter_syscall)
#endif

/*
 * Events were unmasked and some are pending: an upcall to oneself, as the
 * hypervisor would make it. Changes no register.
 */
SYM_CODE_START(xlibos_run_events)
	UNWIND_HINT_FUNC
	movb	$1, EVENT_MASK
	pushq	$FLAT_RING3_SS64
	pushq	%rsp
	addq	$8, (%rsp)		/* the stack as it was at the start */
	pushfq
	orq	$X86_EFLAGS_IF, (%rsp)
	pushq	$(FLAT_RING3_CS64 & ~3)
	pushq	$1f
	jmp	asm_exc_xen_hypervisor_callback
1:	RET
SYM_CODE_END(xlibos_run_events)

/* Calls that need all registers, set them, or end where they are looked at. */
.macro SET_ALL sym
	.set	all, 0
	.irp	name, sys_rt_sigreturn, sys_clone, sys_fork, sys_vfork, \
		sys_execve, sys_execveat, sys_clone3, sys_exit, \
		sys_exit_group, none
	.ifc	\sym, \name
	.set	all, 1
	.endif
	.endr
.endm

.macro stub nr sym
	.balign 8
1:	movl	$\nr, %eax
	SET_ALL	\sym
	.if	all
	jmp	xlibos_call_all
	.else
	jmp	xlibos_call
	.endif
	.pushsection .rodata, "a"
	.quad	1b
	.popsection
.endm

.macro jump_of sym
	SET_ALL	\sym
	.if	all
	.quad	xlibos_jump_all
	.else
	.quad	xlibos_jump
	.endif
.endm

	.pushsection .rodata, "a"
SYM_DATA_START_LOCAL(xlibos_jumps)
#define __SYSCALL(nr, sym) jump_of sym
#include <asm/syscalls_64.h>
#undef __SYSCALL
SYM_DATA_END(xlibos_jumps)

	.balign	PAGE_SIZE
SYM_DATA_START(xlibos_table)
	.quad	xlibos_stub_any
	.popsection

/*
 * The stubs: the only places where a process that steps through its code can
 * be found in here, for it has not loaded the kernel's stack yet.
 */
SYM_CODE_START(xlibos_stubs)
/* Any number, in %eax. */
SYM_INNER_LABEL(xlibos_stub_any, SYM_L_LOCAL)
	UNWIND_HINT_EMPTY
	cmpl	$NR_syscalls, %eax
	jae	xlibos_call_all
	movl	%eax, %eax
	jmp	*xlibos_table + 8 * SLOT_OF(0)(, %rax, 8)

/*
 * Jumped to, with any number. The first instruction is for who steps here at
 * the return from a signal: see xlibos_stepped_into_call.
 */
SYM_INNER_LABEL(xlibos_stub_jump, SYM_L_LOCAL)
	UNWIND_HINT_EMPTY
	nop
	cmpl	$NR_syscalls, %eax
	jae	xlibos_jump_all
	movl	%eax, %eax
	jmp	*xlibos_jumps(, %rax, 8)

#define __SYSCALL(nr, sym) stub nr sym
#include <asm/syscalls_64.h>
#undef __SYSCALL
/* Numbers that the kernel does not know. */
	.set	unknown, NR_syscalls
	.rept	XLIBOS_NUMBERS - NR_syscalls
	stub	unknown none
	.set	unknown, unknown + 1
	.endr
SYM_INNER_LABEL(xlibos_stubs_end, SYM_L_GLOBAL)
SYM_CODE_END(xlibos_stubs)

	.pushsection .rodata, "a"
	.quad	xlibos_stub_jump
SYM_DATA_END(xlibos_table)
	.popsection
