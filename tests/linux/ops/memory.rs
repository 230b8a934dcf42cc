//! Operations on the address space.

use std::io;

use crate::calls::Calls;
use crate::work::{Body, check};

/// Maps fresh pages, writes to each, and unmaps them.
fn mmap_touch_munmap(calls: Calls, pages: usize) {
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
pub fn mmap_one(calls: Calls) -> io::Result<Body> {
    Ok(Box::new(move |n| (0..n).for_each(|_| mmap_touch_munmap(calls, 1))))
}

/// Sixteen pages.
pub fn mmap_sixteen(calls: Calls) -> io::Result<Body> {
    Ok(Box::new(move |n| (0..n).for_each(|_| mmap_touch_munmap(calls, 16))))
}

/// How far apart pages are that are to be no neighbours: mapping some beside the one that was touched gains nothing.
const APART: usize = 16;
/// Pages that are touched at most, warming up included.
const TOUCHED: usize = 8192;

/// Maps `pages` pages, of `file` if that is one.
fn map(pages: usize, file: i32) -> io::Result<*mut u8> {
    let (protection, flags) = if file < 0 {
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE)
    } else {
        (libc::PROT_READ, libc::MAP_PRIVATE)
    };
    // SAFETY: fresh addresses.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), pages * 4096, protection, flags, file, 0) };
    if at == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(at.cast()) }
}

/// First writes to pages of one large mapping, in their order.
pub fn page_fault_sequential(_: Calls) -> io::Result<Body> {
    let mut next = map(TOUCHED, -1)?;
    Ok(Box::new(move |n| {
        touch(next, n as usize);
        // SAFETY: it is asked for less than was mapped, in all.
        next = unsafe { next.add(n as usize * 4096) };
    }))
}

/// First writes to pages that are no neighbours. Their page tables are there: the middle of each stretch was written to
/// before, and has been given back.
pub fn page_fault(_: Calls) -> io::Result<Body> {
    let pages = TOUCHED / 4 * APART;
    let start = map(pages, -1)?;
    for stretch in 0..TOUCHED / 4 {
        touch(start.wrapping_add((stretch * APART + APART / 2) * 4096), 1);
    }
    // SAFETY: what was written is not looked at again.
    check(unsafe { libc::madvise(start.cast(), pages * 4096, libc::MADV_DONTNEED) })?;
    let mut next = start;
    Ok(Box::new(move |n| {
        for _ in 0..n {
            touch(next, 1);
            next = next.wrapping_add(APART * 4096);
        }
    }))
}

/// First reads of a file's pages that are in memory and no neighbours.
pub fn page_fault_file(_: Calls) -> io::Result<Body> {
    const STRETCHES: usize = 512;
    // SAFETY: the path is a string.
    let file = check(unsafe { libc::open(c"/tmp/pages".as_ptr(), libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC, 0o600) })?;
    let stretch = vec![1u8; APART * 4096];
    for _ in 0..STRETCHES {
        // SAFETY: it is read from a buffer of that length.
        let written = unsafe { libc::write(file, stretch.as_ptr().cast(), stretch.len()) };
        assert_eq!(written as usize, stretch.len());
    }
    let mut next = map(STRETCHES * APART, file)?;
    // SAFETY: the path is a string; the mapping keeps the file.
    check(unsafe { libc::unlink(c"/tmp/pages".as_ptr()) })?;
    Ok(Box::new(move |n| {
        for _ in 0..n {
            // SAFETY: it is asked for less than was mapped, in all.
            std::hint::black_box(unsafe { next.read_volatile() });
            next = next.wrapping_add(APART * 4096);
        }
    }))
}
