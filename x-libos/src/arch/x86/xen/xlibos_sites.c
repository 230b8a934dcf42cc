// SPDX-License-Identifier: GPL-2.0-only
/*
 * System calls by the instruction that the hypervisor makes function calls.
 *
 * It tells of a site that traps often by a word. The site's page belongs to a
 * file, whose content must not change: copy the page, let processes that
 * execute it map the copy instead, and have the hypervisor patch that. Who
 * reads or maps the file gets the original, and so does a debugger, and a
 * process that writes to its code.
 */
#include <linux/hashtable.h>
#include <linux/init.h>
#include <linux/mm.h>
#include <linux/mmu_context.h>
#include <linux/pagemap.h>
#include <linux/percpu.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/vmalloc.h>

#include <asm/xen/hypercall.h>
#include <asm/xen/xlibos.h>

#define XMODEOP_sites	3
#define XMODEOP_patch	4
#define XMODEOP_drop	5
#define XMODEOP_annex	6

#define XMODE_PATCH_AHEAD	1
#define XMODE_PATCH_MORE	2

struct xmode_sites {
	u64 word;
	u64 flags;
};

struct xmode_patch {
	u64 site;
	u64 alias;
	u64 module;
	u64 flags;
	u64 missing;
};

struct xmode_drop {
	u64 alias;
	u64 flags;
};

struct xmode_annex {
	u64 at;
	u64 alias;
	u64 flags;
};

/* How many pages may be missing that the hypervisor looks at. */
#define MOST_MISSING	32

/* A page of a file, and the copy that is executed. Both are held. */
struct shadow {
	struct hlist_node node;
	struct page *original;
	struct page *patched;
	long checked;		/* nr_writers when the original was looked at */
	u64 hash;		/* of what was copied */
};

/*
 * Words that the hypervisor knows: the site that it wants to patch, or 0; and
 * system calls by function call, which it counts none of.
 */
DEFINE_PER_CPU(unsigned long [2], xlibos_wish);

static DEFINE_HASHTABLE(shadows, 8);	/* by original page */
static HLIST_HEAD(dead);		/* not mapped any more, or soon not */
static unsigned long nr_shadows;
static DEFINE_SPINLOCK(shadows_lock);

/* How often files were opened for writing whose pages have shadows, and 1. */
static atomic_long_t nr_writers = ATOMIC_LONG_INIT(1);

void xlibos_keep_sites(void)
{
	struct xmode_sites sites = {
		.word = (u64)raw_cpu_ptr(xlibos_wish),
	};

	/* Refused where programs are to stay as they are. */
	(void)_hypercall2(int, arch_7, XMODEOP_sites, &sites);
}

/*
 * A page where the hypervisor puts code that sites call which have no room for
 * it. As modules are, it is in reach of an address of 32 bits.
 */
static int __init xlibos_offer_annex(void)
{
	struct xmode_annex offer = { };
	void *annex;

	if (!xlibos())
		return 0;
	annex = __vmalloc_node_range(PAGE_SIZE, 1, MODULES_VADDR, MODULES_END,
				     GFP_KERNEL, PAGE_KERNEL_EXEC, 0,
				     NUMA_NO_NODE, __builtin_return_address(0));
	if (!annex)
		return 0;
	offer.at = offer.alias = (u64)annex;
	/* Refused where programs are to stay as they are. */
	if (_hypercall2(int, arch_7, XMODEOP_annex, &offer))
		vfree(annex);
	return 0;
}
arch_initcall(xlibos_offer_annex);

static struct shadow *shadow_of(struct page *patched)
{
	return !patched->mapping && PageOwnerPriv1(patched) ?
	       (struct shadow *)page_private(patched) : NULL;
}

static bool may_be_patched(struct vm_area_struct *vma)
{
	unsigned long flags = vma->vm_flags;

	if ((flags & (VM_EXEC | VM_WRITE | VM_SHARED)) != VM_EXEC)
		return false;
	return vma->vm_file ||
	       vma->vm_start == (unsigned long)vma->vm_mm->context.vdso;
}

/* A file that has been, or is being, opened for writing: i_writecount says so. */
void arch_inode_has_writer(struct inode *inode)
{
	if (test_bit(AS_EXEC_COPIES, &inode->i_mapping->flags))
		atomic_long_inc(&nr_writers);
}

/*
 * Whether the page of a file may change without another arch_inode_has_writer().
 * A file that the kernel made for a process, as by memfd_create(), counts no
 * writers. The page is locked, but for one of the vDSO.
 */
static bool may_change(struct page *original)
{
	struct address_space *mapping = READ_ONCE(original->mapping);

	if (PageReserved(original))
		return false;
	return !mapping || inode_is_open_for_write(mapping->host) ||
	       mapping->host->i_sb->s_flags & SB_KERNMOUNT;
}

/*
 * Two contents of a page have one hash by chance, or because somebody has made
 * them so, who could as well have left the second one away.
 */
static u64 hash_of(struct page *page)
{
	const u64 *word = page_address(page);
	const u64 *end = word + PAGE_SIZE / sizeof(*word);
	u64 hash = 0;

	for (; word < end; word++)
		hash = (rol64(hash, 23) ^ *word) * GOLDEN_RATIO_64;
	return hash;
}

/* Whether the original is what it was. */
static bool is_fresh(struct shadow *shadow)
{
	long writers = atomic_long_read(&nr_writers);
	bool stays;

	if (shadow->checked == writers)
		return true;
	stays = !may_change(shadow->original);
	if (hash_of(shadow->original) != shadow->hash)
		return false;
	if (stays)
		shadow->checked = writers;
	return true;
}

static void bury(struct shadow *shadow)
{
	hash_del(&shadow->node);
	hlist_add_head(&shadow->node, &dead);
}

static struct shadow *find(struct page *original)
{
	struct shadow *shadow;

	hash_for_each_possible(shadows, shadow, node, (unsigned long)original)
		if (shadow->original == original)
			return shadow;
	return NULL;
}

/*
 * The page to map where a process executes this one. The caller's reference
 * goes over to it.
 */
struct page *__xlibos_page_to_map(struct vm_area_struct *vma, struct page *page)
{
	struct shadow *shadow;

	if (!READ_ONCE(nr_shadows) || PageAnon(page) || !may_be_patched(vma))
		return page;
	spin_lock(&shadows_lock);
	shadow = find(page);
	if (shadow && !is_fresh(shadow)) {
		bury(shadow);
		shadow = NULL;
	}
	if (shadow) {
		get_page(shadow->patched);
		put_page(page);
		page = shadow->patched;
	}
	spin_unlock(&shadows_lock);
	return page;
}

/* The page whose content is seen where this one is mapped. */
struct page *__xlibos_original(struct page *page)
{
	struct shadow *shadow = shadow_of(page);

	return shadow ? shadow->original : page;
}

/* The hypervisor has patched the page, and may go on with that. */
static void drop(struct page *page)
{
	struct xmode_drop drop = { .alias = (u64)page_address(page) };

	(void)_hypercall2(int, arch_7, XMODEOP_drop, &drop);
}

/* Frees what nobody maps any more. */
static void prune(void)
{
	struct shadow *shadow;
	struct hlist_node *next;
	int bucket;

	hash_for_each_safe(shadows, bucket, next, shadow, node)
		if (!shadow->original->mapping &&
		    !PageReserved(shadow->original))
			bury(shadow);
	hlist_for_each_entry_safe(shadow, next, &dead, node) {
		if (page_count(shadow->patched) != 1)
			continue;
		hlist_del(&shadow->node);
		nr_shadows--;
		drop(shadow->patched);
		ClearPageOwnerPriv1(shadow->patched);
		set_page_private(shadow->patched, 0);
		put_page(shadow->patched);
		put_page(shadow->original);
		kfree(shadow);
	}
}

static void cast_shadow(struct page *original)
{
	struct shadow *shadow = kzalloc(sizeof(*shadow), GFP_KERNEL);
	struct page *patched = alloc_page(GFP_KERNEL);

	lock_page(original);	/* it keeps its mapping */
	if (original->mapping)
		set_bit(AS_EXEC_COPIES, &original->mapping->flags);
	unlock_page(original);
	spin_lock(&shadows_lock);
	if (nr_shadows >= totalram_pages() / 64)
		prune();
	if (!shadow || !patched || find(original) ||
	    nr_shadows >= totalram_pages() / 64) {
		spin_unlock(&shadows_lock);
		kfree(shadow);
		if (patched)
			__free_page(patched);
		return;
	}
	copy_page(page_address(patched), page_address(original));
	get_page(original);
	shadow->original = original;
	shadow->patched = patched;
	shadow->hash = hash_of(patched);
	SetPageOwnerPriv1(patched);
	set_page_private(patched, (unsigned long)shadow);
	hash_add(shadows, &shadow->node, (unsigned long)original);
	nr_shadows++;
	spin_unlock(&shadows_lock);
}

static struct page *page_at(unsigned long address)
{
	struct page *page;

	return get_user_pages(address, 1, 0, &page, NULL) == 1 ? page : NULL;
}

/* As far as it is in the page: the hypervisor sees all of it. */
static bool is_syscall(const u8 *insn)
{
	return insn[0] == 0x0f &&
	       (offset_in_page(insn) == PAGE_SIZE - 1 || insn[1] == 0x05);
}

/* What is missing is the process's own: its headers and unwind table. */
static int ask(struct xmode_patch *patch)
{
	int err, tries;

	for (tries = 0; tries < MOST_MISSING; tries++) {
		struct page *page;

		err = _hypercall2(int, arch_7, XMODEOP_patch, patch);
		if (err != -EFAULT)
			break;
		page = page_at(patch->missing);
		if (!page)
			break;
		put_page(page);
	}
	return err;
}

/*
 * Where the file begins whose code is mapped at @vma, where @vmi is: the
 * headers are there.
 */
static unsigned long module_of(struct vma_iterator *vmi,
			       struct vm_area_struct *vma)
{
	struct vm_area_struct *at = vma;

	while (at && at->vm_file == vma->vm_file && at->vm_pgoff)
		at = vma_prev(vmi);
	return at && at->vm_file == vma->vm_file ? at->vm_start : 0;
}

/*
 * Has the hypervisor write to the page at @address, which @vma has: the site's,
 * or the one before.
 */
static int patch_page(struct vm_area_struct *vma, struct xmode_patch *patch,
		      unsigned long address)
{
	bool own = address == (patch->site & PAGE_MASK);
	struct page *page = page_at(address);
	int err = -EINVAL;

	if (page && !shadow_of(page) && !PageAnon(page)) {
		cast_shadow(page);
		put_page(page);
		zap_page_range(vma, address, PAGE_SIZE);
		page = page_at(address);
	}
	if (!page)
		return err;
	/* It may have been patched already, for another process. */
	if (shadow_of(page) &&
	    (!own || is_syscall(page_address(page) +
				offset_in_page(patch->site)))) {
		patch->alias = (u64)page_address(page) + patch->site - address;
		err = ask(patch);
	}
	put_page(page);
	return err;
}

static void patch(unsigned long site)
{
	struct xmode_patch patch = { .site = site, .flags = XMODE_PATCH_MORE };
	VMA_ITERATOR(vmi, current->mm, site);
	struct vm_area_struct *vma = mas_walk(&vmi.mas);
	unsigned long page = site & PAGE_MASK;

	if (!vma || !may_be_patched(vma))
		return;
	patch.module = module_of(&vmi, vma);
	if (patch_page(vma, &patch, page) == -EXDEV && page > vma->vm_start) {
		patch.flags |= XMODE_PATCH_AHEAD;
		patch_page(vma, &patch, page - PAGE_SIZE);
	}
}

/*
 * A system call begins whose site is wanted: before it may wait, for another
 * process does not have that site.
 */
void xlibos_grant_wish(void)
{
	unsigned long site = this_cpu_xchg(xlibos_wish[0], 0);

	if (current->mm && !mmap_read_lock_killable(current->mm)) {
		patch(site);
		mmap_read_unlock(current->mm);
	}
}
