# For servers that speak HTTP.

# page PORT [PATH]: what is there.
page() {
    exec 3<>"/dev/tcp/127.0.0.1/$1" || return 1
    printf 'GET /%s HTTP/1.0\r\n\r\n' "$2" >&3
    sed '1,/^\r$/d' <&3
    exec 3>&-
}

# load NAME PORT [PATH]: $LOAD seconds of requests, none of which may go wrong.
load() {
    local out count
    out=$(timeout -k 5 $((90 + ${LOAD:-4})) wrk -t 2 -c 16 -d "${LOAD:-4}s" "http://127.0.0.1:$2/$3" 2>&1)
    count=$(awk '/requests in/ { print $1 }' <<<"$out")
    if [ "${count:-0}" -gt 20 ] && ! grep -qE 'Socket errors|Non-2xx' <<<"$out"; then
        echo "CHECK $1 ok"
    else
        echo "CHECK $1 FAIL: $(tail -n 4 <<<"$out" | tr '\n' ' ')"
        bad=1
    fi
}

# serves NAME PORT SECONDS COMMAND…: a server that says hello, under load, and ends when it is told to.
serves() {
    local name=$1 port=$2 limit=$3 pid
    shift 3
    "$@" > "/tmp/$name.log" 2>&1 &
    pid=$!
    if answers "$limit" page "$port"; then
        ok "$name-page" "$(page "$port")" 'hello'
        load "$name-load" "$port"
        ok "$name-page-again" "$(page "$port")" 'hello'
    else
        echo "CHECK $name FAIL: no answer: $(tail -n 3 "/tmp/$name.log" | tr '\n' ' ')"
        bad=1
    fi
    # What a program ends with that was told to end is its own affair.
    kill "$pid"
    timeout 30 tail --pid="$pid" -f /dev/null || kill -9 "$pid"
    wait "$pid"
    ok "$name-ends" "$(kill -0 "$pid" 2>&1 | grep -c 'No such process')" 1
}
