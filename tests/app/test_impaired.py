# SPDX-License-Identifier: BSD-2-Clause
"""Loss, reordering, duplicates and delay in real time, by the project's own relay between two devices."""

import os

import pytest

from harness import PEER, PRIVATE, Nginx, Options
from test_nginx import fetch

RELAY = ("--impair", "loss=1%,reorder=2%,dup=1%,delay=20ms,seed=7")


def relayed(make_net):
    """A net whose two sides meet in the relay: the private host's device on one side, the kernel's on the other."""
    relay = os.path.join(Options.build, "tests", "relay", "relay")
    if not os.access(relay, os.X_OK):
        pytest.skip("no %s" % relay)
    return make_net(relay=(relay, *RELAY))


@pytest.mark.parametrize("server", ["private", "peer"])
def test_file_arrives_equal(make_net, files, server):
    """100 MiB (4 MiB in the short run) over 1 % loss, 2 % reordering, duplicates and 20 ms each way."""
    net = relayed(make_net)
    ng = Nginx(net, side=server, root=files.dir)
    name = "100m" if Options.full else "4m"
    _, _, want = files[name]
    client = "peer" if server == "private" else "private"
    assert ng.addr == (PRIVATE if server == "private" else PEER)
    assert fetch(net, client, ng.url + name, net.dir + "/got", 500 if Options.full else 90) == want
    assert net.relay.alive(), net.relay.tails()
