#!/usr/bin/python3
"""The entrypoint of the image `python`: a web server that adds numbers, and a client beside it that asks; with ASKING=on
without end."""
import http.server
import json
import os
import threading
import time
import urllib.request


class Sums(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        numbers = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = json.dumps(sum(numbers)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Sums)
threading.Thread(target=server.serve_forever, daemon=True).start()
n = 0
while os.environ.get("ASKING") == "on" or n == 0:
    n += 1
    numbers = list(range(n, n + 100))
    with urllib.request.urlopen("http://127.0.0.1:8000/", json.dumps(numbers).encode(), timeout=60) as answer:
        right = json.load(answer) == 100 * n + 4950
    if not right:
        print(f"python: WRONG at {n}", flush=True)
    elif n % 5 == 0:
        print(f"python: {n} right", flush=True)
    time.sleep(0.1)
server.shutdown()
