//! What a patched file says about itself: enough to check every byte of the change, and to take it back.
//!
//! The record is an ELF note, `X-Containers`, in the segment that the tool appends: it holds the stubs in front of it.
//! All numbers are little-endian words of 64 bits but for the bytes of code.

use anyhow::{Context, Result, bail, ensure};

/// The owner of the note, with the zero that ends it and the zeros that fill it up.
const OWNER: [u8; 16] = *b"X-Containers\0\0\0\0";
/// How long the owner is, with its zero.
const OWNER_LEN: u32 = 13;
/// The type of the note: the version of what it holds.
const TYPE: u32 = 1;
/// The most bytes that one change has.
const MOST: u64 = 16;

/// One change of bytes in the file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// Where it is loaded.
    pub address: u64,
    /// Where it is in the file.
    pub offset: u64,
    /// The `syscall` instruction that it is about.
    pub site: u64,
    /// Where the stub is; 0 if there is none.
    pub stub: u64,
    /// What was there.
    pub old: Vec<u8>,
    /// What is there.
    pub new: Vec<u8>,
}

/// All that was done to a file.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Record {
    /// How long the file was.
    pub length: u64,
    /// The entry of the table that the tool moved: bytes of the ELF header and program headers that it changed.
    pub headers: Vec<(u64, Vec<u8>)>,
    /// Where the stubs are loaded, and how long they are.
    pub stubs: (u64, u64),
    /// The slot of the jump entry that stubs use.
    pub jump: u64,
    /// Every change.
    pub changes: Vec<Change>,
}

impl Record {
    /// The note.
    pub fn to_note(&self) -> Vec<u8> {
        let mut body = Vec::new();
        let mut put = |n: u64| body.extend(n.to_le_bytes());
        put(self.length);
        put(self.stubs.0);
        put(self.stubs.1);
        put(self.jump);
        put(self.headers.len() as u64);
        for (offset, bytes) in &self.headers {
            body.extend(offset.to_le_bytes());
            body.extend((bytes.len() as u64).to_le_bytes());
            body.extend(bytes);
        }
        body.extend((self.changes.len() as u64).to_le_bytes());
        for c in &self.changes {
            for n in [c.address, c.offset, c.site, c.stub, c.old.len() as u64] {
                body.extend(n.to_le_bytes());
            }
            body.extend(&c.old);
            body.extend(&c.new);
        }
        let mut note = OWNER_LEN.to_le_bytes().to_vec();
        note.extend(u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
        note.extend(TYPE.to_le_bytes());
        note.extend(OWNER);
        note.extend(body);
        note.resize(note.len().next_multiple_of(4), 0);
        note
    }

    /// The record in a segment of notes, if it is ours.
    pub fn from_note(note: &[u8]) -> Result<Option<Self>> {
        let mut reader = Reader(note);
        let Ok([name, length, kind]) = reader.words() else { return Ok(None) };
        if name != OWNER_LEN || reader.take(OWNER.len()).ok() != Some(&OWNER) {
            return Ok(None);
        }
        ensure!(kind == TYPE, "patched by another version of this tool: note type {kind}");
        let body = reader.take(length as usize).context("the record is cut off")?;
        Self::from_body(&mut Reader(body)).context("the record is broken").map(Some)
    }

    fn from_body(reader: &mut Reader<'_>) -> Result<Self> {
        let mut record = Self { length: reader.number()?, ..Self::default() };
        record.stubs = (reader.number()?, reader.number()?);
        record.jump = reader.number()?;
        for _ in 0..reader.count(16)? {
            let offset = reader.number()?;
            let length = usize::try_from(reader.number()?)?;
            record.headers.push((offset, reader.take(length)?.to_vec()));
        }
        for _ in 0..reader.count(40)? {
            let [address, offset, site, stub, length] =
                [reader.number()?, reader.number()?, reader.number()?, reader.number()?, reader.number()?];
            if length > MOST {
                bail!("a change of {length} bytes");
            }
            let length = usize::try_from(length)?;
            let (old, new) = (reader.take(length)?.to_vec(), reader.take(length)?.to_vec());
            record.changes.push(Change { address, offset, site, stub, old, new });
        }
        Ok(record)
    }
}

/// Bytes that are read one after the other.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).context("it ends too early")?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.take(8)?.try_into()?))
    }

    fn words(&mut self) -> Result<[u32; 3]> {
        let mut words = [0; 3];
        for word in &mut words {
            *word = u32::from_le_bytes(self.take(4)?.try_into()?);
        }
        Ok(words)
    }

    /// How many things of at least `size` bytes there are.
    fn count(&mut self, size: usize) -> Result<u64> {
        let count = self.number()?;
        let most = self.0.len().checked_div(size).unwrap_or(0) as u64;
        if count > most {
            bail!("{count} entries in {} bytes", self.0.len());
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_back_and_a_broken_one_is_an_error() {
        let change = Change { address: 1, offset: 2, site: 3, stub: 4, old: vec![1; 7], new: vec![2; 7] };
        let record =
            Record { length: 9, headers: vec![(64, vec![7; 56])], stubs: (0x1000, 32), jump: 5, changes: vec![change.clone(), change] };
        let note = record.to_note();
        assert_eq!(Record::from_note(&note).expect("sound"), Some(record));
        assert_eq!(Record::from_note(b"GNU").expect("not ours"), None);
        let mut other = note.clone();
        other[8] = 2;
        assert!(Record::from_note(&other).is_err());
        for length in 28..note.len() - 3 {
            assert!(Record::from_note(&note[..length]).is_err(), "{length}");
        }
        for at in 28..note.len() {
            let mut broken = note.clone();
            broken[at] ^= 0xff;
            // Whatever it is taken for, nothing panics.
            let _ = Record::from_note(&broken);
        }
    }
}
