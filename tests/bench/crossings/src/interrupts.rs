//! Where guests were interrupted.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

struct Interrupts {
    file: File,
    /// How often, by the address of the instruction that was next.
    at: BTreeMap<u64, u64>,
}

static INTERRUPTS: Mutex<Option<Interrupts>> = Mutex::new(None);

/// From now on interrupts are noted for `file`.
pub fn start(file: File) {
    *INTERRUPTS.lock().unwrap_or_else(PoisonError::into_inner) = Some(Interrupts { file, at: BTreeMap::new() });
}

/// A guest was interrupted, before the instruction at `address`.
pub fn came_before(address: u64) {
    if let Some(Interrupts { at, .. }) = INTERRUPTS.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
        let count = at.entry(address).or_insert(0);
        *count = count.saturating_add(1);
    }
}

/// Writes them out: `ADDRESS COUNT` each.
pub fn end() {
    let Some(Interrupts { mut file, at }) = INTERRUPTS.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
    let text: String = at.iter().map(|(address, count)| format!("{address:x} {count}\n")).collect();
    if let Err(error) = file.write_all(text.as_bytes()) {
        eprintln!("crossings: {error}");
    }
}
