# A server with threads, asked by hand.
memcached -u nobody -l 127.0.0.1 -p 11211 -m 32 -t 4 &
server=$!
answers 30 bash -c 'exec 3<>/dev/tcp/127.0.0.1/11211'
runs memcached-values 60 python3 "$here/memcache.py"
ends memcached-term $server
