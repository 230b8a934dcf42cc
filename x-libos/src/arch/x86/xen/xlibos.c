// SPDX-License-Identifier: GPL-2.0-only
/*
 * X-mode: detected and switched on; what entry_xlibos.S needs in C.
 */
#include <linux/build_bug.h>
#include <linux/cache.h>
#include <linux/entry-common.h>
#include <linux/init.h>
#include <linux/percpu.h>
#include <linux/printk.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>

#include <asm/cmdline.h>
#include <asm/cpufeature.h>
#include <asm/fixmap.h>
#include <asm/processor.h>
#include <asm/xen/hypercall.h>
#include <asm/xen/xlibos.h>

/* Hypercall 55, a number that Xen leaves unused: it answers -ENOSYS. */
#define XMODEOP_query	0
#define XMODEOP_enable	1
#define XMODE_VERSION	1

struct xmode_query {
	u32 version;
	u32 features;
};

struct xmode_enable {
	u32 version;
	u32 flags;
	u64 kernel_sp;	/* address of the word with the kernel stack */
};

/* entry_xlibos.S */
extern const char xlibos_table[];
extern const char xlibos_stub_any[];

bool xlibos_on __ro_after_init;

static __init bool xlibos_is_offered(void)
{
	struct xmode_query query;

	return !_hypercall2(int, arch_7, XMODEOP_query, &query) &&
	       query.version == XMODE_VERSION;
}

/* Called before anything is known of the page table. "xlibos=off" forbids. */
void __init xlibos_init(const char *cmdline)
{
	struct xmode_enable enable = {
		.version = XMODE_VERSION,
		.kernel_sp = (u64)&cpu_current_top_of_stack,
	};
	char wish[4];

	if (cmdline_find_option(cmdline, "xlibos", wish, sizeof(wish)) == 3 &&
	    !strcmp(wish, "off"))
		return;
	xlibos_on = xlibos_is_offered() &&
		    !_hypercall2(int, arch_7, XMODEOP_enable, &enable);
}

void __init xlibos_init_capabilities(void)
{
	if (!xlibos_on)
		return;
	setup_force_cpu_cap(X86_FEATURE_XLIBOS);
	/* The kernel's own entries are global, and it is to flush them so. */
	setup_force_cpu_cap(X86_FEATURE_PGE);
	pr_info("X-LibOS: one page table with the processes\n");
}

/*
 * The table of system calls, where every process expects it. Its page is not
 * executable, so that the vsyscalls that programs of old call there fault and
 * are emulated as ever.
 */
void __init xlibos_map_table(void)
{
	BUILD_BUG_ON(XLIBOS_EXIT_WORK !=
		     (EXIT_TO_USER_MODE_WORK | _TIF_USER_RETURN_NOTIFY |
		      _TIF_IO_BITMAP | _TIF_NEED_FPU_LOAD));

	__set_fixmap(VSYSCALL_PAGE, __pa_symbol(xlibos_table), PAGE_KERNEL_RO);
}

/*
 * Makes the process issue its system call again: by the instruction that it
 * used, or by the call that it used, which has any length.
 */
void xlibos_rewind_syscall(struct pt_regs *regs)
{
	u16 insn;

	if (!get_user(insn, (u16 __user *)(regs->ip - 2)) && insn == 0x050f) {
		regs->ip -= 2;
		return;
	}
	regs->sp -= sizeof(regs->ip);
	if (put_user(regs->ip, (unsigned long __user *)regs->sp))
		force_sig(SIGSEGV);
	regs->ip = (unsigned long)xlibos_stub_any;
}
