//! What a container is made of: a folder, packages of Debian's, an OCI image or a docker archive, packed for a boot.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};
use cpio::newc;
use x_image::{Content, Found, Image, Inode, Meta, Settings};
use x_init::attributes::{self, Attribute};
use x_init::config;

use crate::archive::{Archive, Tree, memory};
use crate::{made, rootfs, sh};

/// The largest file system that is made of an image, in bytes.
const MOST: u64 = 16 << 30;
/// Changes when images are packed in another way.
const VERSION: u32 = 1;

/// What runs where nothing is said.
const SHELL: &str = "/bin/sh";

/// Where a container's files come from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Source {
    /// A folder, or packages.
    Rootfs(PathBuf),
    /// An OCI layout, perhaps with a tag.
    Image(String),
    /// What `docker save` has made, perhaps with a tag.
    DockerArchive(String),
}

/// A container's files as one archive, and what is to be run there.
pub struct Files {
    /// The archive.
    pub packed: PathBuf,
    /// How much memory its files take, in bytes.
    pub unpacked: u64,
    /// What the image says.
    pub settings: Settings,
}

/// A word for a name that nobody else has.
pub fn unique() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A place, and the tag behind it. What is there under the whole name is a place.
fn place_and_tag(text: &str) -> (&Path, Option<&str>) {
    match text.rsplit_once(':') {
        Some((place, tag)) if !Path::new(text).exists() && !tag.contains('/') && !tag.is_empty() => (Path::new(place), Some(tag)),
        _ => (Path::new(text), None),
    }
}

impl Source {
    /// A short name for containers of it, that a domain can have.
    pub fn name(&self) -> String {
        let text = match self {
            Self::Rootfs(place) => place.to_string_lossy().into_owned(),
            Self::Image(text) | Self::DockerArchive(text) => text.clone(),
        };
        let made = text.strip_prefix("debian:").map(str::to_string);
        let last = |path: &Path| path.file_stem().map(|n| n.to_string_lossy().into_owned());
        let name = made.or_else(|| last(place_and_tag(&text).0)).unwrap_or_default();
        let name: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).take(20).collect();
        if name.is_empty() { "container".into() } else { name }
    }

    /// Whether it runs a shell if nothing else is said.
    pub fn is_shell(&self) -> bool {
        matches!(self, Self::Rootfs(_))
    }

    /// Packs the files, if that has not been done before.
    ///
    /// # Errors
    /// What is not there, damaged, or cannot be packed.
    pub fn files(&self) -> Result<Files> {
        let made = |text: &str| text.strip_prefix("debian:").map(made::image).transpose();
        match self {
            Self::Rootfs(place) => folder(place),
            Self::Image(text) => {
                let made = made(text)?.map(|image| image.layout);
                let (place, tag) = made.as_deref().map_or_else(|| place_and_tag(text), |layout| (layout, None));
                Image::of_layout(place, tag).map_err(Into::into).and_then(|i| image(&i, text)).with_context(|| format!("--image {text}"))
            }
            Self::DockerArchive(text) => {
                let made = made(text)?.map(|image| image.archive);
                let (place, tag) = made.as_deref().map_or_else(|| place_and_tag(text), |file| (file, None));
                let found = Image::of_docker_archive(place, tag).map_err(Into::into).and_then(|i| image(&i, text));
                found.with_context(|| format!("--docker-archive {text}"))
            }
        }
    }
}

/// The files of a folder, packed again when it has changed.
fn folder(place: &Path) -> Result<Files> {
    let folder = match place.to_str().and_then(|text| text.split_once(':')) {
        Some(("debian", name)) => rootfs::debian(name)?,
        _ => place.to_path_buf(),
    };
    let tree = Tree::of(&folder)?;
    let packed = sh::target(&format!("initrd/rootfs-{:016x}.cpio", tree.fingerprint()))?;
    once(&packed, &place.display().to_string(), |part| tree.pack(part))?;
    let settings = Settings { cmd: vec![SHELL.into()], ..Settings::default() };
    Ok(Files { packed, unpacked: tree.memory(), settings })
}

/// Makes `to` by `make` if it is not there, in one step for others.
fn once(to: &Path, what: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if to.is_file() {
        return Ok(());
    }
    eprintln!("xtask: packing {what}");
    let part = to.with_extension(unique());
    make(&part).and_then(|()| Ok(std::fs::rename(&part, to)?)).inspect_err(|_| drop(std::fs::remove_file(&part)))
}

/// The files of an image. What is packed has the digest for its name; the image itself is looked at again each time.
fn image(image: &Image, what: &str) -> Result<Files> {
    let digest = image.digest.rsplit(':').next().unwrap_or_default();
    let packed = sh::target(&format!("initrd/image{VERSION}-{digest}.cpio"))?;
    let size = packed.with_extension("size");
    let known = std::fs::read_to_string(&size).ok().and_then(|text| text.trim().parse().ok()).filter(|_| packed.is_file());
    let unpacked = match known {
        Some(unpacked) => image.check().map(|()| unpacked)?,
        None => {
            let tree = image.files(MOST)?;
            let unpacked = taken(&tree);
            std::fs::write(&size, unpacked.to_string())?;
            once(&packed, what, |part| pack(&tree, part))?;
            unpacked
        }
    };
    Ok(Files { packed, unpacked, settings: image.settings.clone() })
}

/// How much memory a tree's files take.
fn taken(tree: &x_image::Tree) -> u64 {
    let mut sum = 0;
    let Ok(()) = tree.walk(&mut |_, found| {
        sum += match found {
            Found::Other(inode) => match &inode.content {
                Content::File(bytes) => memory(bytes.len() as u64, Rc::strong_count(inode) as u64),
                _ => memory(0, 1),
            },
            Found::Folder(_) => memory(0, 1),
        };
        Ok::<_, std::convert::Infallible>(())
    });
    sum
}

/// Writes a tree as an archive, and, for x-init, what of it an archive has no room for.
fn pack(tree: &x_image::Tree, to: &Path) -> Result<()> {
    let own = config::FOLDER.trim_matches('/');
    let mut archive = Archive::create(to, taken(tree))?;
    let mut numbers: HashMap<*const Inode, u32> = HashMap::new();
    let mut list = Vec::new();
    tree.walk(&mut |path, found| {
        if path == own {
            bail!("'{path}' is for x-init alone, and cannot be in an image");
        }
        let meta = match found {
            Found::Folder(meta) => meta,
            Found::Other(inode) => &inode.meta,
        };
        let header = |kind: u32, ino: u32| {
            let name = if path.is_empty() { "." } else { path };
            newc::Builder::new(name).ino(ino).nlink(1).mode(kind | meta.mode).uid(meta.uid).gid(meta.gid).mtime(meta.mtime)
        };
        let number = archive.next_number();
        let inode = match found {
            Found::Folder(_) => {
                list.extend(of_file(path, meta));
                return archive.add(header(0o040_000, number), &mut std::io::empty(), 0);
            }
            Found::Other(inode) => inode,
        };
        // The names of one file share a number; the content is with the first.
        let first = *numbers.entry(Rc::as_ptr(inode)).or_insert(number);
        let content = match &inode.content {
            Content::File(bytes) if first == number => bytes.as_slice(),
            Content::Symlink(target) => target,
            _ => &[],
        };
        if first == number {
            list.extend(of_file(path, meta));
        }
        let kind = match inode.content {
            Content::File(_) => 0o100_000,
            Content::Symlink(_) => 0o120_000,
            Content::Device { block: true, .. } => 0o060_000,
            Content::Device { block: false, .. } => 0o020_000,
            Content::Fifo => 0o010_000,
        };
        let (major, minor) = if let Content::Device { major, minor, .. } = inode.content { (major, minor) } else { (0, 0) };
        let header = header(kind, first).nlink(u32::try_from(Rc::strong_count(inode))?).rdev_major(major).rdev_minor(minor);
        archive.add(header, &mut &*content, content.len() as u64).with_context(|| path.to_string())
    })?;
    if !list.is_empty() {
        let bytes = attributes::encode(&list).context("an extended attribute with a NUL in its name")?;
        archive.put(own, 0o040_700, &[])?;
        archive.put(attributes::FILE.trim_matches('/'), 0o100_600, &bytes)?;
    }
    archive.finish()
}

/// The extended attributes of a file.
fn of_file(path: &str, meta: &Meta) -> impl Iterator<Item = Attribute> {
    meta.xattrs.iter().map(|(name, value)| Attribute { path: path.into(), name: name.clone(), value: value.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::tests::listed;

    #[test]
    fn sources_have_names_for_domains() {
        let image = |text: &str| Source::Image(text.into()).name();
        assert_eq!(Source::Rootfs("debian:default".into()).name(), "default");
        assert_eq!(Source::Rootfs("/srv/my files/".into()).name(), "myfiles");
        assert_eq!((image("images/redis:7.0").as_str(), image("./redis.tar").as_str()), ("redis", "redis"));
        assert_eq!((image("..").as_str(), image(&"a".repeat(50)).len()), ("container", 20));
    }

    #[test]
    fn a_tree_is_packed_as_it_is() {
        let path = |text: &str| x_image::Path::parse(text.as_bytes()).expect("a path");
        let meta = |mode| Meta { mode, uid: 7, xattrs: vec![("security.a".into(), vec![1, 0])], ..Meta::default() };
        let mut tree = x_image::Tree::default();
        tree.add_folder(&path("d"), Meta { mode: 0o1777, ..Meta::default() }).expect("added");
        tree.add(&path("d/b"), meta(0o4755), Content::File(b"content".to_vec())).expect("added");
        tree.hard_link(&path("d/a"), &path("d/b")).expect("added");
        tree.add(&path("l"), Meta::default(), Content::Symlink(b"d/a".to_vec())).expect("added");
        tree.add(&path("n"), Meta::default(), Content::Device { block: true, major: 8, minor: 1 }).expect("added");
        assert_eq!(taken(&tree), 2 * memory(0, 1) + 2 * memory(7, 2) + 2 * memory(0, 1));
        let to = std::env::temp_dir().join(format!("xtask-image-{}", std::process::id()));
        pack(&tree, &to).expect("packed");
        let list = listed(&to);
        let names: Vec<_> = list.iter().map(|e| e.name.as_str()).collect();
        assert_eq!(names, [".", "d", "d/a", "d/b", "l", "n", ".x-container", ".x-container/attributes"]);
        assert_eq!((list[1].mode, list[2].mode, list[4].mode, list[5].mode), (0o041_777, 0o104_755, 0o120_000, 0o060_000));
        assert_eq!((list[2].ino, list[2].nlink, list[2].uid, list[2].content.as_str()), (list[3].ino, 2, 7, "content"));
        assert_eq!((list[3].content.as_str(), list[4].content.as_str()), ("", "d/a"));
        assert_eq!(list[7].content, "d/a\0security.a\x000100\0");
        tree.add_folder(&path(".x-container"), Meta::default()).expect("added");
        assert!(pack(&tree, &to).expect_err("its place").to_string().contains("for x-init alone"));
        std::fs::remove_file(&to).expect("removed");
    }

    #[test]
    fn tags_stand_behind_places() {
        assert_eq!(place_and_tag("a/b:c"), (Path::new("a/b"), Some("c")));
        assert_eq!(place_and_tag("a/b"), (Path::new("a/b"), None));
        assert_eq!(place_and_tag("a:b/c"), (Path::new("a:b/c"), None));
        assert_eq!(place_and_tag("a:"), (Path::new("a:"), None));
    }
}
