//! PV test kit.
#![no_std]
