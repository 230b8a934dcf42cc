//! Initial RAM disks: a static busybox, an init script, and maybe a program of ours.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cpio::newc;

use crate::{build, setup, sh};

/// What every script begins with.
const PROLOGUE: &str = "#!/bin/busybox sh
export PATH=/bin
/bin/busybox mkdir -p /proc /sys /dev /tmp
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
echo \"INIT reached after $(cut -d' ' -f1 /proc/uptime) s\"
";

/// An interactive shell that switches the machine off when it ends.
const SHELL: &str = "hostname x-container
echo
echo 'A shell on a stock kernel in a domain of the X-Kernel. Leave with exit; debug keys: Ctrl-] h.'
cd / && setsid cttyhack sh
poweroff -f
";

/// The checks that a Linux guest must pass. The two lines CLOCK are compared with the host's clocks (`clock.rs`).
const SMOKE: &str = r#"bad=0
ok() { if [ "$2" = "$3" ]; then echo "CHECK $1 ok"; else echo "CHECK $1 FAIL: got '$2', want '$3'"; bad=1; fi; }
clock() { echo "CLOCK $(cut -d' ' -f1 /proc/uptime) $(date +%s)"; }
hundredths() { cut -d' ' -f1 /proc/uptime | tr -d .; }
ticks() { grep -E "timer$1\$" /proc/interrupts | awk -v n=$1 '{ print $(n + 2) }'; }
within() { if [ "$1" -ge "$2" ] && [ "$1" -le "$3" ]; then echo yes; else echo "$1"; fi; }
clock
ok sh "$(sh -c 'echo $((6 * 7))')" 42
ok sha256 "$(dd if=/dev/zero bs=1M count=64 2>/dev/null | sha256sum | cut -d' ' -f1)" 3b6a07d0d404fab4e23b6d34bc6696a6a312dd92821332385e5af7c01c421351
i=0; while [ $i -lt 500 ]; do /bin/busybox true || break; i=$((i + 1)); done
ok fork-exec "$i" 500
ok pipe "$(seq 1 1000 | sort -rn | head -n 1 | cat | cat)" 1000
ok signal "$(sh -c 'trap "echo caught" USR1; kill -USR1 $$')" caught
sh -c 'sleep 100' & kid=$!
kill -9 $kid; wait $kid; ok kill "$?" 137
sh -c 'echo a; exit 7' > /tmp/out; ok status "$? $(cat /tmp/out)" "7 a"
# Registers of the FPU belong to one process each: sums that are made at the same time.
sum() { awk -v x=$1 'BEGIN { for (i = 1; i <= 20000; i++) s += x / i; printf "%.6f ", s }' > /tmp/sum$1; }
sum 1 & sum 2 & sum 3 & wait; ok fpu "$(cat /tmp/sum1 /tmp/sum2 /tmp/sum3)" "10.480728 20.961456 31.442185 "
dd if=/dev/urandom of=/tmp/a bs=64k count=64 2>/dev/null; cp /tmp/a /tmp/b
ok file "$(cmp /tmp/a /tmp/b && wc -c < /tmp/b)" 4194304
rm /tmp/a /tmp/b
cpus=$(tr ' ' '\n' < /proc/cmdline | sed -n 's/^nr_cpus=//p'); cpus=${cpus:-1}
ok processors "$(grep -c ^processor /proc/cpuinfo)" "$cpus"
n=0; while [ $n -lt "$cpus" ]; do
    before=$(ticks $n); ok "runs-on-$n" "$(taskset $((1 << n)) sh -c 'sleep 1; echo here')" here
    ok "ticks-on-$n" "$([ "$(ticks $n)" -gt "$before" ] && echo more)" more
    n=$((n + 1))
done
before=$(hundredths); sleep 2; ok sleep-2 "$(within $(($(hundredths) - before)) 200 400)" yes
ok date "$([ "$(date +%Y)" -ge 2024 ] && echo sane)" sane
ok mhz "$([ "$(grep -m1 MHz /proc/cpuinfo | tr -dc 0-9 | cut -c1-3)" -gt 0 ] && echo sane)" sane
clock
complaints='WARNING:|BUG:|Oops|Call Trace|unchecked MSR|unsafe MSR|nobody cared|lockup|self-detected stall'
dmesg | grep -E "$complaints" | head -n 20
ok kernel-log "$(dmesg | grep -cE "$complaints")" 0
if [ $bad = 0 ]; then echo VERDICT SUCCESS; else echo VERDICT FAILURE; fi
poweroff -f
"#;

/// Which script an initrd has.
#[derive(Clone, Debug)]
pub enum Script {
    /// An interactive shell.
    Shell,
    /// The checks.
    Smoke,
    /// One command, whose status is printed.
    Command(Vec<String>),
    /// One of tests/linux with its arguments; it prints its own verdict.
    Program(String),
    /// None: this is a container's initrd, which has x-init.
    Container(PathBuf),
}

/// A word for the shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Makes an initrd and returns where it is.
pub fn make(script: &Script) -> Result<PathBuf> {
    let mut program = None;
    let (name, body): (String, _) = match script {
        Script::Shell => ("shell".into(), SHELL.to_string()),
        Script::Smoke => ("smoke".into(), SMOKE.to_string()),
        Script::Container(initrd) => return Ok(initrd.clone()),
        Script::Command(words) => {
            let line = words.iter().map(|w| quoted(w)).collect::<Vec<_>>().join(" ");
            ("command".into(), format!("echo XK-BEGIN\n{line}\necho \"XK-EXIT $?\"\npoweroff -f\n"))
        }
        Script::Program(line) => {
            let name = line.split(' ').next().context("a program has a name")?;
            program = Some((format!("bin/{name}"), std::fs::read(build::programs()?.join(name))?));
            (name.into(), format!("{line}\npoweroff -f\n"))
        }
    };
    setup::ensure(&["busybox-static"])?;
    // Named by what is in it, and put in place in one step: runs that go on side by side may ask for the same one.
    let init = format!("{PROLOGUE}{body}");
    let mut hash = DefaultHasher::new();
    (&init, &program).hash(&mut hash);
    let to = sh::target(&format!("initrd/{name}-{:016x}.cpio", hash.finish()))?;
    if !to.is_file() {
        let part = to.with_extension(format!("{}-{:?}", std::process::id(), std::thread::current().id()));
        write(&part, &init, program.as_ref())
            .and_then(|()| Ok(std::fs::rename(&part, &to)?))
            .with_context(|| format!("cannot make {}", to.display()))?;
    }
    Ok(to)
}

fn write(to: &Path, init: &str, program: Option<&(String, Vec<u8>)>) -> Result<()> {
    let mut out = BufWriter::new(File::create(to)?);
    let busybox = std::fs::read("/bin/busybox")?;
    let mut inode = 1;
    let mut add = |name: &str, mode: u32, data: &[u8], out: &mut BufWriter<File>| -> Result<()> {
        inode += 1;
        let mut entry = newc::Builder::new(name).ino(inode).mode(mode).nlink(1).write(out, u32::try_from(data.len())?);
        entry.write_all(data)?;
        entry.finish()?;
        Ok(())
    };
    add("bin", 0o040_755, &[], &mut out)?;
    add("bin/busybox", 0o100_755, &busybox, &mut out)?;
    if let Some((name, data)) = program {
        add(name, 0o100_755, data, &mut out)?;
    }
    add("init", 0o100_755, init.as_bytes(), &mut out)?;
    newc::trailer(&mut out)?;
    out.flush()?;
    Ok(())
}
