//! A layer's archive, entry by entry, into the tree.

use std::io::{self, Read};

use tar::{Archive, EntryType, Header};

use crate::error::{Fault, LayerError};
use crate::path::{PATH_MAX, Path, Target};
use crate::pax::Extended;
use crate::tree::{Content, Meta, Tree};

/// The longest extended header that is read.
const EXTENDED_MAX: u64 = 1 << 20;
/// Zeros that may be missing at the end of an archive: what fills the last block, and two blocks that are the end. Some
/// tools leave them out. Whether anything else is missing shows in the digest.
const END: u64 = 511 + 2 * 512;
/// What a file costs besides its content.
const PER_FILE: u64 = 512;

/// How much an image may still take, in bytes of content and headers.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    whole: u64,
    left: u64,
}

impl Budget {
    /// So many bytes.
    pub fn new(whole: u64) -> Self {
        Self { whole, left: whole }
    }

    fn take(&mut self, bytes: u64) -> Result<(), LayerError> {
        let too_much = || LayerError::TooMuch(format!("{} MiB", self.whole >> 20));
        self.left = self.left.checked_sub(bytes).ok_or_else(too_much)?;
        Ok(())
    }
}

/// What headers say about the entry that follows them.
#[derive(Debug, Default)]
struct Before {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    extended: Extended,
}

/// An entry of which all is known but its content.
struct Whole {
    path: Vec<u8>,
    link: Vec<u8>,
    meta: Meta,
    size: u64,
    kind: EntryType,
}

fn fits(value: u64, what: &'static str) -> Result<u32, Fault> {
    // The last number means "leave it" to the kernel, and is nobody.
    u32::try_from(value).ok().filter(|&n| n != u32::MAX).ok_or(Fault::Number(what))
}

/// A field of a header; one that is left blank is zero.
fn field<T: Default>(bytes: &[u8], value: io::Result<T>, what: &'static str) -> Result<T, Fault> {
    if bytes.iter().all(|b| matches!(b, 0 | b' ')) { Ok(T::default()) } else { value.map_err(|_| Fault::Number(what)) }
}

impl Whole {
    fn of(header: &Header, before: Before) -> Result<Self, Fault> {
        let extended = before.extended;
        let path = extended.path.or(before.path).unwrap_or_else(|| header.path_bytes().into_owned());
        let link = extended.link.or(before.link).or_else(|| header.link_name_bytes().map(|l| l.into_owned())).unwrap_or_default();
        let size = header.entry_size().map_err(|_| Fault::Number("the size"))?;
        if extended.size.is_some_and(|s| s != size) || size >= u64::from(u32::MAX) {
            return Err(Fault::Size);
        }
        let fields = header.as_old();
        let uid = extended.uid.map_or_else(|| field(&fields.uid, header.uid(), "the owner"), Ok)?;
        let gid = extended.gid.map_or_else(|| field(&fields.gid, header.gid(), "the group"), Ok)?;
        // Times before 1970 and after 2106 are cut: nothing depends on them.
        let mtime = extended.mtime.map_or_else(|| header.mtime().unwrap_or(0), |t| u64::try_from(t).unwrap_or(0));
        let meta = Meta {
            mode: field(&fields.mode, header.mode(), "the mode")? & 0o7777,
            uid: fits(uid, "the owner")?,
            gid: fits(gid, "the group")?,
            mtime: u32::try_from(mtime).unwrap_or(u32::MAX),
            xattrs: extended.xattrs,
        };
        // In the oldest format a folder is a file whose name ends so.
        let folder = header.entry_type() == EntryType::Regular && path.ends_with(b"/");
        Ok(Self { path, link, meta, size, kind: if folder { EntryType::Directory } else { header.entry_type() } })
    }
}

/// Puts an entry into the tree.
fn add(tree: &mut Tree, entry: Whole, header: &Header, content: Vec<u8>) -> Result<(), Fault> {
    let path = match Target::parse(&entry.path)? {
        Target::Nothing => return Ok(()),
        Target::Whiteout(path) => return tree.whiteout(&path),
        Target::Opaque(path) => return tree.opaque(&path),
        Target::File(path) => path,
    };
    let device = |number: io::Result<Option<u32>>| number.ok().flatten().ok_or(Fault::Number("a device's number"));
    let content = match entry.kind {
        EntryType::Directory => return tree.add_folder(&path, entry.meta),
        EntryType::Link => {
            let target = Path::parse(&entry.link)
                .map_err(|why| Fault::HardLink { target: String::from_utf8_lossy(&entry.link).into_owned(), why: why.to_string() })?;
            return tree.hard_link(&path, &target);
        }
        EntryType::Regular | EntryType::Continuous => Content::File(content),
        EntryType::Symlink => Content::Symlink(entry.link),
        EntryType::Fifo => Content::Fifo,
        kind @ (EntryType::Char | EntryType::Block) => Content::Device {
            block: kind == EntryType::Block,
            major: device(header.device_major())?,
            minor: device(header.device_minor())?,
        },
        EntryType::GNUSparse => return Err(Fault::Size),
        kind => return Err(Fault::Kind(char::from(kind.as_byte()))),
    };
    tree.add(&path, entry.meta, content)
}

/// Reads all of an entry's content.
fn content(from: &mut impl Read, size: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(size).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).ok() != Some(size) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

/// Adds a layer, an archive that is not compressed, to the tree. What is behind the archive's end is not read.
///
/// # Errors
/// Where the archive is damaged, which entry cannot be, or that it is too much.
pub fn apply(tree: &mut Tree, input: impl Read, budget: &mut Budget) -> Result<(), LayerError> {
    let mut after = String::from("its beginning");
    let mut before = Before::default();
    let mut archive = Archive::new(input.chain(io::repeat(0).take(END)));
    // What the crate says can have parts of the archive in it.
    let broken = |after: &str, source: io::Error| {
        let source = if source.kind() == io::ErrorKind::Other { io::ErrorKind::InvalidData.into() } else { source };
        LayerError::Broken { after: after.to_string(), source }
    };
    // As they are: what comes before an entry is put together here.
    let entries = archive.entries().map_err(|e| broken(&after, e))?.raw(true);
    for entry in entries {
        let mut entry = entry.map_err(|e| broken(&after, e))?;
        let header = entry.header().clone();
        let at = |path: &[u8], fault| LayerError::Entry { path: String::from_utf8_lossy(path).into_owned(), fault };
        let kind = header.entry_type();
        let size = header.entry_size().map_err(|e| broken(&after, e))?;
        budget.take(PER_FILE)?;
        if matches!(kind, EntryType::GNULongName | EntryType::GNULongLink | EntryType::XHeader | EntryType::XGlobalHeader) {
            if size > EXTENDED_MAX {
                return Err(at(&header.path_bytes(), Fault::Extended));
            }
            let bytes = content(&mut entry, size).map_err(|e| broken(&after, e))?;
            let name = |bytes: Vec<u8>| Some(bytes.split(|&b| b == 0).next().unwrap_or_default().to_vec());
            match kind {
                EntryType::GNULongName => before.path = name(bytes),
                EntryType::GNULongLink => before.link = name(bytes),
                EntryType::XHeader => before.extended = Extended::parse(&bytes).map_err(|f| at(&header.path_bytes(), f))?,
                // What it says is of whoever made the archive, as a commit's number.
                _ => {}
            }
            continue;
        }
        let whole = Whole::of(&header, std::mem::take(&mut before)).map_err(|f| at(&header.path_bytes(), f))?;
        let is_file = matches!(whole.kind, EntryType::Regular | EntryType::Continuous);
        budget.take(if is_file { whole.size } else { 0 })?;
        let bytes = if is_file { content(&mut entry, whole.size) } else { Ok(Vec::new()) }.map_err(|e| broken(&after, e))?;
        let path = whole.path.clone();
        add(tree, whole, &header, bytes).map_err(|f| at(&path, f))?;
        after = String::from_utf8_lossy(&path).chars().take(PATH_MAX).collect();
    }
    Ok(())
}
