# SPDX-License-Identifier: BSD-2-Clause
"""`--loopback private`: programs that talk to themselves over 127.0.0.0/8 do so on the private host."""

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
