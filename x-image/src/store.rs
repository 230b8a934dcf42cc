//! Where an image's files are: in a folder, or in an archive.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use oci_spec::image::Descriptor;
use serde::de::DeserializeOwned;
use tar::{Archive, EntryType};

use crate::digest::{self, Hashing};
use crate::error::ImageError;

/// The largest document, manifest or index or configuration, that is read.
const DOCUMENT_MAX: u64 = 16 << 20;
/// How many links a file in an archive may lie behind.
const LINKS_MAX: usize = 8;

/// An image's files, by their paths.
#[derive(Debug)]
pub struct Store {
    place: PathBuf,
    /// Of an archive: where each file's content is, or to what it is a link.
    index: Option<HashMap<String, Place>>,
}

#[derive(Debug)]
enum Place {
    Content { offset: u64, size: u64 },
    Link(String),
}

/// `a/./b/../c` as `a/c`.
fn plain(path: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    names.join("/")
}

impl Store {
    /// The files in a folder, or in an archive.
    ///
    /// # Errors
    /// There is neither, or the archive is damaged.
    pub fn open(place: &Path) -> Result<Self, ImageError> {
        let fault = |source| ImageError::Read { what: place.display().to_string(), source };
        let meta = place.metadata().map_err(fault)?;
        // What the crate says of what is no archive has parts of it in it.
        let fault = |source: io::Error| match source.kind() {
            io::ErrorKind::Other => ImageError::Neither(place.display().to_string()),
            _ => fault(source),
        };
        let index = if meta.is_dir() { None } else { Some(index(place).map_err(fault)?) };
        Ok(Self { place: place.to_path_buf(), index })
    }

    /// Whether there is such a file.
    pub fn has(&self, path: &str) -> bool {
        self.find(path).is_ok()
    }

    /// How a message names it.
    pub fn name(&self) -> String {
        self.place.display().to_string()
    }

    /// Where a file is: in which one of the host's, from where, and how long it is.
    fn find(&self, path: &str) -> io::Result<(PathBuf, u64, u64)> {
        let Some(index) = &self.index else {
            let file = self.place.join(path);
            let size = file.metadata()?.len();
            return Ok((file, 0, size));
        };
        let mut path = plain(path);
        for _ in 0..LINKS_MAX {
            match index.get(&path).ok_or(io::ErrorKind::NotFound)? {
                Place::Content { offset, size } => return Ok((self.place.clone(), *offset, *size)),
                Place::Link(to) => path.clone_from(to),
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }

    /// Opens a file; says how long it is.
    ///
    /// # Errors
    /// It is missing, or cannot be read.
    pub fn file(&self, path: &str) -> Result<(impl Read + use<>, u64), ImageError> {
        let fault = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => ImageError::Missing { what: path.to_string() },
            _ => ImageError::Read { what: format!("{} of {}", path, self.name()), source },
        };
        let (place, offset, size) = self.find(path).map_err(fault)?;
        let mut file = File::open(place).map_err(fault)?;
        file.seek(SeekFrom::Start(offset)).map_err(fault)?;
        Ok((BufReader::with_capacity(1 << 16, file).take(size), size))
    }

    /// A document's bytes.
    pub fn bytes(&self, path: &str) -> Result<Vec<u8>, ImageError> {
        let (file, size) = self.file(path)?;
        if size > DOCUMENT_MAX {
            return Err(ImageError::Json { what: path.to_string(), why: format!("{size} bytes are too many for a document") });
        }
        let mut bytes = Vec::new();
        file.take(DOCUMENT_MAX).read_to_end(&mut bytes).map_err(|source| ImageError::Read { what: path.to_string(), source })?;
        Ok(bytes)
    }

    /// The path of what a descriptor describes.
    pub fn blob(descriptor: &Descriptor) -> Result<String, ImageError> {
        Ok(format!("blobs/sha256/{}", digest::sha256(descriptor.digest(), "a descriptor")?))
    }

    /// The document that a descriptor describes, checked.
    pub fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>, ImageError> {
        let path = Self::blob(descriptor)?;
        let bytes = self.bytes(&path)?;
        let found = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        matches(&path, (&digest::of(&bytes), found), (descriptor.digest().as_ref(), descriptor.size()))?;
        Ok(bytes)
    }

    /// Reads all of a file and checks that it is what a descriptor describes.
    pub fn check(&self, path: &str, digest: &str, size: u64) -> Result<(), ImageError> {
        let (file, length) = self.file(path)?;
        if length != size {
            return Err(ImageError::Size { what: path.to_string(), found: length, wanted: size });
        }
        let (found, length) = Hashing::new(file).finish().map_err(|source| ImageError::Read { what: path.to_string(), source })?;
        matches(path, (&found, length), (digest, size))
    }
}

/// Compares digest and size of `what`.
fn matches(what: &str, found: (&str, u64), wanted: (&str, u64)) -> Result<(), ImageError> {
    let what = what.to_string();
    if found.1 != wanted.1 {
        return Err(ImageError::Size { what, found: found.1, wanted: wanted.1 });
    }
    if found.0 != wanted.0 {
        return Err(ImageError::Digest { what, found: found.0.into(), wanted: wanted.0.into() });
    }
    Ok(())
}

/// What is where in an archive.
fn index(file: &Path) -> io::Result<HashMap<String, Place>> {
    let mut archive = Archive::new(File::open(file)?);
    let mut found = HashMap::new();
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        let path = plain(&String::from_utf8_lossy(&entry.path_bytes()));
        let link = entry.link_name_bytes().map(|l| String::from_utf8_lossy(&l).into_owned()).unwrap_or_default();
        let place = match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => Place::Content { offset: entry.raw_file_position(), size: entry.size() },
            // Older ones have a layer that is there twice as a link.
            EntryType::Symlink => Place::Link(plain(&format!("{}/{link}", path.rsplit_once('/').map_or("", |(folder, _)| folder)))),
            EntryType::Link => Place::Link(plain(&link)),
            _ => continue,
        };
        found.insert(path, place);
    }
    Ok(found)
}

/// Reads a document of a kind.
pub fn parse<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, ImageError> {
    serde_json::from_slice(bytes).map_err(|e| ImageError::Json { what: what.to_string(), why: e.to_string() })
}
