//! The columns of the matrix: where a kernel of the same source runs, and how its programs call it.

use clap::ValueEnum;

use super::place::Place;
use crate::run::Switch;

/// A column.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Column {
    /// On the machine itself.
    Native,
    /// As the first domain of Debian's Xen.
    Xen,
    /// As an ordinary guest of the X-Kernel.
    Pv,
    /// In X-mode, system calls by the instruction.
    Trap,
    /// In X-mode, system calls by calls through the table.
    Table,
    /// In X-mode, with ABOM: system calls by the instruction, as programs have them, until they are patched.
    Abom,
}

impl Column {
    /// All of them, in the order of the tables.
    pub const ALL: [Self; 6] = [Self::Native, Self::Xen, Self::Pv, Self::Trap, Self::Table, Self::Abom];

    /// For tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Xen => "Xen",
            Self::Pv => "PV",
            Self::Trap => "trap",
            Self::Table => "table",
            Self::Abom => "ABOM",
        }
    }

    /// What it is, in a few words.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Native => "Linux on the machine itself",
            Self::Xen => "Linux as the first domain of Debian's Xen",
            Self::Pv => "Linux as an ordinary PV guest of the X-Kernel",
            Self::Trap => "X-LibOS on the X-Kernel, ABOM off: each system call traps",
            Self::Table => "X-LibOS on the X-Kernel, programs that call the table themselves",
            Self::Abom => "X-LibOS on the X-Kernel, unmodified programs, ABOM on",
        }
    }

    /// Where it is.
    pub fn place(self) -> Place {
        match self {
            Self::Native => Place::Native,
            Self::Xen => Place::Xen,
            Self::Pv => Place::Pv,
            Self::Trap | Self::Table | Self::Abom => Place::XMode,
        }
    }

    /// Its kernel. Unpacked where somebody else would have to unpack it: what a kernel without a hypervisor does so itself
    /// before it is in its own part of the address space, and is not counted.
    pub fn kernel(self) -> &'static str {
        match self {
            Self::Native => "linux:libos-dom0",
            Self::Xen => "vmlinux:libos-dom0",
            Self::Pv | Self::Trap | Self::Table | Self::Abom => "vmlinux:libos",
        }
    }

    /// How tests/linux/ops is to make its system calls.
    pub fn calls(self) -> &'static str {
        if self == Self::Table { "call" } else { "library" }
    }

    /// Whether system calls may become function calls while programs run.
    pub fn abom(self) -> Switch {
        if self == Self::Abom { Switch::On } else { Switch::Off }
    }

    /// Whether programs that are not ours are the same there as in another column.
    pub fn has_programs(self) -> bool {
        self != Self::Table
    }
}
