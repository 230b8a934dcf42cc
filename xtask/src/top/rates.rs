//! Two answers of a machine, compared: what each domain did in between, by the second.

use serde::Serialize;
use serde_json::{Value, json};

use super::sample::{Document, Domain};

const NS: f64 = 1e9;
const FRAMES_PER_MIB: f64 = 256.0;

/// A look at a machine.
#[derive(Clone, Debug)]
pub struct Look {
    now_ns: u64,
    pub rows: Vec<Row>,
}

/// What a domain did lately.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its counts until now.
    pub total: Domain,
    /// For how long it is looked at, ns: since the last look, or since it began.
    pub over_ns: u64,
    /// Share of a CPU.
    pub cpu_percent: f64,
    /// Memory.
    pub mem_mib: f64,
    /// Share of its system calls that were function calls; none if there were no system calls.
    pub call_percent: Option<f64>,
    pub rates: Rates,
}

/// By the second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rates {
    pub syscalls_call: f64,
    pub syscalls_trap: f64,
    pub hypercalls: f64,
    pub crossings: f64,
    pub page_faults: f64,
}

/// What the domains of `now` have done since `before`, or since they began.
pub fn compare(before: Option<&Document>, now: &Document) -> Look {
    let earlier = |domain: &Domain| before.and_then(|b| b.domains.iter().find(|d| d.domid == domain.domid && d.name == domain.name));
    Look { now_ns: now.now_ns, rows: now.domains.iter().map(|d| row(earlier(d), d)).collect() }
}

fn row(before: Option<&Domain>, now: &Domain) -> Row {
    // The domain's own clock, which was read with its counters. What a guest counts may fall: that is no rate.
    let since = |count: fn(&Domain) -> u64| count(now).saturating_sub(before.map_or(0, count));
    let over_ns = since(|d| d.alive_ns);
    let ratio = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
    let rate = |count: fn(&Domain) -> u64| if over_ns == 0 { 0.0 } else { since(count) as f64 / (over_ns as f64 / NS) };
    let (call, trap) = (since(|d| d.syscalls.call), since(|d| d.syscalls.trap));
    let syscalls = call.saturating_add(trap);
    Row {
        over_ns,
        cpu_percent: 100.0 * ratio(since(|d| d.ran_ns), over_ns),
        mem_mib: now.frames as f64 / FRAMES_PER_MIB,
        call_percent: (syscalls > 0).then(|| 100.0 * ratio(call, syscalls)),
        rates: Rates {
            syscalls_call: rate(|d| d.syscalls.call),
            syscalls_trap: rate(|d| d.syscalls.trap),
            hypercalls: rate(Domain::hypercalls_made),
            crossings: rate(|d| d.crossings),
            page_faults: rate(|d| d.page_faults),
        },
        total: now.clone(),
    }
}

impl Look {
    /// As one object, of run `number`.
    pub fn json(&self, number: u32) -> Value {
        let domain = |row: &Row| {
            json!({
                "domid": row.total.domid,
                "name": row.total.name,
                "state": row.total.state,
                "over_ns": row.over_ns,
                "cpu_percent": row.cpu_percent,
                "mem_mib": row.mem_mib,
                "call_percent": row.call_percent,
                "per_second": row.rates,
                "total": row.total,
                "hypercalls_total": row.total.hypercalls_made(),
            })
        };
        json!({ "run": number, "now_ns": self.now_ns, "domains": self.rows.iter().map(domain).collect::<Vec<_>>() })
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{parse, tests::DOCUMENT};
    use super::*;

    /// The answer half a second later, with more of everything.
    fn later() -> Document {
        let mut document = parse(DOCUMENT).expect("an answer");
        let d = &mut document.domains[0];
        (d.alive_ns, d.ran_ns, d.crossings, d.page_faults) = (1_500_000_000, 750_000_000, 200, 7);
        (d.syscalls.call, d.syscalls.trap) = (15 + 90, 5 + 10);
        d.hypercalls.insert("iret".into(), 80);
        d.hypercalls.insert("sched_op".into(), 1);
        document
    }

    #[test]
    fn the_first_look_is_since_the_beginning() {
        let look = compare(None, &parse(DOCUMENT).expect("an answer"));
        let row = &look.rows[0];
        assert_eq!((row.cpu_percent, row.mem_mib, row.call_percent), (50.0, 32.0, Some(75.0)));
        assert_eq!((row.rates.syscalls_call, row.rates.hypercalls, row.rates.crossings), (15.0, 40.0, 100.0));
    }

    #[test]
    fn rates_are_since_the_last_look() {
        let look = compare(Some(&parse(DOCUMENT).expect("an answer")), &later());
        let row = &look.rows[0];
        let rates = Rates { syscalls_call: 180.0, syscalls_trap: 20.0, hypercalls: 102.0, crossings: 200.0, page_faults: 0.0 };
        assert_eq!((row.over_ns, row.cpu_percent, row.call_percent, row.rates), (500_000_000, 50.0, Some(90.0), rates));
        let json = look.json(7);
        assert_eq!(json.pointer("/run"), Some(&7.into()));
        assert_eq!(json.pointer("/domains/0/per_second/crossings"), Some(&200.0.into()));
        assert_eq!(json.pointer("/domains/0/total/syscalls/call"), Some(&105.into()));
    }

    #[test]
    fn what_falls_or_stands_still_is_no_rate() {
        let before = later();
        let row = compare(Some(&before), &before).rows.remove(0);
        assert_eq!((row.cpu_percent, row.call_percent, row.rates.crossings), (0.0, None, 0.0));
        let row = compare(Some(&before), &parse(DOCUMENT).expect("an answer")).rows.remove(0);
        assert_eq!((row.over_ns, row.rates.syscalls_call), (0, 0.0));
    }

    #[test]
    fn a_new_domain_is_not_compared_with_another() {
        let mut before = later();
        before.domains[0].name = "db".into();
        assert_eq!(compare(Some(&before), &later()).rows[0].over_ns, 1_500_000_000);
    }
}
