//! Event channels of the two-level ABI: who may notify whom, and what a notification writes.
//!
//! [`EvtchnTable`] is one domain's ports and their states; [`deliver`] and [`unmask`] are the protocol on the shared
//! pages, over the [`EventPage`] trait. Nothing here locks: the caller holds the lock of each table it passes, and
//! takes two of them in the order of their domain ids. A send needs only one at a time, see [`EvtchnTable::send`].
//!
//! Refused: FIFO event channels, physical IRQs, priorities (`ENOSYS` in the handler). Answers to Xen's
//! common/event_channel.c and common/event_2l.c.

mod deliver;
#[cfg(test)]
#[cfg(loom)]
mod loom_tests;
mod port;
mod table;
#[cfg(test)]
mod tests;

pub use deliver::{EventPage, Wake, any_pending, deliver, unmask};
pub use port::{Closed, Consumer, MAX_PORTS, Notify, Port, PortState, PortStatus, Sent, virq_is_global};
pub use table::{Bound, EvtchnTable};

use xen_abi::errno::Errno;

/// Why an event channel operation was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EvtchnError {
    /// Not a port of this domain, or a free one.
    BadPort,
    /// The port is in a state that the operation does not apply to.
    WrongState,
    /// The remote port is not one that waits for this domain.
    RemoteRefuses,
    /// No free port.
    NoSpace,
    /// No such vCPU.
    NoVcpu,
    /// No such VIRQ, or a global one asked for on a vCPU other than 0.
    BadVirq,
    /// The VIRQ or the consumer is already bound.
    Exists,
    /// No such domain.
    NoDomain,
    /// Memory is short.
    NoMemory,
}

impl From<EvtchnError> for Errno {
    fn from(error: EvtchnError) -> Self {
        match error {
            EvtchnError::BadPort | EvtchnError::WrongState | EvtchnError::RemoteRefuses | EvtchnError::BadVirq => Self::EINVAL,
            EvtchnError::NoSpace => Self::ENOSPC,
            EvtchnError::NoVcpu => Self::ENOENT,
            EvtchnError::Exists => Self::EEXIST,
            EvtchnError::NoDomain => Self::ESRCH,
            EvtchnError::NoMemory => Self::ENOMEM,
        }
    }
}
