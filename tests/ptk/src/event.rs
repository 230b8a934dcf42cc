//! Event channels: polled for most experiments, by upcall where that is the experiment.

use core::sync::atomic::{AtomicU64, Ordering};

use xen_abi::callback::{CALLBACKOP_register, CALLBACKTYPE_event, CALLBACKTYPE_failsafe, CallbackRegister};
use xen_abi::event_channel::*;
use xen_abi::hypercall::{__HYPERVISOR_callback_op, __HYPERVISOR_event_channel_op};
use xen_abi::shared_info::{offset, vcpu_info_offset};

use crate::{call, memory, trap};

static UPCALLS: AtomicU64 = AtomicU64::new(0);

/// Registers the entry points.
pub fn install() {
    for (kind, vector) in [(CALLBACKTYPE_event, 256), (CALLBACKTYPE_failsafe, 257)] {
        let mut register = CallbackRegister { r#type: kind, address: trap::stub(vector), ..CallbackRegister::default() };
        call(__HYPERVISOR_callback_op, CALLBACKOP_register, &mut register);
    }
}

/// An upcall: counted, and its flag taken back.
pub fn upcall() {
    UPCALLS.fetch_add(1, Ordering::Relaxed);
    memory::set_vcpu_info_byte(vcpu_info_offset::UPCALL_PENDING, 0);
    memory::shared_word(offset::VCPU_INFO + vcpu_info_offset::PENDING_SEL).store(0, Ordering::SeqCst);
    for n in 0..64 {
        memory::shared_word(offset::EVTCHN_PENDING + n * 8).store(0, Ordering::SeqCst);
    }
}

/// Upcalls taken so far.
pub fn upcalls() -> u64 {
    UPCALLS.load(Ordering::Relaxed)
}

/// Where they are counted.
pub fn upcalls_at() -> u64 {
    UPCALLS.as_ptr() as u64
}

/// Lets upcalls in, or keeps them out.
pub fn mask_upcalls(mask: bool) {
    memory::set_vcpu_info_byte(vcpu_info_offset::UPCALL_MASK, u8::from(mask));
}

/// Whether `port` is pending, after which it is not.
pub fn take(port: u32) -> bool {
    let word = memory::shared_word(offset::EVTCHN_PENDING + (port / 64) as usize * 8);
    word.fetch_and(!(1 << (port % 64)), Ordering::SeqCst) & 1 << (port % 64) != 0
}

/// `alloc_unbound` for `remote`, in one's own domain: the port or the error.
pub fn alloc_unbound(remote: u16) -> Result<u32, i64> {
    let mut op = EvtchnAllocUnbound { dom: xen_abi::domid::DOMID_SELF, remote_dom: remote, port: 0 };
    answer(op_of(EVTCHNOP_alloc_unbound, &mut op)).map(|()| op.port)
}

/// `bind_interdomain`.
pub fn bind_interdomain(remote: u16, port: u32) -> Result<u32, i64> {
    let mut op = EvtchnBindInterdomain { remote_dom: remote, remote_port: port, ..EvtchnBindInterdomain::default() };
    answer(op_of(EVTCHNOP_bind_interdomain, &mut op)).map(|()| op.local_port)
}

/// `bind_virq`.
pub fn bind_virq(virq: u32, vcpu: u32) -> Result<u32, i64> {
    let mut op = EvtchnBindVirq { virq, vcpu, port: 0 };
    answer(op_of(EVTCHNOP_bind_virq, &mut op)).map(|()| op.port)
}

/// `bind_ipi`.
pub fn bind_ipi(vcpu: u32) -> Result<u32, i64> {
    let mut op = EvtchnBindIpi { vcpu, port: 0 };
    answer(op_of(EVTCHNOP_bind_ipi, &mut op)).map(|()| op.port)
}

/// `send`.
pub fn send(port: u32) -> i64 {
    op_of(EVTCHNOP_send, &mut EvtchnSend { port })
}

/// `close`.
pub fn close(port: u32) -> i64 {
    op_of(EVTCHNOP_close, &mut EvtchnClose { port })
}

/// `unmask`.
pub fn unmask(port: u32) -> i64 {
    op_of(EVTCHNOP_unmask, &mut EvtchnUnmask { port })
}

/// `status`: the state and the vCPU.
pub fn status(dom: u16, port: u32) -> Result<EvtchnStatus, i64> {
    let mut op = EvtchnStatus { dom, port, ..EvtchnStatus::default() };
    answer(op_of(EVTCHNOP_status, &mut op)).map(|()| op)
}

/// Any event channel operation.
pub fn op_of<T: zerocopy::FromBytes + zerocopy::IntoBytes>(command: u32, op: &mut T) -> i64 {
    call(__HYPERVISOR_event_channel_op, command, op)
}

fn answer(value: i64) -> Result<(), i64> {
    if value == 0 { Ok(()) } else { Err(value) }
}
