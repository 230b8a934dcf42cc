# A web server in Go: its runtime makes system calls by itself.
. "$here/http.sh"
mkdir -p /tmp/go
echo hello > /tmp/go/index.html
export HOME=/tmp
serves go 8081 60 caddy file-server --listen 127.0.0.1:8081 --root /tmp/go
