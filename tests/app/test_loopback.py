# SPDX-License-Identifier: BSD-2-Clause
"""`--loopback private`: programs that talk to themselves over 127.0.0.0/8 do so on the private host."""

import os
import struct

import pytest

pytestmark = pytest.mark.modes("tap")

TALK = """
import socket
V4, V6 = socket.AF_INET, socket.AF_INET6
for fam, bind, to in ((V4, '127.0.0.1', (V4, '127.0.0.1')), (V4, '0.0.0.0', (V4, '0.0.0.0')), (V4, '127.3.4.5', (V4, '127.3.4.5')),
                      (V4, '0.0.0.0', (V4, '127.9.9.9')), (V6, '::', (V4, '127.0.0.1')),
                      (V6, '::', (V6, '::ffff:127.0.0.1')), (V6, '::1', (V6, '::1')), (V6, '::', (V6, '::1')), (V6, '::', (V6, '::'))):
    l = socket.socket(fam)
    l.bind((bind, 0))
    l.listen()
    port = l.getsockname()[1]
    c = socket.socket(to[0])
    c.connect((to[1], port))
    a, peer = l.accept()
    c.sendall(b'x' * 50000)
    got = 0
    while got < 50000:
        got += len(a.recv(65536))
    listed = any(' 0A ' in x and '%%04X' %% port in x for f in ('tcp', 'tcp6') for x in open('/proc/net/' + f))
    print(bind, to[1], c.getsockname()[0], c.getpeername()[0], peer[0], a.getsockname()[0], %s)
"""


def test_as_on_the_kernel_and_yet_private(make_net):
    kernel, ours = make_net(mode="kernel", ip6=True), make_net()
    want = kernel.call("private", "/usr/bin/python3", "-c", TALK % "''", name="kernel")
    assert ours.call("private", "/usr/bin/python3", "-c", TALK % "''", name="ours", options=("--loopback", "private")) == want
    assert len(want.splitlines()) == 9


def test_kernel_has_no_listener(net):
    out = net.call("private", "/usr/bin/python3", "-c", TALK % "listed", name="listed", options=("--loopback", "private"))
    for line in out.splitlines():
        assert line.split()[-1] == "False", line


def test_nothing_of_it_on_the_wire(net):
    """A frame from outside to 127.0.0.1 is a martian, and 127.0.0.1 has no way out."""
    code = ("import socket, errno\n"
            "s = socket.socket(); s.bind(('127.0.0.1', 0))\n"
            "try: s.connect(('10.77.0.1', 80))\n"
            "except OSError as e: print(errno.errorcode[e.errno])\n")
    assert net.call("private", "/usr/bin/python3", "-c", code, name="out", options=("--loopback", "private")) == "EINVAL\n"


FEW = """
import socket
l = socket.socket(); l.bind(('127.0.0.1', 0)); l.listen()
c = socket.create_connection(l.getsockname())
a = l.accept()[0]
for i in range(50):
    for one, other in ((c, a), (a, c)):
        one.sendall(b'%03d' % i * 1000)
        got = 0
        while got < 3000:
            got += len(other.recv(3000 - got))
"""


def segments(net):
    return next(int(ln.split()[1]) for ln in net.ownstack("stats", "--host", "host0").splitlines() if ln.startswith("TcpOutSegs"))


def test_payload_goes_without_frames(net):
    net.start("private", "/bin/sleep", "100", name="holds-the-host", options=("--loopback", "private"))
    net.call("private", "/usr/bin/python3", "-c", FEW, name="few", options=("--loopback", "private"))
    assert segments(net) < 30, "300,000 octets went by segments"


def payload_of(path):
    """All payload of TCP in a pcapng file, as captured."""
    with open(path, "rb") as f:
        data = f.read()
    got, at = b"", 0
    while at < len(data):
        kind, size = struct.unpack_from("<II", data, at)
        if kind == 6:
            n, = struct.unpack_from("<I", data, at + 20)
            ip = data[at + 28 + 14:at + 28 + n]
            if ip[:1] == b"\x45" and ip[9] == 6:
                total = struct.unpack_from(">H", ip, 2)[0]
                got += ip[20 + (ip[32] >> 4) * 4:total]
        at += size
    return got


def test_capture_shows_the_stream(net):
    path = os.path.join(net.dir, "loop.pcapng")
    net.call("private", "/usr/bin/python3", "-c", FEW, name="few", options=("--loopback", "private", "--pcap", path))
    want = b"".join(b"%03d" % i * 2000 for i in range(50))
    assert payload_of(path) == want
