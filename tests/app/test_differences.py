# SPDX-License-Identifier: BSD-2-Clause
"""What docs/compatibility.md says is different, is: a row that has come to be equal is to be taken out of it."""

import pytest

from harness import Options

pytestmark = pytest.mark.modes("tap")

#   what                                            kernel      private
DIFFERENT = {
    "TCP_REPAIR":                                   ("works", "EPERM"),
    "mmap":                                         ("works", "ENODEV"),
    "mode of another after fchmod":                 ("511", "384"),
    "owner of another after fchown":                ("0", "12"),
    "F_OFD_SETLK of another":                       ("works", "EAGAIN"),
    "aio_read":                                     ("works", "refused"),
    "send on what was shut before connect":         ("EPIPE", "works"),
    "events by a copy made before":                 ("1", "0"),
    "events of a set that came in a message":       ("1", "0"),
}
EQUAL = {"events by the number added under": "1"}


def answers(net, options=()):
    out = net.call("private", Options.prog("differences"), name="differences", options=options, seconds=30)
    return dict(line.split(": ") for line in out.splitlines())


def test_known_differences(make_net):
    kernel = answers(make_net(mode="kernel"))
    ours = answers(make_net(), ("--loopback", "private"))
    assert kernel == {**{k: v[0] for k, v in DIFFERENT.items()}, **EQUAL}
    assert ours == {**{k: v[1] for k, v in DIFFERENT.items()}, **EQUAL}
