//! Operations on the address space.

use std::io;

use linux_programs::way::Way;

use crate::work::Body;

/// Maps fresh pages, writes to each, and unmaps them.
fn mmap_touch_munmap(calls: Way, pages: usize) {
    let length = pages * 4096;
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: fresh memory.
    let at = unsafe { calls.call(libc::SYS_mmap, [0, length, protection as usize, flags as usize, usize::MAX, 0]) };
    assert!(at > 0);
    touch(at as *mut u8, pages);
    // SAFETY: nothing refers to it.
    let done = unsafe { calls.call(libc::SYS_munmap, [at as usize, length]) };
    assert_eq!(done, 0);
}

/// Writes to `pages` pages.
fn touch(at: *mut u8, pages: usize) {
    for page in 0..pages {
        // SAFETY: the caller has mapped them.
        unsafe { at.wrapping_add(page * 4096).write_volatile(1) };
    }
}

/// One page.
pub fn mmap_one(calls: Way) -> io::Result<Body> {
    Ok(Box::new(move |n| (0..n).for_each(|_| mmap_touch_munmap(calls, 1))))
}

/// Sixteen pages.
pub fn mmap_sixteen(calls: Way) -> io::Result<Body> {
    Ok(Box::new(move |n| (0..n).for_each(|_| mmap_touch_munmap(calls, 16))))
}

/// First writes to pages of one large mapping, in their order.
pub fn page_fault(_: Way) -> io::Result<Body> {
    let pages = 8192;
    // SAFETY: fresh memory.
    let at = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            pages * 4096,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    assert_ne!(at, libc::MAP_FAILED);
    let mut next = at.cast::<u8>();
    Ok(Box::new(move |n| {
        touch(next, n as usize);
        // SAFETY: it is asked for less than was mapped, in all.
        next = unsafe { next.add(n as usize * 4096) };
    }))
}
