# SPDX-License-Identifier: BSD-2-Clause
"""A connection goes on in another program: by every way to start one, with the library in it or not."""

import random
import shutil
import threading

import pytest

from harness import PRIVATE, Options, wait_for

PYTHON = "/usr/bin/python3"

# Each takes the accepted socket s, and must hand it on and be rid of it; {cat} is `cat` or the static one.
HAND_ON = {
    "subprocess-stdio": "import subprocess; p = subprocess.Popen([CAT], stdin=s, stdout=s); s.close(); p.wait()",
    "subprocess-fork": "import subprocess; p = subprocess.Popen([CAT], stdin=s, stdout=s, preexec_fn=lambda: None); s.close(); p.wait()",
    "subprocess-pass-fds": "import subprocess; p = subprocess.Popen(['sh', '-c', 'exec %s <&%d >&%d' % (CAT, s.fileno(), s.fileno())],"
                           " pass_fds=[s.fileno()]); s.close(); p.wait()",
    "shell-child": "import subprocess; p = subprocess.Popen(['sh', '-c', '%s <&%d >&%d; echo -n' % (CAT, s.fileno(), s.fileno())],"
                   " pass_fds=[s.fileno()]); s.close(); p.wait()",
    "pipeline": "import subprocess; p = subprocess.Popen(['sh', '-c', '%s <&%d | cat >&%d' % (CAT, s.fileno(), s.fileno())],"
                " pass_fds=[s.fileno()]); s.close(); p.wait()",
    "posix-spawn": "import shutil; p = os.posix_spawn(shutil.which(CAT), [CAT], os.environ, file_actions=["
                   "(os.POSIX_SPAWN_DUP2, s.fileno(), 0), (os.POSIX_SPAWN_DUP2, 0, 1)]); s.close(); os.waitpid(p, 0)",
    "system": "s.set_inheritable(True); os.system('%s <&%d >&%d' % (CAT, s.fileno(), s.fileno())); s.close()",
    "double-fork": "p = os.fork()\n"
                   "if not p:\n"
                   "    if not os.fork():\n"
                   "        os.dup2(s.fileno(), 0); os.dup2(s.fileno(), 1); os.execvp(CAT, [CAT])\n"
                   "    os._exit(0)\n"
                   "os.waitpid(p, 0); s.close()",
}
SERVER = """
import os, socket, sys
CAT = sys.argv[1]
l = socket.socket()
l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
l.bind(('0.0.0.0', 7000))
l.listen(8)
print('up', flush=True)
while True:
    s, a = l.accept()
%s
"""


def echo(sock, size, seed=1):
    """Sends, ends its direction, reads to the end: every octet must come back, and then the end."""
    data = random.Random(seed).randbytes(size)

    def send():
        sock.sendall(data)
        sock.shutdown(1)
    t = threading.Thread(target=send)
    t.start()
    got = bytearray()
    while chunk := sock.recv(1 << 16):
        got += chunk
    t.join()
    assert len(got) == size
    assert bytes(got) == data


def cat_of(kind):
    return "cat" if kind == "preloaded" else Options.prog("cat")


@pytest.mark.more
@pytest.mark.modes("tap", "kernel")
@pytest.mark.parametrize("kind", ["preloaded", "static"])
@pytest.mark.parametrize("way", list(HAND_ON))
def test_handed_on(net, way, kind):
    body = "\n".join("    " + line for line in HAND_ON[way].split("\n"))
    p = net.start("private", PYTHON, "-c", SERVER % body, cat_of(kind), name="server")
    wait_for("the server", lambda: "up" in p.text() or not p.alive())
    for i, size in enumerate((0, 1, 5000, 3 << 20)):
        with net.connect(PRIVATE, 7000) as s:
            echo(s, size, i)
    assert p.alive(), p.tails()
    p.kill()
    p.wait()
    if net.mode != "kernel":
        wait_for("every helper to leave", lambda: not net.pids(), 15)


@pytest.mark.more
@pytest.mark.modes("tap", "kernel")
@pytest.mark.parametrize("kind", ["preloaded", "static"])
@pytest.mark.parametrize("how", ["EXEC:%s", "SYSTEM:%s", "EXEC:%s,pipes"])
def test_socat(net, how, kind):
    if not shutil.which("socat"):
        pytest.skip("no socat")
    p = net.start("private", "socat", "TCP-LISTEN:7000,fork,reuseaddr", how % cat_of(kind))
    net.wait_port(PRIVATE, 7000, p)
    for i, size in enumerate((1, 5000, 3 << 20)):
        with net.connect(PRIVATE, 7000) as s:
            echo(s, size, i)
    assert p.alive(), p.tails()
