# SPDX-License-Identifier: BSD-2-Clause
"""Limits that a program puts on itself before it opens a socket."""

import pytest

from harness import PRIVATE

FEW_NUMBERS = """
import errno, os, resource, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
l = socket.socket()
l.bind((sys.argv[1], 0))
l.listen()
l.setblocking(False)
made = []
try:
    while True:
        made.append(os.dup(0))
except OSError as e:
    print('numbers for the program:', len(made), errno.errorcode[e.errno])
os.close(made.pop())
c = socket.socket()
print('the last one:', c.fileno())
c.connect(l.getsockname())
try:
    l.accept()
except OSError as e:
    print('accept:', errno.errorcode[e.errno])
os.close(made.pop())
a = l.accept()[0]
c.sendall(b'x')
a.setblocking(True)
print('accepted:', a.fileno(), a.recv(10))
"""


@pytest.mark.modes("tap")
def test_few_numbers_are_all_the_programs(make_net):
    """What the library needs lies above the limit, where it was taken before the limit came."""
    kernel, ours = make_net(mode="kernel"), make_net()
    want = kernel.call("private", "/usr/bin/python3", "-c", FEW_NUMBERS, PRIVATE, name="kernel")
    assert ours.call("private", "/usr/bin/python3", "-c", FEW_NUMBERS, PRIVATE, name="ours") == want
    assert "EMFILE" in want and "accepted" in want
