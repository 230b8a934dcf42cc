//! Archives as `docker save` makes them: manifest.json names a configuration and layers. Newer ones are OCI layouts too,
//! in which the same files are blobs.

use oci_spec::image::ImageConfiguration;
use serde::Deserialize;

use crate::digest;
use crate::error::ImageError;
use crate::image::{Image, Layer, checked};
use crate::store::{self, Store};

const MANIFEST: &str = "manifest.json";
/// Where the digest is the name.
const BLOBS: &str = "blobs/sha256/";

/// An image in manifest.json.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Whether `tag` asks for this name: all of it, or what is behind the last colon, or before it.
fn named(name: &str, tag: &str) -> bool {
    let short = name.rsplit('/').next().unwrap_or(name);
    [name, short].contains(&tag) || short.split_once(':').is_some_and(|(image, version)| version == tag || image == tag)
}

/// Finds the image `tag` of an archive.
///
/// # Errors
/// What is missing, damaged, not understood, or not for this platform.
pub fn open(store: Store, tag: Option<&str>) -> Result<Image, ImageError> {
    if !store.has(MANIFEST) {
        return Err(ImageError::NoArchive(store.name()));
    }
    let mut images: Vec<Saved> = store::parse(&store.bytes(MANIFEST)?, MANIFEST)?;
    let names = |images: &[Saved]| images.iter().flat_map(|i| i.repo_tags.iter().flatten().cloned()).collect::<Vec<_>>().join(", ");
    let there = names(&images);
    if let Some(tag) = tag {
        images.retain(|i| i.repo_tags.iter().flatten().any(|name| named(name, tag)));
    }
    let image = match (images.pop(), images.is_empty()) {
        (Some(image), true) => image,
        (Some(_), false) => return Err(ImageError::Several(there)),
        (None, _) => return Err(ImageError::NoTag { wanted: tag.unwrap_or_default().into(), there }),
    };
    let bytes = store.bytes(&image.config)?;
    let digest = digest::of(&bytes);
    let named = image.config.strip_prefix(BLOBS).or_else(|| image.config.strip_suffix(".json"));
    if let Some(name) = named.filter(|n| n.len() == 64)
        && digest != format!("sha256:{name}")
    {
        return Err(ImageError::Digest { what: image.config.clone(), found: digest, wanted: format!("sha256:{name}") });
    }
    let config: ImageConfiguration = store::parse(&bytes, &image.config)?;
    let layers = image.layers.into_iter().map(|file| Layer {
        name: file.clone(),
        file,
        // The configuration has the digest of what is in it.
        blob: None,
        compression: None,
        diff_id: String::new(),
    });
    let layers = layers.collect();
    checked(store, digest, &bytes, &config, layers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_found_in_names() {
        for tag in ["example.org/me/a:1", "a:1", "1", "a"] {
            assert!(named("example.org/me/a:1", tag), "{tag}");
        }
        assert!(!named("example.org/me/a:1", "me") && !named("a:1", "2"));
    }
}
