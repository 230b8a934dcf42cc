//! The time-stamp counter as the X-Kernel's clock: nanoseconds since boot, and the form in which guests get it.
//!
//! The counter is taken to run at one rate (invariant TSC, as every CPU of the last fifteen years has); its rate
//! comes from CPUID, a hypervisor's leaf, the HPET or the PIT, in that order.

// UNSAFETY: programs the PIT.
#![expect(unsafe_code, reason = "the PIT's ports")]
#![expect(clippy::arithmetic_side_effects, clippy::cast_possible_truncation, reason = "rates are plausible, and results fit by the units")]

use super::{hpet, port};
use crate::sync::InitOnce;

const NS_PER_S: u64 = 1_000_000_000;
/// Slowest and fastest counters that are believed.
const PLAUSIBLE_HZ: core::ops::RangeInclusive<u64> = 100_000_000..=20_000_000_000;
/// How long the HPET or the PIT is watched, in ms.
const WATCH_MS: u64 = 20;
/// Oscillator of the PIT.
const PIT_HZ: u64 = 1_193_182;

/// The clock's parameters.
#[derive(Clone, Copy, Debug)]
struct Clock {
    /// Counter at time 0.
    base: u64,
    /// ns = ((ticks shifted left by `shift`) * `mul`) / 2^32, as in the public ABI's `vcpu_time_info`.
    mul: u32,
    shift: i8,
    /// ticks = (ns * `ticks_per_ns`) / 2^32
    ticks_per_ns: u64,
}

static CLOCK: InitOnce<Clock> = InitOnce::new();

/// The counter.
pub fn read() -> u64 {
    // SAFETY: RDTSC changes nothing; CR4.TSD concerns ring 3 only.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// The counter, and what `rdtscp` says beside it. Only where a guest has executed that: a CPU may not have it.
pub fn read_beside_aux() -> (u64, u32) {
    let mut aux = 0;
    // SAFETY: RDTSCP changes nothing but its output, which is a variable.
    let counter = unsafe { core::arch::x86_64::__rdtscp(&raw mut aux) };
    (counter, aux)
}

/// `tsc_to_system_mul` and `tsc_shift` for a counter of `hz`: the multiplier uses all 32 bits.
const fn scale_of(hz: u64) -> (u32, i8) {
    let mut shift = 0i8;
    let mut scaled = if hz == 0 { 1 } else { hz };
    while scaled > 2 * NS_PER_S {
        scaled >>= 1;
        shift -= 1;
    }
    while scaled <= NS_PER_S {
        scaled <<= 1;
        shift += 1;
    }
    (((NS_PER_S << 32) / scaled) as u32, shift)
}

fn to_ns(ticks: u64, mul: u32, shift: i8) -> u64 {
    let shifted = if shift < 0 { ticks >> shift.unsigned_abs() } else { ticks << shift };
    ((u128::from(shifted) * u128::from(mul)) >> 32) as u64
}

/// Finds the counter's rate and starts the clock at 0.
pub fn init() {
    let (hz, source) = calibrate();
    let (mul, shift) = scale_of(hz);
    let clock = Clock { base: read(), mul, shift, ticks_per_ns: ((u128::from(hz) << 32) / u128::from(NS_PER_S)) as u64 };
    let _ = CLOCK.set(clock);
    log::info!("clock: tsc at {}.{:03} MHz, by {source}", hz / 1_000_000, hz / 1000 % 1000);
}

/// Nanoseconds since boot; 0 before [`init`].
pub fn now_ns() -> u64 {
    now_pair().1
}

/// The counter and the time that belongs to it.
pub fn now_pair() -> (u64, u64) {
    let tsc = read();
    (tsc, CLOCK.get().map_or(0, |c| to_ns(tsc.saturating_sub(c.base), c.mul, c.shift)))
}

/// Multiplier and shift that turn ticks into nanoseconds, as guests are told.
pub fn scale() -> (u32, i8) {
    CLOCK.get().map_or((0, 0), |c| (c.mul, c.shift))
}

/// The counter's value at `ns` since boot; saturates.
pub fn at_ns(ns: u64) -> u64 {
    CLOCK.get().map_or(u64::MAX, |c| {
        let ticks = (u128::from(ns) * u128::from(c.ticks_per_ns)) >> 32;
        u64::try_from(ticks).unwrap_or(u64::MAX).saturating_add(c.base)
    })
}

/// Waits for `us` microseconds. Needs [`init`].
pub fn delay_us(us: u64) {
    let until = now_ns().saturating_add(us.saturating_mul(1000));
    while now_ns() < until {
        core::hint::spin_loop();
    }
}

fn calibrate() -> (u64, &'static str) {
    type Source = (fn() -> Option<u64>, &'static str);
    let sources: [Source; 4] = [(by_cpuid, "cpuid"), (by_hypervisor, "hypervisor leaf"), (by_hpet, "hpet"), (by_pit, "pit")];
    for (source, name) in sources {
        if let Some(hz) = source()
            && PLAUSIBLE_HZ.contains(&hz)
        {
            return (hz, name);
        }
    }
    (NS_PER_S, "guess: nothing to measure it by")
}

/// Leaf 0x15: crystal and ratio.
fn by_cpuid() -> Option<u64> {
    let id = raw_cpuid::CpuId::new();
    id.get_tsc_info()?.tsc_frequency()
}

/// The timing leaf that VMware defined and KVM and others follow (kHz in eax), or Xen's.
fn by_hypervisor() -> Option<u64> {
    const BASE: u32 = 0x4000_0000;
    if core::arch::x86_64::__cpuid(1).ecx >> 31 == 0 {
        return None;
    }
    let top = core::arch::x86_64::__cpuid(BASE);
    let is_xen = (top.ebx, top.ecx, top.edx) == (0x566e_6558, 0x6558_4d4d, 0x4d4d_566e);
    let khz = match top.eax {
        BASE..=0x4000_000f if is_xen => core::arch::x86_64::__cpuid_count(BASE + 3, 0).ecx,
        0x4000_0010..=0x4000_ffff => core::arch::x86_64::__cpuid(BASE + 0x10).eax,
        _ => return None,
    };
    u64::from(khz).checked_mul(1000)
}

/// One reading of a counter with the TSC beside it: the tightest of a few, so that a pause of the machine under us
/// does not count.
fn beside<T>(mut read_other: impl FnMut() -> T) -> (T, u64) {
    let mut best = (read_other(), read(), u64::MAX);
    for _ in 0..8 {
        let before = read();
        let value = read_other();
        let gap = read().saturating_sub(before);
        if gap < best.2 {
            best = (value, before.saturating_add(gap / 2), gap);
        }
    }
    (best.0, best.1)
}

fn by_hpet() -> Option<u64> {
    let hpet = hpet::get()?;
    let (start, tsc_start) = beside(|| hpet.counter());
    let wait = hpet.hz() * WATCH_MS / 1000;
    let mut looks = 0u32;
    while hpet.elapsed(start, hpet.counter()) < wait {
        looks = looks.checked_add(1).filter(|&n| n < 50_000_000)?;
    }
    let (end, tsc_end) = beside(|| hpet.counter());
    let ticks = hpet.elapsed(start, end);
    let hz = u128::from(tsc_end.checked_sub(tsc_start)?) * u128::from(hpet.hz()) / u128::from(ticks.max(1));
    u64::try_from(hz).ok()
}

/// Counts channel 2 of the PIT down once, with the speaker off, and watches its output.
fn by_pit() -> Option<u64> {
    const COMMAND: u16 = 0x43;
    const CHANNEL2: u16 = 0x42;
    const GATE: u16 = 0x61;
    let count = PIT_HZ * WATCH_MS / 1000;
    let [low, high, ..] = count.to_le_bytes();
    // SAFETY: the PIT and its gate belong to the X-Kernel and touch no memory.
    let gate = unsafe { port::in8(GATE) };
    let writes = [(GATE, (gate & !2) | 1), (COMMAND, 0xb0), (CHANNEL2, low), (CHANNEL2, high)];
    for (to, value) in writes {
        // SAFETY: as above.
        unsafe { port::out8(to, value) };
    }
    let start = read();
    let mut looks = 0u32;
    // SAFETY: as above.
    while unsafe { port::in8(GATE) } & 0x20 == 0 {
        looks = looks.checked_add(1).filter(|&n| n < 10_000_000)?;
    }
    let ticks = read().checked_sub(start)?;
    // SAFETY: as above.
    unsafe { port::out8(GATE, gate) };
    ticks.checked_mul(PIT_HZ)?.checked_div(count)
}

const _: () = {
    assert!(scale_of(1_000_000_000).1 == 1);
    assert!(scale_of(3_000_000_000).1 == -1);
};
