# SPDX-License-Identifier: BSD-2-Clause
"""Clients on the private host, and both ends on private hosts."""

import os
import re

import pytest

from harness import PEER, PRIVATE, Nginx, Options, sha256_file
from test_nginx import fetch

pytestmark = pytest.mark.skipif(bool(Options.sanitizer), reason="the packaged curl hangs in setlocale under libasan alone")


@pytest.mark.core
def test_curl_from_kernel_nginx(net, files):
    ng = Nginx(net, side="peer", root=files.dir)
    for name in ("1k", "1m", "big"):
        _, size, want = files[name]
        got = net.dir + "/got"
        assert fetch(net, "private", ng.url + name, got) == want, name
        assert os.path.getsize(got) == size


def test_curl_in_parallel(net, files):
    """Many processes on one private host at once."""
    ng = Nginx(net, side="peer", root=files.dir)
    _, _, want = files["1m"]
    procs = [net.start("private", "curl", "-sS", "--fail", "--max-time", "30", "-o", "%s/got%d" % (net.dir, i), ng.url + "1m")
             for i in range(16)]
    for i, p in enumerate(procs):
        p.done(40)
        assert sha256_file("%s/got%d" % (net.dir, i)) == want


def test_closed_port_refuses_at_once(net, files):
    """The reset of a closed port ends connect at once."""
    Nginx(net, side="peer", root=files.dir)
    p = net.start("private", "curl", "-sS", "--max-time", "20", "http://%s:81/" % PEER)
    assert p.wait(25) == 7, p.tails()           # curl: failed to connect
    assert int(re.search(r"after (\d+) ms", p.text("err")).group(1)) < 1000, p.text("err")


def test_both_ends_private(make_net, files):
    """nginx on one private host, curl on another, a bridge between them."""
    net = make_net(second_host=True)
    ng = Nginx(net, root=files.dir)
    for name in ("1k", "1m", "big"):
        _, _, want = files[name]
        assert fetch(net, "third", ng.url + name, net.dir + "/got") == want, name


@pytest.mark.core
def test_two_programs_of_one_host(net, files):
    """nginx and curl on the same private host: the address is their own, no frame is needed."""
    ng = Nginx(net, root=files.dir)
    for name in ("1k", "1m", "big"):
        _, _, want = files[name]
        assert fetch(net, "private", "http://%s/%s" % (PRIVATE, name), net.dir + "/got") == want, name
    assert ng.errors() == []
