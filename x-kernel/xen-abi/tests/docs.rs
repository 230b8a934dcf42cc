//! Holds docs/ABI.md to the crate and to the handlers: every hypercall and operation has a row with the right number,
//! and a row says "done" or "partial" exactly where there is a handler.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Constants that begin so are operations of the guest interface and have a row each.
const OPERATIONS: &[&str] = &[
    "MMU_",
    "MMUEXT_",
    "XENMEM_",
    "EVTCHNOP_",
    "VIRQ_",
    "GNTTABOP_",
    "SCHEDOP_",
    "VCPUOP_",
    "CALLBACKOP_",
    "CALLBACKTYPE_",
    "XENVER_",
    "VMASST_TYPE_",
    "CONSOLEIO_",
    "PHYSDEVOP_",
    "XENPF_",
    "XMODEOP_",
];

/// Of those, no operations.
const OTHERS: &[&str] = &["XENMEM_resource_", "XENPF_INTERFACE_VERSION", "VIRQ_ARCH_7"];

/// What a row may say of an operation.
const STATUSES: &[&str] = &["done", "partial", "-ENOSYS", "-EACCES", "-EINVAL"];

fn crate_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    entries.map(|e| e.expect("entry").path()).filter(|p| p.extension().is_some_and(|x| x == "rs")).collect()
}

/// A table row that begins with a number and a name.
struct Row {
    nr: u64,
    status: String,
}

/// Rows `| nr | `name` | status | … |` of the document.
fn rows() -> BTreeMap<String, Row> {
    let mut rows = BTreeMap::new();
    for line in read(crate_dir().join("../../docs/ABI.md")).lines() {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [nr, name, status, ..] = cells[..] else { continue };
        let (Ok(nr), Some(name)) = (nr.parse(), name.strip_prefix('`').and_then(|n| n.strip_suffix('`'))) else { continue };
        let old = rows.insert(name.to_owned(), Row { nr, status: status.to_owned() });
        assert!(old.is_none(), "{name} has two rows");
    }
    rows
}

/// Operation constants of the crate, with their numbers.
fn operations() -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for file in rust_files(&crate_dir().join("src")) {
        for line in read(file).lines() {
            let Some((name, rest)) = line.strip_prefix("pub const ").and_then(|l| l.split_once(':')) else { continue };
            let is = |list: &[&str]| list.iter().any(|prefix| name.starts_with(prefix));
            if is(OPERATIONS) && !is(OTHERS) {
                let value = rest.rsplit('=').next().and_then(|v| v.trim().trim_end_matches(';').parse().ok());
                found.insert(name.to_owned(), value.unwrap_or_else(|| panic!("{name} is not a plain number")));
            }
        }
    }
    found
}

/// The words of the hypervisor's handlers.
fn handler_words() -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    for file in rust_files(&crate_dir().join("../src/pv")) {
        let text = read(file);
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for line in code {
            words.extend(line.split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_owned));
        }
    }
    words
}

#[test]
fn every_operation_has_a_row_with_its_number() {
    let (rows, operations) = (rows(), operations());
    assert!(operations.len() > 150, "the scan of the crate finds too little");
    for (name, &nr) in &operations {
        let row = rows.get(name).unwrap_or_else(|| panic!("docs/ABI.md has no row for {name}"));
        assert_eq!(row.nr, nr, "number of {name}");
        assert!(name.starts_with("VIRQ_") || STATUSES.contains(&row.status.as_str()), "{name}: status {}", row.status);
    }
    for name in rows.keys() {
        let hypercall = (0..64).any(|nr| xen_abi::hypercall::name(nr) == name);
        assert!(hypercall || operations.contains_key(name), "{name} has a row but is no operation");
    }
}

#[test]
fn done_and_partial_operations_have_a_handler() {
    let words = handler_words();
    let wrong: Vec<String> = rows()
        .into_iter()
        .filter(|(name, row)| operations().contains_key(name) && ["done", "partial"].contains(&row.status.as_str()))
        .filter(|(name, _)| !words.contains(name))
        .map(|(name, row)| format!("{name} is said to be {}, and no handler names it", row.status))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn hypercalls_are_done_or_partial_exactly_where_the_table_has_them() {
    let source = read(crate_dir().join("../src/pv/hypercall.rs"));
    let table = source.split_once("\nhypercalls! {").expect("the table").1.split_once("\n}").expect("its end").0;
    let handled: BTreeSet<u64> =
        table.lines().filter_map(|line| line.trim().split_once(',')).filter_map(|(nr, _)| nr.trim().parse().ok()).collect();
    assert!(handled.len() > 20, "the scan of the table finds too little");
    let rows = rows();
    for nr in 0..64 {
        let name = xen_abi::hypercall::name(nr);
        if name == "unknown" {
            assert!(!handled.contains(&nr), "hypercall {nr} is not of the ABI");
            continue;
        }
        let row = rows.get(name).unwrap_or_else(|| panic!("docs/ABI.md has no row for {name}"));
        assert_eq!(row.nr, nr, "number of {name}");
        let said = ["done", "partial"].contains(&row.status.as_str());
        assert!(STATUSES.contains(&row.status.as_str()), "{name}: status {}", row.status);
        assert_eq!(said, handled.contains(&nr), "{name}: docs/ABI.md says {}", row.status);
    }
}
