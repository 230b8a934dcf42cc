"""Sets and gets values from several connections at once, and counts what came back right."""

import hashlib
import socket
import threading

ROUNDS = 300
wrong = []


def value(key):
    return hashlib.sha512(key.encode()).hexdigest() * (1 + len(key) % 7)


def client(number):
    with socket.create_connection(("127.0.0.1", 11211), timeout=30) as link, link.makefile("rwb") as file:

        def ask(line, body=None):
            file.write(line.encode() + b"\r\n" + (body.encode() + b"\r\n" if body is not None else b""))
            file.flush()
            return file.readline().decode().rstrip()

        for n in range(ROUNDS):
            key = f"key-{number}-{n}"
            body = value(key)
            if ask(f"set {key} 0 0 {len(body)}", body) != "STORED":
                wrong.append(key)
            header = ask(f"get {key}")
            got = file.read(len(body) + 2)[:-2].decode()
            end = file.readline().decode().rstrip()
            if (header, got, end) != (f"VALUE {key} 0 {len(body)}", body, "END"):
                wrong.append(key)


threads = [threading.Thread(target=client, args=(n,)) for n in range(8)]
for t in threads:
    t.start()
for t in threads:
    t.join()
assert not wrong, f"{len(wrong)} wrong answers, first {wrong[0]}"
