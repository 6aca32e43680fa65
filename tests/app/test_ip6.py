# SPDX-License-Identifier: BSD-2-Clause
"""IPv6 on the wire: programs that listen on :: and serve both, clients of both, neighbours, path MTU."""

import os
import re
import socket

import pytest

from harness import PEER6, PRIVATE, PRIVATE6, Nginx, sha256_file, wait_for


@pytest.fixture
def net6(make_net):
    return make_net(ip6=True)


def fetch(net, side, url, path, *more):
    net.call(side, "curl", "-sS", "--fail", "--noproxy", "*", "--max-time", "60", *more, "-o", path, url, seconds=65)
    return sha256_file(path)


def test_nginx_on_the_wildcard_serves_both(net6, files):
    ng = Nginx(net6, root=files.dir, listen="[::]:80 ipv6only=off backlog=4096")
    for name in ("1k", "1m"):
        _, _, want = files[name]
        for host in ("[%s]" % PRIVATE6, PRIVATE):
            assert fetch(net6, "peer", "http://%s/%s" % (host, name), net6.dir + "/got") == want
    assert ng.errors() == []


def test_curl_fetches_from_a_server_of_the_peers(net6, files):
    ng = Nginx(net6, side="peer", root=files.dir, listen="[::]:80 ipv6only=off backlog=4096")
    for name in ("1k", "big"):
        _, _, want = files[name]
        assert fetch(net6, "private", "http://[%s]/%s" % (PEER6, name), net6.dir + "/got", "-6") == want
    assert ng.errors() == []


def test_nobody_listens(net6):
    """A reset comes back: refused at once, in both directions."""
    Nginx(net6, listen="[::]:80 ipv6only=off")
    net6.call("private", "curl", "-sS", "-6", "--max-time", "5", "http://[%s]:81/" % PEER6, status=7)
    with net6.inside(), socket.socket(socket.AF_INET6) as s:
        s.settimeout(5)
        with pytest.raises(ConnectionRefusedError):
            s.connect((PRIVATE6, 81))


def test_ping(net6):
    Nginx(net6, listen="[::]:80 ipv6only=off")
    out = net6.call("peer", "ping", "-6", "-n", "-c", "3", "-i", "0.2", "-W", "5", "-s", "1200", PRIVATE6)
    assert " 3 received" in out, out
