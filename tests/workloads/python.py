"""What a program in Python asks of a kernel: processes, threads, sockets, signals, timers, memory."""

import asyncio
import ctypes
import hashlib
import json
import mmap
import multiprocessing
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

bad = 0


def check(function):
    """Runs it and says how it went; what it raises is the reason."""
    global bad
    name = "python-" + function.__name__.replace("_", "-")
    try:
        function()
        print(f"CHECK {name} ok", flush=True)
    except BaseException as error:
        print(f"CHECK {name} FAIL: {type(error).__name__}: {error}", flush=True)
        bad = 1


@check
def json_round_trip():
    data = {"list": list(range(1000)), "text": "ä\u20ac" * 100, "nested": [{"k": [None, True, 1.5]}] * 50}
    assert json.loads(json.dumps(data)) == data


@check
def subprocesses():
    for n in range(10):
        done = subprocess.run(["sh", "-c", f"cat; exit {n}"], input=b"x" * 100000, stdout=subprocess.PIPE)
        assert (done.returncode, len(done.stdout)) == (n, 100000)


@check
def threads_and_locks():
    total, lock = [0], threading.Lock()

    def work():
        for _ in range(2000):
            with lock:
                total[0] += 1

    threads = [threading.Thread(target=work) for _ in range(16)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert total[0] == 32000, total


@check
def condition_with_timeout():
    event = threading.Event()
    begin = time.monotonic()
    assert not event.wait(0.3)
    assert 0.25 <= time.monotonic() - begin < 5
    threading.Timer(0.1, event.set).start()
    assert event.wait(10)


@check
def sockets_over_loopback():
    server = socket.create_server(("127.0.0.1", 0))
    payload = os.urandom(1 << 20)

    def serve():
        for _ in range(4):
            peer, _ = server.accept()
            with peer:
                got = b""
                while len(got) < len(payload):
                    got += peer.recv(65536)
                peer.sendall(hashlib.sha256(got).digest())

    thread = threading.Thread(target=serve)
    thread.start()
    for _ in range(4):
        with socket.create_connection(server.getsockname(), timeout=20) as client:
            client.sendall(payload)
            assert client.recv(32) == hashlib.sha256(payload).digest()
    thread.join()


@check
def datagrams_and_unix_sockets():
    for family, address in ((socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_INET6, ("::1", 0)), (socket.AF_UNIX, "")):
        with socket.socket(family, socket.SOCK_DGRAM) as a, socket.socket(family, socket.SOCK_DGRAM) as b:
            a.bind(address)
            b.connect(a.getsockname())
            b.send(b"hello")
            assert a.recv(100) == b"hello"
    left, right = socket.socketpair()
    file = os.open("/dev/zero", os.O_RDONLY)
    socket.send_fds(left, [b"x"], [file])
    _, fds, _, _ = socket.recv_fds(right, 1, 1)
    assert os.read(fds[0], 4) == bytes(4)


@check
def epoll_edges():
    r, w = os.pipe()
    poll = select.epoll()
    poll.register(r, select.EPOLLIN | select.EPOLLET)
    assert poll.poll(0) == []
    os.write(w, b"a")
    assert poll.poll(1) == [(r, select.EPOLLIN)]
    assert poll.poll(0) == []


@check
def asyncio_tasks():
    async def echo(reader, writer):
        writer.write(await reader.readline())
        writer.close()

    async def main():
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]

        async def ask(n):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"%d\n" % n)
            answer = await reader.readline()
            writer.close()
            return int(answer)

        assert await asyncio.gather(*map(ask, range(50))) == list(range(50))

    asyncio.run(main())


@check
def signals():
    got = []
    signal.signal(signal.SIGUSR1, lambda *_: got.append(1))
    for _ in range(200):
        os.kill(os.getpid(), signal.SIGUSR1)
    assert len(got) == 200, len(got)
    signal.signal(signal.SIGALRM, lambda *_: got.append(2))
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    begin = time.monotonic()
    # The call that sleeps goes on after each.
    time.sleep(0.5)
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert time.monotonic() - begin >= 0.49
    assert 2 <= got.count(2) <= 12, got.count(2)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    os.kill(os.getpid(), signal.SIGUSR2)
    assert signal.sigwait([signal.SIGUSR2]) == signal.SIGUSR2


@check
def interrupted_reads():
    r, w = os.pipe()
    signal.signal(signal.SIGALRM, lambda *_: os.write(w, b"!"))
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    # Interrupted by the signal, restarted, and then there is something.
    assert os.read(r, 1) == b"!"


@check
def faults_become_signals():
    pid = os.fork()
    if pid == 0:
        os.close(2)
        ctypes.string_at(8)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGSEGV


@check
def memory_maps():
    with tempfile.TemporaryFile() as file:
        file.truncate(1 << 20)
        shared = mmap.mmap(file.fileno(), 1 << 20)
        pid = os.fork()
        if pid == 0:
            shared[4096:4101] = b"child"
            os._exit(0)
        os.waitpid(pid, 0)
        assert shared[4096:4101] == b"child"
        file.seek(4096)
        assert file.read(5) == b"child"
    private = mmap.mmap(-1, 16 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for at in range(0, len(private), 4096):
        private[at] = at >> 12 & 255
    assert sum(private[at] for at in range(0, len(private), 4096)) == 4096 // 256 * sum(range(256))
    private.madvise(mmap.MADV_DONTNEED)
    assert private[4096] == 0


@check
def copy_on_write_in_children():
    block = bytearray(os.urandom(4 << 20))
    digest = hashlib.sha256(block).digest()
    kids = []
    for n in range(8):
        pid = os.fork()
        if pid == 0:
            block[:] = bytes([n]) * len(block)
            os._exit(n if block.count(n) == len(block) else 99)
        kids.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in kids] == list(range(8))
    assert hashlib.sha256(block).digest() == digest


@check
def processes_that_share():
    with multiprocessing.get_context("fork").Pool(4) as pool:
        assert pool.map(abs, range(-500, 0)) == list(range(500, 0, -1))


@check
def clocks_go_on():
    for clock in (time.CLOCK_MONOTONIC, time.CLOCK_REALTIME, time.CLOCK_BOOTTIME, time.CLOCK_PROCESS_CPUTIME_ID):
        last = time.clock_gettime_ns(clock)
        for _ in range(20000):
            now = time.clock_gettime_ns(clock)
            assert now >= last, f"clock {clock} went back by {last - now} ns"
            last = now


def series(n):
    total = 0.0
    for i in range(1, 20001):
        total += n / i
    return total


@check
def floating_point_of_processes():
    wanted = [series(n) for n in range(4)]
    with multiprocessing.get_context("fork").Pool(4) as pool:
        assert pool.map(series, list(range(4)) * 4) == wanted * 4


sys.exit(bad)
