#!/bin/bash
# In Xen's first domain: starts /boot/kernel with /boot/initrd as an ordinary domain. Its console is our output, and the exit
# status of its command ours. Arguments: its memory in MiB, and its command line.
export PATH=/usr/lib/xen-4.17/bin:$PATH
log=/var/log/xen/console/guest-guest.log
# What a boot of Debian makes.
rm -rf /var/run /var/lock
ln -s /run /run/lock /var
mkdir -p /run/lock /run/xen /run/xenstored /var/lib/xen /var/lib/xenstored "${log%/*}"
mount -t xenfs xenfs /proc/xen || exit 125

# The toolstack, without the packages' service scripts: the store, what it must know of the first domain, the consoles.
xenstored --pid-file /run/xenstored.pid
for _ in $(seq 50); do xenstore-read / > /dev/null 2>&1 && break; sleep 0.2; done
xen-init-dom0 > /dev/null
xenconsoled --log=guest --log-dir="${log%/*}"

cat > /run/guest.cfg <<END
name = "guest"
kernel = "/boot/kernel"
ramdisk = "/boot/initrd"
cmdline = "$2"
memory = $1
on_poweroff = "destroy"
on_reboot = "destroy"
on_crash = "destroy"
END
touch $log
tail -f -n +1 $log &
xl create -q /run/guest.cfg || exit 125
xl list
while xl domid guest > /dev/null 2>&1; do sleep 0.5; done
sleep 1
kill %1
exit "$(tr -d '\r' < $log | awk '/^XK-EXIT / { status = $NF } END { print status + 0 }')"
