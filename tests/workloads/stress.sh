# Stressors of stress-ng that check their own results, each with a bounded number of operations.
# One that is skipped, because the kernel lacks something, counts as a failure here. Not in the list, and why:
# - sigsegv switches the time-stamp counter off, among others: the kernel's own reading of it then faults (CAVEATS)
# - io-uring asks for a file that it has removed, and fails on any kernel
# - rseq wants what glibc has taken before it; exec wants not to be root
# - netlink-proc wants CONFIG_PROC_EVENTS; xattr wants attributes for users on a tmpfs
while read -r name ops more; do
    [ -n "$name" ] || continue
    # shellcheck disable=SC2086
    runs "stress-$name" 60 stress-ng --verify --timeout 5 --temp-path /tmp "--$name" 1 "--$name-ops" "$ops" $more
done <<'EOF'
syscall 10
get 100
set 50
signal 2000
sigabrt 100
sigfd 1000
sigfpe 500
sigio 200
sigpending 1000
sigpipe 500
sigq 1000
sigrt 500
sigsuspend 500
sigtrap 500
fork 200
vfork 200
clone 100
daemon 20
wait 200
zombie 50
pthread 50
nice 20
switch 2000
yield 5000
vm 500 --vm-bytes 32m
vm-splice 200
mmap 20 --mmap-bytes 16m
mmapfork 2
mremap 50 --mremap-bytes 4m
brk 2000
stack 5
bigheap 500 --bigheap-growth 64k
madvise 5
mprotect 500
msync 20
mincore 500
mlock 20
memfd 5
fault 1000
userfaultfd 100
futex 2000
sem 2000
sem-sysv 1000
msg 2000
mq 1000
shm 10 --shm-bytes 2m
shm-sysv 10 --shm-sysv-bytes 2m
timer 2000
timerfd 500
itimer 500
clock 200
nanosleep 200
alarm 3
poll 200
epoll 200
eventfd 2000
pipe 5000
pipeherd 500
fifo 2000
splice 200
tee 200
sock 50
sockpair 500
sockabuse 50
udp 500
inotify 10
aio 50
seek 500
hdd 50 --hdd-bytes 8m
dentry 500
dir 500
link 200
rename 500
chmod 200
fcntl 500
flock 500
lockf 500
dup 200
open 500
access 200
utime 500
sendfile 200
env 100
procfs 20
urandom 200
getrandom 500
rtc 50
seccomp 50
ptrace 500
prctl 100
membarrier 100
context 1000
funccall 500
fp-error 500
kcmp 200
key 50
cap 100
session 50
vdso 2000
EOF
