//! Bochs: slow, but its TLB keeps what a CPU's keeps, global entries above all.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::qemu::Ended;
use crate::{setup, sh};

/// How often the log is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// Lines that come last.
const LAST: &[&str] = &[": gone", " failed\r", "X-Kernel: panic", "no domain to run"];

/// The machine's description. No display: the one that needs no screen serves a port that nobody connects to.
fn description(iso: &Path, mem_mib: u64, serial: &Path, log: &Path) -> String {
    format!(
        "megs: {mem_mib}
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/vgabios/vgabios.bin
cpu: model=corei7_skylake_x, count=1, ips=200000000, reset_on_triple_fault=0, ignore_bad_msrs=0
clock: sync=none, time0=utc
plugin_ctrl: unmapped=1, biosdev=1, speaker=0, parallel=0, serial=1
display_library: rfb, options=\"timeout=0\"
com1: enabled=1, mode=file, dev={}
ata0-master: type=cdrom, path={}, status=inserted
boot: cdrom
log: {}
panic: action=fatal
error: action=report
mouse: enabled=0
",
        serial.display(),
        iso.display(),
        log.display()
    )
}

/// Ends Bochs when it goes out of scope.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Boots `iso` until its last line comes or the time runs out; the serial log goes to `serial`.
pub fn run(iso: &Path, mem_mib: u64, timeout: Duration, serial: &Path) -> Result<Ended> {
    setup::ensure(setup::BOCHS)?;
    let description_file = serial.with_extension("bochsrc");
    std::fs::write(&description_file, description(iso, mem_mib, serial, &serial.with_extension("bochs")))?;
    std::fs::write(serial, "")?;
    // Debian's Bochs has its debugger built in, which waits at the reset vector until it is told to go on.
    let commands = sh::target("runs/bochs.commands")?;
    std::fs::write(&commands, "continue\n")?;
    let mut command = Command::new("bochs");
    command.arg("-q").arg("-f").arg(&description_file).arg("-rc").arg(&commands).env("BXSHARE", "/usr/share/bochs");
    let start = Instant::now();
    let mut guard = Guard(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("cannot start Bochs")?);
    loop {
        let log = String::from_utf8_lossy(&std::fs::read(serial)?).into_owned();
        let over = guard.0.try_wait()?.is_some() || LAST.iter().any(|last| log.contains(last));
        let timed_out = start.elapsed() > timeout;
        if over || timed_out {
            return Ok(Ended {
                log: log.replace('\r', ""),
                code: None,
                timed_out: !over,
                times: Vec::new(),
                status: None,
                unwell: Vec::new(),
            });
        }
        std::thread::sleep(LOOK);
    }
}
