# A web server in Rust.
. "$here/http.sh"
serves rust 8082 30 /server 8082
