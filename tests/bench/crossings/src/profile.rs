//! Where instructions are executed: a count for each translated block, written out at each mark.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Instructions by the address of the block they are in, since the last mark.
type Blocks = BTreeMap<u64, &'static AtomicU64>;

struct Profile {
    file: File,
    blocks: Blocks,
}

static PROFILE: Mutex<Option<Profile>> = Mutex::new(None);

fn profile() -> MutexGuard<'static, Option<Profile>> {
    PROFILE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on blocks are counted for `file`.
pub fn start(file: File) {
    *profile() = Some(Profile { file, blocks: Blocks::new() });
}

/// The counter of the block at `address`, if blocks are counted. It lives as long as QEMU, as translated code does.
pub fn counter(address: u64) -> Option<&'static AtomicU64> {
    let mut profile = profile();
    let blocks = &mut profile.as_mut()?.blocks;
    Some(blocks.entry(address).or_insert_with(|| Box::leak(Box::new(AtomicU64::new(0)))))
}

/// Writes out what was executed since the last mark: `ADDRESS COUNT` for each block, and an empty line.
pub fn mark() {
    let mut profile = profile();
    let Some(Profile { file, blocks }) = profile.as_mut() else { return };
    let mut text = String::new();
    for (address, count) in blocks.iter() {
        let count = count.swap(0, Ordering::Relaxed);
        if count > 0 {
            text.push_str(&format!("{address:x} {count}\n"));
        }
    }
    text.push('\n');
    if let Err(error) = file.write_all(text.as_bytes()) {
        eprintln!("crossings: {error}");
    }
}
