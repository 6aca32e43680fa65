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


# ---- to programs that cannot be ours, and back ----

@pytest.mark.modes("tap", "kernel")
def test_back_from_static(net):
    """preloaded -> static -> preloaded: what was read ahead for the static program is not lost, nor out of order."""
    p = net.start("private", PYTHON, "-c", SERVER % """
    import subprocess
    p = subprocess.Popen([CAT, 'exec', str(s.fileno()), 'cat'], pass_fds=[s.fileno()]); s.close(); p.wait()
""", Options.prog("cat"), name="server")
    wait_for("the server", lambda: "up" in p.text() or not p.alive())
    for i, size in enumerate((5, 6, 100000, 3 << 20)):
        with net.connect(PRIVATE, 7000) as s:
            echo(s, size, i)
    assert p.alive(), p.tails()


@pytest.mark.modes("tap", "kernel")
@pytest.mark.parametrize("addr", ["0.0.0.0", PRIVATE])
def test_static_inherits_listener(net, addr):
    """A static server gets a listening socket, as from inetd or systemd; after its end the port is closed."""
    code = ("import os, socket, sys; l = socket.socket(); l.setsockopt(1, 2, 1); l.bind((%r, 7000)); l.listen(8);"
            " l.set_inheritable(True); os.execv(sys.argv[1], [sys.argv[1], 'accept', str(l.fileno())])" % addr)
    p = net.start("private", PYTHON, "-c", code, Options.prog("cat"), name="server")
    net.wait_port(PRIVATE, 7000, p)
    for i, size in enumerate((0, 1, 5000, 3 << 20)):
        with net.connect(PRIVATE, 7000) as s:
            echo(s, size, i)
    many = [net.connect(PRIVATE, 7000) for _ in range(20)]
    for i, s in enumerate(many):
        echo(s, 1000 * i, i)
        s.close()
    p.kill(9)
    p.wait()

    def refused():
        try:
            net.connect(PRIVATE, 7000, 2).close()
        except ConnectionRefusedError:
            return True
        except TimeoutError:                    # the device went with the last process
            return True
        except OSError as e:
            return e.errno in (113, 101)
        return False
    wait_for("the port to be closed", refused)


SEND = """
import array, os, socket, sys
l = socket.socket()
l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
l.bind(('0.0.0.0', 7000))
l.listen(8)
print('up', flush=True)
while True:
    s, a = l.accept()
    u = socket.socket(socket.AF_UNIX)
    u.connect('\\0%s')
    u.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [s.fileno()]))])
    s.close()
    u.recv(1)
    u.close()
"""
RECEIVE = """
import array, os, socket, sys
u = socket.socket(socket.AF_UNIX)
u.bind('\\0%s')
u.listen(8)
print('up', flush=True)
while True:
    c, a = u.accept()
    m, anc, f, a = c.recvmsg(1, 100)
    fd = array.array('i', anc[0][2])[0]
    s = socket.socket(socket.AF_INET if %r else socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=fd)
    while data := s.recv(1 << 16):
        s.sendall(data)
    s.close()
    c.close()
"""


@pytest.mark.modes("tap", "kernel")
@pytest.mark.parametrize("to", ["ours", "outside"])
def test_rights(net, to):
    """A connection in a message: to a process of the host, and to one that knows nothing of it."""
    name = net.id + ".rights"
    tcp = net.mode == "kernel" or to == "ours"
    side = "peer" if to == "outside" and net.mode == "tap" else "private"
    r = net.start(side, PYTHON, "-c", RECEIVE % (name, tcp), name="receiver")
    wait_for("the receiver", lambda: "up" in r.text() or not r.alive())
    p = net.start("private", PYTHON, "-c", SEND % name, name="sender")
    wait_for("the sender", lambda: "up" in p.text() or not p.alive())
    for i, size in enumerate((0, 1, 5000, 3 << 20)):
        with net.connect(PRIVATE, 7000) as s:
            echo(s, size, i)
    assert p.alive() and r.alive(), p.tails() + r.tails()
