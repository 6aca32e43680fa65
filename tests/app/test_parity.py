# SPDX-License-Identifier: BSD-2-Clause
"""The programs of tests/parity on the kernel and on the private stack: the same program must print the same."""

import glob
import os

import pytest

from harness import PRIVATE, Options


CASES = {}
SETTINGS = {"fastopen": {"OWNSTACK_SYSCTL": "net.ipv4.tcp_fastopen=3"}}     # a kernel is told by the program itself


def programs():
    found = glob.glob(os.path.join(Options.build, "tests", "parity", "*"))
    return sorted(p for p in found if os.path.isfile(p) and os.access(p, os.X_OK))


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


def test_number_of_cases(record_property):
    """A case is a printed line: what one call, option or event gave, compared. Prints how many there were."""
    total, sweep = sum(CASES.values()), CASES.get("sockopt_sweep", 0)
    print("parity: %d cases equal, %d of them of the option sweep" % (total, sweep))
    record_property("parity_cases", total)
    if len(CASES) == len(programs()):
        assert total - sweep >= 250
