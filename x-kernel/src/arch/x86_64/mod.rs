//! x86-64: instructions, registers, tables and devices. The rest of the X-Kernel sees functions.
//!
//! | module | owns |
//! |---|---|
//! | `boot` | the way from the boot loader to `kmain`; what the loader says |
//! | `cpu`, `cr`, `msr` | features, control registers, model-specific registers |
//! | `gdt`, `idt` | descriptor tables, the task state segment, `syscall`'s registers |
//! | `entry`, `irq`, `context`, `fpu` | entering from guests and leaving to them; a vCPU's state on the CPU |
//! | `tlb` | flushes and shootdowns |
//! | `acpi`, `apic`, `ioapic`, `hpet`, `tsc`, `rtc` | what the firmware describes; timers and clocks |
//! | `serial`, `port`, `power` | consoles; I/O ports; stopping the machine |

pub mod acpi;
pub mod apic;
pub mod boot;
pub mod context;
pub mod cpu;
pub mod cr;
pub mod entry;
pub mod fpu;
pub mod gdt;
pub mod hpet;
pub mod idt;
pub mod ioapic;
pub mod irq;
pub mod msr;
pub mod port;
pub mod power;
pub mod rtc;
pub mod serial;
pub mod tlb;
pub mod tsc;
