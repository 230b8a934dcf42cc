# A web server in JavaScript.
. "$here/http.sh"
cat > /tmp/server.js <<'END'
require('http').createServer((request, response) => response.end('hello\n')).listen(8084, '127.0.0.1');
END
serves node 8084 120 node /tmp/server.js
