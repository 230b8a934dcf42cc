//! Why an image is refused: one readable line that names what is wrong and where.

use alloc::string::String;
use core::fmt;

/// Result of this crate's functions.
pub type Result<T> = core::result::Result<T, ImageError>;

/// Why an image is refused. `Display` is the line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageError {
    /// The file is no kernel of a form that we know.
    NotAKernel,
    /// A part lies outside the file, or outside the part that holds it.
    Outside {
        /// The part.
        what: &'static str,
        /// Where it would begin.
        at: u64,
        /// How long it would be.
        len: u64,
        /// Where what should hold it ends.
        end: u64,
    },
    /// A field has a value that it must not have.
    Value {
        /// The field.
        what: &'static str,
        /// What it holds.
        value: u64,
        /// What it breaks.
        rule: &'static str,
    },
    /// Two segments claim the same memory.
    Overlap {
        /// Where the one begins.
        first: u64,
        /// Where the other begins.
        second: u64,
    },
    /// Something that every PV kernel has is not there.
    Missing(&'static str),
    /// The kernel requires a feature that we do not have.
    Feature(String),
    /// The packed kernel cannot be unpacked.
    Unpack {
        /// Its format.
        format: &'static str,
        /// What went wrong.
        why: &'static str,
        /// Bytes unpacked by then.
        at: u64,
    },
    /// Kernel, initrd and tables need more frames than the domain has.
    TooSmall {
        /// Frames needed.
        need: u64,
        /// Frames there are.
        have: u64,
    },
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAKernel => f.write_str("neither an ELF image nor a bzImage"),
            Self::Outside { what, at, len, end } => write!(f, "{what}: {len:#x} bytes at {at:#x} pass the end at {end:#x}"),
            Self::Value { what, value, rule } => write!(f, "{what} is {value:#x}: {rule}"),
            Self::Overlap { first, second } => write!(f, "the segments at {first:#x} and {second:#x} overlap"),
            Self::Missing(what) => write!(f, "it has no {what}"),
            Self::Feature(name) => write!(f, "it requires the feature {name}, which is not provided"),
            Self::Unpack { format, why, at } => write!(f, "{format}: {why}, after {at} bytes"),
            Self::TooSmall { need, have } => write!(f, "kernel, initrd and page tables need {need} pages, the domain has {have}"),
        }
    }
}

impl core::error::Error for ImageError {}
