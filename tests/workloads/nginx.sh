# A web server with a process for the work, and wrk: pages small and large, reload, shutdown.
. "$here/http.sh"
mkdir -p /tmp/www /run /var/log/nginx /var/lib/nginx
head -c 1048576 /dev/urandom > /tmp/www/large
echo 'hello from nginx' > /tmp/www/index.html
cat > /tmp/nginx.conf <<'EOF'
user www-data;
worker_processes 2;
pid /run/nginx.pid;
error_log /tmp/nginx.err;
events { worker_connections 256; }
http {
    access_log off;
    sendfile on;
    keepalive_requests 100000;
    server { listen 127.0.0.1:8080; root /tmp/www; }
}
EOF
runs nginx-config 20 nginx -t -c /tmp/nginx.conf
nginx -c /tmp/nginx.conf -g 'daemon off;' &
server=$!
answers 30 page 8080
ok nginx-page "$(page 8080)" 'hello from nginx'
ok nginx-large "$(page 8080 large | sha256sum)" "$(sha256sum < /tmp/www/large)"
load nginx-wrk-small 8080
load nginx-wrk-large 8080 large
kill -HUP $server
sleep 1
ok nginx-reload "$(page 8080)" 'hello from nginx'
ends nginx-term $server
rm -rf /tmp/www /tmp/nginx.*
