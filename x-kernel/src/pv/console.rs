//! `console_io`: the console of the initial domain.

use xen_abi::console::{CONSOLEIO_read, CONSOLEIO_write};
use xen_abi::errno::Errno;

use super::hypercall::{Args, HcCx, HcResult, Outcome};
use crate::domain::console;
use crate::mm::guest_access;
use crate::sched;

/// Bytes copied at a time.
const CHUNK: u32 = 256;

/// `console_io(cmd, count, buffer)`: bytes written, or read. Domains with a console ring may write too: their
/// kernels use it for their last words.
///
/// # Errors
/// `-EFAULT`, `-ENOSYS` for an unknown command.
pub fn console_io(cx: &mut HcCx<'_>, args: &mut Args) -> HcResult {
    let (command, count, buffer) = (args.u32::<0>(), args.u32::<1>(), args.u64::<2>());
    let mut chunk = [0u8; CHUNK as usize];
    match command {
        c if c == CONSOLEIO_write => {
            let mut done: u32 = 0;
            while done < count {
                let wanted = count.saturating_sub(done).min(CHUNK);
                let n = console::allow(cx.domain, wanted);
                if n == 0 {
                    sched::block_until(cx.vcpu, console::allowed_at_ns(cx.domain, wanted));
                    args.set::<1>(u64::from(count.saturating_sub(done)));
                    args.set::<2>(buffer.wrapping_add(u64::from(done)));
                    return Ok(Outcome::Preempted);
                }
                let part = chunk.get_mut(..n as usize).ok_or(Errno::EINVAL)?;
                let at = buffer.checked_add(u64::from(done)).ok_or(Errno::EFAULT)?;
                guest_access::copy_in(at, part)?;
                console::print(cx.domain, part);
                done = done.saturating_add(n);
                if done < count && sched::preempt_pending() {
                    args.set::<1>(u64::from(count.saturating_sub(done)));
                    args.set::<2>(buffer.wrapping_add(u64::from(done)));
                    return Ok(Outcome::Preempted);
                }
            }
            Ok(Outcome::Done(0))
        }
        c if c == CONSOLEIO_read => {
            let n = count.min(CHUNK) as usize;
            let part = chunk.get_mut(..n).ok_or(Errno::EINVAL)?;
            let got = cx.domain.console.lock().take_input(part);
            guest_access::copy_out(buffer, part.get(..got).unwrap_or(&[]))?;
            Ok(Outcome::Done(got as i64))
        }
        _ => Err(Errno::ENOSYS),
    }
}
