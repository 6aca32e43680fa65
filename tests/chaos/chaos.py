#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""chaos.py - servers come, go, stop and die on one private host while clients check every octet

    chaos.py [--seconds 600] [--seed S] [--mode tap|packet|kernel] [--verbose]

A seed gives the sequence of what is done to the servers: nginx (4 workers), redis, an epoll server, a forking server, a
client that joins and ends, the keeper. Clients on the kernel's side of the wire ask all of them all the time and hold
every answer against what it must be. What is a fault:

  wrong      an octet that is not what was asked for: always
  hang       an answer that took longer than a second and what a SYN sent again needs after that, unless the server's
             process was stopped meanwhile, or the same took long on the kernel's own loopback in the same moment (the
             machine had no time for anybody). A SYN may be lost with a process that is killed, or wait with one that is
             stopped, just when it takes frames in; the peer's kernel sends it again after a second
  broken     a connection that ended though nothing was done to its server since it began. A process that is killed inside
             the lock may take down the one or two connections it was changing: so many are allowed, and counted
  left       an object of the host that is still there when everybody has gone

`--mode kernel` plays the same against the kernel's stack: it must find no fault there.
"""

import argparse
import collections
import contextlib
import ctypes
import json
import os
import random
import select
import signal
import socket
import struct
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "app"))
import harness                                                              # noqa: E402
from harness import PRIVATE, Net, Options, children, is_alive, wait_for     # noqa: E402

HANG_S = 1.3
PATTERN_BYTES = 1048583                 # tests/app/prog/pattern.h
SPEAK_BYTES = 150000
SITE = {"/1k": 1000, "/40k": 40000, "/300k": 300000}
now = time.monotonic


def pattern():
    x, out = 0x9e3779b97f4a7c15, bytearray(PATTERN_BYTES)
    for i in range(PATTERN_BYTES):
        x ^= x << 13 & 0xffffffffffffffff
        x ^= x >> 7
        x ^= x << 17 & 0xffffffffffffffff
        out[i] = x >> 32 & 0xff
    return bytes(out) * 2


# -- what was done, and when ----------------------------------------------------------------------------------------

class Deeds:
    """Everything that was done to a server, so that a client's trouble can be held against it."""

    def __init__(self):
        self.lock = threading.Lock()
        self.breaks = collections.defaultdict(list)     # server -> [[from, to or None, pid or None for all of it]]
        self.stops = []                                 # [from, to or None, server, pid or None for all of it]
        self.leaving = set()                            # workers that were told to end once their connections have
        self.kills = 0
        self.log = []

    def note(self, text):
        self.log.append("%8.3f %s" % (now() - self.start, text))

    def broke(self, server, pid=None):
        with self.lock:
            self.breaks[server].append([now(), now(), pid])

    @contextlib.contextmanager
    def breaking(self, server, pid=None, is_kill=False):
        """What begins before the end of it may end with it: a process is dead a little later than it is killed."""
        entry = [now(), None, pid]
        with self.lock:
            self.kills += is_kill
            self.breaks[server].append(entry)
        try:
            yield
        finally:
            entry[1] = now() + (0.05 if is_kill else 0)

    def stopped(self, server, pid):
        entry = [now(), None, server, pid]
        with self.lock:
            self.stops.append(entry)
        return entry

    def excuses_end(self, server, pid, since):
        """May a connection of @pid (None: it is not known whose), begun at @since, have ended?"""
        with self.lock:
            return pid in self.leaving or any(
                (to is None or to >= since) and (p is None or pid is None or p == pid) for _, to, p in self.breaks[server])

    def excuses_wait(self, server, pid, connected, since):
        """Was who should have answered since @since stopped? An unknown one may have taken the connection before it was."""
        with self.lock:
            for begin, end, srv, p in self.stops:
                if srv != server or (end is not None and end < since):
                    continue
                if p == pid or p is None or (pid is None and begin >= connected - 0.01):
                    return True
        return False


class Faults:
    def __init__(self, deeds, verbose):
        self.deeds, self.verbose, self.lock = deeds, verbose, threading.Lock()
        self.wrong, self.hangs, self.broken, self.left = [], [], [], []
        self.asked = collections.Counter()
        self.excused = collections.Counter()

    def add(self, what, text):
        with self.lock:
            what.append("%8.3f %s" % (now() - self.deeds.start, text))
            self.deeds.note("FAULT " + text)
            if self.verbose:
                print(what[-1], flush=True)


# -- clients --------------------------------------------------------------------------------------------------------

class Broken(Exception):
    """The connection ended."""


class Client(threading.Thread):
    """Opens, asks and checks for ever. A subclass says what; self.pid is the process that answers, once that is known."""

    server = "?"

    def __init__(self, run, port, seed):
        super().__init__(daemon=True)
        self.run_, self.port, self.rng = run, port, random.Random(seed)
        self.pid = self.sock = None
        self.began = self.op_began = now()
        self.label = "%s#%d" % (self.server, seed)

    def run(self):
        while not self.run_.over.is_set():
            try:
                self.life()
            except Broken as e:
                self.ended(e)
            except OSError as e:
                self.ended(e)
            finally:
                if self.sock:
                    self.sock.close()
                self.sock = None
            time.sleep(self.rng.uniform(0.002, 0.02))

    def ended(self, e):
        run = self.run_
        if run.over.is_set() or run.deeds.excuses_end(self.server, self.pid, self.began):
            run.faults.excused["ended"] += 1
        elif not run.is_up(self.server, self.began):
            run.faults.excused["refused"] += 1
        else:
            run.faults.add(run.faults.broken, "%s: %s (pid %s, after %.3f s) %s" %
                           (self.label, e or type(e).__name__, self.pid, now() - self.began, self.name_of_sock()))

    def name_of_sock(self):
        with contextlib.suppress(OSError):
            port = self.sock.getsockname()[1]
            return "port %d, %s" % (port, self.run_.wire.story(port, self.port, self.began))
        return ""

    def open(self):
        self.pid = None
        self.began = self.op_began = now()
        with self.run_.net.inside():
            self.sock = socket.socket()
        self.sock.setblocking(False)
        try:
            self.sock.connect((self.run_.address, self.port))
        except BlockingIOError:
            self.ready(select.POLLOUT)
        err = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if err:
            raise Broken("connect: " + os.strerror(err))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ready(self, events):
        """Waits; one that takes too long is judged once, and given half a minute more to see whether it ever comes."""
        p = select.poll()
        p.register(self.sock, events)
        begin, judged = now(), False
        while not p.poll(200):
            took = now() - begin
            if self.run_.over.is_set() and took > 5:
                raise Broken("over")
            if took > HANG_S and not judged and not self.excused(begin):
                if took > HANG_S + self.run_.control_lag(self.server, begin):
                    judged = True
                    self.run_.deeds.note(self.run_.look(self.server, self.sock))
                    self.run_.faults.add(self.run_.faults.hangs, "%s: no %s for %.2f s (pid %s, connected %.3f s ago) %s" %
                                         (self.label, "answer" if events == select.POLLIN else "room", took, self.pid,
                                          now() - self.began, self.name_of_sock()))
            if took > 30:
                raise Broken("nothing for 30 s")
        if judged:
            self.run_.deeds.note("%s: it came after %.2f s; %s" % (self.label, now() - begin, self.run_.look(self.server, self.sock)))

    def excused(self, since):
        return self.run_.deeds.excuses_wait(self.server, self.pid, self.began, since)

    def send(self, data):
        at, view = 0, memoryview(data)
        while at < len(data):
            try:
                at += self.sock.send(view[at:])
            except BlockingIOError:
                self.ready(select.POLLOUT)

    def recv(self, size=1 << 16):
        while True:
            try:
                return self.sock.recv(size)
            except BlockingIOError:
                self.ready(select.POLLIN)

    def recv_some(self, size=1 << 16):
        got = self.recv(size)
        if not got:
            raise Broken("EOF")
        return got

    def check(self, got, want, what):
        if got == want:
            self.run_.faults.asked[self.server] += 1
            return
        at = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
        self.run_.faults.add(self.run_.faults.wrong, "%s: %s: octet %d of %d: got %r, wanted %r (%.3f s after it began) %s" %
                             (self.label, what, at, len(want), bytes(got[at:at + 16]), bytes(want[at:at + 16]), now() - self.began,
                              self.name_of_sock()))
        raise Broken("wrong")

    def pause(self):
        time.sleep(self.rng.choice((0, 0, 0.001, 0.004, 0.02)))


class Http(Client):
    """Keep-alive or a connection per request; /pid says whose worker's the connection is."""

    server = "nginx"

    def get(self, path, last):
        self.send(("GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n" % (path, "Connection: close\r\n" if last else "")).encode())
        buf = b""
        while b"\r\n\r\n" not in buf:
            buf += self.recv_some()
        head, body = buf.split(b"\r\n\r\n", 1)
        if not head.startswith(b"HTTP/1.1 200"):
            self.run_.faults.add(self.run_.faults.wrong, "%s: %s: %r" % (self.label, path, head[:60]))
            raise Broken("wrong")
        length = int(next(ln for ln in head.lower().split(b"\r\n") if ln.startswith(b"content-length:")).split(b":")[1])
        parts, have = [body], len(body)
        while have < length:
            parts.append(self.recv_some())
            have += len(parts[-1])
        return b"".join(parts), b"connection: close" in head.lower()

    def life(self):
        self.open()
        self.pid = int(self.get("/pid", False)[0])
        for i in range(self.rng.choice((1, 3, 50))):
            path = self.rng.choice(tuple(SITE))
            body, closes = self.get(path, False)
            self.check(body, self.run_.site[path], path)
            if closes:                  # a worker on its way out says so; one that is idle just closes, as with the kernel
                return
            self.pause()


class Echo(Client):
    def life(self):
        self.open()
        at = 0
        for _ in range(self.rng.choice((1, 10, 100))):
            size = self.rng.choice((1, 100, 1460, 9000, 60000))
            want = self.run_.pattern[at:at + size]
            self.send(want)
            got = bytearray()
            while len(got) < size:
                got += self.recv_some(size - len(got))
            self.check(got, want, "echo at %d" % at)
            at = (at + size) % PATTERN_BYTES
            self.pause()


class EpollEcho(Echo):
    server = "epoll"


class ForkEcho(Echo):
    server = "fork"


class Speak(Client):
    """The server speaks first, then closes: the end must come, and not before the last octet."""

    server = "epoll"

    def life(self):
        self.open()
        got = bytearray()
        while chunk := self.recv():
            got += chunk
            if self.rng.random() < 0.05:
                time.sleep(0.005)
        if len(got) < SPEAK_BYTES and self.run_.deeds.excuses_end(self.server, None, self.began):
            got += self.run_.pattern[len(got):SPEAK_BYTES]      # cut short by its death; what came must be right
        self.check(got, self.run_.pattern[:SPEAK_BYTES], "speak")


class Redis(Client):
    server = "redis"

    def reply(self, buf):
        """One reply. Returns (value, rest)."""
        while b"\r\n" not in buf:
            buf += self.recv_some()
        line, rest = buf.split(b"\r\n", 1)
        if line[:1] in (b"+", b":", b"-"):
            return line, rest
        n = int(line[1:])
        if n < 0:
            return None, rest
        while len(rest) < n + 2:
            rest += self.recv_some()
        return rest[:n], rest[n + 2:]

    def life(self):
        self.open()
        key, rest = ("k%s" % self.label).encode(), b""
        for _ in range(self.rng.choice((1, 20, 200))):
            size, at = self.rng.choice((1, 100, 5000, 50000)), self.rng.randrange(PATTERN_BYTES)
            value = self.run_.pattern[at:at + size]
            self.send(b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n" %
                      (len(key), key, size, value, len(key), key))
            ok, rest = self.reply(rest)
            if ok.startswith(b"-LOADING"):
                return
            self.check(ok, b"+OK", "SET")
            got, rest = self.reply(rest)
            self.check(got or b"", value, "GET")
            self.pause()


class Control(threading.Thread):
    """Asks a server on the kernel's loopback, and notes how long that took: what the machine itself makes everybody wait.

    @forks: a server that forks for each question; a process that is new waits for a CPU longer than one that slept."""

    def __init__(self, run, forks):
        super().__init__(daemon=True)
        self.run_, self.forks, self.lags = run, forks, collections.deque(maxlen=20000)

    def connect(self):
        with self.run_.net.inside():
            return socket.create_connection(("127.0.0.1", 7104 if self.forks else 7100))

    def run(self):
        s = None
        while not self.run_.over.is_set():
            begin = now()
            try:
                s = s or self.connect()
                s.sendall(b"x")
                s.recv(1)
                if self.forks:
                    s.close()
                    s = None
            except OSError:             # the run is over
                return
            self.lags.append((begin, now() - begin))
            time.sleep(0.02 if self.forks else 0.005)

    def worst_since(self, since):
        last = self.lags[-1] if self.lags else (now(), 0)
        pending = now() - sum(last) - (0.02 if self.forks else 0.005)
        return max([lag for at, lag in list(self.lags) if at + lag >= since] + [pending, 0])


class Wire(threading.Thread):
    """SYN, FIN and RST as they passed on the wire: the beginning and end of a connection that went wrong."""

    #         ldh 12           jeq IPv4            ldb protocol     jeq TCP          ldb flags        jset SYN FIN RST
    FILTER = ((0x28, 0, 0, 12), (0x15, 0, 9, 0x800), (0x30, 0, 0, 23), (0x15, 0, 7, 6), (0x30, 0, 0, 47), (0x45, 4, 0, 7),
              # the fork server's are few enough to be taken down whole: ldh 34, jeq, ldh 36, jeq
              (0x28, 0, 0, 34), (0x15, 2, 0, 7003), (0x28, 0, 0, 36), (0x15, 0, 1, 7003),
              (6, 0, 0, 96), (6, 0, 0, 0))

    def __init__(self, run):
        super().__init__(daemon=True)
        self.run_, self.seen = run, collections.deque(maxlen=20000)
        with run.net.inside():
            self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *i) for i in self.FILTER))
        self.sock.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HL", len(self.FILTER), ctypes.addressof(code)))   # SO_ATTACH_FILTER
        self.sock.bind((run.net.peer_dev, 3))
        self.sock.settimeout(0.5)

    def run(self):
        while not self.run_.over.is_set():
            with contextlib.suppress(TimeoutError):
                f = self.sock.recv(96)
                ports, seq, ack = struct.unpack_from("!III", f, 34)
                self.seen.append((now(), ports, seq, ack, f[47], struct.unpack_from("!H", f, 16)[0] - 20 - (f[46] >> 4) * 4))

    def story(self, client, server, since):
        """What passed between the two since then: seconds after it began, who, flags, sequence numbers from the SYN's on, length."""
        out, iss = [], {}
        for at, ports, seq, ack, flags, length in list(self.seen):
            if ports not in (client << 16 | server, server << 16 | client) or at < since - 0.001:
                continue
            if flags & 2:
                iss[ports] = seq
            back = ports >> 16 | (ports & 0xffff) << 16
            out.append("%.3f %s %s seq %d ack %d len %d" % (
                at - since, "<" if ports >> 16 == server else ">", "".join(c for i, c in enumerate("FSRPA") if flags >> i & 1),
                seq - iss.get(ports, 0) & 0xffffffff, ack - iss.get(back, 0) & 0xffffffff, length))
        return "on the wire: " + (", ".join(out) or "nothing")


# -- servers and what is done to them ---------------------------------------------------------------------------------

class Server:
    def __init__(self, run, name):
        self.run, self.name, self.proc, self.up_since, self.serial = run, name, None, None, 0

    def start(self):
        self.serial += 1
        for k in range(100):            # its port may be in TIME_WAIT, or its predecessor not cleaned up yet
            self.proc = self.run.net.start("private", *self.argv(), name=self.name)
            if self.wait_up():
                break
            self.run.faults.excused["started again"] += 1
            self.proc.kill(signal.SIGKILL)
            self.proc.wait()
            time.sleep(0.02)
        else:
            raise AssertionError("%s does not start: %s" % (self.name, self.proc.tails()))
        self.up_since = now()
        self.run.deeds.note("%s: up, pid %d" % (self.name, self.main_pid()))

    def answers(self, all_of_them=False):
        n = 0
        for port in self.ports:
            with contextlib.suppress(OSError):
                self.run.net.connect(self.run.address, port, 1.0).close()
                n += 1
        return n == len(self.ports) if all_of_them else n > 0

    def wait_up(self):
        end = now() + 10
        while now() < end and self.proc.alive():
            if self.answers(True):
                return True
            time.sleep(0.01)
        return False

    def main_pid(self):
        return self.proc.pid

    def pids(self):
        return [self.main_pid(), *children(self.main_pid())]

    def end(self, sig):
        self.up_since = None
        self.run.deeds.note("%s: signal %d to all" % (self.name, sig))
        with self.run.deeds.breaking(self.name, None, sig == signal.SIGKILL):
            self.end_all(sig)

    def end_all(self, sig):
        victims = self.pids() if sig == signal.SIGKILL else [self.main_pid()]
        for pid in self.pids():         # one that is stopped would hold the port and answer nobody
            kill(pid, signal.SIGCONT)
        for pid in victims:
            kill(pid, sig)
        self.proc.wait(20)
        wait_for("%s to be gone" % self.name, lambda: not any(is_alive(p) for p in victims), 20)
        since = now()
        wait_for("the listener of %s to be gone" % self.name, lambda: not self.answers(), 20)
        took = now() - since
        if took > HANG_S and not self.run.deeds.excuses_wait("keeper", None, since, since):
            self.run.faults.add(self.run.faults.hangs, "%s: its listener answered for %.2f s after it" % (self.name, took))

    def restart(self, sig=signal.SIGKILL):
        self.end(sig)
        self.start()

    def stop_one(self, pid, seconds, is_all=False):
        """SIGSTOP now, SIGCONT later. @is_all: there is no other process that could answer."""
        self.run.deeds.note("%s: stop %d for %.2f s" % (self.name, pid, seconds))
        entry = self.run.deeds.stopped(self.name, None if is_all else pid)
        kill(pid, signal.SIGSTOP)
        self.run.later(now() + seconds, self.resume, pid, entry)

    def resume(self, pid, entry):
        kill(pid, signal.SIGCONT)
        entry[1] = now()
        self.run.deeds.note("%s: continue %d" % (self.name, pid))


def kill(pid, sig):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, sig)


class NginxServer(Server):
    ports = (80,)

    def argv(self):
        net = self.run.net
        self.dir = os.path.join(net.dir, "nginx-%d" % self.serial)
        os.makedirs(self.dir + "/tmp", 0o777, exist_ok=True)
        os.chmod(self.dir + "/tmp", 0o777)
        conf = harness.NGINX_CONF.format(daemon="off", workers=4, dir=self.dir, root=self.run.root, main="",
                                         listen="80 backlog=4096", body="x", events="", http="", server="")
        with open(self.dir + "/nginx.conf", "w") as f:
            f.write(conf)
        return ["/usr/sbin/nginx", "-p", self.dir, "-e", self.dir + "/error.log", "-c", self.dir + "/nginx.conf"]

    def workers(self):
        return [p for p in children(self.main_pid()) if is_alive(p)]

    def deeds(self, rng):
        workers = self.workers()
        deed = rng.choice(("kill-worker", "kill-worker", "stop-worker", "stop-worker", "reload", "restart-kill", "restart-quit"))
        if deed == "kill-worker" and workers:
            pid = rng.choice(workers)
            self.run.deeds.note("nginx: kill worker %d" % pid)
            with self.run.deeds.breaking(self.name, pid, True):
                kill(pid, signal.SIGKILL)
        elif deed == "stop-worker" and len(workers) > 2 + sum(e[1] is None and e[2] == "nginx" for e in self.run.deeds.stops):
            self.stop_one(rng.choice(workers), rng.uniform(0.05, 2.5))
        elif deed == "reload":
            self.run.deeds.leaving.update(workers)
            for after in (0, 0.3, 1, 2):                # one that is not known yet to be a leaving worker's
                self.run.later(now() + after, self.run.deeds.broke, self.name, -1)
            self.run.deeds.note("nginx: reload")
            kill(self.main_pid(), signal.SIGHUP)
        elif deed == "restart-kill":
            self.restart()
        elif deed == "restart-quit":
            self.restart(signal.SIGTERM)


class RedisServer(Server):
    ports = (6379,)

    def argv(self):
        d = os.path.join(self.run.net.dir, "redis")
        os.makedirs(d, exist_ok=True)
        return ["redis-server", "--bind", self.run.address, "--port", "6379", "--dir", d, "--save", "", "--protected-mode", "no",
                "--dbfilename", "dump.rdb", "--stop-writes-on-bgsave-error", "no"]

    def deeds(self, rng):
        deed = rng.choice(("stop", "bgsave", "bgsave", "restart-kill", "restart-term"))
        if deed == "stop":
            self.stop_one(self.main_pid(), rng.uniform(0.05, 2), True)
        elif deed == "bgsave":
            self.run.deeds.note("redis: BGSAVE")
            with contextlib.suppress(OSError), self.run.net.connect(self.run.address, 6379, 2) as s:
                s.sendall(b"BGSAVE\r\n")
                s.recv(100)
            if rng.random() < 0.5:
                for pid in children(self.main_pid()):
                    self.run.deeds.note("redis: kill its child %d" % pid)
                    kill(pid, signal.SIGKILL)
        else:
            self.restart(signal.SIGKILL if deed == "restart-kill" else signal.SIGTERM)


class EpollServer(Server):
    ports = (7001, 7002)

    def argv(self):
        return [Options.prog("serve"), "echo:7001", "speak:7002:%d" % SPEAK_BYTES]

    def deeds(self, rng):
        if rng.random() < 0.5:
            self.stop_one(self.main_pid(), rng.uniform(0.05, 2), True)
        else:
            self.restart(rng.choice((signal.SIGKILL, signal.SIGTERM)))


class ForkServer(Server):
    ports = (7003,)

    def argv(self):
        return [Options.prog("serve"), "--fork", "echo:7003"]

    def deeds(self, rng):
        kids = children(self.main_pid())
        deed = rng.choice(("kill-child", "kill-child", "stop-child", "restart"))
        if deed == "restart":
            self.restart(rng.choice((signal.SIGKILL, signal.SIGTERM)))
        elif kids and deed == "kill-child":
            pid = rng.choice(kids)
            self.run.deeds.note("fork: kill child %d" % pid)
            with self.run.deeds.breaking(self.name, None, True):    # whose child a connection is, is not known to its client
                kill(pid, signal.SIGKILL)
        elif kids:
            pid = rng.choice(kids)
            self.run.deeds.note("fork: stop child %d" % pid)
            entry = self.run.deeds.stopped(self.name, None)
            kill(pid, signal.SIGSTOP)
            self.run.later(now() + rng.uniform(0.05, 1.5), self.resume, pid, entry)


class Visitor:
    """Programs that join, ask the kernel's side and end: on their own, or by a kill at any moment."""

    name = "visitor"

    def __init__(self, run):
        self.run = run

    def deeds(self, rng):
        net = self.run.net
        size = rng.choice((1000, 300000, 5000000))
        if rng.random() < 0.5:
            p = net.start("private", Options.prog("client"), "get", harness.PEER, "7102", str(SPEAK_BYTES), name="visitor")
        else:
            p = net.start("private", Options.prog("client"), "put", harness.PEER, "7103", str(size), rng.choice(("close", "exit", "_exit")),
                          name="visitor")
        killed = rng.random() < 0.5
        self.run.deeds.note("visitor %d%s" % (p.pid, ", to be killed" if killed else ""))
        if killed:
            self.run.deeds.kills += 1
            self.run.later(now() + rng.uniform(0, 0.05), p.kill, signal.SIGKILL)
        self.run.later(now() + 4, self.judge, p, killed)

    def judge(self, p, killed):
        if p.alive():
            self.run.faults.add(self.run.faults.hangs, "visitor %d still runs: %s" % (p.pid, p.tails(400)))
            p.kill(signal.SIGKILL)
        status = p.wait(5)
        if not killed and status:
            self.run.faults.add(self.run.faults.broken, "visitor %d: status %d: %s" % (p.pid, status, p.tails(400)))
        self.run.net.procs.remove(p)


class Helpers:
    """Keeper and warden. Either may be stopped for less than clients may notice; the keeper may be killed as well."""

    name = "helpers"

    def __init__(self, run):
        self.run, self.killed_at = run, 0

    def deeds(self, rng):
        net = self.run.net
        keepers = net.helpers_kind("keeper")
        wardens = [p for p in net.helpers_kind("warden") if p not in keepers]
        deed = rng.choice(("kill-keeper", "stop-keeper", "stop-warden"))
        victims = wardens if deed == "stop-warden" else keepers
        if not victims:
            return
        pid = victims[0]
        self.run.deeds.note("%s %d" % (deed, pid))
        if deed == "kill-keeper":
            if now() - self.killed_at < 4:      # a keeper that dies five times in ten seconds is not started again
                return
            self.killed_at = now()
            self.run.deeds.kills += 1
            kill(pid, signal.SIGKILL)
            return
        entry = self.run.deeds.stopped("warden" if deed == "stop-warden" else "keeper", pid)
        kill(pid, signal.SIGSTOP)
        self.run.later(now() + rng.uniform(0.02, 0.4), self.resume, pid, entry)

    def resume(self, pid, entry):
        kill(pid, signal.SIGCONT)
        entry[1] = now()


# -- the run --------------------------------------------------------------------------------------------------------

class Run:
    def __init__(self, mode, seconds, seed, verbose):
        self.mode, self.seconds, self.seed = mode, seconds, seed
        self.address = PRIVATE
        self.deeds = Deeds()
        self.deeds.start = now()
        self.faults = Faults(self.deeds, verbose)
        self.over = threading.Event()
        self.timers, self.tlock = [], threading.Lock()
        self.pattern = pattern()
        self.net = Net(mode)
        self.root = os.path.join(self.net.dir, "site")
        os.mkdir(self.root, 0o755)
        rng = random.Random(1)
        self.site = {}
        for path, size in SITE.items():
            self.site[path] = rng.randbytes(size)
            with open(self.root + path, "wb") as f:
                f.write(self.site[path])
        self.servers = {}

    def later(self, when, call, *args):
        with self.tlock:
            self.timers.append((when, call, args))

    def timers_run(self):
        """A thread of its own: what was stopped goes on also while a server starts, which may wait for just that."""
        while not (self.over.is_set() and not self.timers):
            with self.tlock:
                due = [t for t in self.timers if t[0] <= now()]
            for t in due:
                t[1](*t[2])
            with self.tlock:
                self.timers = [t for t in self.timers if t not in due]
            time.sleep(0.005)

    def is_up(self, server, since):
        up = self.servers[server].up_since
        return up is not None and up < since

    def control_lag(self, server, since):
        return (self.control_of_forks if server == "fork" else self.control).worst_since(since)

    def look(self, server, sock):
        """For the log: who sleeps where, and what the host knows of a connection that hangs."""
        out = ["control %.3f s" % self.control_lag(server, now() - 2)]
        for pid in self.servers[server].pids():
            with contextlib.suppress(OSError, IndexError):
                stat = open("/proc/%d/stat" % pid).read().split()
                out.append("%d %s %s %s ms of CPU" % (pid, stat[2], open("/proc/%d/syscall" % pid).read().split()[0],
                                                         10 * (int(stat[13]) + int(stat[14]))))
        if self.mode != "kernel":
            port = ":%d " % sock.getsockname()[1]
            out += [ln for ln in self.net.ownstack("ss", "--host", "host0", "-a", "-n", "-i").splitlines() if port in ln + " "]
        return "look: " + "; ".join(out)

    def stats(self):
        if self.mode == "kernel":
            return {}
        got = json.loads(self.net.ownstack("stats", "--host", "host0", "--json"))["counters"]
        names = ("HostProcesses", "HostFiles", "HostEpolls", "HostWatches", "HostThreads", "HostTables", "HostPassports", "StackSockets",
                 "StackRequests", "StackFrames", "StackCells")
        return {n: got[n] for n in names}

    def set_up(self):
        # who keeps the host alive from the first to the last look at its objects
        self.holder = self.net.start("private", Options.prog("serve"), "echo:7999", name="holder")
        self.net.wait_port(self.address, 7999, self.holder)
        self.peer = peer = self.net.start("peer", Options.prog("serve"), "echo:7100", "speak:7102:%d" % SPEAK_BYTES, "sink:7103", name="peer")
        self.net.wait_port(harness.PEER, 7100, peer)
        self.before = self.settled(None)
        forks = self.net.start("peer", Options.prog("serve"), "--fork", "echo:7104", name="forks")
        self.net.wait_port(harness.PEER, 7104, forks)
        self.control, self.control_of_forks, self.wire = Control(self, False), Control(self, True), Wire(self)
        for helper in (self.control, self.control_of_forks, self.wire):
            helper.start()
        threading.Thread(target=self.timers_run, daemon=True).start()
        for name, cls in (("nginx", NginxServer), ("redis", RedisServer), ("epoll", EpollServer), ("fork", ForkServer)):
            self.servers[name] = cls(self, name)
            self.servers[name].start()
        seed = self.seed * 1000
        for cls, port, n in ((Http, 80, 6), (Redis, 6379, 3), (EpollEcho, 7001, 4), (Speak, 7002, 2), (ForkEcho, 7003, 3)):
            for _ in range(n):
                seed += 1
                cls(self, port, seed).start()

    def settled(self, want, seconds=30):
        """The host's objects, once they are as @want, or have stood still for a while."""
        end, last, since = now() + seconds, None, now()
        while now() < end:
            got = self.stats()
            if want is not None and got == want:
                break
            if got != last:
                last, since = got, now()
            elif want is None and now() - since > 0.5:
                break
            time.sleep(0.1)
        return got

    def play(self):
        rng = random.Random(self.seed)
        actors = [*self.servers.values(), Visitor(self)] + ([Helpers(self)] if self.mode != "kernel" else [])
        end = now() + self.seconds
        while now() < end:
            actor = rng.choice(actors)
            pause = rng.uniform(0.02, 0.4)
            actor.deeds(random.Random(rng.random()))
            time.sleep(pause)
        wait_for("what is stopped to go on, visitors to end", lambda: not self.timers, 30)
        time.sleep(HANG_S + 0.5)        # everybody must get answers again

    def tear_down(self):
        self.over.set()
        time.sleep(0.3)
        for s in self.servers.values():
            s.end(signal.SIGTERM)
        # Who sleeps, keeper or driver, has the last frames it sent in hand until it wakes. Where that was a reset nothing comes
        # back for it: so a process comes and goes, which wakes the keeper, and a connection wakes the driver. What is left
        # after some rounds of that is a leak.
        for _ in range(10 if self.mode != "kernel" else 1):
            self.net.call("private", Options.prog("first"), harness.PEER, "7100", name="last")
            self.net.wait_port(self.address, 7999, self.holder)
            after = self.settled(self.before, 3)
            if after == self.before:
                break
        for n, was in self.before.items():
            if after[n] != was:
                self.faults.add(self.faults.left, "%s: %d, was %d" % (n, after[n], was))
        if self.mode != "kernel":
            ss = self.net.ownstack("ss", "--host", "host0", "-a")
            left = [ln for ln in ss.splitlines()[1:] if "TIME-WAIT" not in ln and ":7999" not in ln]
            if left:
                self.faults.add(self.faults.left, "ss shows: " + " | ".join(left))

    def report(self):
        f = self.faults
        for line in self.peer.text().splitlines():          # what visitors sent
            if "bad" in line:
                f.add(f.wrong, "peer: " + line)
            f.asked["sink"] += 1
        allowed = 2 * self.deeds.kills
        print("seed %d, %d s, %s: %d deeds, %d kills; %s" %
              (self.seed, self.seconds, self.mode, len(self.deeds.log), self.deeds.kills,
               ", ".join("%s %d" % (k, v) for k, v in sorted(f.asked.items()))))
        print("wrong %d, hangs %d, broken %d (%d allowed: two for each kill), left %d; excused: %s" %
              (len(f.wrong), len(f.hangs), len(f.broken), allowed, len(f.left), dict(f.excused)))
        for what in (f.wrong, f.hangs, f.broken, f.left):
            for line in what[:20]:
                print("   " + line)
        quiet = [s for s in self.servers if not f.asked[s]]
        if quiet:
            print("   nothing was answered by " + ", ".join(quiet))
        return not (f.wrong or f.hangs or f.left or quiet or len(f.broken) > allowed)


def chaos(mode, seconds, seed, verbose=False, log=None):
    """Return: was everything as it must be"""
    run = Run(mode, seconds, seed, verbose)
    good = False
    try:
        run.set_up()
        run.play()
        run.tear_down()
        good = run.report()
    finally:
        run.over.set()
        if log:
            with open(log, "w") as f:
                f.write("\n".join(run.deeds.log) + "\n")
        if not good:
            print(run.net.diagnose()[-6000:])
        run.net.close(not good)
    return good


def main():
    a = argparse.ArgumentParser(description="servers come, go, stop and die; clients check every octet")
    a.add_argument("--seconds", type=int, default=600)
    a.add_argument("--seed", type=int, default=int(time.time()) % 100000)
    a.add_argument("--mode", default="tap")
    a.add_argument("--log", default=None, help="write everything that was done to this file")
    a.add_argument("--verbose", action="store_true")
    o = a.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(0 if chaos(o.mode, o.seconds, o.seed, o.verbose, o.log) else 1)


if __name__ == "__main__":
    main()
