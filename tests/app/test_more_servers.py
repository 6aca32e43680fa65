# SPDX-License-Identifier: BSD-2-Clause
"""Servers of every make on a private host, asked by programs on the kernel's side; each also on the kernel itself."""

import contextlib
import getpass
import os
import shutil
import signal
import subprocess
import tempfile

import pytest

from harness import PEER, PRIVATE, children, run, sha256_file, wait_for

pytestmark = [pytest.mark.more, pytest.mark.modes("tap", "packet", "kernel")]


def needs(*programs):
    for p in programs:
        if not shutil.which(p, path=os.environ["PATH"] + ":/usr/sbin:/sbin"):
            pytest.skip("no %s" % p)


def home(net, **files):
    """A directory of the server's own, with these files in it."""
    d = tempfile.mkdtemp(prefix="server-", dir=net.dir)
    os.chmod(d, 0o755)
    for name, text in files.items():
        with open(os.path.join(d, name.replace("__", ".")), "w") as f:
            f.write(text.replace("@DIR@", d))
    return d


def ab(net, url, requests=2000, at_once=32, keep=True):
    """Every request must be answered in full."""
    out = net.call("peer", "ab", "-q", "-n", str(requests), "-c", str(at_once), *(["-k"] if keep else []), url, seconds=60)
    assert "Failed requests:        0" in out, out
    assert "Complete requests:      %d" % requests in out, out
    assert "Non-2xx" not in out, out


def fetch(net, url, want):
    """curl's copy has the SHA-256 @want."""
    to = os.path.join(net.dir, "fetched")
    net.call("peer", "curl", "-sf", "-o", to, url, seconds=60)
    assert sha256_file(to) == want


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


def pg_bin(name):
    for v in sorted(os.listdir("/usr/lib/postgresql") if os.path.isdir("/usr/lib/postgresql") else [], reverse=True):
        if os.path.exists("/usr/lib/postgresql/%s/bin/%s" % (v, name)):
            return "/usr/lib/postgresql/%s/bin/%s" % (v, name)
    return pytest.skip("no postgresql")


def test_postgresql(net):
    """pgbench, a backend killed (all others are ended, the server recovers), pgbench again."""
    initdb, postgres, pgbench, psql = pg_bin("initdb"), pg_bin("postgres"), pg_bin("pgbench"), pg_bin("psql")
    d = home(net)
    shutil.chown(d, "postgres", "postgres")
    as_pg = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]
    run(*as_pg, initdb, "-D", d + "/data", "-A", "trust", "-N", timeout=60)
    with open(d + "/data/pg_hba.conf", "a") as f:
        f.write("host all all 10.77.0.0/24 trust\n")
    p = net.start("private", *as_pg, postgres, "-D", d + "/data", "-c", "listen_addresses=0.0.0.0", "-k", d, "-F", name="postgres")
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


def test_sshd(net, files):
    """Logins by key one beside the other, 100 MiB each way, a port forwarded each way."""
    needs("sshd", "ssh", "scp")
    os.makedirs("/run/sshd", exist_ok=True)
    d = home(net, conf=SSHD)
    os.chmod(d, 0o700)
    for k in ("host", "user"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", d + "/" + k)
    path, _, digest = files["100m"]
    p = net.start("private", "/usr/sbin/sshd", "-D", "-e", "-f", d + "/conf", name="sshd")
    net.wait_port(PRIVATE, 2222, p)
    opts = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes", "-i", d + "/user"]
    out = net.call("peer", "ssh", *opts, "-p", "2222", "root@" + PRIVATE, "echo from the shell; exit 3", status=3)
    assert out == "from the shell\n"
    many = [net.start("peer", "ssh", *opts, "-p", "2222", "root@" + PRIVATE, "echo %d" % i, name="ssh") for i in range(8)]
    assert [q.done(30) for q in many] == ["%d\n" % i for i in range(8)]
    net.call("peer", "scp", *opts, "-P", "2222", path, "root@%s:%s/up" % (PRIVATE, d), seconds=60)
    assert sha256_file(d + "/up") == digest
    net.call("peer", "scp", *opts, "-P", "2222", "root@%s:%s/up" % (PRIVATE, d), d + "/down", seconds=60)
    assert sha256_file(d + "/down") == digest
    net.start("peer", "/usr/bin/python3", "-m", "http.server", "8080", "-d", files.dir, "-b", PEER, name="behind")
    net.start("peer", "ssh", *opts, "-N", "-p", "2222", "-L", "127.0.0.1:9000:%s:8080" % PEER, "root@" + PRIVATE, name="forward")
    wait_for("the forwarded port", lambda: subprocess.run(net.argv("peer", "curl", "-sf", "-o", d + "/fwd",
             "http://127.0.0.1:9000/" + os.path.basename(path))).returncode == 0, 15)
    assert sha256_file(d + "/fwd") == digest
    net.start("peer", "ssh", *opts, "-N", "-p", "2222", "-R", "127.0.0.1:9001:127.0.0.1:8081", "root@" + PRIVATE, name="back")
    net.start("peer", "/usr/bin/python3", "-m", "http.server", "8081", "-d", files.dir, "-b", "127.0.0.1", name="behind")
    wait_for("the port forwarded back", lambda: subprocess.run(["nsenter", "--net=/run/netns/" + net.private_ns, "curl", "-sf",
             "-o", d + "/back", "http://127.0.0.1:9001/" + os.path.basename(path)]).returncode == 0, 15)
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
@pytest.mark.parametrize("isolate", ["NO", "YES"])
def test_vsftpd(net, files, isolate):
    needs("vsftpd", "curl")
    path, _, digest = files["4m"]
    d = home(net, conf=VSFTPD % (files.dir, isolate))
    os.mkdir(d + "/empty", 0o755)
    p = net.start("private", "/usr/sbin/vsftpd", d + "/conf")
    net.wait_port(PRIVATE, 21, p)
    url = "ftp://%s/%s" % (PRIVATE, os.path.basename(path))
    fetch(net, url, digest)
    net.call("peer", "curl", "-sf", "-P", PEER, "-o", d + "/active", url, seconds=30)
    assert sha256_file(d + "/active") == digest
    p.kill()
    p.wait(20)
