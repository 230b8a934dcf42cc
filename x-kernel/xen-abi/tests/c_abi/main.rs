//! Compares the crate with the C headers of the ABI: every structure's size, every field's place and size, every
//! constant, in both directions where the header's names show what belongs to the guest ABI.
//!
//! Needs a C compiler and the headers (Debian: `libxen-dev`). Without the headers it says so and passes, except
//! where the environment has `CI=true`.

mod constants;
mod structs;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use xen_abi::errno::Errno;
use xen_abi::hypercall;

/// Where the headers are installed.
const HEADERS: &str = "/usr/include/xen";

/// What the C program includes.
const INCLUDES: &[&str] = &[
    "xen.h",
    "memory.h",
    "event_channel.h",
    "grant_table.h",
    "sched.h",
    "vcpu.h",
    "physdev.h",
    "platform.h",
    "version.h",
    "features.h",
    "elfnote.h",
    "io/console.h",
    "io/xs_wire.h",
    "callback.h",
    "nmi.h",
    "arch-x86/cpuid.h",
];

/// Names that begin so in those headers are all in the crate, but for [`LEFT_OUT`].
const COMPLETE: &[&str] = &[
    "MMU_",
    "MMUEXT_",
    "UVMF_",
    "CONSOLEIO_",
    "VMASST_",
    "DOMID_",
    "SIF_",
    "VIRQ_",
    "SEGBASE_",
    "FLAT_RING3_",
    "XENMEM_",
    "XENMAPSPACE_",
    "EVTCHNOP_",
    "EVTCHNSTAT_",
    "EVTCHN_FIFO_",
    "GNTTABOP_",
    "GNTST_",
    "GTF_",
    "GNTMAP_",
    "GNTCOPY_",
    "GNTTAB_",
    "SCHEDOP_",
    "SHUTDOWN_",
    "VCPUOP_",
    "RUNSTATE_",
    "PHYSDEVOP_",
    "MAP_PIRQ_TYPE_",
    "XENPF_",
    "XENVER_",
    "XENFEAT_",
    "XEN_ELFNOTE_",
    "CALLBACKOP_",
    "CALLBACKTYPE_",
    "CALLBACKF_",
    "XENNMI_",
    "VGCF_",
];

/// Names that the crate leaves out: the toolstack's, crash dumps', other spellings, interrupts between the named ones.
const LEFT_OUT: &[&str] = &[
    "XENMEM_paging_op_",
    "XENMEM_access_op_",
    "XENMEM_sharing_op_",
    "XENMEM_SHARING_OP_",
    "XENMEM_RDM_ALL",
    "XENMEM_FORK_",
    "XENMEM_resource_grant_table_id_",
    "XENMEM_resource_ioreq_server_frame_",
    "XEN_ELFNOTE_CRASH_",
    "XEN_ELFNOTE_DUMPCORE_",
    "VIRQ_ARCH_1",
    "VIRQ_ARCH_2",
    "VIRQ_ARCH_3",
    "VIRQ_ARCH_4",
    "VIRQ_ARCH_5",
    "VIRQ_ARCH_6",
    "GNTTABOP_error_msgs",
    "PHYSDEVOP_IRQ_",
    "PHYSDEVOP_SET_",
    "PHYSDEVOP_APIC_",
    "PHYSDEVOP_ASSIGN_",
    "PHYSDEVOP_FREE_",
    "PHYSDEVOP_DBGP_",
    "PHYSDEVOP_pirq_eoi_gmfn",
    "XENPF_ACPI_SLEEP_EXTENDED",
    "XENPF_settime",
    "VGCF_I387_VALID",
    "VGCF_IN_KERNEL",
    "VGCF_IN_SYSCALL",
    "EVTCHNOP_reset_cont",
    "XENMEM_add_to_physmap_range",
    "XENFEAT_grant_map_identity",
];

/// One thing to compare: what it is, the C expression, our value.
struct Fact {
    label: String,
    expression: String,
    ours: u64,
}

/// All of them, with the names that they cover.
#[derive(Default)]
struct Facts {
    list: Vec<Fact>,
    names: BTreeSet<String>,
}

impl Facts {
    fn all() -> Self {
        let mut facts = Self::default();
        structs::add(&mut facts);
        constants::add(&mut facts);
        for &errno in Errno::ALL {
            facts.constant(errno.name(), &format!("XEN_{}", errno.name()), u64::from(errno.raw()));
        }
        for nr in 0..64 {
            let name = hypercall::name(nr);
            if name != "unknown" {
                facts.constant(&format!("__HYPERVISOR_{name}"), &format!("__HYPERVISOR_{name}"), nr);
            }
        }
        // A string in C: compare the text that it must be.
        let bytes = xen_abi::arch_x86::XEN_EMULATE_PREFIX.map(|b| format!("{b:#04x}")).join(",");
        facts.constant("XEN_EMULATE_PREFIX", &format!("!strcmp(XEN_EMULATE_PREFIX, \".byte {bytes} ; \")"), 1);
        facts
    }

    fn constant(&mut self, name: &str, c: &str, ours: u64) {
        self.names.insert(name.to_owned());
        self.list.push(Fact { label: name.to_owned(), expression: c.to_owned(), ours });
    }

    fn size(&mut self, name: &str, c: &str, ours: usize) {
        self.constant(name, &format!("sizeof({c})"), ours as u64);
    }

    fn field(&mut self, name: &str, c: &str, field: &str, offset: usize, size: usize) {
        let mut add = |what, expression, ours: usize| {
            self.list.push(Fact { label: format!("{name}.{field} {what}"), expression, ours: ours as u64 });
        };
        add("offset", format!("offsetof({c}, {field})"), offset);
        add("size", format!("sizeof((({c} *)0)->{field})"), size);
    }

    /// The C program that prints the headers' values, one hexadecimal number per line.
    fn program(&self) -> String {
        let mut text = String::from("#include <stddef.h>\n#include <stdint.h>\n#include <stdio.h>\n#include <string.h>\n");
        // Two error numbers are the hypervisor's own business, and shown only to it.
        text.push_str("#define __XEN__\n#include <xen/errno.h>\n#undef __XEN__\n");
        for header in INCLUDES {
            let _ = writeln!(text, "#include <xen/{header}>");
        }
        text.push_str("int main(void) {\n");
        for fact in &self.list {
            let _ = writeln!(text, "printf(\"%llx\\n\", (unsigned long long)({}));", fact.expression);
        }
        text.push_str("return 0;\n}\n");
        text
    }
}

/// Whether the headers are there. A machine that checks changes must have them.
fn headers_present() -> bool {
    let present = Path::new(HEADERS).join("xen.h").is_file();
    if !present {
        let message = format!("{HEADERS} is missing (Debian package libxen-dev): nothing compared");
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{message}");
        eprintln!("skipped: {message}");
    }
    present
}

/// Compiles and runs `program`; its output lines.
fn run(program: &str) -> Vec<String> {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let (source, binary) = (dir.join("c_abi.c"), dir.join("c_abi"));
    std::fs::write(&source, program).expect("write the C program");
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let version = format!("-D__XEN_INTERFACE_VERSION__={:#x}", xen_abi::version::XEN_INTERFACE_VERSION);
    let built = Command::new(&compiler)
        .args(["-std=gnu11", "-m64", "-O0", "-D__XEN_TOOLS__", &version, "-o"])
        .arg(&binary)
        .arg(&source)
        .output()
        .expect("run the C compiler");
    assert!(built.status.success(), "{compiler}: {}", String::from_utf8_lossy(&built.stderr));
    let ran = Command::new(&binary).output().expect("run the C program");
    assert!(ran.status.success());
    String::from_utf8(ran.stdout).expect("text").lines().map(str::to_owned).collect()
}

#[test]
fn sizes_offsets_and_constants_are_those_of_the_headers() {
    if !headers_present() {
        return;
    }
    let facts = Facts::all();
    let theirs = run(&facts.program());
    assert_eq!(theirs.len(), facts.list.len());
    let wrong: Vec<String> = facts
        .list
        .iter()
        .zip(&theirs)
        .filter(|(fact, theirs)| u64::from_str_radix(theirs, 16).ok() != Some(fact.ours))
        .map(|(fact, theirs)| format!("{}: ours {:#x}, {} is 0x{theirs}", fact.label, fact.ours, fact.expression))
        .collect();
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), facts.list.len(), wrong.join("\n"));
    println!("{} sizes, offsets and constants compared", facts.list.len());
}

/// The names after `keyword` at the beginning of a line of the crate's sources.
fn declared(keyword: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).expect("source folder") {
        let path = entry.expect("source file").path();
        // The declaration macros live in lib.rs; the error numbers are compared from their own list; X-mode is ours.
        if ["lib.rs", "errno.rs", "xmode.rs"].iter().any(|own| path.ends_with(own)) {
            continue;
        }
        for line in std::fs::read_to_string(&path).expect("source text").lines() {
            let name = line.strip_prefix(keyword).filter(|rest| !rest.starts_with("fn ")).and_then(|rest| rest.split(':').next());
            names.extend(name.map(str::to_owned));
        }
    }
    names
}

#[test]
fn every_structure_is_compared() {
    let facts = Facts::all();
    let declared = declared("    pub struct ");
    assert!(declared.len() > 50, "the scan of the sources finds too little");
    let missing: Vec<_> = declared.difference(&facts.names).collect();
    assert!(missing.is_empty(), "not in structs.rs: {missing:?}");
}

#[test]
fn every_constant_is_compared() {
    let facts = Facts::all();
    let declared = declared("pub const ");
    assert!(declared.len() > 200, "the scan of the sources finds too little");
    let missing: Vec<_> = declared.difference(&facts.names).filter(|name| !constants::NOT_IN_C.contains(&name.as_str())).collect();
    assert!(missing.is_empty(), "not in constants.rs: {missing:?}");
}

/// Object-like macros of a header.
fn defines(header: &str) -> Vec<String> {
    let text = std::fs::read_to_string(Path::new(HEADERS).join(header)).expect("header");
    let names = text.lines().filter_map(|line| line.trim_start().strip_prefix('#')?.trim_start().strip_prefix("define "));
    let names = names.filter_map(|rest| rest.trim_start().split([' ', '\t']).next());
    names.filter(|name| !name.contains('(')).map(str::to_owned).collect()
}

#[test]
fn nothing_of_the_guest_abi_is_missing() {
    if !headers_present() {
        return;
    }
    let facts = Facts::all();
    let mut missing = Vec::new();
    for header in INCLUDES.iter().chain(&["arch-x86/xen.h", "arch-x86/xen-x86_64.h"]) {
        for name in defines(header) {
            let wanted = COMPLETE.iter().any(|prefix| name.starts_with(prefix)) || name.starts_with("__HYPERVISOR_");
            let left_out = LEFT_OUT.iter().any(|prefix| name.starts_with(prefix)) && !facts.names.contains(&name);
            // Other spellings of the same thing, and the bounds of the address range.
            let alias = ["__HYPERVISOR_VIRT_START", "__HYPERVISOR_VIRT_END", "__HYPERVISOR_dom0_op", "VMASST_MAX"];
            if wanted && !left_out && !alias.contains(&name.as_str()) && !facts.names.contains(&name) {
                missing.push(format!("{header}: {name}"));
            }
        }
    }
    assert!(missing.is_empty(), "in the headers only:\n{}", missing.join("\n"));
}
