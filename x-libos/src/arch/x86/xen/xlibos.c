// SPDX-License-Identifier: GPL-2.0-only
/*
 * X-mode: detected and switched on; what entry_xlibos.S needs in C.
 */
#include <linux/build_bug.h>
#include <linux/cache.h>
#include <linux/entry-common.h>
#include <linux/init.h>
#include <linux/kobject.h>
#include <linux/percpu.h>
#include <linux/printk.h>
#include <linux/sched/signal.h>
#include <linux/sysfs.h>
#include <linux/uaccess.h>

#include <xen/xen.h>

#include <asm/cmdline.h>
#include <asm/cpufeature.h>
#include <asm/desc.h>
#include <asm/elf.h>
#include <asm/fixmap.h>
#include <asm/hwcap2.h>
#include <asm/processor.h>
#include <asm/x86_init.h>
#include <asm/xen/hypercall.h>
#include <asm/xen/interface.h>
#include <asm/xen/xlibos.h>

#include "../mm/mm_internal.h"

/* Hypercall 55, a number that Xen leaves unused: it answers -ENOSYS. */
#define XMODEOP_query	0
#define XMODEOP_enable	1
#define XMODEOP_exit	2
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

struct xmode_exit {
	u32 status;
	u32 flags;
};

/* entry_xlibos.S */
extern const unsigned long xlibos_table[];
extern const char xlibos_stubs[], xlibos_stubs_end[];

/* Known from the first moment on, when the feature bit is not set yet. */
static bool xlibos_on __ro_after_init;

DEFINE_PER_CPU(unsigned long, xlibos_process_gs);
/* Where a process goes on that has jumped into the kernel, until it is there. */
DEFINE_PER_CPU(unsigned long, xlibos_jump_back);

static __init bool xlibos_is_offered(void)
{
	struct xmode_query query;

	return !_hypercall2(int, arch_7, XMODEOP_query, &query) &&
	       query.version == XMODE_VERSION;
}

/* With several processors GS is exchanged, which is done by rdgsbase only. */
static __init bool xlibos_has_gs(const char *cmdline)
{
	u32 eax = 7, ebx, ecx = 0, edx;

	if (!IS_ENABLED(CONFIG_SMP))
		return true;
	asm(XEN_CPUID : "+a" (eax), "=b" (ebx), "+c" (ecx), "=d" (edx));
	return (ebx & BIT(X86_FEATURE_FSGSBASE % 32)) &&
	       !cmdline_find_option_bool(cmdline, "nofsgsbase");
}

/* For the processor that calls it, whose data may have moved. */
static bool xlibos_enable(void)
{
	struct xmode_enable enable = {
		.version = XMODE_VERSION,
		.kernel_sp = (u64)raw_cpu_ptr(&cpu_current_top_of_stack),
	};

	return !_hypercall2(int, arch_7, XMODEOP_enable, &enable);
}

/* Called before anything is known of the page table. "xlibos=off" forbids. */
void __init xlibos_init(const char *cmdline)
{
	char wish[4];

	if (cmdline_find_option(cmdline, "xlibos", wish, sizeof(wish)) == 3 &&
	    !strcmp(wish, "off"))
		return;
	xlibos_on = xlibos_is_offered() && xlibos_has_gs(cmdline) &&
		    xlibos_enable();
}

/*
 * For each of several processors. Entries find its number as the vDSO does, in
 * the limit of a segment, which only the boot processor of a PV guest has.
 */
void xlibos_init_cpu(void)
{
	int cpu = raw_smp_processor_id();
	struct desc_struct number = GDT_ENTRY_INIT(0x40f5, 0, cpu);

	if (!xlibos_on)
		return;
	write_gdt_entry(get_cpu_gdt_rw(cpu), GDT_ENTRY_CPUNODE, &number,
			DESCTYPE_S);
	if (!xlibos_enable())
		BUG();
	xlibos_keep_sites();
}

void __init xlibos_init_capabilities(void)
{
	if (!xlibos_on)
		return;
	setup_force_cpu_cap(X86_FEATURE_XLIBOS);
	/* The kernel's own entries are global, and it is to flush them so. */
	setup_force_cpu_cap(X86_FEATURE_PGE);
	/* They survive a flush of a process's: one call for all its pages. */
	tlb_single_page_flush_ceiling = 1;
	/* There is no firmware that has left a table of processors. */
	x86_init.mpparse.find_smp_config = x86_init_noop;
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
	if (!IS_ENABLED(CONFIG_SMP))
		xlibos_keep_sites();
	elf_hwcap2 |= HWCAP2_XLIBOS;
}

/*
 * Makes the process issue its system call again: by its instruction, if there
 * is one, or by the jump that stands for any that there could be.
 */
void xlibos_rewind_syscall(struct pt_regs *regs)
{
	u16 insn;

	if (!get_user(insn, (u16 __user *)(regs->ip - 2)) && insn == 0x050f) {
		regs->ip -= 2;
		return;
	}
	regs->cx = regs->ip;
	regs->ip = xlibos_table[XLIBOS_JUMP];
}

/* Whether a stub begins at ip that is called, and of which system call. */
static noinstr bool xlibos_called_nr(unsigned long ip, unsigned long ax, int *nr)
{
	if (ip == xlibos_table[0]) {
		*nr = ax;
		return true;
	}
	if (ip < (unsigned long)xlibos_stubs || ip >= (unsigned long)xlibos_stubs_end)
		return false;
	*nr = *(int *)(ip + XLIBOS_STUB_NR);
	return (unsigned int)*nr < XLIBOS_NUMBERS && ip == xlibos_table[*nr + 1];
}

/*
 * A process stepped into a call of the table. That is one instruction to
 * whoever looks on: make it the system call, with the step behind it. By the
 * jump it may be one instruction further, if that was how it went on after a
 * signal.
 */
noinstr bool xlibos_stepped_into_call(struct pt_regs *regs)
{
	unsigned long back = regs->cx;
	int nr = regs->ax;

	if (regs->ip - xlibos_table[XLIBOS_JUMP] > 1) {
		if (!xlibos_called_nr(regs->ip, regs->ax, &nr))
			return false;

		instrumentation_begin();
		pagefault_disable();
		if (__get_user(back, (unsigned long __user *)regs->sp))
			back = 0;
		pagefault_enable();
		instrumentation_end();
		regs->sp += sizeof(back);
	}

	regs->orig_ax = nr;
	regs->ax = -ENOSYS;
	regs->ip = back;
	regs->cx = back;
	regs->r11 = regs->flags;
	return true;
}

/* What the container's first process ended with, for who started it. */
static ssize_t exit_status_store(struct kobject *kobj, struct kobj_attribute *attr,
				 const char *text, size_t length)
{
	struct xmode_exit exit = { };
	int err = kstrtou32(text, 0, &exit.status);

	if (!err)
		err = _hypercall2(int, arch_7, XMODEOP_exit, &exit);
	return err ?: length;
}

static struct kobj_attribute exit_status = __ATTR_WO(exit_status);

static int __init xlibos_sysfs(void)
{
	struct xmode_exit none = { .status = ~0 };
	struct kobject *folder;

	/* Refused by who knows the call, and changes nothing. */
	if (!xen_pv_domain() ||
	    _hypercall2(int, arch_7, XMODEOP_exit, &none) != -EINVAL)
		return 0;
	folder = kobject_create_and_add("container", hypervisor_kobj);
	return folder ? sysfs_create_file(folder, &exit_status.attr) : -ENOMEM;
}
late_initcall(xlibos_sysfs);
