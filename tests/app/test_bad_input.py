# SPDX-License-Identifier: BSD-2-Clause
"""Bad input and missing means: one clear line (setting, value, remedy), a distinct status, nothing hangs."""

import os
import re
import resource
import signal
import subprocess

import pytest

from harness import PEER, PRIVATE, Nginx, Options, wait_for

pytestmark = pytest.mark.modes("tap")

USAGE, UNAVAILABLE, NO_PERMISSION, NOT_FOUND = 2, 69, 77, 127


def tool(net, *args, env=None, seconds=10, **kw):
    """Runs the tool in the net; (status, stdout, stderr)."""
    e = dict(os.environ, **net.env)
    e.update(env or {})
    r = subprocess.run(["nsenter", "--net=/run/netns/" + net.private_ns, "--", Options.ownstack(), *args], env=e, text=True,
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=seconds, **kw)
    return r.returncode, r.stdout, r.stderr


def one_line(stderr, *words):
    lines = stderr.strip().splitlines()
    assert len(lines) == 1, stderr
    assert lines[0].startswith("ownstack: "), stderr
    for w in words:
        assert w in lines[0], "%r is not in: %s" % (w, lines[0])


@pytest.mark.parametrize("args,status,words", [
    (("run", "--no-such-option", "--", "true"), USAGE, ("--no-such-option",)),
    (("run", "--addr", "10.0.0.300/24", "--", "true"), USAGE, ("10.0.0.300/24",)),
    (("run", "--addr", "10.0.0.3", "--", "true"), USAGE, ("10.0.0.3", "/")),
    (("run", "--addr", "10.0.0.3/33", "--", "true"), USAGE, ("10.0.0.3/33",)),
    (("run", "--mac", "1:2:3", "--", "true"), USAGE, ("1:2:3",)),
    (("run", "--mtu", "12", "--", "true"), USAGE, ("12",)),
    (("run", "--mtu", "banana", "--", "true"), USAGE, ("banana",)),
    (("run", "--gateway", "nowhere", "--", "true"), USAGE, ("nowhere",)),
    (("run", "--tap", "a-name-that-is-too-long", "--", "true"), USAGE, ("a-name-that-is-too-long",)),
    (("run", "--tap", "tap0", "--packet", "veth0", "--", "true"), USAGE, ("--packet",)),
    (("run",), USAGE, ()),
    (("no-such-command",), USAGE, ("no-such-command",)),
    (("run", "--packet", "nodev0", "--addr", "10.0.0.3/24", "--", "true"), UNAVAILABLE, ("nodev0",)),
    (("run", "--tap", "tap0", "--addr", "10.77.0.2/24", "--", "no-such-program"), NOT_FOUND, ("no-such-program",)),
], ids=lambda v: " ".join(v[1:3]) if isinstance(v, tuple) and v and v[0] == "run" else None)
def test_refused_with_one_line(net, args, status, words):
    got, out, err = tool(net, *args)
    assert got == status, err
    one_line(err, *words)
    assert out == ""
    wait_for("helpers to leave", lambda: not net.helpers(), 10)


def test_bad_environment_is_refused(net):
    got, _, err = tool(net, "run", "--", "true", env={"OWNSTACK_MTU": "banana"})
    assert got == USAGE
    one_line(err, "OWNSTACK_MTU", "banana")


def test_no_permission(net):
    """Without the right to make devices, before the program starts."""
    drop = lambda: (os.setgroups([]), os.setgid(65534), os.setuid(65534))
    argv = [Options.ownstack(), "run", "--tap", "tap9", "--addr", "10.0.0.3/24", "--", "echo", "started"]
    r = subprocess.run(argv, preexec_fn=drop, cwd="/", text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=10)
    assert r.returncode == NO_PERMISSION, r.stderr
    one_line(r.stderr, "tap9")
    assert "started" not in r.stdout


def test_fallback_on_request_only(net):
    args = ("run", "--packet", "nodev0", "--addr", "10.0.0.3/24", "--", "echo", "started")
    got, out, err = tool(net, *args)
    assert got == UNAVAILABLE and out == ""
    got, out, err = tool(net, *args, env={"OWNSTACK_FALLBACK": "1"})
    assert got == 0 and out == "started\n"
    one_line(err, "nodev0")


def test_host_with_other_device_is_refused(net):
    Nginx(net)
    got, _, err = tool(net, "run", "--host", "host0", "--tap", "tap5", "--addr", "10.9.9.9/24", "--", "true")
    assert got not in (0, None), err
    one_line(err, "host0")


def test_port_in_use(net):
    """The second nginx on the same private address says what nginx always says."""
    a = Nginx(net)
    p = net.start("private", *a.cmd, name="second")
    assert p.wait(15) == 1
    assert "Address already in use" in p.text("err")
    assert net.http(PRIVATE, "/pid", close=True)


def test_keeper_killed(net):
    """The warden starts another; connections live on."""
    ng = Nginx(net)
    _, s = net.http(PRIVATE, "/pid")
    old = net.helpers_kind("keeper")
    assert len(old) == 1
    os.kill(old[0], signal.SIGKILL)
    wait_for("another keeper", lambda: [k for k in net.helpers_kind("keeper") if k not in old], 10)
    assert net.http(PRIVATE, "/pid", sock=s)[0]
    assert net.http(PRIVATE, "/pid", close=True)[0]
    assert ng.errors() == []


def test_warden_killed(net):
    """Programs that run go on; a new one is told in one line or starts a new private host, but nothing hangs."""
    ng = Nginx(net)
    _, s = net.http(PRIVATE, "/pid")
    warden = [p for p in net.helpers() if p not in net.helpers_kind("keeper")]
    assert len(warden) == 1
    os.kill(warden[0], signal.SIGKILL)
    assert net.http(PRIVATE, "/pid", sock=s)[0]
    got, _, err = tool(net, "run", "--host", "host0", "--tap", "tap0", "--addr", PRIVATE + "/24", "--", "true", seconds=20)
    assert got == 0 or err.startswith("ownstack: ")
    assert ng.proc.alive()


def limit(number, hard):
    top = number if hard else resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (number, top))


@pytest.mark.parametrize("hard", [False, True], ids=["soft", "hard"])
def test_descriptor_limit(net, hard):
    """EMFILE where the kernel gives EMFILE; after closing it goes on."""
    code = ("import socket, errno, os\n"
            "l = socket.socket(); l.bind(('%s', 9001)); l.listen()\n"
            "made = []\n"
            "try:\n"
            "    while True: made.append(socket.socket())\n"
            "except OSError as e: print(errno.errorcode[e.errno], flush=True)\n"
            "made.pop().close()\n"
            "c, _ = l.accept(); print('accepted', c.recv(1)); c.close()\n" % PRIVATE)
    argv = net.argv("private", "/usr/bin/python3", "-c", code)
    p = subprocess.Popen(argv, preexec_fn=limit(64, hard), stdout=subprocess.PIPE, text=True, env=dict(os.environ, **net.env))
    try:
        assert p.stdout.readline() == "EMFILE\n"
        s = net.connect(PRIVATE, 9001)
        s.sendall(b"x")
        assert p.stdout.readline() == "accepted b'x'\n"
        assert p.wait(10) == 0
    finally:
        p.kill()
        p.wait()


def test_arena_full(net):
    """A private host with little memory: connections are refused or wait, nothing dies, and room comes back."""
    ng = Nginx(net, options=("--arena", "256M"))
    held = []
    for _ in range(4000):
        try:
            held.append(net.connect(PRIVATE, 80, 0.5))
        except OSError:
            break
    for s in held:
        s.close()
    wait_for("room again", lambda: net.http(PRIVATE, "/pid", timeout=5, close=True), 20)
    assert ng.proc.alive()


def test_no_io_uring(net):
    """Where io_uring is refused level poll is taken silently; where another is demanded, that is refused by name."""
    no_uring = Options.prog("no-uring")
    srv = net.start("peer", no_uring, *net.ownstack_run(), "/usr/bin/python3", "-m", "http.server", "8000", name="server")
    net.wait_port(PRIVATE, 8000, srv)
    assert b"<html" in subprocess.run(net.argv("peer", "curl", "-s", "--max-time", "5", "http://%s:8000/" % PRIVATE),
                                      stdout=subprocess.PIPE, check=True).stdout
    assert "io_uring" not in srv.text("err")
    run = [Options.ownstack(), "run", "--host", "other", "--tap", "tap9", "--addr", "10.79.0.2/24"]
    for level in ("full", "uring"):
        r = subprocess.run(net.argv("peer", no_uring, *run, "--io", level, "--", "true"), text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=10)
        assert r.returncode == UNAVAILABLE, r.stderr
        one_line(r.stderr, "io=" + level, "io_uring", "--io auto")


def test_doctor(net):
    got, out, err = tool(net, "doctor")
    assert got == 0, out + err
    assert re.search(r"io_uring", out) and re.search(r"tun", out)


def test_version_and_help(net):
    assert re.match(r"ownstack \d+\.\d+", tool(net, "--version")[1])
    got, out, _ = tool(net, "help")
    assert got == 0 and "run" in out and "--tap" in out


def test_zero_options(net):
    """`ownstack run PROGRAM` picks host, device and addresses itself."""
    srv = net.start("peer", Options.ownstack(), "run", "-v", "--", "/usr/bin/python3", "-m", "http.server", "8123", name="zero")
    said = wait_for("the line of -v", lambda: re.search(r"\d+\.\d+\.\d+\.\d+/30", srv.text("err")), 15)
    addrs = re.findall(r"(\d+\.\d+\.\d+\.\d+)", srv.text("err"))
    assert said and addrs

    def served():
        for a in set(addrs):
            try:
                with net.connect(a, 8123, 1.0) as s:
                    s.sendall(b"GET / HTTP/1.0\r\n\r\n")
                    return s.recv(100).startswith(b"HTTP/1.0 200")
            except OSError:
                continue
        return False
    wait_for("an answer from one of %s" % addrs, served, 15)
    assert PEER not in addrs
