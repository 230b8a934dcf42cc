//! Images that are made for a test, good ones and others.

#![allow(dead_code, reason = "each test uses a part")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "tests"
)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

/// A folder that is gone when this is.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("x-image-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An entry of a layer.
#[derive(Clone, Debug)]
pub struct Item {
    pub path: Vec<u8>,
    pub kind: EntryType,
    pub link: Vec<u8>,
    pub content: Vec<u8>,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub xattrs: Vec<(String, Vec<u8>)>,
}

pub fn item(path: &str, kind: EntryType) -> Item {
    let path = path.as_bytes().to_vec();
    Item { path, kind, link: Vec::new(), content: Vec::new(), mode: 0o755, uid: 0, gid: 0, xattrs: Vec::new() }
}

pub fn file(path: &str, content: &str) -> Item {
    Item { content: content.into(), mode: 0o644, ..item(path, EntryType::Regular) }
}

pub fn dir(path: &str) -> Item {
    item(path, EntryType::Directory)
}

pub fn symlink(path: &str, to: &str) -> Item {
    Item { link: to.into(), ..item(path, EntryType::Symlink) }
}

pub fn hard_link(path: &str, to: &str) -> Item {
    Item { link: to.into(), ..item(path, EntryType::Link) }
}

pub fn whiteout(path: &str) -> Item {
    file(path, "")
}

fn block(out: &mut Vec<u8>, header: &mut Header, content: &[u8]) {
    header.set_size(content.len() as u64);
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(512), 0);
}

/// A record of an extended header.
pub fn record(keyword: &str, value: &[u8]) -> Vec<u8> {
    let rest = [b" ", keyword.as_bytes(), b"=", value, b"\n"].concat();
    let length = (1..).find(|n| n.to_string().len() + rest.len() == *n).unwrap();
    [length.to_string().as_bytes(), &rest].concat()
}

/// An archive, byte by byte: whatever is in it, no library has an opinion on it.
pub fn tar(items: &[Item]) -> Vec<u8> {
    let mut out = Vec::new();
    for item in items {
        let mut extended: Vec<u8> = item.xattrs.iter().flat_map(|(name, value)| record(&format!("SCHILY.xattr.{name}"), value)).collect();
        if item.path.len() > 100 {
            extended.extend(record("path", &item.path));
        }
        if item.link.len() > 100 {
            extended.extend(record("linkpath", &item.link));
        }
        if !extended.is_empty() {
            let mut header = Header::new_ustar();
            header.set_entry_type(EntryType::XHeader);
            block(&mut out, &mut header, &extended);
        }
        let mut header = Header::new_ustar();
        header.set_entry_type(item.kind);
        header.set_mode(item.mode);
        header.set_uid(item.uid);
        header.set_gid(item.gid);
        header.set_mtime(1_700_000_000);
        let old = header.as_old_mut();
        let n = item.path.len().min(100);
        old.name[..n].copy_from_slice(&item.path[..n]);
        let n = item.link.len().min(100);
        old.linkname[..n].copy_from_slice(&item.link[..n]);
        if matches!(item.kind, EntryType::Char | EntryType::Block) {
            header.set_device_major(5).unwrap();
            header.set_device_minor(1).unwrap();
        }
        block(&mut out, &mut header, &item.content);
    }
    out.resize(out.len() + 1024, 0);
    out
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold("sha256:".to_string(), |text, byte| format!("{text}{byte:02x}"))
}

/// A layout that is being made.
pub struct Layout {
    pub scratch: Scratch,
    pub manifests: Vec<Value>,
}

impl Layout {
    pub fn new() -> Self {
        let scratch = Scratch::new();
        std::fs::create_dir_all(scratch.0.join("blobs/sha256")).unwrap();
        std::fs::write(scratch.0.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Self { scratch, manifests: Vec::new() }
    }

    pub fn place(&self) -> &Path {
        &self.scratch.0
    }

    pub fn blob_file(&self, digest: &str) -> PathBuf {
        self.scratch.0.join("blobs/sha256").join(digest.trim_start_matches("sha256:"))
    }

    /// Puts a blob there, and describes it.
    pub fn blob(&self, kind: &str, bytes: &[u8]) -> Value {
        let digest = digest(bytes);
        std::fs::write(self.blob_file(&digest), bytes).unwrap();
        json!({ "mediaType": kind, "digest": digest, "size": bytes.len() })
    }

    /// A manifest for layers, each a media type, its bytes, and what is in them.
    pub fn manifest(&self, arch: &str, config: &Value, layers: &[(&str, Vec<u8>, Vec<u8>)]) -> Value {
        let diff_ids: Vec<_> = layers.iter().map(|(_, _, inside)| digest(inside)).collect();
        let config = json!({ "architecture": arch, "os": "linux", "config": config, "rootfs": { "type": "layers", "diff_ids": diff_ids } });
        let config = self.blob(CONFIG, config.to_string().as_bytes());
        let layers: Vec<_> = layers.iter().map(|(kind, bytes, _)| self.blob(kind, bytes)).collect();
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
        self.blob(MANIFEST, manifest.to_string().as_bytes())
    }

    /// An image of plain layers, listed under `name`.
    pub fn image(&mut self, name: &str, layers: &[Vec<Item>]) {
        let layers: Vec<_> = layers.iter().map(|items| (TAR, tar(items), tar(items))).collect();
        let manifest = self.manifest("amd64", &json!({ "Cmd": ["sh"] }), &layers);
        self.list(manifest, name);
    }

    pub fn list(&mut self, mut descriptor: Value, name: &str) {
        if !name.is_empty() {
            descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
        }
        self.manifests.push(descriptor);
        self.write();
    }

    pub fn write(&self) {
        let index = json!({ "schemaVersion": 2, "manifests": self.manifests });
        std::fs::write(self.scratch.0.join("index.json"), index.to_string()).unwrap();
    }
}

/// An error as people see it.
pub fn text(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {}", text(source)))
}
