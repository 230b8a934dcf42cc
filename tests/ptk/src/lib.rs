//! PV test kit: what a micro-guest needs to talk to a hypervisor, and to say what it saw.
//!
//! A guest is one experiment: it may unmap itself or ask for nonsense, and the worst that can happen is that the
//! experiment fails. So calls that would be unsafe in a program are plain functions here. It prints `CHECK name ok` or
//! `CHECK name FAIL …` for everything it looks at, `VERDICT SUCCESS` or `VERDICT FAILURE`, and powers off.

// UNSAFETY: entry code, instructions that fault on purpose, raw memory of the guest's own.
#![no_std]
#![expect(unsafe_code, reason = "a test kit for a machine without an operating system")]
#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    reason = "a mistake here is a failed experiment"
)]

pub mod check;
pub mod console;
pub mod event;
pub mod grant;
pub mod hypercall;
pub mod instr;
pub mod memory;
pub mod rng;
pub mod start;
pub mod table;
pub mod trap;
pub mod user;
pub mod xmode;

pub use check::finish;
pub use hypercall::{call, hypercall};

/// Names the function that a guest runs, and makes its panics known.
#[macro_export]
macro_rules! guest {
    ($main:path) => {
        #[unsafe(no_mangle)]
        extern "C" fn ptk_main() {
            $main();
            $crate::finish();
        }

        #[panic_handler]
        fn panicked(info: &core::panic::PanicInfo<'_>) -> ! {
            $crate::println!("guest panic: {info}");
            $crate::println!("VERDICT ERROR");
            $crate::check::power_off()
        }
    };
}
