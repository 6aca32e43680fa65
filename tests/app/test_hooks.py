# SPDX-License-Identifier: BSD-2-Clause
"""Instructions of a hook that has nothing to do: counted step by step, not more than bench/figures.json says."""

import json
import os

import pytest

from harness import TOP, Options

pytestmark = pytest.mark.modes("tap")

MORE = {"epoll_ctl", "epoll_wait", "poll of one"}       # two numbers; a note of where the thread sleeps; a set to be read


def test_instructions(make_net, record_property):
    if Options.sanitizer:
        pytest.skip("counts are those of the plain build")
    with open(os.path.join(TOP, "bench", "figures.json"), encoding="ascii") as f:
        figures = {k[6:]: v for k, v in json.load(f).items() if k.startswith("hook: ")}
    out = make_net().call("private", Options.prog("hooks"), name="hooks", options=("--loopback", "private"), seconds=30)
    counts = {name: int(n) for name, n in (line.split(": ") for line in out.splitlines())}
    record_property("hooks", counts)
    assert set(counts) == set(figures)
    for name, n in counts.items():
        assert n > 0, name
        assert n <= figures[name] * 1.05 + 1, "%s: %d instructions, was %d" % (name, n, figures[name])
        assert n <= 12 or name in MORE, "%s: %d instructions" % (name, n)
