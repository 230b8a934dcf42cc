# Tracers and debuggers see what they would see on any Linux, while the system calls of what they look at are function calls.

# calls FILE: the names of the system calls in a trace.
calls() { sed -n 's/^\([a-z0-9_]*\)(.*/\1/p' "$1"; }

strace -o /tmp/cold ls /etc/hosts > /dev/null
for _ in $(seq 10); do ls /etc/hosts > /dev/null; done
strace -o /tmp/hot ls /etc/hosts > /dev/null
ok strace-same-calls "$(calls /tmp/hot | sha256sum)" "$(calls /tmp/cold | sha256sum)"
ok strace-arguments "$(grep -c '^write(1, "/etc/hosts\\n", 11) *= 11$' /tmp/hot)" 1
ok strace-end "$(tail -n 1 /tmp/hot)" '+++ exited with 0 +++'
strace -f -o /tmp/forks sh -c 'for n in 1 2 3; do /bin/true; done; kill -USR1 $$ & trap : USR1; wait; wait' 2> /dev/null
ok strace-follows "$(grep -c 'exited with 0' /tmp/forks)" 5
ok strace-signal "$(grep -c -- '--- SIGUSR1 {si_signo=SIGUSR1, si_code=SI_USER' /tmp/forks)" 1
strace -o /tmp/injected -e inject=write:error=ENOSPC ls /etc/hosts > /dev/null 2>&1
ok strace-injects "$(grep -c 'ENOSPC (No space left on device) (INJECTED)' /tmp/injected | sed 's/[1-9][0-9]*/some/')" some

# A process that waits: where it is, and that it goes on.
sleep 3 &
sleeper=$!
sleep 0.5
read -r number clock _ < "/proc/$sleeper/syscall"
ok proc-syscall "$number $clock" '230 0x0'
timeout 1 strace -o /tmp/attached -p $sleeper 2> /dev/null
ok strace-attaches "$(grep -cE 'clock_nanosleep|restart_syscall' /tmp/attached)" 1
wait $sleeper
ok strace-lets-go $? 0

# The code is as the file has it; a breakpoint stops there, and steps are single instructions.
gdb() { command gdb -nx -batch -iex 'set debuginfod enabled off' "$@" 2>&1; }
gdb -ex 'break getpid' -ex run -ex 'x/2i $pc' -ex 'stepi 2' -ex 'info registers rip' -ex 'p $eax == (int) $_inferior' -ex 'bt 1' \
    --args sh -c 'exit 7' > /tmp/gdb
ok gdb-code "$(grep -cE 'mov +\$0x27,%eax|syscall' /tmp/gdb)" 2
ok gdb-steps "$(grep -cE '^rip .*getpid\+7>' /tmp/gdb)" 1
gdb -ex 'catch syscall 1' -ex run -ex 'p $orig_rax' -ex 'p $rdx' -ex delete -ex continue --args ls /etc/hosts > /tmp/gdb
ok gdb-catches "$(grep -cE "^\\\$1 = 1|^\\\$2 = 11" /tmp/gdb)" 2
ok gdb-goes-on "$(grep -c 'exited normally' /tmp/gdb)" 1

# A core of a process that waits in a system call: its registers and the way that it came.
cd /tmp || exit
(ulimit -c unlimited; exec sleep 100) &
sleeper=$!
sleep 0.5
kill -ABRT $sleeper
wait $sleeper
ok core-signal $? 134
gdb -ex 'p $orig_rax' -ex 'x/i $pc - 2' -ex bt "$(command -v sleep)" core* > /tmp/gdb
ok core-number "$(grep -c '^$1 = 230' /tmp/gdb)" 1
ok core-place "$(grep -cE 'clock_nanosleep.*:\s+syscall' /tmp/gdb)" 1
rm -f core*
