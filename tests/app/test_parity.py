# SPDX-License-Identifier: BSD-2-Clause
"""The programs of tests/parity on the kernel and on the private stack: the same program must print the same."""

import glob
import os

import pytest

from harness import PRIVATE, PRIVATE6, Options


CASES = {}
SETTINGS = {"fastopen": {"OWNSTACK_SYSCTL": "net.ipv4.tcp_fastopen=3"}}     # a kernel is told by the program itself


IP6_CORE = {"ip6-echo", "ip6-ip6_calls", "ip6-sockopt_walk", "ip6-states"}      # of those over IPv6; the others: -m more


def programs(ip6=False):
    found = glob.glob(os.path.join(Options.build, "tests", "parity", "*"))
    return sorted(p for p in found if os.path.isfile(p) and os.access(p, os.X_OK) and
                  os.path.basename(p).startswith("ip6-") == ip6)


def ip6_cases():
    for p in programs(ip6=True):
        name = os.path.basename(p)
        yield pytest.param(p, id=name, marks=() if name in IP6_CORE else pytest.mark.more)


@pytest.mark.modes("tap", "packet")
@pytest.mark.parametrize("path", [pytest.param(p, id=os.path.basename(p)) for p in programs()])
def test_prints_the_same(make_net, path):
    kernel, ours = make_net(mode="kernel"), make_net()
    want = kernel.start("private", path, "both", PRIVATE, "7100", name="kernel")
    status = want.wait(30)
    got = ours.start("private", path, "both", PRIVATE, "7100", name="ours", env=SETTINGS.get(os.path.basename(path)))
    assert got.wait(30) == status
    assert got.text() == want.text()
    assert want.text(), "the program printed nothing"
    CASES[os.path.basename(path)] = len(want.text().splitlines())


@pytest.mark.modes("tap", "packet")
@pytest.mark.parametrize("path", ip6_cases())
def test_prints_the_same_over_ip6(make_net, path):
    kernel, ours = make_net(mode="kernel", ip6=True), make_net(ip6=True)
    want = kernel.start("private", path, "both", PRIVATE6, "7100", name="kernel")
    status = want.wait(30)
    got = ours.start("private", path, "both", PRIVATE6, "7100", name="ours",
                     env=SETTINGS.get(os.path.basename(path).removeprefix("ip6-")))
    assert got.wait(30) == status
    assert got.text() == want.text()
    assert want.text(), "the program printed nothing"


def test_number_of_cases(record_property):
    """A case is a printed line: what one call, option or event gave, compared. Prints how many there were."""
    total, sweep = sum(CASES.values()), CASES.get("sockopt_sweep", 0)
    print("parity: %d cases equal, %d of them of the option sweep" % (total, sweep))
    record_property("parity_cases", total)
    if len(CASES) == len(programs()):
        assert total - sweep >= 250
