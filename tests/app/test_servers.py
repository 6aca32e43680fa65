# SPDX-License-Identifier: BSD-2-Clause
"""Servers and load generators that everybody has: redis, memcached, python's http.server, iperf3."""

import json
import socket

import pytest

from harness import PEER, PRIVATE, Options, sha256_file, wait_for

N = 1000000 if Options.full else 100000


@pytest.mark.core
@pytest.mark.parametrize("pipeline", [1, 16])
def test_redis_benchmark(net, pipeline):
    srv = net.start("private", "redis-server", "--bind", PRIVATE, "--port", "6379", "--protected-mode", "no", "--save", "",
                    "--appendonly", "no", "--dir", net.dir)
    net.wait_port(PRIVATE, 6379, srv)
    out = net.call("peer", "redis-benchmark", "-h", PRIVATE, "-t", "ping,set,get,lpush,lrange_100", "-n", str(N // 2), "-c",
                   "50", "-P", str(pipeline), "--csv", seconds=100)
    rows = [ln.split(",") for ln in out.splitlines() if ln.startswith('"') and "rps" not in ln]
    assert len(rows) >= 6, out
    for row in rows:
        assert float(row[1].strip('"')) > 0, row
    assert "rror" not in out, out
    net.call("peer", "redis-cli", "-h", PRIVATE, "shutdown", "nosave", seconds=10)
    assert srv.wait(10) == 0


def test_redis_background_save(net):
    """BGSAVE forks while clients write: the child must not disturb the parent's connections."""
    srv = net.start("private", "redis-server", "--bind", PRIVATE, "--port", "6379", "--protected-mode", "no", "--save", "",
                    "--dir", net.dir)
    net.wait_port(PRIVATE, 6379, srv)
    load = net.start("peer", "redis-benchmark", "-h", PRIVATE, "-t", "set", "-n", str(N), "-r", "100000", "-q")

    def saved():
        info = net.call("peer", "redis-cli", "-h", PRIVATE, "info", "persistence", seconds=10)
        return "rdb_bgsave_in_progress:0" in info and info
    for _ in range(3):
        assert "started" in net.call("peer", "redis-cli", "-h", PRIVATE, "bgsave", seconds=10)
        assert "rdb_last_bgsave_status:ok" in wait_for("the background save", saved)
    out = load.done(60)
    assert "rror" not in out, out
    assert "PONG" in net.call("peer", "redis-cli", "-h", PRIVATE, "ping", seconds=10)


def memcached_client(net, i, rounds):
    s = net.connect(PRIVATE, 11211)
    f = s.makefile("rb")
    for n in range(rounds):
        value = (b"%d-%d-" % (i, n)) * (1 + n % 500)
        s.sendall(b"set k%d 0 0 %d\r\n%s\r\nget k%d\r\n" % (i, len(value), value, i))
        assert f.readline() == b"STORED\r\n"
        assert f.readline() == b"VALUE k%d 0 %d\r\n" % (i, len(value))
        assert f.read(len(value) + 2) == value + b"\r\n"
        assert f.readline() == b"END\r\n"
    return s


def test_memcached_four_threads(net):
    srv = net.start("private", "memcached", "-t", "4", "-l", PRIVATE, "-p", "11211", "-U", "0", "-u", "nobody", "-c", "4096")
    net.wait_port(PRIVATE, 11211, srv)
    held = [memcached_client(net, i, 50) for i in range(32)]        # connections go round the four threads
    socks = {s: b"" for s in held}
    for s in held:                                                  # all at once, answers in any order
        s.sendall(b"get k0\r\n" * 64)
    for s in held:
        f = s.makefile("rb")
        for _ in range(64):
            assert f.readline().startswith(b"VALUE k0 ")
            f.readline()
            assert f.readline() == b"END\r\n"
    s = held[0]
    s.sendall(b"stats\r\n")
    stats = dict(ln.split()[1:3] for ln in iter(s.makefile("r", newline="").readline, "END\r\n"))
    assert stats["threads"] == "4" and int(stats["curr_connections"]) >= len(socks)
    assert srv.alive()


def test_python_http_server(net, files):
    _, _, want = files["1m"]
    srv = net.start("private", "/usr/bin/python3", "-m", "http.server", "8000", "--directory", files.dir)
    net.wait_port(PRIVATE, 8000, srv)
    for _ in range(10):
        net.call("peer", "curl", "-sS", "--fail", "--max-time", "20", "-o", net.dir + "/got", "http://%s:8000/1m" % PRIVATE)
        assert sha256_file(net.dir + "/got") == want
    assert srv.alive() and "Traceback" not in srv.text("err")


def iperf(net, server_side, client_side, addr, *more):
    srv = net.start(server_side, "iperf3", "-s", "-1", "--forceflush")      # listens on [::] only
    net_listening(net, srv)
    out = net.call(client_side, "iperf3", "-c", addr, "-t", "10" if Options.full else "2", "-J", *more, seconds=40)
    r = json.loads(out)
    assert "error" not in r, r.get("error")
    srv.done(20)
    return r["end"]["sum_sent"]["bits_per_second"], r["end"]["sum_received"]["bits_per_second"]


def net_listening(net, srv):
    """-1 serves one client only, so no probe by connecting: its greeting says that it listens."""
    wait_for("iperf3 to listen", lambda: "listening" in srv.text() or not srv.alive(), 15)
    assert srv.alive(), srv.tails()


@pytest.mark.core
@pytest.mark.parametrize("flags", [(), ("-R",), ("-P", "4")], ids=["receive", "send", "four-streams"])
def test_iperf3_server(net, flags):
    sent, received = iperf(net, "private", "peer", PRIVATE, *flags)
    assert received > 1e8 and received > 0.5 * sent


@pytest.mark.parametrize("flags", [(), ("-R",)], ids=["send", "receive"])
def test_iperf3_client(net, flags):
    sent, received = iperf(net, "peer", "private", PEER, *flags)
    assert received > 1e8 and received > 0.5 * sent


def test_ipv6_wildcard_listener_takes_ipv4(net):
    """A dual-stack [::] listener: accept gives a mapped address, as Linux does."""
    code = ("import socket\n"
            "s=socket.socket(socket.AF_INET6); s.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1)\n"
            "s.bind(('::',9000)); s.listen(); c,a=s.accept(); print(a[0]); print(c.getsockname()[0]); c.sendall(b'x'); c.close()\n")
    srv = net.start("private", "/usr/bin/python3", "-c", code)

    def try_one():
        try:
            return net.connect(PRIVATE, 9000, 2.0)
        except OSError:
            assert srv.alive(), srv.tails()
            return None
    s = wait_for("the listener", try_one, 15)
    assert s.recv(10) == b"x" and s.recv(10) == b""
    assert srv.done(10).split() == ["::ffff:" + PEER, "::ffff:" + PRIVATE]
    assert s.family == socket.AF_INET
