# SPDX-License-Identifier: BSD-2-Clause
"""Servers of every make on a private host, asked by programs on the kernel's side; each also on the kernel itself."""

import contextlib
import getpass
import hashlib
import os
import random
import shutil
import signal
import subprocess

import pytest

from harness import PEER, PRIVATE, Nginx, Options, children, run, sha256_file, wait_for
from programs import AS_POSTGRES, ab, certificate, fetch, home, needs, pg_bin, pg_data

pytestmark = [pytest.mark.more, pytest.mark.modes("tap", "packet", "kernel")]

ADDR = {"private": PRIVATE, "peer": PEER}
OTHER = {"private": "peer", "peer": "private"}

BOTH_WAYS = pytest.mark.parametrize("server", ["private", "peer"])     # where it is; its client is on the other side


# ---- HTTP servers ----

APACHE = """
ServerRoot @DIR@
ServerName x
PidFile @DIR@/pid
ErrorLog @DIR@/error.log
Mutex file:@DIR@
LoadModule mpm_%(mpm)s_module /usr/lib/apache2/modules/mod_mpm_%(mpm)s.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
Listen 80
User www-data
Group www-data
DocumentRoot %(root)s
StartServers %(start)d
%(threads)s
MaxRequestWorkers %(workers)d
<Directory />
Require all granted
</Directory>
"""


@pytest.mark.parametrize("mpm", ["prefork", "worker", "event"])
def test_apache(net, files, mpm):
    needs("apache2", "ab", "curl")
    many = mpm == "prefork"     # else more threads in a process than connections: the event MPM closes idle ones when all are busy
    d = home(net, conf=APACHE % {"mpm": mpm, "root": files.dir, "start": 32 if many else 2, "workers": 32 if many else 100,
                                 "threads": "" if many else "ThreadsPerChild 50"})
    path, _, digest = files["4m"]
    files["1k"]
    p = net.start("private", "/usr/sbin/apache2", "-f", d + "/conf", "-DFOREGROUND")
    net.wait_port(PRIVATE, 80, p)
    url = "http://%s/" % PRIVATE
    ab(net, url + "1k")
    ab(net, url + "1k", keep=False)
    fetch(net, url + os.path.basename(path), digest)
    os.kill(p.pid, signal.SIGUSR1)          # graceful restart
    ab(net, url + "1k", 500, 8, keep=False)
    os.kill(p.pid, signal.SIGTERM)
    p.done(20)


LIGHTTPD = """
server.document-root = "%s"
server.port = 80
server.errorlog = "@DIR@/error.log"
server.max-worker = %d
"""


@pytest.mark.parametrize("workers", [0, 2])
def test_lighttpd(net, files, workers):
    needs("lighttpd", "ab", "curl")
    path, _, digest = files["4m"]
    files["1k"]
    d = home(net, conf=LIGHTTPD % (files.dir, workers))
    p = net.start("private", "/usr/sbin/lighttpd", "-D", "-f", d + "/conf")
    net.wait_port(PRIVATE, 80, p)
    ab(net, "http://%s/1k" % PRIVATE)
    ab(net, "http://%s/1k" % PRIVATE, keep=False)
    fetch(net, "http://%s/%s" % (PRIVATE, os.path.basename(path)), digest)
    p.kill()
    p.wait(20)


HAPROXY = """
global
    nbthread 2
    stats socket @DIR@/sock mode 600 level admin expose-fd listeners
defaults
    mode http
    timeout connect 5s
    timeout client 20s
    timeout server 20s
frontend f
    bind :80
    default_backend b
backend b
    server s %s:8080
"""


@pytest.mark.parametrize("how", ["single", "master-worker"])
def test_haproxy(net, files, how):
    """In front of a server on the peer's kernel; the master-worker one is reloaded under load."""
    needs("haproxy", "ab", "curl")
    path, _, digest = files["4m"]
    files["1k"]
    d = home(net, conf=HAPROXY % PEER)
    p = net.start("private", "/usr/sbin/haproxy", "-f", d + "/conf", *(["-W"] if how == "master-worker" else ["-db"]))
    net.wait_port(PRIVATE, 80, p)
    net.start("peer", "/usr/bin/python3", "-m", "http.server", "8080", "-d", files.dir, "-b", PEER, name="backend")
    url = "http://%s/" % PRIVATE
    wait_for("the backend", lambda: subprocess.run(net.argv("peer", "curl", "-sf", "-o", "/dev/null", url + "1k")).returncode == 0)
    ab(net, url + "1k", 500, 8)
    fetch(net, url + os.path.basename(path), digest)
    if how == "master-worker":
        before = children(p.pid)
        os.kill(p.pid, signal.SIGUSR2)
        wait_for("a new worker", lambda: set(children(p.pid)) - set(before), 15)
        ab(net, url + "1k", 500, 8, keep=False)
    p.kill()
    p.wait(20)


GUNICORN_APP = """
def app(env, start):
    body = env["wsgi.input"].read() or b"hello\\n"
    start("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


def test_gunicorn(net):
    needs("gunicorn", "ab", "curl")
    d = home(net, app__py=GUNICORN_APP)
    p = net.start("private", "/usr/bin/python3", "/usr/bin/gunicorn", "-w", "3", "-b", "0.0.0.0:80", "app:app", cwd=d, name="gunicorn")
    net.wait_port(PRIVATE, 80, p)
    ab(net, "http://%s/" % PRIVATE, 500, 8, keep=False)
    with open(d + "/up", "wb") as f:
        f.write(os.urandom(1 << 20))
    net.call("peer", "curl", "-sf", "--data-binary", "@" + d + "/up", "-o", d + "/down", "http://%s/" % PRIVATE)
    assert sha256_file(d + "/up") == sha256_file(d + "/down")
    before = children(p.pid)
    os.kill(p.pid, signal.SIGHUP)           # new workers
    wait_for("new workers", lambda: not set(children(p.pid)) & set(before), 15)
    ab(net, "http://%s/" % PRIVATE, 200, 8, keep=False)
    p.kill()
    p.done(20)


NODE = {
    "http": "require('http').createServer((q, s) => q.pipe(s)).listen(80)",
    "cluster": "const c = require('cluster'); if (c.isPrimary) { c.fork(); c.fork(); } else "
               "require('http').createServer((q, s) => q.pipe(s)).listen(80)",
    "cluster-shared": "const c = require('cluster'); c.schedulingPolicy = c.SCHED_NONE; if (c.isPrimary) { c.fork(); c.fork(); } else "
                      "require('http').createServer((q, s) => q.pipe(s)).listen(80)",
}


@pytest.mark.parametrize("how", list(NODE))
def test_node(net, how):
    needs("node", "ab", "curl")
    p = net.start("private", shutil.which("node"), home(net, server__js=NODE[how]) + "/server.js", name="node")
    net.wait_port(PRIVATE, 80, p)
    ab(net, "http://%s/" % PRIVATE, 1000, 16, keep=False)
    d = home(net)
    with open(d + "/up", "wb") as f:
        f.write(os.urandom(3 << 20))
    net.call("peer", "curl", "-sf", "--data-binary", "@" + d + "/up", "-o", d + "/down", "http://%s/" % PRIVATE)
    assert sha256_file(d + "/up") == sha256_file(d + "/down")
    p.kill()
    p.wait(20)


PYTHON = {
    "asyncio": """
import asyncio
async def serve(r, w):
    while data := await r.read(65536):
        w.write(data)
        await w.drain()
    w.close()
async def main():
    async with await asyncio.start_server(serve, '0.0.0.0', 7000) as s:
        await s.serve_forever()
asyncio.run(main())
""",
    "threading": """
import socketserver
class H(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data)
class S(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
S(('0.0.0.0', 7000), H).serve_forever()
""",
    "forking": """
import socketserver
class H(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data)
class S(socketserver.ForkingTCPServer):
    allow_reuse_address = True
S(('0.0.0.0', 7000), H).serve_forever()
""",
    "multiprocessing": """
import multiprocessing, socket
def work(l):
    while True:
        s, a = l.accept()
        while data := s.recv(65536):
            s.sendall(data)
        s.close()
l = socket.create_server(('0.0.0.0', 7000), backlog=64)
ps = [multiprocessing.Process(target=work, args=(l,)) for i in range(4)]
[p.start() for p in ps]
[p.join() for p in ps]
""",
    "spawned": """
import multiprocessing, socket, sys
def work(l):
    while True:
        s, a = l.accept()
        while data := s.recv(65536):
            s.sendall(data)
        s.close()
if __name__ == '__main__':
    multiprocessing.set_start_method('spawn')
    l = socket.create_server(('0.0.0.0', 7000), backlog=64)
    ps = [multiprocessing.Process(target=work, args=(l,)) for i in range(2)]
    [p.start() for p in ps]
    [p.join() for p in ps]
""",
}


@pytest.mark.parametrize("how", list(PYTHON))
def test_python(net, how):
    d = home(net, server__py=PYTHON[how])
    p = net.start("private", "/usr/bin/python3", d + "/server.py", name="server")
    net.wait_port(PRIVATE, 7000, p)
    socks = [net.connect(PRIVATE, 7000) for _ in range(1 if how == "spawned" else 4)]
    for i in range(20):
        for s in socks:
            s.sendall(b"%d" % i * 1000)
        for s in socks:
            got = b""
            while len(got) < len(b"%d" % i * 1000):
                got += s.recv(65536)
            assert got == b"%d" % i * 1000
    for s in socks:
        s.close()
    for pid in [*children(p.pid), p.pid]:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    p.wait()


# ---- memcached, PostgreSQL ----

@pytest.mark.parametrize("threads", [1, 4])
def test_memcached(net, threads):
    needs("memcached")
    p = net.start("private", "memcached", "-u", getpass.getuser(), "-t", str(threads), "-l", "0.0.0.0", "-p", "11211")
    net.wait_port(PRIVATE, 11211, p)
    socks = [net.connect(PRIVATE, 11211) for _ in range(16)]
    for n in (10, 100000):
        for i, s in enumerate(socks):
            s.sendall(b"set k%d 0 0 %d\r\n%s\r\n" % (i, n, b"%x" % i * n))
        assert all(s.recv(100) == b"STORED\r\n" for s in socks)
        for i, s in enumerate(socks):
            s.sendall(b"get k%d\r\n" % i)
        for i, s in enumerate(socks):
            want = b"VALUE k%d 0 %d\r\n%s\r\nEND\r\n" % (i, n, b"%x" % i * n)
            got = b""
            while len(got) < len(want):
                got += s.recv(1 << 20)
            assert got == want
    p.kill()
    p.wait(20)


def test_postgresql(net):
    """pgbench, a backend killed (all others are ended, the server recovers), pgbench again."""
    postgres, pgbench, psql = pg_bin("postgres"), pg_bin("pgbench"), pg_bin("psql")
    d = pg_data(net)
    p = net.start("private", *AS_POSTGRES, postgres, "-D", d + "/data", "-c", "listen_addresses=0.0.0.0", "-k", d, "-F", name="postgres")
    net.wait_port(PRIVATE, 5432, p, 30)
    at = ["-h", PRIVATE, "-U", "postgres"]
    ready = lambda: subprocess.run(net.argv("peer", psql, *at, "-Atc", "select 1"), capture_output=True).stdout == b"1\n"  # noqa: E731
    wait_for("the database", ready, 30)
    net.call("peer", pgbench, *at, "-i", "-q", "postgres", seconds=60)
    out = net.call("peer", pgbench, *at, "-c", "16", "-j", "2", "-T", "5", "postgres", seconds=60)
    assert "number of failed transactions: 0" in out, out
    victim = net.call("peer", psql, *at, "-Atc", "select pg_backend_pid() from pg_sleep(0)").strip()
    s = net.start("peer", psql, *at, "-Atc", "select pg_backend_pid(); select pg_sleep(30)", name="victim")
    victim = wait_for("its pid", lambda: subprocess.run(net.argv(
        "peer", psql, *at, "-Atc", "select pid from pg_stat_activity where query like '%pg_sleep(30)' and pid <> pg_backend_pid()"),
        capture_output=True, text=True).stdout.strip())
    os.kill(int(victim), signal.SIGKILL)
    assert s.wait(15) == 2, s.tails()           # psql: connection lost
    wait_for("recovery", ready, 30)
    out = net.call("peer", pgbench, *at, "-S", "-c", "8", "-T", "2", "postgres", seconds=60)
    assert "number of failed transactions: 0" in out, out
    os.kill(p.pid, signal.SIGINT)               # fast shutdown
    p.done(30)


# ---- ssh, ftp ----

SSHD = """
Port 2222
HostKey @DIR@/host
AuthorizedKeysFile @DIR@/user.pub
PidFile @DIR@/pid
StrictModes no
UsePAM no
PermitRootLogin yes
Subsystem sftp internal-sftp
"""


@BOTH_WAYS
def test_ssh(net, files, server):
    """Logins by key one beside the other, a file each way by scp and by sftp, forwarded ports of each kind."""
    needs("sshd", "ssh", "scp", "sftp", "curl")
    addr, client = ADDR[server], OTHER[server]
    os.makedirs("/run/sshd", exist_ok=True)
    d = home(net, conf=SSHD)
    os.chmod(d, 0o700)
    for k in ("host", "user"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", d + "/" + k)
    path, _, digest = files["100m" if Options.full else "4m"]
    p = net.start(server, "/usr/sbin/sshd", "-D", "-e", "-f", d + "/conf", name="sshd")
    net.wait_port(addr, 2222, p)
    opts = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes", "-i", d + "/user"]
    out = net.call(client, "ssh", *opts, "-p", "2222", "root@" + addr, "echo from the shell; exit 3", status=3)
    assert out == "from the shell\n"
    many = [net.start(client, "ssh", *opts, "-p", "2222", "root@" + addr, "echo %d" % i, name="ssh") for i in range(8)]
    assert [q.done(30) for q in many] == ["%d\n" % i for i in range(8)]
    net.call(client, "scp", *opts, "-P", "2222", path, "root@%s:%s/up" % (addr, d), seconds=60)
    assert sha256_file(d + "/up") == digest
    net.call(client, "scp", *opts, "-P", "2222", "root@%s:%s/up" % (addr, d), d + "/down", seconds=60)
    assert sha256_file(d + "/down") == digest
    with open(d + "/batch", "w") as f:
        f.write("put %s %s/up2\nget %s/up2 %s/down2\n" % (path, d, d, d))
    net.call(client, "sftp", *opts, "-P", "2222", "-b", d + "/batch", "root@" + addr, seconds=60)
    assert sha256_file(d + "/down2") == digest
    # the file server is beside the ssh server; the tunnel's mouth is on the client's loopback, or it is a SOCKS proxy
    net.start(server, "/usr/bin/python3", "-m", "http.server", "8080", "-d", files.dir, "-b", "0.0.0.0", name="behind")
    net.wait_port(addr, 8080)
    net.start(client, "ssh", *opts, "-N", "-p", "2222", "-L", "127.0.0.1:9000:%s:8080" % addr, "-D", "127.0.0.1:9001", "root@" + addr,
              name="forward")
    for way in (["http://127.0.0.1:9000/"], ["--socks5", "127.0.0.1:9001", "http://%s:8080/" % addr]):
        way[-1] += os.path.basename(path)
        wait_for("the forwarded port", lambda w=way: subprocess.run(net.argv(
            "beside" if client == "private" else "peer", "curl", "-sf", "-o", d + "/fwd", *w)).returncode == 0, 15)
        assert sha256_file(d + "/fwd") == digest
    if server == "private":
        net.start("peer", "ssh", *opts, "-N", "-p", "2222", "-R", "127.0.0.1:9002:127.0.0.1:8081", "root@" + addr, name="back")
        net.start("peer", "/usr/bin/python3", "-m", "http.server", "8081", "-d", files.dir, "-b", "127.0.0.1", name="behind")
        wait_for("the port forwarded back", lambda: subprocess.run(["nsenter", "--net=/run/netns/" + net.private_ns, "curl", "-sf",
                 "-o", d + "/back", "http://127.0.0.1:9002/" + os.path.basename(path)]).returncode == 0, 15)
        assert sha256_file(d + "/back") == digest
    p.kill()
    p.wait(20)


VSFTPD = """
listen=YES
background=NO
anonymous_enable=YES
no_anon_password=YES
anon_root=%s
port_enable=YES
seccomp_sandbox=NO
isolate_network=%s
secure_chroot_dir=@DIR@/empty
xferlog_enable=NO
"""


# Its own seccomp filter kills it on today's kernels, with the kernel's sockets too: tests/parity/locked_in.c has filters.
@BOTH_WAYS
@pytest.mark.parametrize("isolate", ["NO", "YES"])
def test_ftp(net, files, server, isolate):
    """Passive and active, a file and a directory; isolated, the child that owns the connection is in another namespace."""
    needs("vsftpd", "curl")
    path, _, digest = files["4m"]
    d = home(net, conf=VSFTPD % (files.dir, isolate))
    os.mkdir(d + "/empty", 0o755)
    p = net.start(server, "/usr/sbin/vsftpd", d + "/conf")
    addr, client = ADDR[server], OTHER[server]
    net.wait_port(addr, 21, p)
    url = "ftp://%s/" % addr
    for how in ((), ("--disable-epsv",), ("-P", ADDR[client]), ("-P", ADDR[client], "--disable-eprt")):
        fetch(net, url + os.path.basename(path), digest, *how, side=client)
        assert os.path.basename(path) in net.call(client, "curl", "-sf", *how, url)
    p.kill()
    p.wait(20)


# ---- rsync, git, tools ----

RSYNCD = """
port = 8730
use chroot = no
munge symlinks = no
uid = 0
gid = 0
pid file = @DIR@/pid
[d]
path = @DIR@/tree
read only = no
"""


def tree(at, seed):
    """Directories, small files, a large one, a link."""
    rng = random.Random(seed)
    for i in range(200):
        sub = "%s/%d" % (at, i % 13)
        os.makedirs(sub, exist_ok=True)
        with open("%s/%d" % (sub, i), "wb") as f:
            f.write(rng.randbytes(rng.randrange(20000)))
    with open(at + "/large", "wb") as f:
        f.write(rng.randbytes(8 << 20))
    os.symlink("large", at + "/link")


def same_trees(a, b):
    run("diff", "-r", "--no-dereference", a, b)


@BOTH_WAYS
def test_rsync(net, server):
    """To the daemon, from it, and again after a change in the middle (the protocol talks both ways at once)."""
    needs("rsync")
    d = home(net, conf=RSYNCD)
    for name in ("tree", "mine", "back"):
        os.mkdir(d + "/" + name)
    tree(d + "/mine", 1)
    p = net.start(server, "rsync", "--daemon", "--no-detach", "--config=" + d + "/conf")
    addr, client = ADDR[server], OTHER[server]
    net.wait_port(addr, 8730, p)
    url = "rsync://%s:8730/d/" % addr
    for z in ((), ("-z",)):
        net.call(client, "rsync", "-aI", *z, "--delete", d + "/mine/", url, seconds=60)
        same_trees(d + "/mine", d + "/tree")
        net.call(client, "rsync", "-aI", *z, "--delete", url, d + "/back/", seconds=60)
        same_trees(d + "/mine", d + "/back")
        with open(d + "/mine/large", "r+b") as f:
            f.seek(3 << 20)
            f.write(b"changed" * 1000)
        shutil.rmtree(d + "/mine/%d" % (5 + len(z)))
    p.kill()
    p.wait(20)


@BOTH_WAYS
def test_git(net, server):
    """clone, push, fetch over git://; the daemon starts a program for each connection."""
    needs("git", "git-daemon")
    d = home(net)
    conf = ["-c", "user.name=x", "-c", "user.email=x@x", "-c", "safe.directory=*"]
    env = {"HOME": d, "GIT_CONFIG_NOSYSTEM": "1"}

    def git(side, *args, cwd=d):
        return net.call(side, "git", *conf, *args, cwd=cwd, env=env, seconds=60)
    with open(d + "/.gitconfig", "w") as f:
        f.write("[safe]\n\tdirectory = *\n")
    git("peer", "init", "-q", "--bare", d + "/repo.git")
    p = net.start(server, "git", "daemon", "--export-all", "--enable=receive-pack", "--reuseaddr", "--base-path=" + d, d, env=env)
    addr, client = ADDR[server], OTHER[server]
    net.wait_port(addr, 9418, p)
    url = "git://%s/repo.git" % addr
    git(client, "clone", "-q", url, "one")
    tree(d + "/one", 2)
    git("peer", "add", ".", cwd=d + "/one")
    git("peer", "commit", "-qm", "all", cwd=d + "/one")
    git(client, "push", "-q", "origin", "HEAD", cwd=d + "/one")
    git(client, "clone", "-q", url, "two")
    run("diff", "-r", "-x", ".git", d + "/one", d + "/two")
    with open(d + "/two/more", "w") as f:
        f.write("more")
    git("peer", "add", ".", cwd=d + "/two")
    git("peer", "commit", "-qm", "more", cwd=d + "/two")
    git(client, "push", "-q", cwd=d + "/two")
    git(client, "pull", "-q", cwd=d + "/one")
    run("diff", "-r", "-x", ".git", d + "/one", d + "/two")
    for pid in [*children(p.pid), p.pid]:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGTERM)
    p.wait(20)


@BOTH_WAYS
@pytest.mark.parametrize("towards", ["server", "client"])
def test_netcat(net, files, server, towards):
    """A file either way; the end of one's input (-N) ends the other."""
    needs("nc")
    path, _, digest = files["4m"]
    addr, client = ADDR[server], OTHER[server]
    listening = net.start(server, "nc", "-l", "-N", "-p", "7000", name="listening",
                          stdin=open(path, "rb") if towards == "client" else subprocess.DEVNULL)

    def once():
        """It serves one connection, so asking whether it listens is to be served."""
        sends = {"stdin": open(path, "rb")} if towards == "server" else {}
        c = net.start(client, "nc", "-N" if sends else "-d", addr, "7000", name="connecting", **sends)
        return c.wait(30) == 0 and c
    c = wait_for("netcat's connection", once, 20)
    listening.done(20)
    assert sha256_file((listening if towards == "server" else c).out_path) == digest


@BOTH_WAYS
def test_netcat_kept(net, server):
    """-k: one connection after another."""
    needs("nc")
    addr, client = ADDR[server], OTHER[server]
    p = net.start(server, "nc", "-lk", "-p", "7000", name="listening")
    net.wait_port(addr, 7000, p)
    for i in range(5):
        with open(net.dir + "/in", "w") as f:
            f.write("line %d\n" % i)
        net.call(client, "nc", "-N", addr, "7000", name="connecting", stdin=open(net.dir + "/in", "rb"))
    wait_for("five lines", lambda: p.text() == "".join("line %d\n" % i for i in range(5)))


@BOTH_WAYS
def test_telnet(net, server):
    """The client sets itself options (urgent data in line, SO_KEEPALIVE) and speaks to a shell behind socat."""
    needs("telnet", "socat")
    addr, client = ADDR[server], OTHER[server]
    p = net.start(server, "socat", "TCP-LISTEN:2323,fork,reuseaddr", "EXEC:sh")
    net.wait_port(addr, 2323, p)
    r, w = os.pipe()
    t = net.start(client, "telnet", addr, "2323", stdin=r)
    os.close(r)
    wait_for("the connection", lambda: "Connected" in t.text() or not t.alive())
    for i in range(5):
        os.write(w, b"echo answer $((%d * %d))\n" % (i, i + 1))
        wait_for("the shell's answer", lambda i=i: "answer %d\n" % (i * (i + 1)) in t.text().replace("\r", ""))
    os.write(w, b"exit 0 #\n")              # telnet ends lines with CR
    t.wait(20)
    assert "Connection closed by foreign host" in t.text() + t.text("err")
    os.close(w)


@BOTH_WAYS
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl(net, files, server, version):
    """s_server and s_client: files by its small HTTP server, and a stream each way at once."""
    path, _, digest = files["4m"]
    d = home(net)
    key, cert, _ = certificate(d)
    addr, client = ADDR[server], OTHER[server]
    p = net.start(server, "openssl", "s_server", "-quiet", "-key", key, "-cert", cert, "-accept", "4433", "-WWW", version, cwd=files.dir, name="www")
    net.wait_port(addr, 4433, p)
    fetch(net, "https://%s:4433/%s" % (addr, os.path.basename(path)), digest, "-k", "--http0.9", side=client)
    with open(d + "/ask", "w") as f:
        f.write("GET /%s HTTP/1.0\r\n\r\n" % os.path.basename(path))
    for _ in range(3):
        c = net.start(client, "openssl", "s_client", "-quiet", "-no_ign_eof", "-ign_eof", "-connect", addr + ":4433", version, name="s_client",
                      stdin=open(d + "/ask", "rb"))
        c.done(20)
        with open(c.out_path, "rb") as f:
            head, body = f.read().split(b"\r\n\r\n", 1)
        assert b"200 ok" in head and hashlib.sha256(body).hexdigest() == digest
    p.kill()
    p.wait(20)


# ---- proxies ----

TINYPROXY = """
Port 8888
User nobody
Group nogroup
Timeout 60
LogFile "@DIR@/log"
LogLevel Warning
MaxClients 100
Allow 10.77.0.0/24
Allow 127.0.0.1
"""


@pytest.mark.parametrize("origin", ["peer", "private"])
def test_tinyproxy(net, files, origin):
    """To a server on the wire and to one on its own host; CONNECT for TLS."""
    needs("tinyproxy", "nginx", "curl")
    path, _, digest = files["4m"]
    files["1k"]
    d = home(net, conf=TINYPROXY)
    os.chmod(d, 0o777)
    p = net.start("private", "tinyproxy", "-d", "-c", d + "/conf")
    net.wait_port(PRIVATE, 8888, p)
    key, cert, _ = certificate(d)
    ng = Nginx(net, side=origin, root=files.dir, port=8080,
               http="server { listen 8443 ssl; ssl_certificate %s; ssl_certificate_key %s; root %s; }" % (cert, key, files.dir))
    proxy = ("-x", "http://%s:8888" % PRIVATE)
    fetch(net, ng.url + os.path.basename(path), digest, *proxy)
    fetch(net, "https://%s:8443/%s" % (ADDR[origin], os.path.basename(path)), digest, "-k", *proxy)
    out = net.call("peer", "ab", "-q", "-n", "1000", "-c", "16", "-X", PRIVATE + ":8888", ng.url + "1k", seconds=60)
    assert "Failed requests:        0" in out and "Complete requests:      1000" in out and "Non-2xx" not in out, out
    p.kill()
    p.wait(20)


STUNNEL = """
foreground = yes
pid = @DIR@/pid%(n)d
socket = l:TCP_NODELAY=1
[x]
client = %(client)s
accept = %(accept)s
connect = %(connect)s
cert = @DIR@/both.pem
"""


@pytest.mark.parametrize("at", ["wire", "kernel-loopback"])
def test_stunnel(net, files, at):
    """A private stunnel takes TLS off before a server on the wire or on the kernel's loopback; another puts it on."""
    needs("stunnel4", "nginx", "curl", "ab")
    path, _, digest = files["4m"]
    files["1k"]
    origin = PEER + ":8080" if at == "wire" else "127.0.0.1:8080"
    d = home(net)
    certificate(d)
    for n, client, accept, connect in ((1, "no", "8443", origin), (2, "yes", "8081", PRIVATE + ":8443")):
        with open("%s/conf%d" % (d, n), "w") as f:
            f.write((STUNNEL % {"n": n, "client": client, "accept": accept, "connect": connect}).replace("@DIR@", d))
    back = net.start("peer" if at == "wire" else "beside", "/usr/bin/python3", "-m", "http.server", "8080", "-d", files.dir, "-b", "0.0.0.0",
                     name="origin")
    off = net.start("private", "stunnel4", d + "/conf1")
    on = net.start("private", "stunnel4", d + "/conf2")
    net.wait_port(PRIVATE, 8443, off)
    net.wait_port(PRIVATE, 8081, on)
    wait_for("the origin", lambda: subprocess.run(net.argv("peer", "curl", "-sfk", "-o", "/dev/null", "https://%s:8443/1k" % PRIVATE)).returncode == 0)
    for url in ("https://%s:8443/" % PRIVATE, "http://%s:8081/" % PRIVATE):
        fetch(net, url + os.path.basename(path), digest, "-k")
        ab(net, url + "1k", 300, 8, keep=False)
    assert off.alive() and on.alive() and back.alive()
