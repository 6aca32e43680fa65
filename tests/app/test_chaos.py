# SPDX-License-Identifier: BSD-2-Clause
"""Servers and helpers die, one by one and all together; and what a private host costs those who come and go."""

import os
import signal
import statistics
import sys
import threading
import time

import pytest

from harness import PRIVATE, Nginx, Options, is_alive, run, wait_for

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "chaos"))
from chaos import chaos     # noqa: E402

SEED = int(os.environ.get("OWNSTACK_CHAOS_SEED", "1"))


@pytest.mark.modes("tap", "kernel")
def test_chaos(mode):
    """Seeded; a failure prints what was done. `./dev chaos` is the long run."""
    if os.geteuid() != 0:
        pytest.skip("needs root for network namespaces")
    assert chaos(mode, 60 if Options.full else 12, SEED)


# -- the helpers die under load ---------------------------------------------------------------------------------------

class Asker(threading.Thread):
    """One keep-alive connection to nginx, asking as fast as it is answered; notes the longest answer and any fault."""

    def __init__(self, net):
        super().__init__(daemon=True)
        self.net, self.over, self.asked, self.worst, self.fault = net, False, 0, 0.0, None
        body, self.sock = net.http(PRIVATE, "/pid")
        self.worker = int(body)
        self.start()

    def run(self):
        try:
            while not self.over:
                begin = time.monotonic()
                body, _ = self.net.http(PRIVATE, "/", sock=self.sock, timeout=10)
                assert body == b"x" * 99 + b"\n"
                self.worst = max(self.worst, time.monotonic() - begin)
                self.asked += 1
        except Exception as e:      # noqa: BLE001 - told to the test
            self.fault = e

    def goes_on(self, n=200):
        want = self.asked + n
        wait_for("answers to go on", lambda: self.asked >= want or self.fault, 10)
        assert self.fault is None, self.fault


@pytest.mark.modes("tap", "packet")
def test_keeper_dies_under_load(net, stalls):
    """Another is started; nobody's connection ends, no answer takes a second; who dies meanwhile is cleaned up."""
    ng = Nginx(net, workers=2)
    askers = [Asker(net) for _ in range(4)]
    askers[0].goes_on()
    for i in range(3):
        old = net.helpers_kind("keeper")
        assert len(old) == 1
        os.kill(old[0], signal.SIGKILL)
        if i == 1:                  # a worker dies while there is no keeper
            victim = askers[0].worker
            os.kill(victim, signal.SIGKILL)
            wait_for("the worker's connections to end", lambda: all(a.fault for a in askers if a.worker == victim), 10)
            askers = [a for a in askers if a.worker != victim]
            askers += [Asker(net) for _ in range(4 - len(askers))]
        wait_for("another keeper", lambda: [k for k in net.helpers_kind("keeper") if k not in old], 10)
        for a in askers:
            a.goes_on()
    for a in askers:
        a.over = True
    assert max(a.worst for a in askers) < 1.3 + stalls.allowance()
    assert ng.proc.alive()


@pytest.mark.modes("tap", "packet")
def test_warden_dies_under_load(net, stalls):
    """Who runs goes on, also when the keeper follows it; who would join is told in one line; then a host can start again."""
    ng = Nginx(net, workers=2)
    a = Asker(net)
    a.goes_on()
    keeper = net.helpers_kind("keeper")
    warden = [p for p in net.helpers() if p not in keeper]
    assert len(warden) == 1
    os.kill(warden[0], signal.SIGKILL)
    wait_for("its end", lambda: not is_alive(warden[0]))
    a.goes_on()
    begin = time.monotonic()
    p = net.start("private", "/usr/bin/python3", "-c", "import socket; socket.create_connection(('10.77.0.1', 1))")
    status = p.wait(10)
    lines = [ln for ln in p.text("err").splitlines() if ln.startswith("ownstack:")]
    assert status and len(lines) == 1 and time.monotonic() - begin < 5, p.tails()
    os.kill(keeper[0], signal.SIGKILL)      # nobody is there to start another
    a.goes_on()
    a.over = True
    assert a.worst < 1.3 + stalls.allowance()
    ng.proc.kill(signal.SIGKILL)
    for pid in net.pids():
        os.kill(pid, signal.SIGKILL)
    wait_for("all to end", lambda: not net.pids())
    assert Nginx(net).pid, "started again"


# -- the price of coming and going --------------------------------------------------------------------------------------

def times_ms(once, n):
    """(least, median): the least is what it takes where the machine has the time, and what is bounded."""
    got = []
    for _ in range(n):
        begin = time.perf_counter()
        once()
        got.append((time.perf_counter() - begin) * 1000)
    return min(got), statistics.median(got)


def rss_anon_kb(pid):
    for line in open("/proc/%d/status" % pid):
        if line.startswith("RssAnon"):
            return int(line.split()[1])
    raise AssertionError("no RssAnon")


@pytest.mark.modes("tap")
def test_price_of_a_host(net):
    """`ownstack run true` adds at most 3 ms, joining a running host 5 ms to the first connect; the helpers have 2 MB of their own.

    The least of many, since the bound is on what the program does and not on what else the machine does."""
    if Options.sanitizer:
        pytest.skip("a sanitizer costs more than that")
    Nginx(net, workers=1)
    helpers = net.helpers()
    assert len(helpers) == 2
    own = sum(rss_anon_kb(p) for p in helpers)
    ns = ["nsenter", "--net=/run/netns/" + net.private_ns, "--"]
    env = dict(os.environ, **net.env)
    client = Options.prog("first")
    plain = times_ms(lambda: run(*ns, "/bin/true"), 60)
    under = times_ms(lambda: run(*ns, *net.ownstack_run(), "/bin/true", env=env), 60)
    kernel = [int(run(*ns, client, "127.0.0.1", "80").split()[0]) / 1000 for _ in range(30)]
    private = [int(run(*ns, *net.ownstack_run(), client, "10.77.0.1", "1", env=env).split()[0]) / 1000 for _ in range(30)]
    print("true: %.2f ms, under ownstack %.2f ms (medians %.2f, %.2f); first connect %.2f ms, private %.2f ms (medians %.2f, %.2f); "
          "RssAnon of the helpers %d kB" % (plain[0], under[0], plain[1], under[1], min(kernel), min(private),
                                            statistics.median(kernel), statistics.median(private), own))
    assert own <= 2048
    assert under[0] - plain[0] <= 3
    assert min(private) - min(kernel) <= 5
