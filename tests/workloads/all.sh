#!/bin/bash
# Unmodified programs in a container, and checks that they did what they do elsewhere. Arguments choose parts.
# Each check prints `CHECK name ok` or `CHECK name FAIL: why`; the last line is the verdict.
here=$(dirname "$0")
parts=${*:-shell sqlite python redis memcached nginx stress}
bad=0

# ok NAME GOT WANT
ok() {
    if [ "$2" = "$3" ]; then echo "CHECK $1 ok"; else echo "CHECK $1 FAIL: got '$2', want '$3'"; bad=1; fi
}

# runs NAME SECONDS COMMAND…: it must end with 0 in time, and not have skipped anything. What it said is in $out.
runs() {
    local name=$1 limit=$2 status=0
    shift 2
    out=$(timeout -k 5 "$limit" "$@" 2>&1) || status=$?
    if [ "$status" = 0 ] && ! grep -qE 'skipp|not implemented' <<<"$out"; then
        echo "CHECK $name ok"
    else
        echo "CHECK $name FAIL: status $status: $(tail -n 3 <<<"$out" | tr '\n' ' ')"
        bad=1
    fi
}

# answers SECONDS COMMAND…: tries until it works.
answers() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.2
    done
}

# ends NAME PID: it ends by SIGTERM, in time and with 0.
ends() {
    local status=0
    kill "$2"
    timeout 20 tail --pid="$2" -f /dev/null || kill -9 "$2"
    wait "$2" || status=$?
    ok "$1" $status 0
}

for part in $parts; do
    begin=$SECONDS
    . "$here/$part.sh"
    echo "PART $part $((SECONDS - begin)) s"
done

complaints='WARNING:|BUG:|Oops|Call Trace|unchecked MSR|unsafe MSR|nobody cared|lockup|self-detected stall'
dmesg | grep -E "$complaints" | head -n 20
ok kernel-log "$(dmesg | grep -cE "$complaints")" 0
if [ $bad = 0 ]; then echo VERDICT SUCCESS; else echo VERDICT FAILURE; fi
exit $bad
