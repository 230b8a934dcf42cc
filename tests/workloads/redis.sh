# A server with its own load generator: pipelined and not, kept over a save and a restart.
redis() { redis-cli -p 6379 "$@"; }
serve() { redis-server --port 6379 --bind 127.0.0.1 --dir /tmp --save '' --appendonly no --daemonize no > /tmp/redis.log 2>&1 & server=$!; }
serve
answers 30 redis ping
ok redis-ping "$(redis ping)" PONG
runs redis-benchmark 120 redis-benchmark -q -n 2000 -c 20 -t ping,set,get,incr,lpush,rpop,sadd,hset,mset
runs redis-pipeline 60 redis-benchmark -q -n 10000 -P 16 -c 10 -t set,get
redis flushall > /dev/null
seq 1 1000 | sed 's/.*/SET key& value&/' | redis > /dev/null
ok redis-keys "$(redis dbsize)" 1000
# A child writes what there was at the fork.
redis save > /dev/null
redis bgsave > /dev/null
bgsave_done() { redis info persistence | grep -q rdb_bgsave_in_progress:0; }
answers 30 bgsave_done
ok redis-bgsave "$(redis info persistence | tr -d '\r' | sed -n 's/^rdb_last_bgsave_status://p')" ok
ends redis-term $server
serve
answers 30 redis ping
ok redis-restored "$(redis get key777)" value777
redis shutdown nosave
wait $server
rm -f /tmp/dump.rdb /tmp/redis.log
