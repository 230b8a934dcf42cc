//! What the first process of a container is told, and who it runs the program as: the parts that decide without doing
//! anything, for the process itself and for whoever writes its configuration.

#![forbid(unsafe_code)]

pub mod attributes;
pub mod config;
pub mod signal;
pub mod user;
