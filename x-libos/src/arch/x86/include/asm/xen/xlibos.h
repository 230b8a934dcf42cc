/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * X-mode: a PV guest that shares one page table and one ring with its
 * processes. The contract with the hypervisor is docs/ABI.md, "X-mode",
 * of the X-Kernel.
 */
#ifndef _ASM_X86_XEN_XLIBOS_H
#define _ASM_X86_XEN_XLIBOS_H

/* What a thread does before it goes back from a system call to its process. */
#define XLIBOS_EXIT_WORK						\
	(_TIF_SIGPENDING | _TIF_NOTIFY_RESUME | _TIF_UPROBE |		\
	 _TIF_NEED_RESCHED | _TIF_PATCH_PENDING | _TIF_NOTIFY_SIGNAL |	\
	 _TIF_USER_RETURN_NOTIFY | _TIF_IO_BITMAP | _TIF_NEED_FPU_LOAD)

/* System call numbers that have a slot of the table; another one is for any. */
#define XLIBOS_NUMBERS	510
/* The slot that is jumped to, with the return address in %rcx: the last one. */
#define XLIBOS_JUMP	511
/* Where the number is in the stub of a system call: behind mov's opcode. */
#define XLIBOS_STUB_NR	1

#ifndef __ASSEMBLY__

#include <linux/types.h>

#include <asm/cpufeature.h>
#include <asm/fsgsbase.h>
#include <asm/percpu.h>

struct page;
struct pt_regs;
struct vm_area_struct;

#ifdef CONFIG_XLIBOS

static __always_inline bool xlibos(void)
{
	return cpu_feature_enabled(X86_FEATURE_XLIBOS);
}

/* X-mode with one processor: page tables and GS are only its own. */
static __always_inline bool xlibos_up(void)
{
	return !IS_ENABLED(CONFIG_SMP) && xlibos();
}

/*
 * The process's GS base while the kernel runs: with one processor the kernel
 * needs none of its own.
 */
DECLARE_PER_CPU(unsigned long, xlibos_process_gs);

static __always_inline unsigned long xlibos_rdgsbase(void)
{
	return IS_ENABLED(CONFIG_SMP) ? raw_cpu_read(xlibos_process_gs) :
					rdgsbase();
}

static __always_inline void xlibos_wrgsbase(unsigned long base)
{
	if (IS_ENABLED(CONFIG_SMP))
		raw_cpu_write(xlibos_process_gs, base);
	else
		wrgsbase(base);
}

void xlibos_init(const char *cmdline);
void xlibos_init_cpu(void);
void xlibos_keep_sites(void);
void xlibos_init_capabilities(void);
void xlibos_map_table(void);
void xlibos_rewind_syscall(struct pt_regs *regs);
bool xlibos_stepped_into_call(struct pt_regs *regs);

DECLARE_PER_CPU(unsigned long [2], xlibos_wish);
void xlibos_grant_wish(void);

/* Whether the hypervisor wants the site of the system call that begins. */
static __always_inline bool xlibos_is_site_wanted(void)
{
	return xlibos() && unlikely(this_cpu_read(xlibos_wish[0]));
}

struct page *__xlibos_page_to_map(struct vm_area_struct *vma,
				  struct page *page);
struct page *__xlibos_original(struct page *page);

#else /* !CONFIG_XLIBOS */


static __always_inline bool xlibos(void)
{
	return false;
}

static __always_inline bool xlibos_up(void)
{
	return false;
}

static __always_inline unsigned long xlibos_rdgsbase(void)
{
	return 0;
}

static __always_inline void xlibos_wrgsbase(unsigned long base) { }
static inline void xlibos_init(const char *cmdline) { }
static inline void xlibos_init_cpu(void) { }
static inline void xlibos_init_capabilities(void) { }
static inline void xlibos_map_table(void) { }
static inline void xlibos_rewind_syscall(struct pt_regs *regs) { }
static inline void xlibos_grant_wish(void) { }

static __always_inline bool xlibos_is_site_wanted(void)
{
	return false;
}

static inline bool xlibos_stepped_into_call(struct pt_regs *regs)
{
	return false;
}

#endif /* CONFIG_XLIBOS */

#endif /* !__ASSEMBLY__ */
#endif /* _ASM_X86_XEN_XLIBOS_H */
