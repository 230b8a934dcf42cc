#!/bin/bash
# Programs under load.
here=$(dirname "$0")
. "$here/stretch.sh"

# answers COMMAND…: tries until it works.
answers() {
    local tries=0
    until "$@" > /dev/null 2>&1; do
        [ $((tries += 1)) -lt 300 ] || exit 1
        sleep 0.2
    done
}

redis_load() { redis-benchmark -q -n "$2" -c 10 -t "$1" > /dev/null && echo "$2"; }
web_load() { wrk -t 1 -c 8 -d "$1s" http://127.0.0.1:8080/ | awk '/requests in/ { print $1 }'; }
cache_load() { python3 "$here/requests.py" "$1" && echo "$1"; }
rows_load() { seq 1 "$1" | sed 's/.*/INSERT INTO t VALUES (&);/' | sqlite3 /tmp/load.db && echo "$1"; }
start_load() { local n; for n in $(seq "$1"); do python3 -c pass || exit 1; done; echo "$1"; }
shell_load() { local n; for n in $(seq "$1"); do seq 100 | sort -n | tail -n 1 > /dev/null || exit 1; done; echo "$1"; }

redis-server --port 6379 --bind 127.0.0.1 --dir /tmp --save '' --appendonly no --daemonize no > /dev/null &
server=$!
answers redis-cli ping
redis_load set 300 > /dev/null
redis_load get 300 > /dev/null
for n in 500 2000; do stretch redis_SET redis_load set $n; done
for n in 500 2000; do stretch redis_GET redis_load get $n; done
kill $server; wait $server

memcached -u nobody -l 127.0.0.1 -p 11211 -m 32 -t 1 &
server=$!
answers bash -c 'exec 3<>/dev/tcp/127.0.0.1/11211'
cache_load 200 > /dev/null
for n in 300 1500; do stretch memcached cache_load $n; done
kill $server; wait $server

mkdir -p /tmp/www /run /var/log/nginx /var/lib/nginx
echo 'hello from nginx' > /tmp/www/index.html
cat > /tmp/nginx.conf <<'END'
user www-data; worker_processes 1; pid /run/nginx.pid; error_log /tmp/nginx.err; daemon off;
events { worker_connections 64; }
http { access_log off; sendfile on; keepalive_requests 1000000; server { listen 127.0.0.1:8080; root /tmp/www; } }
END
nginx -c /tmp/nginx.conf &
server=$!
answers bash -c 'exec 3<>/dev/tcp/127.0.0.1/8080'
web_load 1 > /dev/null
for n in 1 2; do stretch nginx web_load $n; done
kill $server; wait $server

sqlite3 /tmp/load.db 'PRAGMA journal_mode = WAL; CREATE TABLE t (n INTEGER);' > /dev/null
rows_load 50 > /dev/null
for n in 50 250; do stretch sqlite_INSERT rows_load $n; done
start_load 3 > /dev/null
for n in 3 10; do stretch python3_start start_load $n; done
shell_load 5 > /dev/null
for n in 5 25; do stretch shell_pipeline shell_load $n; done
echo VERDICT SUCCESS
