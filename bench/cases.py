# SPDX-License-Identifier: BSD-2-Clause
"""cases.py - what ./dev bench measures: for each case a server, a load and one figure"""

import json
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "tests", "app"))

from harness import PRIVATE, Nginx, Options, count_syscalls, parse_wrk, wait_for, wrk_argv  # noqa: E402


class BenchError(Exception):
    pass


# -- servers: started on the private side, pinned by the net they are in --------------------------------------------------

class Server:
    """A program that listens; nginx has a class of its own."""

    def __init__(self, net, port, *argv):
        self.net, self.addr, self.port = net, PRIVATE, port
        self.proc = net.start("private", *argv)
        net.wait_port(PRIVATE, port, self.proc)

    def workers(self):
        return [self.proc.pid]


def nginx(workers=1):
    def start(net):
        ng = Nginx(net, workers=workers)
        for name, size in (("10k", 10 << 10), ("1m", 1 << 20)):
            with open(os.path.join(ng.root, name), "wb") as f:
                f.write(bytes(range(256)) * (size // 256))
        return ng
    return start


def redis(net):
    return Server(net, 6379, "redis-server", "--port", "6379", "--save", "", "--appendonly", "no", "--protected-mode", "no",
                  "--dir", net.dir)


def memcached(threads):
    return lambda net: Server(net, 11211, "memcached", "-u", "root", "-t", str(threads), "-p", "11211", "-U", "0", "-m", "64")


def ask_tool():
    return os.path.join(Options.build, "bench", "ask")


def hold(net):
    """For a load that starts its own server: keeps the host there, and does not drive in the server's place."""
    return Server(net, 7007, ask_tool(), "--hold", "7007")


def echo(net):
    return Server(net, 7007, ask_tool(), "--echo", "7007")


# -- loads ----------------------------------------------------------------------------------------------------------------

def wrk(conns, *more, path=""):
    def measure(net, ng, seconds):
        r = parse_wrk(net.call("peer", *wrk_argv(ng.url + path, conns, seconds, *more), seconds=seconds + 30))
        if r["errors"] or r["bad_answers"]:
            raise BenchError("wrk -c%d: %d bad answers, %s" % (conns, r["bad_answers"], r["error_line"]))
        return {"value": r["rate"], "ops": r["requests"], "p50_us": r["p50_us"], "p99_us": r["p99_us"]}
    return measure


def bulk(*more):
    def measure(net, _server, seconds):
        srv = net.start("private", "iperf3", "-s", "-1", "--forceflush")
        wait_for("iperf3 to listen", lambda: "listening" in srv.text() or not srv.alive(), 15)
        out = json.loads(net.call("peer", "iperf3", "-c", PRIVATE, "-t", str(seconds), "-J", *more, seconds=seconds + 30))
        srv.done(20)
        if "error" in out:
            raise BenchError("iperf3: " + out["error"])
        return {"value": out["end"]["sum_received"]["bits_per_second"] / 1e9, "ops": out["end"]["sum_received"]["bytes"]}
    return measure


def redis_get(pipeline, per_second):
    """redis-benchmark runs for a number of requests, not for a time: about as many as @seconds take."""
    def measure(net, _server, seconds):
        n = per_second * seconds
        out = net.call("peer", "redis-benchmark", "-h", PRIVATE, "-c", "50", "-P", str(pipeline), "-n", str(n), "-t", "get",
                       "--csv", seconds=seconds + 60)
        m = re.search(r'^"GET","([\d.]+)"', out, re.M)
        if not m or "rror" in out:
            raise BenchError("redis-benchmark: " + out[-300:])
        return {"value": float(m.group(1)), "ops": n}
    return measure


def asked(conns, question, answer_bytes, figure="rate"):
    def measure(net, srv, seconds):
        out = net.call("peer", ask_tool(), srv.addr, str(srv.port), str(conns), str(seconds * 1000), question,
                       str(answer_bytes), seconds=seconds + 30)
        m = re.search(r"ops (\d+) us (\d+) p50_us ([\d.]+) p99_us ([\d.]+)", out)
        ops, us, p50, p99 = int(m.group(1)), int(m.group(2)), float(m.group(3)), float(m.group(4))
        return {"value": ops * 1e6 / us if figure == "rate" else p50, "ops": ops, "p50_us": p50, "p99_us": p99}
    return measure


def memcached_get(net, srv, seconds):
    s = net.connect(srv.addr, srv.port)
    s.sendall(b"set k 0 0 100\r\n" + b"x" * 100 + b"\r\n")
    if s.recv(100) != b"STORED\r\n":
        raise BenchError("memcached did not store")
    s.close()
    return asked(50, r"get k\r\n", len("VALUE k 0 100\r\n") + 102 + len("END\r\n"))(net, srv, seconds)


def helpers(net):
    return net.helpers() if net.mode != "kernel" else []


def syscalls(net, ng, seconds):
    load = net.start("peer", *wrk_argv(ng.url, 64, seconds + 2))
    wait_for("load", lambda: net.http(ng.addr, "/pid", close=True))
    got = count_syscalls(net, ng, ng.workers() + helpers(net), seconds)
    load.done(seconds + 30)
    return {"value": got[0] / got[1]} if got and got[1] else None


def cpu_ns(pids):
    total = 0
    for pid in pids:
        for t in os.listdir("/proc/%d/task" % pid):
            with open("/proc/%d/task/%s/schedstat" % (pid, t)) as f:
                total += int(f.read().split()[0])
    return total


def server_cpu(net, ng, seconds):
    """CPU time of all but the load generator, for one request"""
    pids = ng.workers() + helpers(net)
    before = cpu_ns(pids)
    got = wrk(64)(net, ng, seconds)
    return {"value": (cpu_ns(pids) - before) / 1000 / got["ops"], "ops": got["ops"]}


class Home:
    """A net whose loads run beside the server, as programs of the same host: no frame leaves it."""

    def __init__(self, net):
        self.net = net

    def __getattr__(self, name):
        return getattr(self.net, name)

    def start(self, _side, *cmd, **kw):
        return self.net.start("private", *cmd, **kw)

    def call(self, _side, *cmd, **kw):
        return self.net.call("private", *cmd, **kw)


def at_home(measure):
    return lambda net, server, seconds: measure(Home(net), server, seconds)


class Case:
    """One row of the report. @goal: ratio to the kernel that this stage wants, None: none; @most: highest value allowed"""

    def __init__(self, title, unit, server, measure, goal=None, more=True, most=None, quick=True):
        self.title, self.unit, self.server, self.measure = title, unit, server, measure
        self.goal, self.more, self.most, self.quick = goal, more, most, quick


CLOSE = ("-H", "Connection: close")

CASES = {       # one CPU
    "c1": Case("HTTP keep-alive, 1 connection", "requests/s", nginx(), wrk(1)),
    "c64": Case("HTTP keep-alive, 64 connections", "requests/s", nginx(), wrk(64), goal=1.0),
    "c1000": Case("HTTP keep-alive, 1000 connections", "requests/s", nginx(), wrk(1000)),
    "close": Case("new connection per request, 64 at once", "connections/s", nginx(), wrk(64, *CLOSE), goal=1.0),
    "file10k": Case("file of 10 KiB by sendfile, 64 connections", "requests/s", nginx(), wrk(64, path="10k"), quick=False),
    "file1m": Case("file of 1 MiB by sendfile, 16 connections", "requests/s", nginx(), wrk(16, path="1m"), quick=False),
    "sent": Case("bulk, one stream, sent by the server", "Gbit/s", hold, bulk("-R"), goal=0.6),
    "received": Case("bulk, one stream, received by the server", "Gbit/s", hold, bulk(), goal=0.4),
    "redis1": Case("redis GET, 50 connections", "requests/s", redis, redis_get(1, 60000), quick=False),
    "redis16": Case("redis GET, 50 connections, 16 in a pipeline", "requests/s", redis, redis_get(16, 400000), quick=False),
    "memcached": Case("memcached GET, 4 threads, 50 connections", "requests/s", memcached(4), memcached_get, quick=False),
    "pingpong": Case("1 octet there and back, median", "µs", echo, asked(1, "x", 1, "p50"), more=False, quick=False),
    "loop_c64": Case("on one host: HTTP keep-alive, 64 connections", "requests/s", nginx(), at_home(wrk(64)), goal=2.0,
                     quick=False),
    "loop_redis": Case("on one host: redis GET, 50 connections", "requests/s", redis, at_home(redis_get(1, 60000)), goal=2.0,
                       quick=False),
    "loop_bulk": Case("on one host: bulk, one stream", "Gbit/s", hold, at_home(bulk()), goal=2.0, quick=False),
    "loop_pingpong": Case("on one host: 1 octet there and back, median", "µs", echo, at_home(asked(1, "x", 1, "p50")), more=False,
                          quick=False),
    "cpu": Case("server's CPU time for one request, 64 connections", "µs", nginx(), server_cpu, more=False, quick=False),
    "syscalls": Case("system calls per request, 64 connections", "calls", nginx(), syscalls, more=False, most=0.5),
}

TWO_CPUS = {    # unpinned: follows the machine's wake-up habits as much as the code
    "two_c64": Case("nginx, 2 workers, 64 connections", "requests/s", nginx(2), wrk(64)),
    "two_close": Case("nginx, 2 workers, new connection per request", "connections/s", nginx(2), wrk(64, *CLOSE)),
    "two_memcached": Case("memcached, 2 threads, 50 connections", "requests/s", memcached(2), memcached_get),
}
