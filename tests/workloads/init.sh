# What x-init promises (docs/CONTAINERS.md): run as `me`, in a folder that was not there, with a variable. Its orphans are
# in the way of its end.
set -- $(id -u) $(id -g) "$(id -G)"
ok init-user "$*" "1 1 1"
ok init-cwd "$(pwd)" /srv/new/folder
ok init-environment "$GREETING|$HOME|$PATH|$HOSTNAME" 'a  "b"|/usr/sbin|/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin|web'
ok init-hostname "$(hostname)" web
ok init-stdin "$(wc -c)" 0
ok init-session "$(ps -o sid= -p $$ | tr -d ' ')" $$
ok init-mounts "$(awk '{ print $3 ":" $2 }' /proc/mounts | sort | tr '\n' ' ')" \
    'cgroup2:/sys/fs/cgroup devpts:/dev/pts devtmpfs:/dev mqueue:/dev/mqueue proc:/proc rootfs:/ sysfs:/sys tmpfs:/dev/shm '
ok init-files "$(ls -d /.x-container 2>/dev/null; stat -c '%a %U' / /tmp | tr '\n' ' ')" '755 root 1777 root '
ok init-links "$(readlink /dev/fd; echo out > /dev/stdout)" $'/proc/self/fd\nout'
ok init-loopback "$(awk '$2 == "00000000" || /lo/ { print $1 }' /proc/net/if_inet6 | wc -l; cat /sys/class/net/lo/flags)" $'1\n0x9'
ok init-pty "$(python3 -c 'import os, pty; print(os.WEXITSTATUS(pty.spawn(["sh", "-c", "exit 5"])))' | tail -n 1)" 5
(setsid sleep 1000 &)
sleep 0.2
ok init-reaps "$(ps -o ppid= -C sleep | tr -d ' ')" 1
