//! Event channels: `event_channel_op`, virtual interrupts, the FIFO layout (event_channel.h, xen.h).
//!
//! A port is a `u32`; port 0 is never used. The two-level pending and mask bits are in [`shared_info`](crate::shared_info).
#![expect(non_upper_case_globals, reason = "C spelling")]

pub use crate::shared_info::EVTCHN_2L_NR_CHANNELS;

/// Connects to another domain's unbound port: [`EvtchnBindInterdomain`].
pub const EVTCHNOP_bind_interdomain: u32 = 0;
/// Binds a virtual interrupt: [`EvtchnBindVirq`].
pub const EVTCHNOP_bind_virq: u32 = 1;
/// Binds a physical interrupt: [`EvtchnBindPirq`].
pub const EVTCHNOP_bind_pirq: u32 = 2;
/// Closes a port: [`EvtchnClose`].
pub const EVTCHNOP_close: u32 = 3;
/// Notifies the other end: [`EvtchnSend`].
pub const EVTCHNOP_send: u32 = 4;
/// Describes a port: [`EvtchnStatus`].
pub const EVTCHNOP_status: u32 = 5;
/// Allocates a port for another domain to connect to: [`EvtchnAllocUnbound`].
pub const EVTCHNOP_alloc_unbound: u32 = 6;
/// Binds a port to a vCPU of the caller: [`EvtchnBindIpi`].
pub const EVTCHNOP_bind_ipi: u32 = 7;
/// Chooses the vCPU that a port notifies: [`EvtchnBindVcpu`].
pub const EVTCHNOP_bind_vcpu: u32 = 8;
/// Unmasks a port: [`EvtchnUnmask`].
pub const EVTCHNOP_unmask: u32 = 9;
/// Closes all ports: [`EvtchnReset`].
pub const EVTCHNOP_reset: u32 = 10;
/// FIFO: sets a vCPU's control block: [`EvtchnInitControl`].
pub const EVTCHNOP_init_control: u32 = 11;
/// FIFO: adds a page of event words: [`EvtchnExpandArray`].
pub const EVTCHNOP_expand_array: u32 = 12;
/// FIFO: sets a port's priority: [`EvtchnSetPriority`].
pub const EVTCHNOP_set_priority: u32 = 13;

/// A vCPU's timer has expired. Per vCPU.
pub const VIRQ_TIMER: u32 = 0;
/// The guest should print its state. Per vCPU.
pub const VIRQ_DEBUG: u32 = 1;
/// Input on the emergency console. Initial domain.
pub const VIRQ_CONSOLE: u32 = 2;
/// Something happened to a domain. Initial domain.
pub const VIRQ_DOM_EXC: u32 = 3;
/// Trace records are ready. Initial domain.
pub const VIRQ_TBUF: u32 = 4;
/// A domain has stopped for its debugger. Initial domain.
pub const VIRQ_DEBUGGER: u32 = 6;
/// A profile sample is ready. Per vCPU.
pub const VIRQ_XENOPROF: u32 = 7;
/// Output on the console ring. Initial domain.
pub const VIRQ_CON_RING: u32 = 8;
/// A processor came or went. Initial domain.
pub const VIRQ_PCPU_STATE: u32 = 9;
/// A memory event. Initial domain.
pub const VIRQ_MEM_EVENT: u32 = 10;
/// An Argo message.
pub const VIRQ_ARGO: u32 = 11;
/// Memory is short. Initial domain.
pub const VIRQ_ENOMEM: u32 = 12;
/// A performance counter has overflowed. Per vCPU.
pub const VIRQ_XENPMU: u32 = 13;
/// First architecture-specific number; on x86 a machine check. Initial domain.
pub const VIRQ_ARCH_0: u32 = 16;
/// Last architecture-specific number.
pub const VIRQ_ARCH_7: u32 = 23;
/// Virtual interrupts there are.
pub const NR_VIRQS: u32 = 24;

/// `EvtchnStatus::status`: free.
pub const EVTCHNSTAT_closed: u32 = 0;
/// Waits for a domain to connect.
pub const EVTCHNSTAT_unbound: u32 = 1;
/// Connected.
pub const EVTCHNSTAT_interdomain: u32 = 2;
/// Bound to a physical interrupt.
pub const EVTCHNSTAT_pirq: u32 = 3;
/// Bound to a virtual interrupt.
pub const EVTCHNSTAT_virq: u32 = 4;
/// Bound to a vCPU of the same domain.
pub const EVTCHNSTAT_ipi: u32 = 5;

/// `EvtchnBindPirq::flags`: others may share the interrupt.
pub const BIND_PIRQ__WILL_SHARE: u32 = 1;

/// Highest FIFO priority.
pub const EVTCHN_FIFO_PRIORITY_MAX: u32 = 0;
/// FIFO priority of a port that was given none.
pub const EVTCHN_FIFO_PRIORITY_DEFAULT: u32 = 7;
/// Lowest FIFO priority.
pub const EVTCHN_FIFO_PRIORITY_MIN: u32 = 15;
/// FIFO queues per vCPU.
pub const EVTCHN_FIFO_MAX_QUEUES: usize = 16;
/// Bit of an event word: pending.
pub const EVTCHN_FIFO_PENDING: u32 = 31;
/// Bit of an event word: masked.
pub const EVTCHN_FIFO_MASKED: u32 = 30;
/// Bit of an event word: in a queue.
pub const EVTCHN_FIFO_LINKED: u32 = 29;
/// Bit of an event word: being queued.
pub const EVTCHN_FIFO_BUSY: u32 = 28;
/// Bits of an event word that name the next port.
pub const EVTCHN_FIFO_LINK_BITS: u32 = 17;
/// Mask of those bits.
pub const EVTCHN_FIFO_LINK_MASK: u32 = (1 << EVTCHN_FIFO_LINK_BITS) - 1;
/// Ports of the FIFO layout.
pub const EVTCHN_FIFO_NR_CHANNELS: u32 = 1 << EVTCHN_FIFO_LINK_BITS;

abi_structs! {
    /// `struct evtchn_alloc_unbound`.
    pub struct EvtchnAllocUnbound: 8 {
        /// In: the domain that gets the port.
        pub dom: u16,
        /// In: the domain that may connect.
        pub remote_dom: u16,
        /// Out: the port.
        pub port: u32,
    }

    /// `struct evtchn_bind_interdomain`.
    pub struct EvtchnBindInterdomain: 12 {
        /// In: the other domain.
        pub remote_dom: u16,
        /// Padding.
        pub _pad0: u16,
        /// In: its port.
        pub remote_port: u32,
        /// Out: the caller's port.
        pub local_port: u32,
    }

    /// `struct evtchn_bind_virq`.
    pub struct EvtchnBindVirq: 12 {
        /// In: `VIRQ_*`.
        pub virq: u32,
        /// In: the vCPU.
        pub vcpu: u32,
        /// Out: the port.
        pub port: u32,
    }

    /// `struct evtchn_bind_pirq`.
    pub struct EvtchnBindPirq: 12 {
        /// In: the interrupt.
        pub pirq: u32,
        /// In: `BIND_PIRQ__*`.
        pub flags: u32,
        /// Out: the port.
        pub port: u32,
    }

    /// `struct evtchn_bind_ipi`.
    pub struct EvtchnBindIpi: 8 {
        /// In: the vCPU.
        pub vcpu: u32,
        /// Out: the port.
        pub port: u32,
    }

    /// `struct evtchn_close`.
    pub struct EvtchnClose: 4 {
        /// In.
        pub port: u32,
    }

    /// `struct evtchn_send`.
    pub struct EvtchnSend: 4 {
        /// In.
        pub port: u32,
    }

    /// `struct evtchn_status`.
    pub struct EvtchnStatus: 24 {
        /// In: the domain.
        pub dom: u16,
        /// Padding.
        pub _pad0: u16,
        /// In: its port.
        pub port: u32,
        /// Out: `EVTCHNSTAT_*`.
        pub status: u32,
        /// Out: the vCPU that it notifies.
        pub vcpu: u32,
        /// Out: remote domain (`unbound`, `interdomain`), `pirq` or `virq`.
        pub u0: u32,
        /// Out: remote port (`interdomain`).
        pub u1: u32,
    }

    /// `struct evtchn_bind_vcpu`.
    pub struct EvtchnBindVcpu: 8 {
        /// In.
        pub port: u32,
        /// In.
        pub vcpu: u32,
    }

    /// `struct evtchn_unmask`.
    pub struct EvtchnUnmask: 4 {
        /// In.
        pub port: u32,
    }

    /// `struct evtchn_reset`.
    pub struct EvtchnReset: 2 {
        /// In.
        pub dom: u16,
    }

    /// `struct evtchn_init_control`.
    pub struct EvtchnInitControl: 24 {
        /// In: frame of the control block.
        pub control_gfn: u64,
        /// In: its byte offset.
        pub offset: u32,
        /// In: the vCPU.
        pub vcpu: u32,
        /// Out: bits that name a port in an event word.
        pub link_bits: u8,
        /// Padding.
        pub _pad: [u8; 7],
    }

    /// `struct evtchn_expand_array`.
    pub struct EvtchnExpandArray: 8 {
        /// In: frame of 1024 event words.
        pub array_gfn: u64,
    }

    /// `struct evtchn_set_priority`.
    pub struct EvtchnSetPriority: 8 {
        /// In.
        pub port: u32,
        /// In.
        pub priority: u32,
    }

    /// `struct evtchn_fifo_control_block`.
    pub struct EvtchnFifoControlBlock: 72 {
        /// Bit per priority with events.
        pub ready: u32,
        /// Padding.
        pub _rsvd: u32,
        /// First port of each queue.
        pub head: [u32; EVTCHN_FIFO_MAX_QUEUES],
    }
}

impl EvtchnStatus {
    /// Fills in the `unbound` reading: who may connect.
    pub const fn set_unbound_dom(&mut self, dom: u16) {
        (self.u0, self.u1) = (dom as u32, 0);
    }

    /// Fills in the `interdomain` reading: the other end.
    pub const fn set_interdomain(&mut self, dom: u16, port: u32) {
        (self.u0, self.u1) = (dom as u32, port);
    }

    /// Fills in the `virq` reading.
    pub const fn set_virq(&mut self, virq: u32) {
        (self.u0, self.u1) = (virq, 0);
    }
}
