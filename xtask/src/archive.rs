//! Folders as archives that Linux unpacks into its initial file system (newc).
//!
//! Files go through a buffer, however large they are. While it boots, the kernel has the archive and what it has unpacked
//! in memory at the same time, so large ones are compressed, with zstd, which takes the kernel half the instructions that
//! gzip does; unpacking a small one would still take more of them than all else at its start. An archive may stand behind
//! another: the kernel takes them in turn.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufReader, BufWriter, Read, Seek, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cpio::newc;
use zstd::Encoder;

/// What the kernel keeps for a file besides its content: an inode and an entry in its folder, in bytes.
const PER_FILE: u64 = 1024;
const PAGE: u64 = 4096;

/// How much memory one of a file's `names` takes, in bytes, if its content is so long.
pub fn memory(length: u64, names: u64) -> u64 {
    PER_FILE + length.div_ceil(PAGE) * PAGE / names.max(1)
}

/// A file, folder or link below a folder.
struct Entry {
    /// Its path from the folder.
    name: String,
    meta: Metadata,
    /// Where a symbolic link leads.
    link: Option<PathBuf>,
}

/// All of a folder, each folder before what is in it.
pub struct Tree {
    folder: PathBuf,
    entries: Vec<Entry>,
}

impl Tree {
    /// Looks through `folder`.
    ///
    /// # Errors
    /// What cannot be read, and names that are no text.
    pub fn of(folder: &Path) -> Result<Self> {
        let meta = folder.metadata().with_context(|| format!("cannot look at {}", folder.display()))?;
        if !meta.is_dir() {
            bail!("{} is no folder", folder.display());
        }
        // The kernel's own root is open to everybody until this says otherwise.
        let root = Entry { name: ".".into(), meta, link: None };
        let mut tree = Self { folder: folder.to_path_buf(), entries: vec![root] };
        tree.add("")?;
        Ok(tree)
    }

    fn add(&mut self, below: &str) -> Result<()> {
        let here = self.folder.join(below);
        let list = std::fs::read_dir(&here).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
        let mut names: Vec<_> =
            list.with_context(|| format!("cannot read {}", here.display()))?.iter().map(std::fs::DirEntry::file_name).collect();
        names.sort();
        for name in names {
            let name = name.to_str().with_context(|| format!("{}: a name that is not UTF-8: {}", here.display(), name.display()))?;
            let name = if below.is_empty() { name.to_string() } else { format!("{below}/{name}") };
            let path = self.folder.join(&name);
            let meta = path.symlink_metadata().with_context(|| format!("cannot look at {}", path.display()))?;
            let link = if meta.is_symlink() { Some(std::fs::read_link(&path)?) } else { None };
            let kind = meta.file_type();
            if kind.is_socket() || kind.is_block_device() || kind.is_char_device() {
                eprintln!("xtask: left out, neither file nor folder nor link: {}", path.display());
                continue;
            }
            let is_folder = meta.is_dir();
            self.entries.push(Entry { name: name.clone(), meta, link });
            if is_folder {
                self.add(&name)?;
            }
        }
        Ok(())
    }

    /// Changes when anything in the folder does.
    pub fn fingerprint(&self) -> u64 {
        let mut hash = DefaultHasher::new();
        for e in &self.entries {
            let m = &e.meta;
            (&e.name, m.mode(), m.uid(), m.gid(), m.size(), m.mtime(), m.mtime_nsec(), m.nlink(), &e.link).hash(&mut hash);
        }
        hash.finish()
    }

    /// How much memory it takes when it is unpacked, in bytes.
    pub fn memory(&self) -> u64 {
        let of = |e: &Entry| memory(if e.meta.is_file() { e.meta.size() } else { 0 }, e.meta.nlink());
        self.entries.iter().map(of).sum()
    }

    /// Writes it as an archive to the file `to`.
    ///
    /// # Errors
    /// What cannot be read or written, and what is too large for the format.
    pub fn pack(&self, to: &Path) -> Result<()> {
        let mut archive = Archive::create(to, self.memory())?;
        // Whoever packs as an ordinary user has unpacked as one, too: what is his is root's.
        let own = std::fs::metadata("/proc/self").map_or(0, |m| m.uid());
        let mut links: HashMap<(u64, u64), u32> = HashMap::new();
        for e in &self.entries {
            let path = self.folder.join(&e.name);
            let m = &e.meta;
            let owner = |id: u32, of_mine: bool| if of_mine && own != 0 { 0 } else { id };
            let mine = m.uid() == own;
            // The parts of a hard link share a number; the content is with the first.
            let number = archive.next_number();
            let several = m.is_file() && m.nlink() > 1;
            let first = if several { *links.entry((m.dev(), m.ino())).or_insert(number) } else { number };
            let header = newc::Builder::new(&e.name)
                .ino(first)
                .mode(m.mode())
                .nlink(if several { u32::try_from(m.nlink())? } else { 1 })
                .uid(owner(m.uid(), mine))
                .gid(owner(m.gid(), mine))
                .mtime(u32::try_from(m.mtime()).unwrap_or(0));
            if let Some(link) = &e.link {
                archive.add(header, &mut link.as_os_str().as_encoded_bytes(), link.as_os_str().len() as u64)?;
            } else if m.is_file() && first == number {
                let file = File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
                archive.add(header, &mut BufReader::new(file), m.size()).with_context(|| path.display().to_string())?;
            } else {
                archive.add(header, &mut std::io::empty(), 0)?;
            }
        }
        archive.finish()
    }
}

/// An archive of up to so many bytes is not compressed.
const SMALL: u64 = 8 << 20;
/// How well archives are compressed, and how far back (as a power of two) they refer: that much the kernel needs for it.
const LEVEL: i32 = 3;
const WINDOW_LOG: u32 = 18;

/// Where an archive goes.
enum Output {
    Plain(BufWriter<File>),
    Packed(Encoder<'static, File>),
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(file) => file.write(bytes),
            Self::Packed(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Plain(file) => file.flush(),
            Self::Packed(encoder) => encoder.flush(),
        }
    }
}

/// An archive that is being written.
pub struct Archive {
    out: Output,
    number: u32,
}

impl Archive {
    /// A new one, of files that take so much memory.
    pub fn create(to: &Path, memory: u64) -> Result<Self> {
        let file = File::create(to).with_context(|| format!("cannot write {}", to.display()))?;
        if memory <= SMALL {
            return Ok(Self { out: Output::Plain(BufWriter::new(file)), number: 0 });
        }
        let mut encoder = Encoder::new(file, LEVEL)?;
        encoder.window_log(WINDOW_LOG)?;
        Ok(Self { out: Output::Packed(encoder), number: 0 })
    }

    /// A number that no file has yet.
    pub fn next_number(&mut self) -> u32 {
        self.number += 1;
        self.number
    }

    /// Adds a file with this header and content.
    ///
    /// # Errors
    /// What cannot be read or written, and what is too large for the format.
    pub fn add(&mut self, header: newc::Builder, content: &mut impl Read, size: u64) -> Result<()> {
        let size = u32::try_from(size).context("4 GiB or more: too large for this kind of archive")?;
        let mut entry = header.write(&mut self.out, size);
        // A file that grows meanwhile is cut, one that shrinks is an error.
        let copied = std::io::copy(&mut content.take(size.into()), &mut entry)?;
        if copied != u64::from(size) {
            bail!("it became smaller while it was read");
        }
        entry.finish()?;
        Ok(())
    }

    /// Adds a folder, or a file with this content; it is root's.
    pub fn put(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<()> {
        let header = newc::Builder::new(name).ino(self.next_number()).nlink(1).mode(mode);
        self.add(header, &mut &*content, content.len() as u64)
    }

    /// Adds a character device.
    pub fn device(&mut self, name: &str, mode: u32, (major, minor): (u32, u32)) -> Result<()> {
        let header = newc::Builder::new(name).ino(self.next_number()).nlink(1).mode(0o020_000 | mode);
        self.add(header.rdev_major(major).rdev_minor(minor), &mut std::io::empty(), 0)
    }

    /// Ends it.
    pub fn finish(mut self) -> Result<()> {
        newc::trailer(&mut self.out)?;
        let mut file = match self.out {
            Output::Plain(file) => file.into_inner()?,
            Output::Packed(encoder) => encoder.finish()?,
        };
        // What stands behind begins at a multiple of four.
        let length = file.stream_position()?;
        file.write_all(&[0; 4][..usize::try_from(length.next_multiple_of(4) - length)?])?;
        Ok(())
    }
}

#[cfg(test)]
pub mod tests {
    use std::io::Cursor;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// A file, folder or link of an archive.
    #[derive(Debug, Eq, PartialEq)]
    pub struct Listed {
        pub name: String,
        pub mode: u32,
        pub ino: u32,
        pub nlink: u32,
        pub uid: u32,
        pub content: String,
    }

    /// What is in an archive, packed or not.
    pub fn listed(file: &Path) -> Vec<Listed> {
        const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
        let bytes = std::fs::read(file).expect("the archive");
        assert!(bytes.len().is_multiple_of(4), "nothing can stand behind it");
        let mut input: Box<dyn Read> = if bytes.starts_with(&ZSTD) {
            Box::new(zstd::Decoder::new(Cursor::new(bytes)).expect("a frame").single_frame())
        } else {
            Box::new(Cursor::new(bytes))
        };
        let mut list = Vec::new();
        loop {
            let mut reader = newc::Reader::new(input).expect("an entry");
            if reader.entry().is_trailer() {
                return list;
            }
            let mut content = Vec::new();
            reader.read_to_end(&mut content).expect("its content");
            let (e, content) = (reader.entry(), String::from_utf8_lossy(&content).into_owned());
            list.push(Listed { name: e.name().into(), mode: e.mode(), ino: e.ino(), nlink: e.nlink(), uid: e.uid(), content });
            input = reader.finish().expect("the rest");
        }
    }

    #[test]
    fn large_ones_are_packed() {
        let folder = std::env::temp_dir().join(format!("xtask-packed-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        // Of sixteen packed ones some have a length that something has to be added to.
        for n in 0..16 {
            let content = "what is there again and again, ".repeat(10_000) + &"x".repeat(n);
            let [small, large] = [SMALL, SMALL + 1].map(|memory| {
                let to = folder.join(memory.to_string());
                let mut archive = Archive::create(&to, memory).expect("created");
                archive.put(&"a".repeat(n + 1), 0o100_644, content.as_bytes()).expect("added");
                archive.finish().expect("finished");
                to
            });
            assert_eq!(listed(&small), listed(&large));
            assert_eq!(listed(&large)[0].content, content);
            let length = |file: &Path| file.metadata().expect("there").len();
            assert!(length(&large) < content.len() as u64 / 10 && length(&small) > content.len() as u64);
        }
        std::fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn a_folder_is_packed_as_it_is() {
        let folder = std::env::temp_dir().join(format!("xtask-cpio-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let root = folder.join("root");
        std::fs::create_dir_all(root.join("b/c")).expect("a folder");
        std::fs::write(root.join("a"), "content").expect("a file");
        std::fs::set_permissions(root.join("a"), std::fs::Permissions::from_mode(0o4755)).expect("its mode");
        std::fs::hard_link(root.join("a"), root.join("b/a2")).expect("a link");
        symlink("../a", root.join("b/l")).expect("a link");
        let tree = Tree::of(&root).expect("a tree");
        let before = tree.fingerprint();
        let to = folder.join("archive.cpio");
        tree.pack(&to).expect("packed");
        let list = listed(&to);
        let names: Vec<_> = list.iter().map(|e| e.name.as_str()).collect();
        assert_eq!(names, [".", "a", "b", "b/a2", "b/c", "b/l"]);
        assert_eq!((list[1].mode, list[1].content.as_str()), (0o104_755, "content"));
        assert_eq!((list[3].ino, list[3].content.as_str()), (list[1].ino, ""), "a hard link has the number of the first, and no content");
        assert_eq!((list[5].mode & 0o170_000, list[5].content.as_str()), (0o120_000, "../a"));
        assert_eq!(tree.memory(), 6 * PER_FILE + 2 * (PAGE / 2));
        std::fs::write(root.join("a"), "Content!").expect("a file");
        assert_ne!(Tree::of(&root).expect("a tree").fingerprint(), before);
        assert!(Tree::of(&root.join("a")).is_err());
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
