//! The X-Kernel's command line: reads it once and applies what concerns output. The grammar is
//! `pv_core::bootline`; every option has its line in docs/ABI.md.

use pv_core::bootline::{self, Console, Flush, LogLevel, Options};

use crate::arch::x86_64::boot::BootInfo;
use crate::arch::x86_64::{power, serial};
use crate::sync::InitOnce;

static OPTIONS: InitOnce<Options> = InitOnce::new();

/// The options; the defaults before [`init`].
pub fn options() -> Options {
    OPTIONS.get().copied().unwrap_or_default()
}

/// Whether a flush is left out: a negative control, for which an image must have been built on purpose. A test of
/// flushes counts when it fails then.
pub fn leaves_out(flush: Flush) -> bool {
    cfg!(feature = "negative-control") && options().without_flush == Some(flush)
}

/// Reads the command line and directs output accordingly. A word that makes no sense is logged and skipped.
pub fn init(info: &BootInfo) {
    let options = bootline::options(info.cmdline, |error| log::warn!("command line: {error}"));
    if options.debug_exit {
        power::enable_debug_exit();
    }
    let console = match options.console {
        Console::Com1 => serial::Console::Com1,
        Console::Com2 => serial::Console::Com2,
        Console::None => serial::Console::None,
    };
    serial::configure(console, options.stats);
    log::set_max_level(match options.loglevel {
        LogLevel::Error => log::LevelFilter::Error,
        LogLevel::Warn => log::LevelFilter::Warn,
        LogLevel::Info => log::LevelFilter::Info,
        LogLevel::Debug => log::LevelFilter::Debug,
        LogLevel::Trace => log::LevelFilter::Trace,
    });
    match options.without_flush {
        Some(flush) if cfg!(feature = "negative-control") => log::warn!("NOT SAFE: negative control, without the flush {flush:?}"),
        Some(_) => log::warn!("command line: without-flush is for builds with negative controls, of which this is none"),
        None => {}
    }
    let _ = OPTIONS.set(options);
}
