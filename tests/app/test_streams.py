# SPDX-License-Identifier: BSD-2-Clause
"""Every octet: exits, pauses, churn, fairness. The programs are tests/app/prog/serve.c and client.c."""

import re
import time

import pytest

from harness import PEER, PRIVATE, Options, figures, wait_for

SERVE, CLIENT = "serve", "client"
SPEAK, SINK, ECHO, REPLY = 7001, 7002, 7003, 7004
TEN_MIB, HUNDRED_MIB = 10 << 20, 100 << 20
SIDES = pytest.mark.parametrize("server", ["private", "peer"])
ADDR = {"private": PRIVATE, "peer": PEER}


def other(side):
    return "peer" if side == "private" else "private"


def serve(net, side, *args):
    p = net.start(side, Options.prog(SERVE), "--seconds", "600", *args, name="serve")
    wait_for("serve to be ready", lambda: "ready" in p.text() or not p.alive(), 15)
    assert p.alive(), p.tails()
    if side == "private":
        port = int(args[-1].split(":")[1])
        if port not in (SINK, SPEAK):
            net.wait_port(PRIVATE, port, p)
        else:
            net.cubic()
    return p


def client(net, side, *args, seconds=100, status=0):
    return net.call(side, Options.prog(CLIENT), *map(str, args), name="client", seconds=seconds, status=status)


def sink_lines(p):
    return [ln for ln in p.text().splitlines() if ln.startswith("sink")]


@SIDES
@pytest.mark.core
@pytest.mark.parametrize("how", ["close", "exit", "_exit", "kill"])
def test_send_close_exit(net, server, how):
    """10 MiB, then gone at once: the peer receives all of it (for SIGKILL too: the kernel sends what it had taken)."""
    srv = serve(net, server, "sink:%d" % SINK)
    rounds = 5 if Options.full else 2
    for i in range(rounds):
        client(net, other(server), "put", ADDR[server], SINK, TEN_MIB, how, status=-9 if how == "kill" else 0)
        wait_for("the sink's report", lambda n=i: len(sink_lines(srv)) > n, 20)
    assert sink_lines(srv) == ["sink %d ok" % TEN_MIB] * rounds


@SIDES
@pytest.mark.parametrize("blocking", [False, True], ids=["epoll", "blocking"])
def test_server_speaks_first(net, server, blocking):
    more = ("--fork",) if blocking else ()
    serve(net, server, *more, "speak:%d:%d" % (SPEAK, HUNDRED_MIB))
    for _ in range(2):
        out = client(net, other(server), "get", ADDR[server], SPEAK, HUNDRED_MIB)
        assert "get %d of" % HUNDRED_MIB in out


def memory_kib(pid):
    with open("/proc/%d/status" % pid) as f:
        text = f.read()
    return sum(int(re.search(r"%s:\s+(\d+)" % k, text).group(1)) for k in ("RssAnon", "RssShmem"))


@SIDES
def test_receiver_pauses_get(net, server):
    """The client stops reading in the middle: the server's send blocks, memory stays bounded, every octet arrives."""
    pause = 5000 if Options.full else 2000
    srv = serve(net, server, "--fork", "speak:%d:%d" % (SPEAK, HUNDRED_MIB))
    before = memory_kib(srv.pid)
    p = net.start(other(server), Options.prog(CLIENT), "get", ADDR[server], str(SPEAK), str(HUNDRED_MIB), str(pause), name="client")
    most = before
    while p.alive():
        most = max(most, memory_kib(srv.pid))
        time.sleep(0.02)        # a sampling interval
    us = int(re.search(r"in (\d+) us", p.done(60)).group(1))
    assert us >= pause * 1000
    assert most - before < 32 << 10, "the sender's memory grew by %d KiB" % (most - before)


@SIDES
def test_receiver_pauses_put(net, server):
    """The server stops reading in the middle: the client's send blocks for as long, every octet arrives."""
    pause = 5000 if Options.full else 2000
    srv = serve(net, server, "--fork", "--pause", str(pause), "sink:%d" % SINK)
    out = client(net, other(server), "put", ADDR[server], SINK, HUNDRED_MIB, "eof")
    m = re.search(r"in (\d+) us, longest send (\d+) us", out)
    assert int(m.group(1)) >= pause * 1000 and int(m.group(2)) >= pause * 500, out
    wait_for("the sink's report", lambda: sink_lines(srv), 10)
    assert sink_lines(srv) == ["sink %d ok" % HUNDRED_MIB]


@SIDES
@pytest.mark.parametrize("parallel", [1, 64])
@pytest.mark.parametrize("first", ["client", "server"])
def test_connection_churn(net, stalls, server, parallel, first):
    """One client address, one port, so often that the client's ports wrap: no connect takes 100 ms.

    The kernel as client that closes first needs tcp_tw_reuse for this, since its default reuses on loopback only. What
    its own search for a port that has rested 1 s takes inside connect() is not the private server's doing."""
    count = 200000 if Options.full else 80000
    net.sysctl("peer", ip_local_port_range="1024 65535", tcp_tw_reuse=1)
    if net.mode == "kernel":
        net.sysctl("private", ip_local_port_range="1024 65535", tcp_tw_reuse=1)
    role, port = ("echo", ECHO) if first == "client" else ("reply", REPLY)
    serve(net, server, "%s:%d" % (role, port))
    out = client(net, other(server), "churn", ADDR[server], port, count, parallel, first, seconds=300)
    m = re.search(r"longest handshake (\d+) us, mean \d+ us, longest call (\d+) us", out)
    bound = 100000 + int(stalls.allowance() * 1e6)
    assert int(m.group(1)) < bound, out
    if server == "peer" and net.mode != "kernel":
        assert int(m.group(2)) < bound, out


@SIDES
def test_bulk_and_requests_share(net, server):
    """Two bulk flows and 32 request flows together: none starves."""
    seconds = 10 if Options.full else 3
    serve(net, server, "speak:%d:%d" % (SPEAK, 1 << 50))
    serve(net, server, "echo:%d" % ECHO)
    m = figures(client(net, other(server), "mix", ADDR[server], SPEAK, ECHO, 2, 32, seconds), "mix")
    assert m["bulk_min"] > 0.1 * m["bulk_sum"] / 2, m
    assert m["req_min"] > 0.2 * m["req_sum"] / 32, m
    assert m["bulk_gap_us"] < 1000000 and m["req_gap_us"] < 1000000, m
    assert m["req_min"] > 50 * seconds, m
