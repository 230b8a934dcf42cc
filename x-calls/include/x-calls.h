/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * System calls of an X-Container by function call.
 *
 * In an X-Container the kernel is mapped into every process, and a system
 * call can be made by calling it: through a table at a fixed address, with a
 * slot for each number. The arguments are in the registers of the syscall
 * instruction (rdi, rsi, rdx, r10, r8, r9), the result comes back in rax, and
 * rcx and r11 are lost, as there. What is different:
 *
 *   - the call pushes its return address: nothing may be kept below the stack
 *     pointer (leaf functions do, in the "red zone");
 *   - the arithmetic flags are lost, and the direction flag is clear;
 *   - the number need not be in rax: the slot knows it. Slot 0 is for any
 *     number, in rax.
 *
 * The last slot is the jump entry's: it is jumped to, with any number in eax
 * and the return address in rcx. It touches no byte of the caller's stack and
 * returns by a jump to that address, with rcx as it was and rax the result;
 * r11 and the arithmetic flags are lost, and the direction flag is clear. It
 * does for every system call, fork, clone, rt_sigreturn and exit included.
 *
 * Everything else is the kernel's usual contract, signals, restarts, tracing
 * and seccomp included. The table is there if bit 31 of AT_HWCAP2 is set.
 */
#ifndef X_CALLS_H
#define X_CALLS_H

#include <sys/auxv.h>

/* Bit of AT_HWCAP2: the table is there. */
#define X_CALLS_HWCAP2 (1ul << 31)
/* Where it is. */
#define X_CALLS_TABLE 0xffffffffff600000ul
/* System call numbers have so many slots, behind the one for any number. */
#define X_CALLS_NUMBERS 510ul
/* The slot of system call nr, a constant from <sys/syscall.h>. */
#define X_CALLS_SLOT(nr) (X_CALLS_TABLE + 8 * ((nr) + 1))
/* The slot of the jump entry. */
#define X_CALLS_JUMP (X_CALLS_TABLE + 8 * 511)

/* Whether this process can use the table. Ask once. */
static inline int x_calls_available(void)
{
	return (getauxval(AT_HWCAP2) & X_CALLS_HWCAP2) != 0;
}

/*
 * System call nr, through the table: only if x_calls_available(). Returns
 * what the kernel returns: a negative errno if it failed.
 */
static inline long x_call(long nr, long a, long b, long c, long d, long e,
			  long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	/* The first slot is for any number: of those beyond it says -ENOSYS. */
	unsigned long slot = (unsigned long)nr < X_CALLS_NUMBERS ?
				     X_CALLS_SLOT(nr) : X_CALLS_TABLE;
	long result;

	/* The compiler may use the red zone of this function: step over it. */
	__asm__ volatile("lea -128(%%rsp), %%rsp\n\t"
			 "call *(%[slot])\n\t"
			 "lea 128(%%rsp), %%rsp"
			 : "=a"(result)
			 : "a"(nr), [slot] "b"(slot), "D"(a), "S"(b),
			   "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "cc", "memory");
	return result;
}

#endif
