//! An image: what is to be run, and the layers of its file system.

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use oci_spec::image::ImageConfiguration;

use crate::digest::Hashing;
use crate::error::{ImageError, LayerError};
use crate::layer::{self, Budget};
use crate::settings::Settings;
use crate::store::Store;
use crate::tree::Tree;
use crate::{PLATFORM, docker, layout};

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Compression {
    /// Not at all.
    None,
    /// With gzip.
    Gzip,
    /// With zstd.
    Zstd,
}

/// A layer of a file system.
#[derive(Debug)]
pub struct Layer {
    /// How messages name it.
    pub name: String,
    /// Its file in the store.
    pub file: String,
    /// Digest and size of that, if anything says so.
    pub blob: Option<(String, u64)>,
    /// How it is compressed; None if its first bytes must tell.
    pub compression: Option<Compression>,
    /// The digest of what is in it.
    pub diff_id: String,
}

/// An image that has been found, and whose documents are as their digests say.
#[derive(Debug)]
pub struct Image {
    store: Store,
    /// The digest of its manifest, or of its configuration in an archive that has no manifest: all that is in it follows.
    pub digest: String,
    /// What is to be run, and how.
    pub settings: Settings,
    layers: Vec<Layer>,
}

/// Puts an image together, if it is for this platform and has as many layers as it says.
pub(crate) fn checked(
    store: Store,
    digest: String,
    bytes: &[u8],
    config: &ImageConfiguration,
    mut layers: Vec<Layer>,
) -> Result<Image, ImageError> {
    let platform = layout::platform(config);
    if platform != PLATFORM {
        return Err(ImageError::Platform(platform));
    }
    let diff_ids = config.rootfs().diff_ids();
    if diff_ids.len() != layers.len() {
        return Err(ImageError::Layers { layers: layers.len(), diff_ids: diff_ids.len() });
    }
    for (layer, diff_id) in layers.iter_mut().zip(diff_ids) {
        layer.diff_id.clone_from(diff_id);
    }
    Ok(Image { store, digest, settings: Settings::of(config, bytes), layers })
}

/// What is in a layer's file.
fn unpacked<'a>(file: impl BufRead + 'a, compression: Option<Compression>) -> io::Result<Box<dyn Read + 'a>> {
    let mut file = file;
    let compression = match compression {
        Some(compression) => compression,
        None => match file.fill_buf()? {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
            _ => Compression::None,
        },
    };
    Ok(match compression {
        Compression::None => Box::new(file),
        Compression::Gzip => Box::new(MultiGzDecoder::new(file)),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(file)?),
    })
}

impl Image {
    /// The image `tag` of the OCI layout at `place`, a folder or an archive of one.
    ///
    /// # Errors
    /// What is missing, damaged, not understood, or not for this platform.
    pub fn of_layout(place: &Path, tag: Option<&str>) -> Result<Self, ImageError> {
        layout::open(Store::open(place)?, tag)
    }

    /// The image `tag` of an archive that `docker save` has made.
    ///
    /// # Errors
    /// What is missing, damaged, not understood, or not for this platform.
    pub fn of_docker_archive(file: &Path, tag: Option<&str>) -> Result<Self, ImageError> {
        docker::open(Store::open(file)?, tag)
    }

    /// Reads every layer, and compares it with its digest.
    ///
    /// # Errors
    /// The first layer that is missing or damaged.
    pub fn check(&self) -> Result<(), ImageError> {
        for (layer, nr) in self.layers.iter().zip(1..) {
            match &layer.blob {
                Some((digest, size)) => self.store.check(&layer.file, digest, *size)?,
                None => self.read(layer, nr, |_| Ok(()))?,
            }
        }
        Ok(())
    }

    /// The file system that the layers add up to, of `most` bytes at the most.
    ///
    /// # Errors
    /// The first layer that is missing, damaged, or has in it what cannot be.
    pub fn files(&self, most: u64) -> Result<Tree, ImageError> {
        let mut tree = Tree::default();
        let mut budget = Budget::new(most);
        for (layer, nr) in self.layers.iter().zip(1..) {
            if let Some((digest, size)) = &layer.blob {
                self.store.check(&layer.file, digest, *size)?;
            }
            tree.next_layer();
            self.read(layer, nr, |input| layer::apply(&mut tree, input, &mut budget))?;
        }
        Ok(tree)
    }

    /// Lets `with` read what is in a layer, reads what that leaves, and compares all of it with the digest.
    fn read(
        &self,
        layer: &Layer,
        nr: usize,
        with: impl FnOnce(&mut Hashing<Box<dyn Read + '_>>) -> Result<(), LayerError>,
    ) -> Result<(), ImageError> {
        let (file, _) = self.store.file(&layer.file)?;
        let fault = |source| ImageError::Layer { nr, name: layer.name.clone(), source };
        let broken = |source| fault(LayerError::Broken { after: "its beginning".into(), source });
        let mut input = Hashing::new(unpacked(BufReader::new(file), layer.compression).map_err(broken)?);
        with(&mut input).map_err(fault)?;
        let (found, _) = input.finish().map_err(|source| fault(LayerError::Broken { after: "its last file".into(), source }))?;
        if found != layer.diff_id {
            return Err(fault(LayerError::DiffId { found, wanted: layer.diff_id.clone() }));
        }
        Ok(())
    }
}
