//! Ways into the hypervisor by fault, and out of it by `iret`: each exception arrives once, with its error code; what
//! a guest may not do faults; addresses that no guest can run at are refused. (Rows of the list of attacks by their
//! Xen security advisory.)
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "instructions that fault on purpose")]
#![expect(clippy::undocumented_unsafe_blocks, reason = "the fault is the experiment")]

mod entries;
mod exceptions;
mod privileged;
mod processes;
mod registers;

fn main() {
    exceptions::run();
    entries::run();
    registers::run();
    privileged::run();
    processes::run();
}

ptk::guest!(main);
