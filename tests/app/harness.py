# SPDX-License-Identifier: BSD-2-Clause
"""harness.py - network namespaces, programs and checks for the app tests and the benchmark

Two sides. The *private* side is the one under test: programs run by `ownstack run` on a private host at 10.77.0.2. The
*peer* side is the kernel at 10.77.0.1. Three modes differ only in what the private side is:

    tap     peer kernel -- TAP -- private host                 (one namespace)
    packet  peer kernel -- veth -- AF_PACKET, private host     (a namespace each)
    kernel  peer kernel -- veth -- kernel                      (a namespace each; proves the test itself)

Everything lives in namespaces named own-PID..., which close() removes with every process that is in them: nothing else
can be in there, since this module made them. Programs are started in the namespace without a shell between, so that their
pid is the program's own.
"""

import ctypes
import contextlib
import hashlib
import itertools
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

PRIVATE = "10.77.0.2"
PEER = "10.77.0.1"
THIRD = "10.77.0.3"         # second private host, where a test has two
PREFIX = 24
PRIVATE6, PEER6 = "2001:db8:77::2", "2001:db8:77::1"    # with Net(ip6=True)
PREFIX6 = 64
CLONE_NEWNET = 0x40000000

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count(1)
TAG = os.environ.get("OWN_TAG", "own") + "-%d" % os.getpid()     # ./dev removes all namespaces that begin with its OWN_TAG


class Options:
    """What the command line chose; conftest.py and the benchmark fill it."""

    build = os.environ.get("OWNSTACK_BUILD", os.path.join(TOP, "build"))
    full = False
    io = os.environ.get("OWNSTACK_IO", "")
    sanitizer = os.environ.get("OWNSTACK_SANITIZER", "")    # libasan.so, where the library was built with it

    @classmethod
    def ownstack(cls):
        return os.environ.get("OWNSTACK", os.path.join(cls.build, "cli", "ownstack"))

    @classmethod
    def prog(cls, name):
        return os.path.join(cls.build, "tests", "app", "app-" + name)


def run(*argv, check=True, timeout=30, **kw):
    """A set-up command; its output is shown if it fails."""
    r = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout, **kw)
    if check and r.returncode:
        raise RuntimeError("%s: status %d: %s" % (" ".join(argv), r.returncode, r.stdout.strip()))
    return r.stdout


def wait_for(what, predicate, seconds=10.0):
    """Ask until the answer is true; a deadline, not a delay. Returns the answer."""
    end = time.monotonic() + seconds
    pause = 0.001
    while True:
        got = predicate()
        if got:
            return got
        if time.monotonic() > end:
            raise AssertionError("waited %.1f s in vain for: %s" % (seconds, what))
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


def sha256_file(path):
    h = hashlib.sha256()
    with open(path, "rb") as f:
        while chunk := f.read(1 << 20):
            h.update(chunk)
    return h.hexdigest()


def make_file(path, size, seed=1):
    """A file of pseudo-random octets (no two places alike). Returns its SHA-256."""
    rng = random.Random(seed)
    h = hashlib.sha256()
    with open(path, "wb") as f:
        left = size
        while left:
            chunk = rng.randbytes(min(left, 1 << 20))
            h.update(chunk)
            f.write(chunk)
            left -= len(chunk)
    os.chmod(path, 0o644)
    return h.hexdigest()


class Stalls:
    """How long the machine itself withheld a CPU: a hypervisor takes one for tens of milliseconds, and no program can do anything
    about it. A sleeper on each CPU notes how much too late it wakes; on a quiet machine that is well under a millisecond.

    A test takes the fixture `stalls` and asserts longest < bound + stalls.allowance()."""

    PERIOD = 0.002
    WAKES = 3       # of those that an answer takes (asker, driver, server), each may meet one

    def __enter__(self):
        self.worst, self._over = 0.0, False
        self._threads = [threading.Thread(target=self._sleep, args=(cpu,), daemon=True) for cpu in os.sched_getaffinity(0)]
        for t in self._threads:
            t.start()
        return self

    def __exit__(self, *_exc):
        self._over = True
        for t in self._threads:
            t.join()

    def _sleep(self, cpu):
        os.sched_setaffinity(0, {cpu})      # of this thread
        while not self._over:
            begin = time.monotonic()
            time.sleep(self.PERIOD)
            self.worst = max(self.worst, time.monotonic() - begin - self.PERIOD)

    def allowance(self):
        """Seconds to add to a bound on the time of an answer."""
        return self.WAKES * self.worst


class Proc:
    """A program under the harness; output goes to files in the net's directory."""

    def __init__(self, net, argv, name, env=None, stdin=subprocess.DEVNULL, cwd=None):
        self.net, self.name, self.argv = net, name, argv
        self.out_path = os.path.join(net.dir, "%s.out" % name)
        self.err_path = os.path.join(net.dir, "%s.err" % name)
        e = dict(os.environ)
        e.update(net.env)
        e.update(env or {})
        with open(self.out_path, "wb") as out, open(self.err_path, "wb") as err:
            self.p = subprocess.Popen(argv, stdin=stdin, stdout=out, stderr=err, env=e, cwd=cwd or net.dir,
                                      start_new_session=True)
        self.pid = self.p.pid

    def text(self, which="out"):
        with open(self.out_path if which == "out" else self.err_path, errors="replace") as f:
            return f.read()

    def alive(self):
        return self.p.poll() is None

    def wait(self, seconds=30.0):
        """Exit status; a program that does not end in time fails the test."""
        try:
            return self.p.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError("%s (pid %d) still runs after %.0f s\n%s" %
                                 (self.name, self.pid, seconds, self.tails())) from None

    def done(self, seconds=30.0, status=0):
        """Waits for the end and wants @status. Returns standard output."""
        got = self.wait(seconds)
        assert got == status, "%s: status %d, expected %d\n%s" % (self.name, got, status, self.tails())
        return self.text()

    def tails(self, n=2000):
        return "--- %s stdout\n%s\n--- %s stderr\n%s" % (self.name, self.text()[-n:], self.name, self.text("err")[-n:])

    def kill(self, sig=signal.SIGTERM):
        if self.alive():
            os.kill(self.pid, sig)


class Net:
    """A private side and a peer side, see the head of this file."""

    def __init__(self, mode, mtu=None, cpu=None, io=None, second_host=False, relay=None, rival=False, ip6=False):
        assert mode in ("tap", "packet", "kernel")
        self.mode, self.mtu, self.cpu, self.io = mode, mtu, cpu, Options.io if io is None else io
        self.id = "%s-%d" % (TAG, next(_numbers))
        self.peer_ns = self.id + "-k"
        self.private_ns = self.peer_ns if mode == "tap" and not relay else self.id + "-p"
        self.relay_ns = None if not relay else self.private_ns if mode == "tap" else self.id + "-r"
        self.third_ns = self.id + "-q" if mode == "kernel" and second_host else None
        self.second_host, self.relay, self.ip6 = second_host, None, ip6
        self.rival_ns = self.id + "-x" if rival else None       # a kernel on the private host's side of the relay
        self.peer_dev = "tap0" if mode == "tap" and not relay else "veth1"
        self.dir = tempfile.mkdtemp(prefix=self.id + "-", dir="/tmp")
        os.chmod(self.dir, 0o755)
        self.procs, self.names, self.closed = [], {}, False
        self.env = {"LC_ALL": "C", "OWNSTACK_LOG": os.path.join(self.dir, "helpers.log")}
        if self.io:
            self.env["OWNSTACK_IO"] = self.io
        self._home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._inodes = set()
        try:
            self._make(relay)
        except BaseException:
            self.close(failed=True)
            raise

    # -- devices ------------------------------------------------------------------------------------------------

    def namespaces(self):
        return {self.peer_ns, self.private_ns, self.third_ns, self.relay_ns, self.rival_ns} - {None}

    def _make(self, relay):
        for ns in self.namespaces():
            run("ip", "netns", "add", ns)
            self._inodes.add(os.stat("/run/netns/" + ns).st_ino)
            self.ip(ns, "link", "set", "lo", "up")
            off = "0" if self.ip6 else "1"
            run("nsenter", "--net=/run/netns/" + ns, "--", "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=" + off,
                "net.ipv6.conf.default.disable_ipv6=" + off, check=False)
        if self.second_host:
            self._make_bridge()
        elif relay or self.mode != "tap":
            if relay:
                self._make_relay(relay)
            else:
                self._veth("veth0", self.private_ns, "veth1", self.peer_ns)
            self.ip(self.peer_ns, "addr", "add", "%s/%d" % (PEER, PREFIX), "dev", "veth1")
            if self.mode == "kernel":
                self.ip(self.private_ns, "addr", "add", "%s/%d" % (PRIVATE, PREFIX), "dev", "veth0")
            if self.ip6:
                self.ip(self.peer_ns, "addr", "add", "%s/%d" % (PEER6, PREFIX6), "dev", "veth1", "nodad")
            if self.ip6 and self.mode == "kernel":
                self.ip(self.private_ns, "addr", "add", "%s/%d" % (PRIVATE6, PREFIX6), "dev", "veth0", "nodad")
            self.cubic()

    def _make_relay(self, relay):
        """The two sides meet in the relay, in a namespace whose kernel has no address and so keeps quiet."""
        self._veth("veth1", self.peer_ns, "wire1", self.relay_ns)
        if self.mode == "tap":
            self.ip(self.relay_ns, "tuntap", "add", "dev", "tap0", "mode", "tap", "multi_queue")
            self.ip(self.relay_ns, "link", "set", "tap0", "up")
        else:
            self._veth("veth0", self.private_ns, "wire0", self.relay_ns)
        near = "tap0" if self.mode == "tap" else "wire0"
        if self.rival_ns:
            near = self._make_rival(near)
        self.relay = Proc(self, ["nsenter", "--net=/run/netns/" + self.relay_ns, "--", *relay, "--ready", "1",
                                 "packet:" + near, "packet:wire1"], "relay")
        self.procs.append(self.relay)
        wait_for("the relay", lambda: self.relay.text() or not self.relay.alive())
        assert self.relay.alive(), self.relay.tails()

    def _make_rival(self, port):
        """A bridge joins the private side's @port and another kernel's before the relay. Returns the relay's device."""
        self.ip(self.relay_ns, "link", "add", "br0", "type", "bridge")
        self.ip(self.relay_ns, "link", "set", "br0", "up")
        self._veth("veth0", self.rival_ns, "wire2", self.relay_ns)
        self._veth("near0", self.relay_ns, "wire3", self.relay_ns)
        for p in (port, "wire2", "wire3"):
            self.ip(self.relay_ns, "link", "set", p, "master", "br0")
        self.ip(self.rival_ns, "addr", "add", "%s/%d" % (THIRD, PREFIX), "dev", "veth0")
        self.ip(self.rival_ns, "route", "replace", "10.77.0.0/%d" % PREFIX, "dev", "veth0", "src", THIRD, "congctl", "cubic")
        return "near0"

    def _make_bridge(self):
        """Two hosts on a bridge; the bridge's own address is the kernel's, for probes."""
        self.ip(self.peer_ns, "link", "add", "br0", "type", "bridge")
        self.ip(self.peer_ns, "addr", "add", "%s/%d" % (PEER, PREFIX), "dev", "br0")
        self.ip(self.peer_ns, "link", "set", "br0", "up")
        for i, (ns, addr) in enumerate(((self.private_ns, PRIVATE), (self.third_ns, THIRD))):
            port = "port%d" % i
            if self.mode == "tap":
                self.ip(self.peer_ns, "tuntap", "add", "dev", "tap%d" % i, "mode", "tap", "multi_queue")
                port = "tap%d" % i
            elif self.mode == "kernel":
                self._veth("veth0", ns, port, self.peer_ns)
                self.ip(ns, "addr", "add", "%s/%d" % (addr, PREFIX), "dev", "veth0")
            else:
                self._veth("veth%d" % i, self.private_ns, port, self.peer_ns)
            self.ip(self.peer_ns, "link", "set", port, "master", "br0", "up")

    def _veth(self, a, ns_a, b, ns_b):
        run("ip", "link", "add", a, "netns", ns_a, "type", "veth", "peer", "name", b, "netns", ns_b)
        for dev, ns in ((a, ns_a), (b, ns_b)):
            if self.mtu:
                self.ip(ns, "link", "set", dev, "mtu", str(self.mtu))
            self.ip(ns, "link", "set", dev, "up")

    def ip(self, ns, *args, check=True):
        return run("ip", "-n", ns, *args, check=check)

    def cubic(self):
        """The same congestion control on every kernel side; the system's default may be another."""
        if self.second_host:
            return
        for ns, dev in ((self.peer_ns, self.peer_dev), (self.private_ns, "veth0")):
            if self.mode != "kernel" and dev == "veth0":
                continue
            src = PEER if ns == self.peer_ns else PRIVATE
            self.ip(ns, "route", "replace", "10.77.0.0/%d" % PREFIX, "dev", dev, "src", src, "congctl", "cubic",
                    check=False)

    def sysctl(self, side, **settings):
        ns = self.private_ns if side == "private" else self.peer_ns
        for k, v in settings.items():
            run("nsenter", "--net=/run/netns/" + ns, "--", "sysctl", "-qw", "net.ipv4.%s=%s" % (k, v))

    # -- programs -----------------------------------------------------------------------------------------------

    def argv(self, side, *cmd, options=()):
        """@cmd as it must be started to run on @side ("private", "third", "peer", "rival", or "beside": the kernel's own sockets,
        on whose loopback the private side's programs find their neighbours)."""
        ns = {"private": self.private_ns, "peer": self.peer_ns, "third": self.third_ns or self.private_ns,
              "rival": self.rival_ns, "beside": self.private_ns}[side]
        pre = ["nsenter", "--net=/run/netns/" + ns, "--"]
        if self.cpu is not None:
            pre += ["taskset", "-c", str(self.cpu)]
        if side not in ("peer", "rival", "beside") and self.mode != "kernel":
            if Options.sanitizer:       # the runtime has to be there before the library that wants it
                pre += ["env", "LD_PRELOAD=" + Options.sanitizer,
                        "ASAN_OPTIONS=verify_asan_link_order=0:detect_leaks=0", "UBSAN_OPTIONS=print_stacktrace=1"]
            pre += self.ownstack_run(side, *options)
        return [*pre, *cmd]

    def ownstack_run(self, side="private", *options):
        i = 0 if side == "private" else 1
        addr = "%s/%d" % ((PRIVATE, THIRD)[i], PREFIX)
        argv = [Options.ownstack(), "run", "--host", "host%d" % i, "--addr", addr]
        if self.mode == "packet":
            argv += ["--packet", "veth%d" % i]
        elif self.second_host or self.relay:
            argv += ["--tap", "tap%d" % i]
        else:
            argv += ["--tap", "tap0", "--tap-peer", "%s/%d" % (PEER, PREFIX)]
            if self.ip6:
                argv += ["--tap-peer6", "%s/%d" % (PEER6, PREFIX6)]
        if self.ip6:
            argv += ["--addr", "%s/%d" % (PRIVATE6, PREFIX6)]
        if self.mtu:
            argv += ["--mtu", str(self.mtu)]
        return [*argv, *options, "--"]

    def start(self, side, *cmd, name=None, env=None, options=(), stdin=subprocess.DEVNULL, cwd=None):
        name = name or os.path.basename(cmd[0])
        n = self.names[name] = self.names.get(name, 0) + 1
        p = Proc(self, self.argv(side, *cmd, options=options), "%s-%d" % (name, n), env, stdin, cwd)
        self.procs.append(p)
        return p

    def call(self, side, *cmd, seconds=30.0, status=0, **kw):
        """Runs @cmd to its end, wants @status, returns standard output."""
        return self.start(side, *cmd, **kw).done(seconds, status)

    def ownstack(self, *args, seconds=10, check=True):
        """The tool itself, from the private host's namespace."""
        return run("nsenter", "--net=/run/netns/" + self.private_ns, "--", Options.ownstack(), *args, check=check,
                   timeout=seconds)

    def pids(self):
        """Every process in our namespaces."""
        got = []
        for d in os.listdir("/proc"):
            if d.isdigit() and int(d) != os.getpid():
                with contextlib.suppress(OSError):
                    if os.stat("/proc/%s/ns/net" % d).st_ino in self._inodes:
                        got.append(int(d))
        return got

    def helpers(self):
        """Warden and keeper: processes of the tool that no test started itself and that have no program's image."""
        tool = os.path.realpath(Options.ownstack())
        ours = {p.pid for p in self.procs}
        found = []
        for pid in self.pids():
            with contextlib.suppress(OSError):
                if pid not in ours and os.readlink("/proc/%d/exe" % pid) == tool:
                    found.append(pid)
        return found

    def helpers_kind(self, kind):
        """Those helpers that call themselves @kind, "warden" or "keeper"."""
        found = []
        for pid in self.helpers():
            with contextlib.suppress(OSError):
                names = open("/proc/%d/comm" % pid).read() + open("/proc/%d/cmdline" % pid).read()
                if kind in names:
                    found.append(pid)
        return found

    # -- the peer's sockets, made by this process itself ------------------------------------------------------------

    @contextlib.contextmanager
    def inside(self, side="peer"):
        """This thread in the namespace of @side: sockets made here belong to it, and stay."""
        ns = self.peer_ns if side == "peer" else self.private_ns
        fd = os.open("/run/netns/" + ns, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if _libc.setns(fd, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
            yield
        finally:
            os.close(fd)
            if _libc.setns(self._home, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns back")

    def connect(self, addr, port, timeout=10.0):
        with self.inside():
            s = socket.socket()
        s.settimeout(timeout)
        try:
            s.connect((addr, port))
        except BaseException:
            s.close()
            raise
        return s

    def wait_port(self, addr, port, proc=None, seconds=15.0):
        """Until @addr:@port takes a connection from the peer's side. The peer's own address may come with the private
        host's device only, so the peer's servers are asked on loopback."""
        probe = "127.0.0.1" if addr == PEER else addr

        def try_one():
            if proc and not proc.alive() and proc.p.returncode:
                raise AssertionError("%s ended with %d\n%s" % (proc.name, proc.p.returncode, proc.tails()))
            try:
                self.connect(probe, port, 2.0).close()
                return True
            except OSError:
                return False
        wait_for("%s:%d to listen" % (addr, port), try_one, seconds)
        self.cubic()

    def http(self, addr, path="/", port=80, timeout=10.0, sock=None, close=False):
        """One GET on a keep-alive connection. Returns (body, socket); an ended connection raises ConnectionError."""
        s = sock or self.connect(addr, port, timeout)
        s.settimeout(timeout)
        s.sendall(("GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n" % (path, "Connection: close\r\n" if close else "")).encode())
        return self.http_reply(s), s

    @staticmethod
    def http_reply(s):
        buf = b""
        while b"\r\n\r\n" not in buf:
            got = s.recv(65536)
            if not got:
                raise ConnectionError("EOF in header")
            buf += got
        head, body = buf.split(b"\r\n\r\n", 1)
        length = int(re.search(rb"(?i)content-length: *(\d+)", head).group(1))
        while len(body) < length:
            got = s.recv(65536)
            if not got:
                raise ConnectionError("EOF in body")
            body += got
        return body

    # -- the end ----------------------------------------------------------------------------------------------------

    def complaints(self):
        """What a sanitizer or an assertion of ours wrote to any program's stderr."""
        bad = re.compile(r"ERROR: AddressSanitizer|runtime error:|[Aa]ssertion .*failed|ownstack: bug|Segmentation fault")
        if self.closed:
            return []
        return ["%s: %s" % (p.name, line) for p in self.procs for line in p.text("err").splitlines() if bad.search(line)]

    def diagnose(self):
        if self.closed:
            return "%s: closed before" % self.id
        lines = ["mode %s, directory %s" % (self.mode, self.dir)]
        for p in self.procs[-6:]:
            state = "runs" if p.alive() else "status %s" % p.p.returncode
            lines += ["%s (pid %d, %s): %s" % (p.name, p.pid, state, " ".join(p.argv)), p.tails(1200)]
        with contextlib.suppress(OSError):
            lines += ["--- warden and keeper", open(self.env["OWNSTACK_LOG"], errors="replace").read()[-2000:]]
        if self.mode != "kernel" and os.path.exists(Options.ownstack()):
            for what in (("ps",), ("ss", "-a"), ("stats",)):
                with contextlib.suppress(Exception):
                    lines += ["--- ownstack " + " ".join(what), self.ownstack(*what, "--host", "host0", check=False)[-3000:]]
        return "\n".join(lines)

    def close(self, failed=False):
        if self.closed:
            return
        self.closed = True
        for p in self.procs:
            p.kill(signal.SIGKILL)
            with contextlib.suppress(Exception):
                p.p.wait(5)
        for _ in range(50):                     # what they left behind, helpers included: only our namespaces' members
            left = self.pids()
            if not left:
                break
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        for ns in self.namespaces():
            run("ip", "netns", "del", ns, check=False)
        os.close(self._home)
        if not (failed and os.environ.get("OWNSTACK_KEEP")):
            shutil.rmtree(self.dir, ignore_errors=True)


# -- servers --------------------------------------------------------------------------------------------------------

NGINX_CONF = """
daemon {daemon};
master_process on;
worker_processes {workers};
worker_rlimit_nofile 16384;
user nobody nogroup;
pid {dir}/nginx.pid;
error_log {dir}/error.log info;
{main}
events {{ worker_connections 8000; {events} }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 100000000;
    keepalive_timeout 75s;
    client_body_temp_path {dir}/tmp; proxy_temp_path {dir}/tmp; fastcgi_temp_path {dir}/tmp;
    uwsgi_temp_path {dir}/tmp; scgi_temp_path {dir}/tmp;
    default_type text/plain;
    {http}
    server {{
        listen {listen};
        {server}
        root {root};
        location = / {{ return 200 "{body}"; }}
        location = /pid {{ return 200 "$pid\\n"; }}
        location = /status {{ stub_status; }}
        location / {{ }}
    }}
}}
"""


class Nginx:
    """The packaged nginx, in a directory of its own."""

    def __init__(self, net, side="private", root=None, daemon=False, workers=2, port=80, main="", events="", options=(),
                 listen=None, http="", server=""):
        self.net, self.daemon = net, daemon
        self.addr = {"private": PRIVATE, "third": THIRD, "peer": PEER}[side]
        self.dir = tempfile.mkdtemp(prefix="nginx-", dir=net.dir)
        self.root = root or self.dir
        os.chmod(self.dir, 0o755)
        os.mkdir(self.dir + "/tmp", 0o777)
        conf = NGINX_CONF.format(daemon="on" if daemon else "off", workers=workers, dir=self.dir, root=self.root,
                                 listen=listen or "%d backlog=4096" % port, main=main, events=events, http=http, server=server,
                                 body="x" * 99 + "\\n")
        with open(self.dir + "/nginx.conf", "w") as f:
            f.write(conf)
        self.cmd = ["/usr/sbin/nginx", "-p", self.dir, "-e", self.dir + "/error.log", "-c", self.dir + "/nginx.conf"]
        self.side, self.options = side, options
        self.proc = net.start(side, *self.cmd, name="nginx", options=options)
        net.wait_port(self.addr, port, self.proc)
        self.pid = wait_for("nginx.pid", self._read_pid)
        self.url = "http://%s:%d/" % (self.addr, port)

    def _read_pid(self):
        with contextlib.suppress(OSError, ValueError):
            return int(open(self.dir + "/nginx.pid").read())
        return None

    def workers(self):
        """Worker processes: the master's children that are not on their way out."""
        found = []
        for pid in children(self.pid):
            with contextlib.suppress(OSError):
                title = open("/proc/%d/cmdline" % pid, "rb").read()
                if b"worker process" in title and b"shutting down" not in title:
                    found.append(pid)
        return sorted(found)

    def signal(self, what):
        """`nginx -s reload|quit|stop`, as a user would give it."""
        self.net.call(self.side, *self.cmd, "-s", what, name="nginx-s", options=self.options)

    def errors(self):
        """Lines of error, crit, alert or emerg in its log."""
        with open(self.dir + "/error.log", errors="replace") as f:
            return [ln.strip() for ln in f if re.search(r"\[(error|crit|alert|emerg)\]", ln)]


def children(pid):
    try:
        return [int(c) for t in os.listdir("/proc/%d/task" % pid)
                for c in open("/proc/%d/task/%s/children" % (pid, t)).read().split()]
    except OSError:
        return []


def is_alive(pid):
    try:
        return open("/proc/%d/stat" % pid).read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


# -- load generators ------------------------------------------------------------------------------------------------

def parse_wrk(text):
    """requests, requests per second, errors (socket errors and answers that are not 2xx), p50 and p99 in us."""
    def us(label):
        m = re.search(r"^\s+%s\s+([\d.]+)(us|ms|s)$" % label, text, re.M)
        return float(m.group(1)) * {"us": 1, "ms": 1e3, "s": 1e6}[m.group(2)] if m else None
    err = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    return {"requests": int(re.search(r"(\d+) requests in", text).group(1)),
            "rate": float(re.search(r"Requests/sec:\s+([\d.]+)", text).group(1)),
            "errors": sum(map(int, err.groups())) if err else 0, "error_line": err.group(0) if err else "",
            "bad_answers": int(bad.group(1)) if bad else 0, "p50_us": us("50%"), "p99_us": us("99%")}


def wrk_argv(url, conns, seconds, *more):
    return ["wrk", "-t1", "-c%d" % conns, "-d%ds" % seconds, "--timeout", "10s", "--latency", *more, url]


def parse_ab(text):
    return {"complete": int(re.search(r"Complete requests:\s+(\d+)", text).group(1)),
            "failed": int(re.search(r"Failed requests:\s+(\d+)", text).group(1)),
            "rate": float(re.search(r"Requests per second:\s+([\d.]+)", text).group(1)),
            "write_errors": sum(map(int, re.findall(r"Write errors:\s+(\d+)", text))),
            "bad_answers": sum(map(int, re.findall(r"Non-2xx responses:\s+(\d+)", text)))}


def count_syscalls(net, ng, pids, seconds):
    """(calls entered by @pids, requests answered meanwhile), by the raw_syscalls tracepoint; None where it is not to be had.

    nginx's own counter is read inside the counted time, so that the ratio errs to the high side."""
    if not os.path.isdir("/sys/kernel/tracing/events"):
        subprocess.run(["mount", "-t", "tracefs", "nodev", "/sys/kernel/tracing"], check=False)
    ask = "curl -s --max-time 5 %sstatus" % ng.url
    r = subprocess.run(["perf", "stat", "-x", ",", "-e", "raw_syscalls:sys_enter", "-p", ",".join(map(str, pids)), "--",
                        *net.argv("peer", "sh", "-c", "%s; sleep %d; %s" % (ask, seconds, ask))],
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    calls = [int(ln.split(",")[0]) for ln in r.stderr.splitlines() if "raw_syscalls" in ln and ln.split(",")[0].isdigit()]
    seen = [int(n) for n in re.findall(r"requests\s+\d+ \d+ (\d+)", r.stdout)]
    return (calls[0], seen[1] - seen[0]) if calls and len(seen) == 2 else None


def figures(text, word):
    """`word 1 name 2 other 3` lines of our own programs as a dictionary."""
    line = next(ln for ln in text.splitlines() if ln.startswith(word))
    return {k: int(v) for k, v in re.findall(r"(\w+) (\d+)", line)}


def to_json(path, data):
    with open(path, "w") as f:
        json.dump(data, f, indent=1, sort_keys=True)
        f.write("\n")
