//! OCI layouts: from a tag to the one image that fits this platform.

use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest, OciLayout};

use crate::error::ImageError;
use crate::image::{Compression, Image, Layer, checked};
use crate::store::{self, Store};
use crate::{PLATFORM, digest};

/// Media types, ours and those of docker for the same.
const MANIFESTS: [&str; 2] = ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];
const INDEXES: [&str; 2] = ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];
const CONFIGS: [&str; 2] = ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// How an index names what it lists.
const NAMES: [&str; 2] = ["org.opencontainers.image.ref.name", "io.containerd.image.name"];
/// The tag that is meant where none is said, if there is a choice.
const LATEST: &str = "latest";
/// How deep indexes may lie in indexes, and how many of them are read.
const DEPTH: usize = 8;
const INDEXES_MAX: usize = 256;

/// A manifest that could be meant.
struct Candidate {
    /// How the outermost index names it.
    name: Option<String>,
    descriptor: Descriptor,
}

/// What an index leads to.
#[derive(Default)]
struct Choice {
    candidates: Vec<Candidate>,
    /// What is not for this platform, or nothing that is known.
    others: Vec<String>,
    read: usize,
}

fn is(descriptor: &Descriptor, kinds: &[&str]) -> bool {
    kinds.contains(&descriptor.media_type().as_ref())
}

fn name_of(descriptor: &Descriptor) -> Option<String> {
    let annotations = descriptor.annotations().as_ref()?;
    NAMES.iter().find_map(|name| annotations.get(*name)).cloned()
}

/// Whether `name`, perhaps one with a registry and a repository, is what `tag` asks for.
fn named(name: &str, tag: &str) -> bool {
    name == tag || name.strip_suffix(tag).is_some_and(|rest| rest.ends_with(':') || rest.ends_with('/'))
}

fn listed(mut names: Vec<String>) -> String {
    names.sort();
    names.dedup();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

impl Choice {
    /// Takes what `index` lists; with `name`, all of it is called that.
    fn add(&mut self, store: &Store, index: &ImageIndex, name: Option<&str>, depth: usize) -> Result<(), ImageError> {
        self.read = self.read.saturating_add(1);
        if depth > DEPTH || self.read > INDEXES_MAX {
            return Err(ImageError::Depth(DEPTH));
        }
        for descriptor in index.manifests() {
            let name = name.map(String::from).or_else(|| name_of(descriptor));
            if let Some(platform) = descriptor.platform() {
                let text = format!("{}/{}", platform.os(), platform.architecture());
                if text != PLATFORM {
                    self.others.push(text);
                    continue;
                }
            }
            if is(descriptor, &INDEXES) {
                let inner: ImageIndex = store::parse(&store.document(descriptor)?, "an index")?;
                self.add(store, &inner, name.as_deref(), depth.saturating_add(1))?;
            } else if is(descriptor, &MANIFESTS) {
                self.candidates.push(Candidate { name, descriptor: descriptor.clone() });
            } else {
                self.others.push(format!("something of type '{}'", descriptor.media_type()));
            }
        }
        Ok(())
    }

    /// The one that is meant. Without a tag and with several, it is the latest.
    fn only(mut self, store: &Store) -> Result<Descriptor, ImageError> {
        if self.candidates.len() > 1 {
            // An index need not say for which platform each is; a configuration does.
            let mut others = Vec::new();
            self.candidates.retain(|c| match configuration(store, &c.descriptor) {
                Ok((_, config)) if c.descriptor.platform().is_none() && platform(&config) != PLATFORM => {
                    others.push(platform(&config));
                    false
                }
                // What is wrong with it is said if it is the one.
                _ => true,
            });
            self.others.extend(others);
        }
        let first = self.candidates.first().ok_or_else(|| ImageError::NoPlatform(listed(std::mem::take(&mut self.others))))?;
        let same = |c: &Candidate| c.name == first.name || c.descriptor.digest() == first.descriptor.digest();
        // Of one name there may be several, for older and newer processors; those for all are without a variant.
        let plain = |c: &&Candidate| c.descriptor.platform().as_ref().is_none_or(|p| p.variant().is_none());
        let chosen = if self.candidates.iter().all(same) {
            self.candidates.iter().find(plain)
        } else {
            self.candidates.iter().find(|c| c.name.as_deref().is_some_and(|n| named(n, LATEST)))
        };
        match chosen.or(Some(first).filter(|_| self.candidates.iter().all(same))) {
            Some(candidate) => Ok(candidate.descriptor.clone()),
            None => Err(ImageError::Several(listed(self.candidates.into_iter().filter_map(|c| c.name).collect()))),
        }
    }
}

/// A configuration's platform.
pub fn platform(config: &ImageConfiguration) -> String {
    format!("{}/{}", config.os(), config.architecture())
}

/// A manifest, with the bytes of its configuration and what they say.
type Read = ((ImageManifest, Vec<u8>), ImageConfiguration);

fn configuration(store: &Store, descriptor: &Descriptor) -> Result<Read, ImageError> {
    let what = format!("the manifest {}", descriptor.digest());
    let manifest: ImageManifest = store::parse(&store.document(descriptor)?, &what)?;
    if manifest.schema_version() != 2 {
        return Err(ImageError::Version { what, found: manifest.schema_version().to_string(), known: "2" });
    }
    let config = manifest.config();
    if !is(config, &CONFIGS) {
        let what = format!("the configuration in {what}");
        return Err(ImageError::MediaType { what, found: config.media_type().to_string(), known: "that of an image's configuration" });
    }
    let bytes = store.document(config)?;
    let config = store::parse(&bytes, &format!("the configuration {}", config.digest()))?;
    Ok(((manifest, bytes), config))
}

fn compression(descriptor: &Descriptor) -> Result<Compression, ImageError> {
    let kind = descriptor.media_type().as_ref();
    let kind = kind.strip_prefix("application/vnd.").unwrap_or(kind);
    match kind {
        "oci.image.layer.v1.tar" | "oci.image.layer.nondistributable.v1.tar" | "docker.image.rootfs.diff.tar" => Ok(Compression::None),
        "oci.image.layer.v1.tar+gzip"
        | "oci.image.layer.nondistributable.v1.tar+gzip"
        | "docker.image.rootfs.diff.tar.gzip"
        | "docker.image.rootfs.foreign.diff.tar.gzip" => Ok(Compression::Gzip),
        "oci.image.layer.v1.tar+zstd" | "oci.image.layer.nondistributable.v1.tar+zstd" | "docker.image.rootfs.diff.tar.zstd" => {
            Ok(Compression::Zstd)
        }
        _ => Err(ImageError::MediaType {
            what: format!("layer {}", descriptor.digest()),
            found: descriptor.media_type().to_string(),
            known: "layers as tar, tar+gzip, tar+zstd",
        }),
    }
}

/// Finds the image `tag` of a layout.
///
/// # Errors
/// What is missing, damaged, not understood, or not for this platform.
pub fn open(store: Store, tag: Option<&str>) -> Result<Image, ImageError> {
    if !store.has("oci-layout") {
        return Err(ImageError::NoLayout(store.name()));
    }
    let layout: OciLayout = store::parse(&store.bytes("oci-layout")?, "oci-layout")?;
    let version = layout.image_layout_version();
    if !version.starts_with("1.") {
        return Err(ImageError::Version { what: "the OCI layout".into(), found: version.clone(), known: "1.0.0" });
    }
    let mut index: ImageIndex = store::parse(&store.bytes("index.json")?, "index.json")?;
    if let Some(tag) = tag {
        let there = listed(index.manifests().iter().filter_map(name_of).collect());
        let meant = index.manifests().iter().filter(|d| name_of(d).is_some_and(|name| named(&name, tag))).cloned().collect::<Vec<_>>();
        if meant.is_empty() {
            return Err(ImageError::NoTag { wanted: tag.to_string(), there });
        }
        index.set_manifests(meant);
    }
    let mut choice = Choice::default();
    choice.add(&store, &index, tag, 0)?;
    let descriptor = choice.only(&store)?;
    let ((manifest, bytes), config) = configuration(&store, &descriptor)?;
    let layers = manifest.layers().iter().map(|layer| {
        Ok(Layer {
            name: layer.digest().to_string(),
            file: Store::blob(layer)?,
            blob: Some((format!("sha256:{}", digest::sha256(layer.digest(), "a layer")?), layer.size())),
            compression: Some(compression(layer)?),
            diff_id: String::new(),
        })
    });
    let layers = layers.collect::<Result<_, ImageError>>()?;
    checked(store, descriptor.digest().to_string(), &bytes, &config, layers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_found_in_names() {
        assert!(named("latest", "latest") && named("docker.io/library/a:latest", "latest") && named("example.org/a:1", "a:1"));
        assert!(!named("notlatest", "latest") && !named("a:1", "2"));
    }
}
