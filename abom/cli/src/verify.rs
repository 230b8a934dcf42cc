//! `verify`: whether a patched file is what patching makes of the original, and what each change in it says.

use abom::{Code, Table};
use anyhow::{Context, Result, bail, ensure};
use iced_x86::{Mnemonic, OpKind, Register};

use crate::record::{Change, Record};
use crate::rewrite::{self, WAYS};

/// Checks a file. Returns its record.
///
/// The record is believed in nothing: each change is read as instructions, and all of the file is made anew from the
/// original that the record leads to.
pub fn verify(data: &[u8]) -> Result<Record> {
    let (original, record) = rewrite::unpatch(data)?;
    ensure!(Some(record.jump) == WAYS.table.jump(), "patched for a kernel without the jump entry, or with another");
    for change in &record.changes {
        check(change, &record, &WAYS.table).with_context(|| format!("the change at {:#x}", change.address))?;
    }
    let again = rewrite::patch(&original).context("the original that the record leads to")?;
    if let Some(at) = again.data.iter().zip(data).position(|(a, b)| a != b) {
        bail!("at offset {at:#x} the file is not what this version of the tool makes of the original");
    }
    ensure!(again.data.len() == data.len(), "the file is longer or shorter than what this version of the tool makes of the original");
    Ok(record)
}

/// Whether a change is a call through the table or a jump to its stub.
fn check(change: &Change, record: &Record, table: &Table) -> Result<()> {
    let inside = change.site.checked_sub(change.address).and_then(|at| usize::try_from(at).ok());
    let kept = inside.is_some_and(|at| at >= change.old.len());
    let was = inside.and_then(|at| change.old.get(at..)).is_some_and(|b| b.starts_with(&abom::code::SYSCALL));
    ensure!(kept || was, "there was no system call");
    let code = Code::new(&change.new, change.address);
    let i = code.instruction(change.address).context("no instruction")?;
    match i.mnemonic() {
        Mnemonic::Call => {
            let named = i.op0_kind() == OpKind::Memory && i.memory_base() == Register::None && i.memory_index() == Register::None;
            ensure!(named && is_slot(table, i.memory_displacement64()), "the call does not go through the table");
            ensure!(i.len() == change.new.len(), "bytes behind the call");
        }
        Mnemonic::Jmp => {
            let (start, length) = record.stubs;
            let to = i.near_branch64();
            ensure!(to == change.stub, "the jump does not go to its stub");
            ensure!(to >= start && to < start.saturating_add(length), "the stub is outside of the stubs");
        }
        _ => bail!("neither a call nor a jump"),
    }
    Ok(())
}

fn is_slot(table: &Table, address: u64) -> bool {
    address == table.any() || (0..=u32::from(u16::MAX)).map_while(|nr| table.slot(nr)).any(|slot| slot == address)
}
