//! Tests that need the real machine: run before the first guest when the command line says `selftest`.
//!
//! A case is a function registered by [`selftest!`]; the linker gathers them in `.selftest`. Each prints one line;
//! the verdict leaves the machine through the debug-exit device, which is the caller's to write to.

// UNSAFETY: reads the array of cases between two linker symbols.
#![expect(unsafe_code, reason = "the cases are delimited by linker symbols")]
#![expect(clippy::arithmetic_side_effects, reason = "a case that overflows has failed")]

mod alloc_cases;
mod locks;
mod paging;
mod space;
mod tlb_cases;
mod window_cases;

/// Why a case failed: the condition that did not hold, and where.
pub type Failure = (&'static str, u32);

/// A case.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// Its body.
    pub run: fn() -> Result<(), Failure>,
}

/// Defines and registers a case: `selftest! { fn name() { ensure!(…); } }`.
macro_rules! selftest {
    ($(#[doc = $doc:literal])* fn $name:ident() $body:block) => {
        $(#[doc = $doc])*
        fn $name() -> Result<(), $crate::selftest::Failure> {
            $body
            Ok(())
        }
        const _: () = {
            #[used]
            #[expect(unsafe_code, reason = "the section holds cases only")]
            #[unsafe(link_section = ".selftest")]
            static CASE: $crate::selftest::Case = $crate::selftest::Case { name: stringify!($name), run: $name };
        };
    };
}

/// Ends a case with a failure unless the condition holds.
macro_rules! ensure {
    ($condition:expr) => {
        if !$condition {
            return Err((stringify!($condition), line!()));
        }
    };
}

/// The value of an `Option`, or the end of the case.
macro_rules! some {
    ($option:expr) => {
        match $option {
            Some(value) => value,
            None => return Err((concat!(stringify!($option), " is none"), line!())),
        }
    };
}

pub(crate) use {ensure, selftest, some};

unsafe extern "C" {
    static __selftest_start: u8;
    static __selftest_end: u8;
}

fn cases() -> &'static [Case] {
    let start = (&raw const __selftest_start).cast::<Case>();
    let bytes = (&raw const __selftest_end as usize).saturating_sub(start as usize);
    // SAFETY: linker.ld puts the symbols around the `.selftest` section, to which `selftest!` alone adds, one
    // `Case` at a time, in read-only memory.
    unsafe { core::slice::from_raw_parts(start, bytes / size_of::<Case>()) }
}

/// Runs every case. True if all of them passed, and there was at least one.
pub fn run() -> bool {
    let mut failed = 0u32;
    for case in cases() {
        match (case.run)() {
            Ok(()) => log::info!("selftest: {} ok", case.name),
            Err((why, line)) => {
                failed = failed.saturating_add(1);
                log::error!("selftest: {} FAILED: {why} (line {line})", case.name);
            }
        }
    }
    let all = cases().len();
    log::info!("selftest: {all} cases, {failed} failed");
    failed == 0 && all != 0
}
