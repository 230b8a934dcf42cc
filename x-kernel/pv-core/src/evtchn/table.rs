//! One domain's ports.
//!
//! Invariants: a VIRQ on a vCPU, and a consumer, has at most one port, and the reverse tables agree with the
//! ports. A link between two tables is one-sided while it is made or torn down by two locks in turn; it is believed
//! only where both ends name each other, which [`EvtchnTable::arrive`] checks on every event.

use alloc::vec::Vec;

use xen_abi::event_channel::NR_VIRQS;

use super::EvtchnError;
use super::port::{Closed, Consumer, MAX_PORTS, Notify, Port, PortState, PortStatus, Sent, virq_is_global};
use crate::frame::DomId;

/// A port and the vCPU that it notifies.
#[derive(Clone, Copy, Debug, Default)]
struct Channel {
    state: PortState,
    vcpu: u32,
}

/// A domain's event channels. See the module.
#[derive(Debug)]
pub struct EvtchnTable {
    domain: DomId,
    vcpus: u32,
    channels: Vec<Channel>,
    /// Port by VIRQ and vCPU, at `vcpu * NR_VIRQS + virq`.
    virqs: Vec<Option<Port>>,
    /// Port by consumer.
    consumers: [Option<Port>; Consumer::COUNT],
    /// Every port below is in use: where the search for a free one starts.
    first_free: u32,
    /// Ports in use.
    used: u32,
}

/// What `bind_interdomain` did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "the first event is to be delivered"]
pub struct Bound {
    /// The new local port.
    pub port: Port,
    /// To be delivered at once: events sent to the remote port before it was bound were lost.
    pub notify: Notify,
}

impl EvtchnTable {
    /// The table of `domain` with `vcpus` vCPUs: all the memory it will ever take.
    ///
    /// # Errors
    /// [`EvtchnError::NoMemory`].
    pub fn new(domain: DomId, vcpus: u32) -> Result<Self, EvtchnError> {
        let ports = usize::try_from(MAX_PORTS).map_err(|_| EvtchnError::NoMemory)?;
        let mut channels = Vec::new();
        channels.try_reserve_exact(ports).map_err(|_| EvtchnError::NoMemory)?;
        channels.resize(ports, Channel::default());
        let slots = vcpus.checked_mul(NR_VIRQS).and_then(|n| usize::try_from(n).ok()).ok_or(EvtchnError::NoMemory)?;
        let mut virqs = Vec::new();
        virqs.try_reserve_exact(slots).map_err(|_| EvtchnError::NoMemory)?;
        virqs.resize(slots, None);
        Ok(Self { domain, vcpus, channels, virqs, consumers: [None; Consumer::COUNT], first_free: 1, used: 0 })
    }

    /// The domain whose table it is.
    pub fn domain(&self) -> DomId {
        self.domain
    }

    /// Ports in use: 0 after teardown.
    pub fn used(&self) -> u32 {
        self.used
    }

    /// `EVTCHNOP_alloc_unbound`: a port that `remote` may bind to.
    ///
    /// # Errors
    /// [`EvtchnError::NoSpace`].
    pub fn alloc_unbound(&mut self, remote: DomId) -> Result<Port, EvtchnError> {
        self.allocate(PortState::Unbound { remote }, 0)
    }

    /// A port whose peer is the X-Kernel, notifying vCPU 0.
    ///
    /// # Errors
    /// [`EvtchnError::Exists`] if the consumer has one, [`EvtchnError::NoSpace`].
    pub fn alloc_kernel(&mut self, consumer: Consumer) -> Result<Port, EvtchnError> {
        let known = self.consumers.get(consumer.index()).copied().flatten();
        if known.is_some() {
            return Err(EvtchnError::Exists);
        }
        let port = self.allocate(PortState::Kernel { consumer }, 0)?;
        if let Some(slot) = self.consumers.get_mut(consumer.index()) {
            *slot = Some(port);
        }
        Ok(port)
    }

    /// `EVTCHNOP_bind_interdomain`: binds a new local port to `port` of `remote`, which waits for `local`.
    ///
    /// `remote` is None for a port of `local` itself.
    ///
    /// # Errors
    /// [`EvtchnError::BadPort`], [`EvtchnError::RemoteRefuses`], [`EvtchnError::NoSpace`].
    pub fn bind_interdomain(local: &mut Self, remote: Option<&mut Self>, port: Port) -> Result<Bound, EvtchnError> {
        let peer = remote.as_deref().unwrap_or(&*local);
        let remote_domain = peer.domain;
        match peer.channel(port)?.state {
            PortState::Unbound { remote } if remote == local.domain => {}
            _ => return Err(EvtchnError::RemoteRefuses),
        }
        let local_domain = local.domain;
        let new = local.allocate(PortState::Interdomain { remote: remote_domain, port }, 0)?;
        let peer = remote.unwrap_or(&mut *local);
        peer.channel_mut(port)?.state = PortState::Interdomain { remote: local_domain, port: new };
        Ok(Bound { port: new, notify: Notify { domain: local_domain, vcpu: 0, port: new } })
    }

    /// `EVTCHNOP_bind_virq`.
    ///
    /// # Errors
    /// [`EvtchnError::BadVirq`], [`EvtchnError::NoVcpu`], [`EvtchnError::Exists`], [`EvtchnError::NoSpace`].
    pub fn bind_virq(&mut self, virq: u32, vcpu: u32) -> Result<Port, EvtchnError> {
        if virq >= NR_VIRQS || (virq_is_global(virq) && vcpu != 0) {
            return Err(EvtchnError::BadVirq);
        }
        self.check_vcpu(vcpu)?;
        if self.virq_port(virq, vcpu).is_some() {
            return Err(EvtchnError::Exists);
        }
        let port = self.allocate(PortState::Virq { virq, vcpu }, vcpu)?;
        if let Some(slot) = self.virq_slot(virq, vcpu) {
            *slot = Some(port);
        }
        Ok(port)
    }

    /// `EVTCHNOP_bind_ipi`.
    ///
    /// # Errors
    /// [`EvtchnError::NoVcpu`], [`EvtchnError::NoSpace`].
    pub fn bind_ipi(&mut self, vcpu: u32) -> Result<Port, EvtchnError> {
        self.check_vcpu(vcpu)?;
        self.allocate(PortState::Ipi, vcpu)
    }

    /// `EVTCHNOP_close`: frees the port.
    ///
    /// The caller clears the port's pending bit before it gives up this table's lock, then tells the peer's table,
    /// under that table's lock, by [`Self::peer_closed`].
    ///
    /// # Errors
    /// [`EvtchnError::BadPort`].
    pub fn close(&mut self, port: Port) -> Result<Closed, EvtchnError> {
        let was = self.channel(port)?.state;
        match was {
            PortState::Virq { virq, vcpu } => {
                if let Some(slot) = self.virq_slot(virq, vcpu) {
                    *slot = None;
                }
            }
            PortState::Kernel { consumer } => {
                if let Some(slot) = self.consumers.get_mut(consumer.index()) {
                    *slot = None;
                }
            }
            PortState::Free | PortState::Unbound { .. } | PortState::Interdomain { .. } | PortState::Ipi => {}
        }
        *self.channel_mut(port)? = Channel::default();
        self.first_free = self.first_free.min(port.raw());
        self.used = self.used.saturating_sub(1);
        Ok(Closed { port, was })
    }

    /// The peer of `port`, which was `from_port` of `from`, has been closed: `port` waits for `from` again.
    ///
    /// Does nothing if `port` is not, or no longer, that peer's.
    pub fn peer_closed(&mut self, port: Port, from: DomId, from_port: Port) {
        let linked = PortState::Interdomain { remote: from, port: from_port };
        if let Ok(channel) = self.channel_mut(port)
            && channel.state == linked
        {
            channel.state = PortState::Unbound { remote: from };
        }
    }

    /// Closes up to `budget` ports for reset or teardown, telling each to `closed`; whether none is left.
    ///
    /// Called again until it says so: 4096 at once would be too long a stretch (XSA-344). `closed` must not take
    /// another table's lock under this one except in the order of domain ids.
    pub fn close_some(&mut self, budget: u32, mut closed: impl FnMut(Closed)) -> bool {
        let mut left = budget;
        for raw in 1..MAX_PORTS {
            if self.used == 0 {
                break;
            }
            if left == 0 {
                return false;
            }
            if let Some(port) = Port::new(raw)
                && let Ok(was) = self.close(port)
            {
                left = left.saturating_sub(1);
                closed(was);
            }
        }
        self.used == 0
    }

    /// `EVTCHNOP_send`: where an event sent through `port` goes.
    ///
    /// Looks only at the sender's table, so no two locks are held: for [`Sent::Peer`] the caller lets go of this
    /// one, takes the peer's and asks it.
    ///
    /// # Errors
    /// [`EvtchnError::BadPort`]; [`EvtchnError::WrongState`] for a VIRQ.
    pub fn send(&self, port: Port) -> Result<Sent, EvtchnError> {
        let channel = self.channel(port)?;
        match channel.state {
            PortState::Interdomain { remote, port } => Ok(Sent::Peer { domain: remote, port }),
            PortState::Ipi => Ok(Sent::Local(Notify { domain: self.domain, vcpu: channel.vcpu, port })),
            PortState::Kernel { consumer } => Ok(Sent::Kernel(consumer)),
            PortState::Unbound { .. } => Ok(Sent::Nowhere),
            PortState::Virq { .. } => Err(EvtchnError::WrongState),
            PortState::Free => Err(EvtchnError::BadPort),
        }
    }

    /// An event from `from_port` of `from` reaches `port`; None if they are not each other's peer any more.
    pub fn arrive(&self, port: Port, from: DomId, from_port: Port) -> Option<Notify> {
        let channel = self.channel(port).ok()?;
        let linked = PortState::Interdomain { remote: from, port: from_port };
        (channel.state == linked).then_some(Notify { domain: self.domain, vcpu: channel.vcpu, port })
    }

    /// The event that tells the guest of `virq` on `vcpu` (0 for a global one), if it is bound.
    pub fn raise_virq(&self, virq: u32, vcpu: u32) -> Option<Notify> {
        self.notify(self.virq_port(virq, vcpu)?)
    }

    /// The event that tells the guest that `consumer` has something for it, if bound.
    pub fn raise_kernel(&self, consumer: Consumer) -> Option<Notify> {
        self.notify(self.kernel_port(consumer)?)
    }

    /// The port of `virq` on `vcpu`.
    pub fn virq_port(&self, virq: u32, vcpu: u32) -> Option<Port> {
        self.virqs.get(Self::virq_index(virq, vcpu)?).copied().flatten()
    }

    /// The port whose peer is `consumer`.
    pub fn kernel_port(&self, consumer: Consumer) -> Option<Port> {
        self.consumers.get(consumer.index()).copied().flatten()
    }

    /// `EVTCHNOP_status`. A free port has a status too.
    pub fn status(&self, port: Port) -> PortStatus {
        self.channels
            .get(port.index())
            .map_or(PortStatus { state: PortState::Free, vcpu: 0 }, |c| PortStatus { state: c.state, vcpu: c.vcpu })
    }

    /// `EVTCHNOP_bind_vcpu`: `port` notifies `vcpu` from now on.
    ///
    /// # Errors
    /// [`EvtchnError::NoVcpu`], [`EvtchnError::BadPort`]; [`EvtchnError::WrongState`] for an IPI and a per-vCPU VIRQ.
    pub fn bind_vcpu(&mut self, port: Port, vcpu: u32) -> Result<(), EvtchnError> {
        self.check_vcpu(vcpu)?;
        let channel = self.channel_mut(port)?;
        match channel.state {
            PortState::Ipi => return Err(EvtchnError::WrongState),
            PortState::Virq { virq, .. } if !virq_is_global(virq) => return Err(EvtchnError::WrongState),
            _ => {}
        }
        channel.vcpu = vcpu;
        Ok(())
    }

    /// The vCPU that `port` notifies: what `EVTCHNOP_unmask` and [`unmask`](super::unmask) need.
    ///
    /// # Errors
    /// [`EvtchnError::BadPort`].
    pub fn notify_vcpu(&self, port: Port) -> Result<u32, EvtchnError> {
        self.channel(port).map(|c| c.vcpu)
    }

    /// An event on `port`, if it is in use.
    pub fn notify(&self, port: Port) -> Option<Notify> {
        let vcpu = self.notify_vcpu(port).ok()?;
        Some(Notify { domain: self.domain, vcpu, port })
    }

    /// Every port in use, for the census and the debug key.
    pub fn iter(&self) -> impl Iterator<Item = (Port, PortStatus)> + '_ {
        (1..MAX_PORTS).filter_map(Port::new).map(|p| (p, self.status(p))).filter(|(_, s)| s.state != PortState::Free)
    }

    fn allocate(&mut self, state: PortState, vcpu: u32) -> Result<Port, EvtchnError> {
        let free = (self.first_free..MAX_PORTS).filter_map(Port::new).find(|p| self.status(*p).state == PortState::Free);
        let Some(port) = free else {
            self.first_free = MAX_PORTS;
            return Err(EvtchnError::NoSpace);
        };
        let slot = self.channels.get_mut(port.index()).ok_or(EvtchnError::NoSpace)?;
        *slot = Channel { state, vcpu };
        self.first_free = port.raw().saturating_add(1);
        self.used = self.used.saturating_add(1);
        Ok(port)
    }

    /// The channel of a port that is in use.
    fn channel(&self, port: Port) -> Result<&Channel, EvtchnError> {
        self.channels.get(port.index()).filter(|c| c.state != PortState::Free).ok_or(EvtchnError::BadPort)
    }

    fn channel_mut(&mut self, port: Port) -> Result<&mut Channel, EvtchnError> {
        self.channels.get_mut(port.index()).filter(|c| c.state != PortState::Free).ok_or(EvtchnError::BadPort)
    }

    fn check_vcpu(&self, vcpu: u32) -> Result<(), EvtchnError> {
        if vcpu < self.vcpus { Ok(()) } else { Err(EvtchnError::NoVcpu) }
    }

    fn virq_index(virq: u32, vcpu: u32) -> Option<usize> {
        if virq >= NR_VIRQS {
            return None;
        }
        usize::try_from(vcpu.checked_mul(NR_VIRQS)?.checked_add(virq)?).ok()
    }

    fn virq_slot(&mut self, virq: u32, vcpu: u32) -> Option<&mut Option<Port>> {
        self.virqs.get_mut(Self::virq_index(virq, vcpu)?)
    }
}
