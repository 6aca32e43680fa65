# SPDX-License-Identifier: BSD-2-Clause
"""A connection goes on in another program: by every way to start one, with the library in it or not."""

import os
import random
import re
import shutil
import signal
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
    "popen": "import ctypes; c = ctypes.CDLL(None); c.popen.restype = ctypes.c_void_p; c.pclose.argtypes = [ctypes.c_void_p]\n"
             "s.set_inheritable(True); f = c.popen(b'%s <&%d >&%d' % (CAT.encode(), s.fileno(), s.fileno()), b'r'); s.close(); c.pclose(f)",
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


def echoes_and_leaves(net, server, sizes):
    """@server, at port 7000, echoes so much on a connection each; when it is gone nothing of the host is left."""
    wait_for("the server", lambda: "up" in server.text() or not server.alive())
    for i, size in enumerate(sizes):
        with net.connect(PRIVATE, 7000) as s:
            echo(s, size, i)
    assert server.alive(), server.tails()
    server.kill()
    server.wait()
    if net.mode != "kernel":
        wait_for("every helper to leave", lambda: not net.pids(), 15)


@pytest.mark.more
@pytest.mark.modes("tap", "kernel")
@pytest.mark.parametrize("kind", ["preloaded", "static"])
@pytest.mark.parametrize("way", list(HAND_ON))
def test_handed_on(net, way, kind):
    body = "\n".join("    " + line for line in HAND_ON[way].split("\n"))
    p = net.start("private", PYTHON, "-c", SERVER % body, cat_of(kind), name="server")
    echoes_and_leaves(net, p, (0, 1, 5000, 3 << 20))


@pytest.mark.more
@pytest.mark.modes("tap", "kernel")
@pytest.mark.parametrize("kind", ["preloaded", "static"])
@pytest.mark.parametrize("how", ["EXEC:%s", "SYSTEM:%s", "EXEC:%s,pipes"])
def test_socat(net, how, kind):
    if not shutil.which("socat"):
        pytest.skip("no socat")
    p = net.start("private", "socat", "TCP-LISTEN:7000,fork,reuseaddr", how % cat_of(kind))
    net.wait_port(PRIVATE, 7000, p)
    # socat writes to a pipe until all is written: with more than its two pipes hold, it and cat can wait for each other for ever
    for i, size in enumerate((1, 5000, 60000 if "pipes" in how else 3 << 20)):
        with net.connect(PRIVATE, 7000) as s:
            echo(s, size, i)
    assert p.alive(), p.tails()


ACTIVATE = """
import os, socket, sys
l = socket.socket()
l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
l.bind(('%s', 7000))
l.listen(8)
if l.fileno() != 3:
    os.dup2(l.fileno(), 3)
    l.close()
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))
os.execv(sys.executable, [sys.executable, '-c', sys.argv[1]])
"""
ACTIVATED = """
import os, socket
assert os.environ['LISTEN_PID'] == str(os.getpid())
l = socket.socket(fileno=3)
assert l.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1 and l.family == socket.AF_INET
print('up', flush=True)
while True:
    s, a = l.accept()
    while data := s.recv(1 << 16):
        s.sendall(data)
    s.close()
"""


@pytest.mark.modes("tap", "kernel")
@pytest.mark.parametrize("addr", ["0.0.0.0", PRIVATE])
def test_socket_activation(net, addr):
    """A launcher listens, and executes the server with the listener at 3, as systemd does (sd_listen_fds)."""
    p = net.start("private", PYTHON, "-c", ACTIVATE % addr, ACTIVATED, name="server")
    wait_for("the server", lambda: "up" in p.text() or not p.alive())
    for i, size in enumerate((0, 1, 5000, 3 << 20)):
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


SHARED = """
import os, signal, socket
l = socket.socket()
l.bind(('%s', 7000))
l.listen(8)
d = os.dup(l.fileno())
child = os.fork()
if not child:
    os.close(d)
    signal.pause()
print(os.getpid(), child, l.fileno(), d, flush=True)
signal.pause()
"""


@pytest.mark.modes("tap")
def test_who_has_the_socket(net):
    """`ownstack ss -p` names every process and number that a socket has, `ownstack ps` the processes of the host."""
    p = net.start("private", PYTHON, "-c", SHARED % PRIVATE, name="server")
    wait_for("the server", lambda: p.text().count("\n") or not p.alive())
    pid, child, fd, dup = map(int, p.text().split())
    want = {'("python3",pid=%d,fd=%d)' % at for at in ((pid, fd), (pid, dup), (child, fd))}

    def users():
        line = [line for line in net.ownstack("ss", "-l", "-p", "--host", "host0").splitlines() if ":7000" in line]
        return set(re.findall(r'\("[^)]*\)', line[0])) if line else set()
    wait_for("the child to close one number", lambda: users() == want, 10)
    listed = {line.split()[0] for line in net.ownstack("ps", "--host", "host0").splitlines() if "python3" in line}
    assert listed == {str(pid), str(child)}
    os.kill(pid, signal.SIGKILL)
    wait_for("the first process to be gone from it", lambda: users() == {'("python3",pid=%d,fd=%d)' % (child, fd)}, 10)


# ---- processes in other namespaces ----

NEWNET, NEWPID, NEWIPC, SIGCHLD = 0x40000000, 0x20000000, 0x08000000, 17
CLONED = """
    pid = libc.syscall(56, %d, 0, 0, 0, 0)
    if not pid:
        l.close()
        %s
        os._exit(0)
    s.close()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""
RUN_CAT = "os.dup2(s.fileno(), 0); os.dup2(s.fileno(), 1); s.close(); os.execvp(CAT, [CAT])"
GRANDCHILD = "p = os.fork(); work(s) if not p else s.close(); assert not p or os.waitstatus_to_exitcode(os.waitpid(p, 0)[1]) == 0"
# name -> (once, after listen(); for each connection s)
AWAY = {
    "unshare": ("assert libc.unshare(%d) == 0" % NEWNET, "    work(s)"),
    "back-and-forth": ("", "    assert libc.unshare(%d) == 0; half(s); assert libc.setns(home, 0) == 0; work(s)" % NEWNET),
    "clone-net": ("", CLONED % (NEWNET | SIGCHLD, "work(s)")),
    "clone-net-fork": ("", CLONED % (NEWNET | SIGCHLD, GRANDCHILD)),
    "clone-net-exec": ("", CLONED % (NEWNET | SIGCHLD, RUN_CAT)),
    "clone-pid": ("", CLONED % (NEWPID | SIGCHLD, "work(s)")),
    "clone-pid-fork": ("", CLONED % (NEWPID | NEWNET | NEWIPC | SIGCHLD, GRANDCHILD)),
    "clone-pid-exec": ("", CLONED % (NEWPID | NEWNET | SIGCHLD, RUN_CAT)),
}
AWAY_SHORT = {("unshare", "preloaded"), ("clone-net-exec", "static"), ("clone-pid-fork", "preloaded"), ("clone-pid-exec", "preloaded")}
AWAY_SERVER = """
import ctypes, os, select, socket, sys, threading, time
CAT = sys.argv[1]
libc = ctypes.CDLL(None)
home = os.open('/proc/self/ns/net', os.O_RDONLY)
def half(s):
    s.sendall(s.recv(1))
def work(s):                    # two threads, so that one wakes the other, and a third process's death is survived
    def pump():
        select.select([s], [], [])
        while data := s.recv(1 << 16):
            s.sendall(data)
        s.close()
    t = threading.Thread(target=pump)
    t.start()
    t.join()
l = socket.socket()
l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
l.bind(('0.0.0.0', 7000))
l.listen(8)
%s
print('up', flush=True)
while True:
    s, a = l.accept()
%s
"""


@pytest.mark.modes("tap", "kernel")
@pytest.mark.parametrize("way,kind", [pytest.param(w, k, marks=() if (w, k) in AWAY_SHORT else pytest.mark.more)
                                      for w in AWAY for k in ("preloaded", "static") if k == "preloaded" or "exec" in w])
def test_in_another_namespace(net, way, kind):
    """The names by which processes of a host find one another belong to a network namespace; its processes may leave it."""
    p = net.start("private", PYTHON, "-c", AWAY_SERVER % AWAY[way], cat_of(kind), name="server")
    echoes_and_leaves(net, p, (1, 2, 5000, 3 << 20))


# ---- programs that limit themselves ----

RAW = """
import ctypes, mmap
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(b'\\xb8\\xb4\\x01\\x00\\x00\\x0f\\x05\\xc3')     # mov eax, SYS_close_range; syscall; ret
raw = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_uint, ctypes.c_uint, ctypes.c_uint)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
"""
LIMITS = {
    "memlock-0": "resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))",
    "address-space": "resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20))",
    "descriptors": "resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))",
    "no-processes": "resource.setrlimit(resource.RLIMIT_NPROC, (0, 0)); os.setuid(65534)",
    "chroot": "os.chroot(sys.argv[1]); os.chdir('/'); os.setgroups([]); os.setgid(65534); os.setuid(65534)",
    "no-new-privs": "ctypes.CDLL(None).prctl(38, 1, 0, 0, 0); os.setuid(65534)",
    "unshare": "ctypes.CDLL(None).unshare(0x00020000 | 0x04000000 | 0x08000000)",
    "closed-behind": RAW + "raw(3, l.fileno() - 1, 0); raw(l.fileno() + 1, 0xffffffff, 0)",
    # the library's own stand in /proc; to the program they are not open (EBADF), which is what closerange() passes over
    "closed-by-loop": "[os.closerange(n, n + 1) for n in map(int, os.listdir('/proc/self/fd')) if n > 2 and n != l.fileno()]",
}
LIMITED = """
import ctypes, encodings.idna, os, resource, socket, sys, threading
l = socket.socket()
l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
l.bind((%r, 7000))
l.listen(8)
def echo(s):
    while data := s.recv(1 << 16):
        s.sendall(data)
    s.close()
if len(sys.argv) > 2:           # not only a fresh process: one that has worked already
    echo(l.accept()[0])
%s
print('up', flush=True)
while True:
    echo(l.accept()[0])
"""


@pytest.mark.more
@pytest.mark.modes("tap", "kernel")
@pytest.mark.parametrize("worked", [False, True], ids=["fresh", "worked"])
@pytest.mark.parametrize("limit", list(LIMITS))
def test_limited(net, limit, worked):
    """The program goes on under what it did to itself, and ends as any other."""
    os.mkdir(net.dir + "/empty")
    p = net.start("private", PYTHON, "-c", LIMITED % (PRIVATE, LIMITS[limit]), net.dir + "/empty", *(["worked"] if worked else []),
                  name="server")
    if worked:
        net.wait_port(PRIVATE, 7000, p)
    echoes_and_leaves(net, p, (0, 1, 5000, 3 << 20))


@pytest.mark.modes("tap", "kernel")
def test_setuid_program(net):
    """A program with more rights than its caller: the dynamic linker does not preload into it."""
    cat = net.dir + "/cat"
    shutil.copy(shutil.which("cat"), cat)
    os.chmod(cat, 0o4755)
    body = "    import subprocess; p = subprocess.Popen([CAT], stdin=s, stdout=s); s.close(); p.wait()"
    code = (SERVER % body).replace("print('up'", "os.setgid(65534); os.setuid(65534); print('up'")
    p = net.start("private", PYTHON, "-c", code, cat, name="server")
    wait_for("the server", lambda: "up" in p.text() or not p.alive())
    for i, size in enumerate((0, 1, 5000, 3 << 20)):
        with net.connect(PRIVATE, 7000) as s:
            echo(s, size, i)
    assert p.alive(), p.tails()


@pytest.mark.more
@pytest.mark.modes("tap")
def test_keeper_of_a_locked_in_process_killed(net):
    """The next keeper drives and sends for it."""
    p = net.start("private", os.path.join(Options.build, "tests", "parity", "locked_in"), "both", PRIVATE, "7100", name="locked_in")
    wait_for("the second way of waiting", lambda: "the end: 0" in p.text() or not p.alive())
    for _ in range(3):
        old = net.helpers_kind("keeper")
        os.kill(old[0], signal.SIGKILL)
        wait_for("another keeper", lambda: [k for k in net.helpers_kind("keeper") if k not in old], 10)
    out = p.done(30)
    assert "pselect: child's status 7, signal 0" in out, out
    assert "pselect: bulk is right" in out and "pselect: sum is right" in out, out
