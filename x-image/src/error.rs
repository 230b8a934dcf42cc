//! What can be wrong with an image: each error says what, where, and, if there is something to do, what. Names of files in
//! layers are shown so that they can do nothing to a terminal.

use std::io;

use thiserror::Error;

use crate::PLATFORM;

/// What is wrong with an image.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say what each is")]
pub enum ImageError {
    #[error("cannot read {what}")]
    Read { what: String, source: io::Error },
    #[error("{0} is neither a folder nor a tar archive (one that is compressed must be unpacked first)")]
    Neither(String),
    #[error("{what} is missing in the image")]
    Missing { what: String },
    #[error("{0} is no OCI layout: it has no file oci-layout (a folder without an image goes with --rootfs)")]
    NoLayout(String),
    #[error("{0} is no docker archive: it has no manifest.json (an OCI layout goes with --image)")]
    NoArchive(String),
    #[error("{what} is version {found}, and only {known} is known")]
    Version { what: String, found: String, known: &'static str },
    #[error("{what} is not understood: {why}")]
    Json { what: String, why: String },
    #[error("there is no image '{wanted}', only {there}")]
    NoTag { wanted: String, there: String },
    #[error("there are several images: name one behind a colon ({0})")]
    Several(String),
    #[error("there is no image for {PLATFORM} here, only {0}")]
    NoPlatform(String),
    #[error("the image is for {0}, and containers run on {PLATFORM}")]
    Platform(String),
    #[error("indexes lie in indexes, more than {0} deep")]
    Depth(usize),
    #[error("{what}: the media type '{found}' is not known, only {known}")]
    MediaType { what: String, found: String, known: &'static str },
    #[error("{what}: digests by {found} are not known, only by sha256")]
    Algorithm { what: String, found: String },
    #[error("{what} has {found} bytes instead of {wanted}: it is cut off or damaged")]
    Size { what: String, found: u64, wanted: u64 },
    #[error("{what} does not match its digest: it is {found} instead of {wanted}")]
    Digest { what: String, found: String, wanted: String },
    #[error("the manifest has {layers} layers, and the image's configuration {diff_ids}")]
    Layers { layers: usize, diff_ids: usize },
    #[error("layer {nr} ({name})")]
    Layer { nr: usize, name: String, source: LayerError },
}

/// What is wrong with a layer.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say what each is")]
pub enum LayerError {
    #[error("it is cut off or damaged, after '{}'", after.escape_debug())]
    Broken { after: String, source: io::Error },
    #[error("unpacked it is {found} instead of {wanted}, which the image's configuration has")]
    DiffId { found: String, wanted: String },
    #[error("the image takes more than {0} unpacked")]
    TooMuch(String),
    #[error("'{}': {fault}", path.escape_debug())]
    Entry { path: String, fault: Fault },
}

/// What is wrong with a file in a layer.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[expect(missing_docs, reason = "the messages say what each is")]
pub enum Fault {
    #[error("the path climbs out of the image by '..'")]
    ClimbsOut,
    #[error("the path is absolute")]
    Absolute,
    #[error("the path is empty")]
    Empty,
    #[error("the path leads out of the image through the symbolic link '{}'", .0.escape_debug())]
    LinkClimbsOut(String),
    #[error("the path leads through the symbolic link '{}' to nothing", .0.escape_debug())]
    LinkLeadsNowhere(String),
    #[error("the path leads through too many symbolic links")]
    LinkLoop,
    #[error("the path leads through '{}', which is no folder", .0.escape_debug())]
    NoFolder(String),
    #[error("the path, or a name in it, is too long or too deep")]
    TooLong,
    #[error("the path is not UTF-8, or has a NUL in it")]
    NoText,
    #[error("hard link to '{}': {why}", target.escape_debug())]
    HardLink { target: String, why: String },
    #[error("it removes what is of the same layer: a whiteout is for what earlier layers have")]
    OwnWhiteout,
    #[error("a whiteout that names nothing")]
    EmptyWhiteout,
    #[error("names that begin with .wh. say that something is gone, and nothing can be below them")]
    BelowWhiteout,
    #[error("the root of the file system can only be a folder")]
    Root,
    #[error("a symbolic link to nothing, or to more than a path can hold")]
    BadLink,
    #[error("{0} is not a number that fits")]
    Number(&'static str),
    #[error("a sparse file, or one of 4 GiB or more")]
    Size,
    #[error("a malformed extended header")]
    Extended,
    #[error("a kind of file that is not known: type '{}'", .0.escape_default())]
    Kind(char),
}
