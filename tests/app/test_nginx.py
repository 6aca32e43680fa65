# SPDX-License-Identifier: BSD-2-Clause
"""nginx on the private host, the kernel's clients before it."""

import os
import signal
import socket
import time

import pytest

from harness import PRIVATE, Nginx, Options, is_alive, parse_ab, parse_wrk, sha256_file, wait_for, wrk_argv


def fetch(net, side, url, path, seconds=60):
    net.call(side, "curl", "-sS", "--fail", "--max-time", str(seconds), "-o", path, url, seconds=seconds + 5)
    return sha256_file(path)


@pytest.mark.core
@pytest.mark.parametrize("daemon", [False, True], ids=["foreground", "daemon"])
def test_curl_gets_files(net, files, daemon):
    ng = Nginx(net, root=files.dir, daemon=daemon)
    for name in ("1k", "1m", "big"):
        _, size, want = files[name]
        got = net.dir + "/got"
        assert fetch(net, "peer", ng.url + name, got) == want, name
        assert os.path.getsize(got) == size
    assert ng.errors() == []


@pytest.mark.core
@pytest.mark.parametrize("conns", [64, 1000])
def test_wrk_keep_alive(net, conns):
    ng = Nginx(net)
    r = parse_wrk(net.call("peer", *wrk_argv(ng.url, conns, 10 if Options.full else 3), seconds=60))
    assert (r["errors"], r["bad_answers"]) == (0, 0), r["error_line"]
    assert r["requests"] > conns
    assert ng.errors() == []


def test_ab_new_connection_per_request(net):
    n = 100000 if Options.full else 20000
    ng = Nginx(net)
    r = parse_ab(net.call("peer", "ab", "-q", "-n", str(n), "-c", "64", ng.url, seconds=120))
    assert (r["complete"], r["failed"], r["write_errors"], r["bad_answers"]) == (n, 0, 0, 0)
    assert ng.errors() == []


def spread(net, ng, per_worker=4):
    """Keep-alive connections to every worker: pid -> sockets. Opened in bursts, so that no worker takes them all."""
    by_pid, want = {}, set(ng.workers())
    for _ in range(60):
        burst = [net.connect(ng.addr, 80) for _ in range(8)]
        for s in burst:
            s.sendall(b"GET /pid HTTP/1.1\r\nHost: x\r\n\r\n")
        for s in burst:
            by_pid.setdefault(int(net.http_reply(s)), []).append(s)
        if want <= set(by_pid) and min(len(by_pid[p]) for p in want) >= per_worker:
            return by_pid
    raise AssertionError("one worker never got %d of 480 connections: %s" %
                         (per_worker, {p: len(s) for p, s in by_pid.items()}))


def test_worker_killed(net):
    """Its clients see a reset or FIN within 1 s, others go on, a new worker comes and serves."""
    ng = Nginx(net)
    wait_for("two workers", lambda: len(ng.workers()) == 2)
    load = net.start("peer", *wrk_argv(ng.url, 16, 4))
    by_pid = spread(net, ng)
    victim, other = ng.workers()
    os.kill(victim, signal.SIGKILL)
    t0 = time.monotonic()
    for s in by_pid[victim]:
        s.settimeout(max(0.001, t0 + 1.0 - time.monotonic()))
        try:
            assert s.recv(1) == b"", "the dead worker's connection carries data"
        except ConnectionResetError:
            pass
        except socket.timeout:
            raise AssertionError("no FIN or reset within 1 s of the worker's death") from None
    for s in by_pid[other]:
        body, _ = net.http(ng.addr, "/pid", sock=s)
        assert int(body) == other
    fresh = wait_for("a new worker", lambda: [w for w in ng.workers() if w not in (victim, other)])[0]

    def served_by_fresh():
        burst = [net.connect(ng.addr, 80) for _ in range(8)]
        for s in burst:
            s.sendall(b"GET /pid HTTP/1.1\r\nHost: x\r\n\r\n")
        return fresh in [int(net.http_reply(s)) for s in burst]
    wait_for("the new worker to serve", served_by_fresh, 20)
    r = parse_wrk(load.done(20))
    assert r["bad_answers"] == 0 and r["requests"] > 100


def test_reload_with_connection_per_request(net):
    """`nginx -s reload` under load: not one connection fails."""
    n = 40000 if Options.full else 15000
    ng = Nginx(net)
    old = wait_for("workers", ng.workers)
    ab = net.start("peer", "ab", "-q", "-n", str(n), "-c", "32", ng.url)
    for _ in range(3):
        wait_for("load", lambda: ab.alive() and net.http(ng.addr, "/pid", close=True))
        ng.signal("reload")
        wait_for("new workers", lambda: len(set(ng.workers()) - set(old)) == 2)
        old = ng.workers()
    r = parse_ab(ab.done(100))
    assert (r["complete"], r["failed"], r["write_errors"], r["bad_answers"]) == (n, 0, 0, 0)


def keepalive_reload_errors(net):
    ng = Nginx(net)
    old = wait_for("workers", ng.workers)
    load = net.start("peer", *wrk_argv(ng.url, 32, 4))
    for _ in range(3):
        wait_for("load", lambda: net.http(ng.addr, "/pid", close=True))
        ng.signal("reload")
        wait_for("new workers", lambda: len(set(ng.workers()) - set(old)) == 2)
        wait_for("the old workers' end", lambda: not any(is_alive(w) for w in old), 20)
        old = ng.workers()
    r = parse_wrk(load.done(20))
    assert r["bad_answers"] == 0 and r["requests"] > 1000
    return r["errors"], r["requests"]


def test_reload_with_keep_alive(make_net):
    """No more errors than the kernel's nginx gives in the same run (closing idle connections gives some)."""
    kernel, _ = keepalive_reload_errors(make_net(mode="kernel"))
    ours, requests = keepalive_reload_errors(make_net())
    assert ours <= kernel, "%d socket errors in %d requests, the kernel's nginx gave %d" % (ours, requests, kernel)


@pytest.mark.parametrize("daemon", [False, True], ids=["foreground", "daemon"])
def test_quit_under_load(net, daemon):
    """`nginx -s quit`: the process ends by itself, its helpers too."""
    ng = Nginx(net, daemon=daemon)
    load = net.start("peer", *wrk_argv(ng.url, 32, 2))
    wait_for("load", lambda: net.http(ng.addr, "/pid", close=True))
    workers = ng.workers()
    ng.signal("quit")
    wait_for("the end of nginx", lambda: not is_alive(ng.pid) and not any(map(is_alive, workers)), 15)
    if not daemon:
        assert ng.proc.wait(5) == 0
    load.wait(20)
    wait_for("warden and keeper to leave", lambda: not net.helpers(), 15)


@pytest.mark.parametrize("sig", ["TERM", "INT"])
def test_stop_is_orderly(net, sig):
    ng = Nginx(net)
    net.http(ng.addr, "/pid", close=True)
    os.kill(ng.pid, getattr(signal, "SIG" + sig))
    assert ng.proc.wait(10) == 0
    with pytest.raises(OSError):
        net.connect(PRIVATE, 80, 3.0)


def test_restart_binds_again(net):
    """The port is free for the next nginx at once, TIME_WAIT of the last one's connections notwithstanding."""
    for _ in range(3):
        ng = Nginx(net)
        for _ in range(20):
            net.http(ng.addr, "/pid", close=True)
        ng.signal("quit")
        assert ng.proc.wait(10) == 0


def test_one_worker_stopped(net):
    """SIGSTOP for 10 s under load: the other worker serves; the stopped one's clients are served after SIGCONT."""
    pause = 10 if Options.full else 3
    ng = Nginx(net)
    wait_for("two workers", lambda: len(ng.workers()) == 2)
    by_pid = spread(net, ng)
    load = net.start("peer", *wrk_argv(ng.url, 16, pause + 2))
    stopped, other = ng.workers()
    os.kill(stopped, signal.SIGSTOP)
    try:
        t0 = time.monotonic()
        for s in by_pid[stopped]:
            s.sendall(b"GET /pid HTTP/1.1\r\nHost: x\r\n\r\n")
        served = 0
        while time.monotonic() < t0 + pause:
            for s in by_pid[other]:
                body, _ = net.http(ng.addr, "/pid", sock=s, timeout=1.0)
                assert int(body) == other
                served += 1
            body, s = net.http(ng.addr, "/pid", timeout=2.0)    # new clients go to the one that runs
            assert int(body) == other
            s.close()
        assert served > 100
        for s in by_pid[stopped]:
            s.setblocking(False)
            with pytest.raises(BlockingIOError):
                s.recv(1)
    finally:
        os.kill(stopped, signal.SIGCONT)
    for s in by_pid[stopped]:
        s.settimeout(2.0)
        assert int(net.http_reply(s)) == stopped
    r = parse_wrk(load.done(pause + 20))
    assert r["bad_answers"] == 0 and r["requests"] > 1000


def test_first_requests_are_answered_at_once(make_net, stalls):
    """The moment when the workers start: who drives changes hands several times, and no frame may lie unread."""
    for _ in range(30 if Options.full else 10):
        net = make_net()
        ng = Nginx(net)
        t0 = time.monotonic()
        net.http(ng.addr, "/pid", close=True)
        net.call("peer", "curl", "-sS", "--fail", "-o", "/dev/null", ng.url)
        assert time.monotonic() - t0 < 0.7 + stalls.allowance()
        net.close()
