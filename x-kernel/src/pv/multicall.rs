//! `multicall`: a batch of hypercalls in one crossing. Answers to Xen's xen/common/multicall.c.

use xen_abi::errno::Errno;
use xen_abi::hypercall::MulticallEntry;

use super::hypercall::{Args, HcCx, HcResult, OK, Outcome, dispatch};
use crate::sched;

/// Runs `(entries, n)`. Each entry's result is written back to it; a failing entry does not stop the batch.
///
/// # Errors
/// `-EINVAL` inside another multicall; `-EFAULT` when an entry cannot be read or written.
pub fn multicall(cx: &mut HcCx<'_>, args: &mut Args) -> HcResult {
    if cx.in_multicall {
        return Err(Errno::EINVAL);
    }
    let (mut entries, mut left) = (args.ptr::<MulticallEntry, 0>(), args.u32::<1>());
    let mut first = true;
    while left > 0 {
        if !first && sched::preempt_pending() {
            args.set::<0>(entries.raw());
            args.set::<1>(u64::from(left));
            return Ok(Outcome::Preempted);
        }
        first = false;
        if cx.domain.is_dying() {
            // An entry has ended the domain: what follows must not act for it any more (XSA-213).
            return OK;
        }
        let mut entry = entries.read()?;
        let mut inner = Args(entry.args);
        let nr = entry.op;
        cx.in_multicall = true;
        let answer = dispatch(cx, nr, &mut inner);
        cx.in_multicall = false;
        match answer {
            Ok(Outcome::Preempted) => {
                entry.args = inner.0;
                entries.write(&entry)?;
                args.set::<0>(entries.raw());
                args.set::<1>(u64::from(left));
                return Ok(Outcome::Preempted);
            }
            Ok(Outcome::NewFrame) => return Ok(Outcome::NewFrame),
            Ok(Outcome::Done(value)) => entry.result = value as u64,
            Err(errno) => entry.result = errno.to_ret() as u64,
        }
        entries.write(&entry)?;
        left = left.saturating_sub(1);
        if left > 0 {
            entries = entries.add(1)?;
        }
    }
    OK
}
