//! Locks and init-once cells. The order in which locks may be taken is in docs/LOCKING.md and, as types, in [`level`].
//!
//! Interrupts are always off while the X-Kernel runs (except at the idle `sti; hlt` and at explicit windows, where
//! no lock that a handler takes is held), so a lock holder is never interrupted by code that wants it: there is no
//! irq-saving variant here.

pub mod init_once;
pub mod level;
pub mod spin;

pub use init_once::InitOnce;
pub use spin::SpinLock;
