# SPDX-License-Identifier: BSD-2-Clause
"""Many threads on one socket, on one epoll set, and many openings (tests/torture): the program checks itself."""

import os

import pytest

from harness import Options, wait_for

pytestmark = pytest.mark.modes("tap", "kernel")

PROG = os.path.join(Options.build, "tests", "torture", "torture")

#        test               count in CI, by --full
CASES = {"stream":          (8_000_000, 400_000_000),
         "closing":         (300, 20_000),
         "epoll-exclusive": (10_000, 1_000_000),
         "epoll-oneshot":   (10_000, 1_000_000),
         "epoll-edge":      (10_000, 1_000_000),
         "epoll-mixed":     (200_000, 10_000_000),
         "opening":         (8_000, 1_000_000)}


def left(net):
    out = net.ownstack("ss", "-a", "--host", "host0", check=False)
    return [ln for ln in out.splitlines()[1:] if ln.strip() and not ln.startswith(("TIME-WAIT", "FIN-WAIT"))]


@pytest.mark.parametrize("what", CASES)
def test_eight_threads(net, what):
    count = CASES[what][Options.full]
    options = () if net.mode == "kernel" else ("--loopback", "private")
    out = net.call("private", PROG, what, str(count), seconds=570 if Options.full else 60, options=options)
    assert out.startswith("mixed" if what == "epoll-mixed" else what.split("-")[0])
    if net.mode != "kernel":
        wait_for("the private host to have no socket", lambda: not left(net))
