//! Ports and what they are bound to: the words that event channels are spoken of in.

use xen_abi::event_channel::{VIRQ_DEBUG, VIRQ_TIMER, VIRQ_XENOPROF, VIRQ_XENPMU};

use crate::frame::DomId;

/// Ports of a two-level domain, port 0 included: 64 selector bits of 64 pending bits each.
pub const MAX_PORTS: u32 = 4096;

/// Whether `virq` exists once per domain; the others exist once per vCPU.
pub fn virq_is_global(virq: u32) -> bool {
    !matches!(virq, VIRQ_TIMER | VIRQ_DEBUG | VIRQ_XENOPROF | VIRQ_XENPMU)
}

/// A port number that the two-level ABI can express: 1 to 4095. Whether it is in use, a table knows.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct Port(u16);

impl Port {
    /// The port that a guest alleges.
    pub fn new(raw: u32) -> Option<Self> {
        match u16::try_from(raw) {
            Ok(port) if port != 0 && raw < MAX_PORTS => Some(Self(port)),
            _ => None,
        }
    }

    /// The number, for the guest.
    pub fn raw(self) -> u32 {
        u32::from(self.0)
    }

    /// Word of the pending and mask arrays, and bit of the selector.
    pub fn word(self) -> u32 {
        u32::from(self.0 >> 6)
    }

    /// Bit within that word.
    pub fn bit(self) -> u32 {
        u32::from(self.0 & 63)
    }

    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A part of the X-Kernel that is the peer of a port.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Consumer {
    /// The backend of the PV console.
    Console,
    /// The xenstore service.
    Store,
}

impl Consumer {
    /// How many there are.
    pub(super) const COUNT: usize = 2;

    pub(super) fn index(self) -> usize {
        match self {
            Self::Console => 0,
            Self::Store => 1,
        }
    }
}

/// What a port is bound to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum PortState {
    /// Nothing: may be allocated.
    #[default]
    Free,
    /// Waits for a port of `remote` to be bound to it.
    Unbound {
        /// The domain that may bind.
        remote: DomId,
    },
    /// Peer of a port of a domain, which may be its own.
    Interdomain {
        /// The peer's domain.
        remote: DomId,
        /// The peer.
        port: Port,
    },
    /// Peer of the X-Kernel itself.
    Kernel {
        /// The part of it.
        consumer: Consumer,
    },
    /// A virtual interrupt.
    Virq {
        /// Its number, below `NR_VIRQS`.
        virq: u32,
        /// The vCPU that it was bound on: 0 for a global one.
        vcpu: u32,
    },
    /// Notified by its own domain.
    Ipi,
}

/// An event to deliver: its page is `domain`'s.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "an event that is not delivered is lost"]
pub struct Notify {
    /// Whose port.
    pub domain: DomId,
    /// The vCPU that is to be told.
    pub vcpu: u32,
    /// The port to set pending.
    pub port: Port,
}

/// What a send came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "a send is only done once it has arrived"]
pub enum Sent {
    /// To the sender's own domain: deliver it.
    Local(Notify),
    /// To `port` of `domain`: ask that domain's table by [`arrive`](super::EvtchnTable::arrive).
    Peer {
        /// The peer's domain; may be the sender's own.
        domain: DomId,
        /// The peer.
        port: Port,
    },
    /// To a part of the X-Kernel.
    Kernel(Consumer),
    /// To nobody: the port is not bound yet. The sender sees success.
    Nowhere,
}

/// A port that was just closed, and who has to hear of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "the pending bit is to be cleared and the peer told"]
pub struct Closed {
    /// The port, free now. Its pending bit is to be cleared before it can be given out again.
    pub port: Port,
    /// What it was bound to. For `Interdomain`, call [`peer_closed`](super::EvtchnTable::peer_closed) there.
    pub was: PortState,
}

/// What `EVTCHNOP_status` tells.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PortStatus {
    /// What it is bound to.
    pub state: PortState,
    /// The vCPU that it notifies.
    pub vcpu: u32,
}
