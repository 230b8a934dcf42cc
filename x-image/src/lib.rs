//! OCI images and docker archives: found, checked against their digests, and merged to one file system in memory.
//!
//! Everything in an image is an allegation. Nothing is written to the host: owners, modes, devices and links are values
//! in a [`Tree`], which the caller packs. No input makes this crate panic, and what it keeps is bounded.

#![forbid(unsafe_code)]

mod digest;
mod docker;
mod error;
mod image;
mod layer;
mod layout;
mod path;
mod pax;
mod settings;
mod store;
mod tree;

pub use error::{Fault, ImageError, LayerError};
pub use image::Image;
pub use layer::{Budget, apply};
pub use path::{Path, Target};
pub use settings::{Changes, Settings};
pub use tree::{Content, Found, Inode, Meta, Tree};

/// What containers run on.
pub const PLATFORM: &str = "linux/amd64";
