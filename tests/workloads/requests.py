"""Sets a value and gets it, so often, from a memcached."""

import socket
import sys

with socket.create_connection(("127.0.0.1", 11211), timeout=30) as link:
    for n in range(int(sys.argv[1]) // 2):
        link.sendall(b"set key 0 0 32\r\n" + b"v" * 32 + b"\r\n")
        assert link.recv(4096) == b"STORED\r\n"
        link.sendall(b"get key\r\n")
        assert link.recv(4096).endswith(b"END\r\n")
