# A shell's life: processes, pipes, signals, jobs, sockets over loopback.
i=0
while [ $i -lt 500 ]; do /bin/true || break; i=$((i + 1)); done
ok shell-fork-exec $i 500
ok shell-pipes "$(seq 1 20000 | sort -rn | awk '{ s += $1 } END { print s }' | cat | cat)" 200010000
ok shell-substitution "$(echo "$(echo "$(echo deep)")")" deep
ok shell-trap "$(bash -c 'trap "echo caught" USR1; kill -USR1 $$; echo after')" $'caught\nafter'
sleep 100 &
kid=$!
kill -STOP $kid; kill -CONT $kid; kill -KILL $kid
wait $kid
ok shell-kill $? 137
ok shell-alarm "$(timeout 1 sleep 10; echo $?)" 124
for n in 1 2 3 4 5 6 7 8; do (echo $((n * n)) > /tmp/job$n) & done
wait
ok shell-jobs "$(cat /tmp/job? | awk '{ s += $1 } END { print s }')" 204
dd if=/dev/urandom of=/tmp/a bs=64k count=64 2>/dev/null
cp /tmp/a /tmp/b
ok shell-copy "$(cmp /tmp/a /tmp/b && stat -c %s /tmp/b)" 4194304
ok shell-sha256 "$(head -c 4194304 /dev/zero | sha256sum | cut -d' ' -f1)" bb9f8df61474d25e71fa00722318cd387396ca1736605e1248821cc0de3d3af8
mkfifo /tmp/fifo
(seq 1 1000 > /tmp/fifo) &
ok shell-fifo "$(wc -l < /tmp/fifo)" 1000
wait
ok shell-bad-program "$(/no/such/program 2>/dev/null; echo $?)" 127
rm /tmp/a /tmp/b /tmp/fifo /tmp/job?
