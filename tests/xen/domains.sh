#!/bin/bash
# In Xen's first domain: starts ordinary domains. Their consoles are our output, and the exit status of the command that one of
# them ran ours. Arguments, three for each: its name, its memory in MiB, and its command line; /boot has its kernel and maybe
# an initrd, by that name.
export PATH=/usr/lib/xen-4.17/bin:$PATH
logs=/var/log/xen/console
# What a boot of Debian makes.
rm -rf /var/run /var/lock
ln -s /run /run/lock /var
mkdir -p /run/lock /run/xen /run/xenstored /var/lib/xen /var/lib/xenstored $logs
mount -t xenfs xenfs /proc/xen || exit 125

# The toolstack, without the packages' service scripts: the store, what it must know of the first domain, the consoles.
xenstored --pid-file /run/xenstored.pid
for _ in $(seq 50); do xenstore-read / > /dev/null 2>&1 && break; sleep 0.2; done
xen-init-dom0 > /dev/null
xenconsoled --log=guest --log-dir=$logs

names=()
while (($# >= 3)); do
    cat > "/run/$1.cfg" <<END
name = "$1"
kernel = "/boot/$1.kernel"
$([ -e "/boot/$1.initrd" ] && echo "ramdisk = '/boot/$1.initrd'")
memory = $2
cmdline = "$3"
on_poweroff = "destroy"
on_reboot = "destroy"
on_crash = "destroy"
END
    names+=("$1")
    touch "$logs/guest-$1.log"
    shift 3
done
tail -q -f -n +1 $logs/guest-*.log &

# For each, xl stays behind with all that it has open, until the domain is gone: who waits for that needs not ask again and
# again, which would be work beside theirs. None begins before all are there.
exec 3> >(cat)
last=$!
for name in "${names[@]}"; do xl create -q -p "/run/$name.cfg" || exit 125; done
xl list
for name in "${names[@]}"; do xl unpause "$name"; done
exec 3>&-
wait $last
sleep 1
kill %1
exit "$(cat $logs/guest-*.log | tr -d '\r' | awk '/^XK-EXIT / { status = $NF } END { print status + 0 }')"
