//! Patched files of this machine, run: they do what the originals do.
//!
//! Other programs than those that are there anyway, static ones for instance, are named by a variable:
//!
//! ```text
//! ABOM_PROGRAMS="busybox ls -l /:gofmt main.go" cargo test -p abom-cli --test run -- --nocapture
//! ```

mod tracer;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

const TOOL: &str = env!("CARGO_BIN_EXE_abom");
const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";
const LIBC: &str = "/lib/x86_64-linux-gnu/libc.so.6";

/// A folder that goes when the test ends.
fn folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder")
}

fn patch(from: &Path, to: &Path) {
    assert!(Command::new(TOOL).arg("patch").arg(from).arg("-o").arg(to).output().expect("the tool runs").status.success());
}

/// Runs a patched program, and checks that it does what the original does.
fn same(what: &str, program: &str, patched: &[&str], arguments: &[&str]) -> Option<u64> {
    let original = Command::new(program).args(arguments).output().expect("the original runs");
    let all: Vec<&str> = patched.iter().copied().skip(1).chain(arguments.iter().copied()).collect();
    let Some(outcome) = tracer::run(patched[0], &all) else {
        println!("{what}: this process may not trace");
        return None;
    };
    assert_eq!(outcome.output, String::from_utf8_lossy(&original.stdout), "{what}");
    assert_eq!(outcome.status, original.status.into_raw(), "{what}");
    println!("{what}: {} system calls through the table", outcome.calls);
    Some(outcome.calls)
}

#[test]
fn dynamic_programs_do_the_same() {
    if !Path::new(LOADER).exists() || !Path::new(LIBC).exists() {
        println!("no glibc here");
        return;
    }
    let folder = folder();
    let [loader, libc] = ["ld.so", "libc.so.6"].map(|n| folder.path().join(n));
    patch(&fs::canonicalize(LOADER).expect("a file"), &loader);
    patch(&fs::canonicalize(LIBC).expect("a file"), &libc);
    let [loader, path] = [loader.as_path(), folder.path()].map(|p| p.to_str().expect("a plain name").to_string());
    for (program, arguments, least) in [
        ("/bin/true", &[][..], 10),
        ("/bin/ls", &["-l", "/etc"], 100),
        ("/bin/sh", &["-c", "for i in 1 2 3; do echo $i; done | sort -r; (exit 7); echo $?; kill -USR1 $$; echo not"], 20),
        ("/bin/sh", &["-c", "trap 'echo got' USR1; kill -USR1 $$; sleep 0.1 & wait; cat /etc/passwd | wc -l; exit 3"], 20),
        ("/usr/bin/python3", &["-c", THREADS], 100),
    ] {
        if !Path::new(program).exists() {
            continue;
        }
        let what = format!("{program} {}", arguments.join(" "));
        let Some(calls) = same(&what, program, &[&loader, "--library-path", &path, program], arguments) else { return };
        assert!(calls >= least, "{what}: {calls} calls");
    }
}

/// Threads, subprocesses, signals.
const THREADS: &str = "
import threading, subprocess, signal, os, time
total = []
threads = [threading.Thread(target=lambda n=n: (time.sleep(0.01), total.append(n))) for n in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
print(sorted(total))
print(subprocess.run(['/bin/echo', 'child'], capture_output=True).stdout)
signal.signal(signal.SIGALRM, lambda *a: print('alarm'))
signal.setitimer(signal.ITIMER_REAL, 0.05); time.sleep(0.2)
pid = os.fork()
if pid == 0: os._exit(5)
print(os.waitpid(pid, 0)[1] >> 8)
";

#[test]
fn named_programs_do_the_same() {
    let Ok(programs) = std::env::var("ABOM_PROGRAMS") else { return };
    for line in programs.split(':') {
        let words: Vec<&str> = line.split(' ').collect();
        let folder = folder();
        // Under its own name: some look at it.
        let patched = folder.path().join(Path::new(words[0]).file_name().expect("a file"));
        patch(Path::new(words[0]), &patched);
        same(line, words[0], &[patched.to_str().expect("a plain name")], &words[1..]);
    }
}
