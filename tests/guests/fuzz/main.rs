//! placeholder
#![no_std]
#![no_main]
fn main() {}
ptk::guest!(main);
