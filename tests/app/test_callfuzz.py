# SPDX-License-Identifier: BSD-2-Clause
"""Random sequences of socket calls (tests/callfuzz): no difference between kernel and private stack, no crash, no hang."""

import os
import sys

import pytest

from harness import TOP, Options, wait_for

sys.path.insert(0, os.path.join(TOP, "tests", "callfuzz"))

import callfuzz         # noqa: E402

pytestmark = pytest.mark.modes("tap")

SEED = 1                # of the first program: each run has the same, so that a failure is a change; ./dev fuzz-calls goes on


def left(net):
    """Sockets of the private host that are not on their way out."""
    out = net.ownstack("ss", "-a", "--host", "host0", check=False)
    return [ln for ln in out.splitlines()[1:] if ln.strip() and not ln.startswith(("TIME-WAIT", "FIN-WAIT"))]


def test_same_results(make_net, record_property):
    kernel, ours = make_net(mode="kernel"), make_net()
    n, found, once = callfuzz.fuzz(kernel, ours, 60 if Options.full else 20, SEED)
    print("callfuzz: %d programs, %d differences" % (n, len(found) + len(once)))
    record_property("callfuzz_programs", n)
    assert not found and not once, "\n".join(map(str, found + once))
    assert n >= 20
    wait_for("the private host to have no socket", lambda: not left(ours))


def test_storm(make_net):
    """Threads that call at the same time: no fault, no hang, no octet of another's, nothing left."""
    ours = make_net()
    out = ours.call("private", callfuzz.prog(), "--seed", "3", "--storm", "60" if Options.full else "4", name="storm",
                    options=("--loopback", "private"), seconds=100)
    assert int(out.split()[2]) > 500
    wait_for("the private host to have no socket", lambda: not left(ours))
