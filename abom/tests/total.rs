//! A plan is total: whatever the bytes, the offset and the facts are, there is a plan or a refusal, and a plan holds what
//! its users rely on.

use abom::annex::LONGEST_STUB;
use abom::gaps::{self, Gaps};
use abom::hop::{Hop, MOST_GAPS, hop};
use abom::{Code, Facts, Fixup, Form, Inside, Patch, Plan, Reach, RedZone, Seen, Table, Ways, plan};
use proptest::prelude::*;

/// Bytes that are around system calls, and others.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop_oneof![
        6 => Just(vec![0x0f, 0x05]),
        4 => any::<u32>().prop_map(|n| [vec![0xb8], (n % 600).to_le_bytes().to_vec()].concat()),
        2 => any::<u32>().prop_map(|n| [vec![0x48, 0xc7, 0xc0], (n % 600).to_le_bytes().to_vec()].concat()),
        2 => Just(vec![0x31, 0xc0]),
        2 => Just(vec![0x48, 0x3d, 0x00, 0xf0, 0xff, 0xff]),
        2 => Just(vec![0x48, 0x8b, 0x44, 0x24, 0x08]),
        2 => Just(vec![0x48, 0x8b, 0x05, 0x10, 0x00, 0x00, 0x00]),
        2 => any::<u8>().prop_map(|n| vec![0x70 | n & 15, n]),
        2 => Just(vec![0xc3]),
        6 => proptest::collection::vec(any::<u8>(), 1..6),
    ];
    proptest::collection::vec(pieces, 1..24).prop_map(|p| p.concat())
}

/// What holds of every patch.
fn check(patch: &Patch, code: &Code<'_>, site: u64, caught: bool) {
    assert_eq!(code.bytes(patch.address(), patch.old().len()), Some(patch.old()));
    assert_eq!(patch.old().len(), patch.new_bytes().len());
    assert!(patch.region().contains(&site) && patch.region().start == patch.address());
    assert!(!caught || patch.is_caught());
    for inner in patch.inner() {
        assert!(inner > 0 && inner < patch.old().len());
        assert!(patch.fixup(patch.address() + inner as u64).is_some());
    }
    assert_eq!(patch.fixup(patch.address()), Some(Fixup::At(patch.address())));
    assert_eq!(patch.fixup(patch.region().end.max(patch.address().saturating_add(9))), None);
    let changed = Code::new(patch.new_bytes(), patch.address());
    let first = changed.instruction(patch.address()).unwrap_or_else(|| panic!("no instruction: {patch:x?}"));
    assert_eq!(first.len(), patch.new_bytes().len());
}

/// What holds of every way through gaps.
fn check_hop(hop: &Hop, code: &Code<'_>, site: u64, holes: &Gaps) {
    check(&hop.site, code, site, true);
    assert!(hop.gaps.len() <= MOST_GAPS);
    let room = |p: &Patch| holes.iter().any(|g| g.start <= p.region().start && p.region().end <= g.end);
    for (n, patch) in hop.gaps.iter().enumerate() {
        assert_eq!(code.bytes(patch.address(), patch.old().len()), Some(patch.old()));
        assert!(room(patch) && patch.inner().next().is_none(), "{patch:x?} {holes:x?}");
        let apart = |other: &Patch| other.region().end <= patch.region().start || patch.region().end <= other.region().start;
        let disjoint = holes.iter().all(|a| holes.iter().all(|b| a == b || a.end <= b.start || b.end <= a.start));
        assert!(!disjoint || hop.gaps.iter().skip(n + 1).all(apart), "{hop:x?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_plan_holds(
        bytes in bytes(),
        at in prop_oneof![Just(0_u64), Just(0x40_0000), Just(0x7fff_ffff_f000), Just(u64::MAX - 40), any::<u64>()],
        choice in any::<u32>(),
        seen in any::<[u64; 4]>(),
        list in proptest::collection::vec(0_u64..64, 0..6),
    ) {
        let bit = |n: u32| choice >> n & 1 == 1;
        let code = Code::new(&bytes, at);
        let mut list: Vec<u64> = list.iter().map(|n| at.wrapping_add(*n)).collect();
        list.sort_unstable();
        let mut starts: Vec<u64> = (0..bytes.len() as u64).map(|n| at.wrapping_add(n)).collect();
        starts.sort_unstable();
        let taken: Vec<_> = list.iter().skip(3).map(|&start| start..start.saturating_add(5)).collect();
        let tail = bit(12).then(|| list.first().copied().unwrap_or(at.wrapping_add(seen[1] % 0x1000)));
        let table = if bit(0) { Table::X_CONTAINER } else { Table::new(0x6_0000, 510).expect("a table") };
        let table = if bit(1) { table.with_jump(0x7_0000).expect("a slot") } else { table };
        let stubs = [None, Some(Reach::Near), Some(Reach::Near), Some(Reach::Slot)][(choice >> 2 & 3) as usize];
        let inside = [Inside::Caught, Inside::Caught, Inside::Unknown, Inside::Entered(&list)][(choice >> 4 & 3) as usize];
        let facts = Facts {
            starts: bit(6).then_some(&starts),
            inside,
            red_zone: [RedZone::Unknown, RedZone::Unused, RedZone::Used, RedZone::Unknown][(choice >> 7 & 3) as usize],
            taken: &[], tail: None, page: None,
            seen: bit(9).then_some(Seen { rax: seen[0] % 600, rsp: seen[1], arguments: [seen[2]; 6], rflags: seen[3] }),
        };
        let linear: Vec<u64> = code.starts(at).collect();
        let mut holes = gaps::find(&code, if bit(10) { &starts } else { &linear });
        if bit(11) {
            // Any bytes, as many as are wanted.
            holes = list.iter().take(1).map(|&start| start..start.saturating_add(seen[0] % 24)).collect();
        }
        let mut place = |stub: &[u8]| {
            // Whole instructions, the last one of them a jump to the table.
            assert!(stub.len() <= LONGEST_STUB);
            assert_eq!(Code::new(stub, 0).starts(0).last(), Some(stub.len() as u64 - 7), "{stub:x?}");
            bit(13).then_some(0x6_3000)
        };
        let caught = matches!(inside, Inside::Caught);
        let sites = bytes.windows(2).enumerate().filter(|(_, w)| *w == [0x0f, 0x05]).map(|(n, _)| n);
        for site in sites.chain([0, 1, bytes.len()]).map(|n| at.wrapping_add(n as u64)) {
            let facts_of_gaps = Facts { taken: &taken, tail, ..facts };
            if let Ok(hop) = hop(&code, site, &Ways { table, stubs: None }, &facts_of_gaps, &holes, &mut place) {
                check_hop(&hop, &code, site, &holes);
            }
            let Ok(planned) = plan(&code, site, &Ways { table, stubs }, &facts) else { continue };
            match planned {
                Plan::Call(patch) => check(&patch, &code, site, caught),
                Plan::Stub(stub) => {
                    prop_assert!(stub.how().form != Form::Call);
                    let near = at.wrapping_add(0x1000);
                    for (place, slot) in [(near, Some(0x6_2000)), (near.wrapping_add(seen[0] % 0x1_0000), Some(0x6_0606)), (seen[1], None)] {
                        if let Some(placed) = stub.place(place, slot) {
                            check(&placed.patch, &code, site, caught);
                        }
                    }
                    if let Some((place, placed)) = stub.first_fit(near, near.saturating_add(0x20_0000)) {
                        prop_assert!(place >= near);
                        check(&placed.patch, &code, site, caught);
                    }
                }
            }
        }
    }
}
