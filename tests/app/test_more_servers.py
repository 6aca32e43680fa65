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
import threading

import pytest

from harness import PEER, PRIVATE, Nginx, Options, children, run, sha256_file, wait_for
from programs import AS_POSTGRES, ab, certificate, fetch, home, needs, pg_bin, pg_data, stop_ab

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
    load = net.start("peer", "ab", "-q", "-n", "1000000", "-c", "8", url + "1k")
    for _ in range(5):
        before = set(children(p.pid))
        os.kill(p.pid, signal.SIGUSR1)      # graceful restart
        wait_for("new children", lambda b=before: set(children(p.pid)) - b, 20)
        net.http(PRIVATE, "/1k", close=True)
    stop_ab(load)
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
    hard-stop-after 5s
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
    Nginx(net, side="peer", root=files.dir, port=8080)
    url = "http://%s/" % PRIVATE
    wait_for("the backend", lambda: subprocess.run(net.argv("peer", "curl", "-sf", "-o", "/dev/null", url + "1k")).returncode == 0)
    ab(net, url + "1k", 500, 8)
    fetch(net, url + os.path.basename(path), digest)
    if how == "master-worker":
        load = net.start("peer", "ab", "-q", "-n", "1000000", "-c", "4", url + "1k")
        for _ in range(5):
            before = children(p.pid)
            os.kill(p.pid, signal.SIGUSR2)
            wait_for("a new worker, and it alone", lambda b=before: len(children(p.pid)) == 1 and children(p.pid) != b, 20)
            net.http(PRIVATE, "/1k", close=True)
        stop_ab(load)
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
    "worker-threads": "const w = require('worker_threads'); if (w.isMainThread) { const t = [1, 2].map(() => new w.Worker(__filename));"
                      " let n = 0; require('http').createServer((q, s) => { const i = n++; const b = []; q.on('data', (d) => b.push(d));"
                      " q.on('end', () => { const c = new w.MessageChannel();"
                      " c.port1.once('message', (m) => s.end(Buffer.from(m))); t[i % 2].postMessage([Buffer.concat(b), c.port2], [c.port2]); }); }).listen(80) }"
                      " else w.parentPort.on('message', ([m, p]) => p.postMessage(m))",
    "server-in-thread": "const w = require('worker_threads'); if (w.isMainThread) new w.Worker(__filename); else"
                        " require('http').createServer((q, s) => q.pipe(s)).listen(80)",
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


JAVA = {
    "http": """
import com.sun.net.httpserver.*;
import java.net.*;
import java.util.concurrent.*;
public class Main {
    public static void main(String[] a) throws Exception {
        HttpServer s = HttpServer.create(new InetSocketAddress(7000), 1000);
        s.createContext("/", x -> {
            byte[] b = x.getRequestBody().readAllBytes();
            x.sendResponseHeaders(200, b.length == 0 ? -1 : b.length);
            try (var o = x.getResponseBody()) { o.write(b); }
        });
        s.setExecutor(Executors.newFixedThreadPool(8));
        s.start();
    }
}
""",
    "nio": """
import java.net.*;
import java.nio.*;
import java.nio.channels.*;
public class Main {
    public static void main(String[] a) throws Exception {
        Selector sel = Selector.open();
        ServerSocketChannel l = ServerSocketChannel.open();
        l.bind(new InetSocketAddress(7000)).configureBlocking(false);
        l.register(sel, SelectionKey.OP_ACCEPT);
        while (true) {
            sel.select();
            for (var i = sel.selectedKeys().iterator(); i.hasNext(); ) {
                SelectionKey k = i.next();
                i.remove();
                if (k.isAcceptable()) {
                    SocketChannel c = l.accept();
                    if (c != null) {
                        c.configureBlocking(false);
                        c.register(sel, SelectionKey.OP_READ, ByteBuffer.allocateDirect(65536));
                    }
                    continue;
                }
                SocketChannel c = (SocketChannel)k.channel();
                ByteBuffer b = (ByteBuffer)k.attachment();
                if (k.isReadable() && c.read(b) < 0) { c.close(); continue; }
                b.flip();
                c.write(b);
                b.compact();
                k.interestOps((b.position() > 0 ? SelectionKey.OP_WRITE : 0) | (b.hasRemaining() ? SelectionKey.OP_READ : 0));
            }
        }
    }
}
""",
    "threads": """
import java.io.*;
import java.net.*;
public class Main {
    static void serve(Socket s) {
        try (s) { s.getInputStream().transferTo(s.getOutputStream()); } catch (IOException e) { System.err.println(e); }
    }
    public static void main(String[] a) throws Exception {
        ServerSocket l = new ServerSocket(7000, 100);
        while (true) {
            Socket s = l.accept();
            new Thread(() -> serve(s)).start();
        }
    }
}
""",
}


def echo_by_turns(net, port=7000, conns=4, rounds=20, most=20000):
    """Each of several connections is given something and must give it back, in turn; then all end."""
    socks = [net.connect(PRIVATE, port) for _ in range(conns)]
    for i in range(rounds):
        want = b"%04d" % i * (most // 4 * (i + 1) // rounds)
        senders = [threading.Thread(target=s.sendall, args=(want,)) for s in socks]
        for t in senders:       # beside the reading: a server that writes and we would wait for each other, once the buffers are full
            t.start()
        for s in socks:
            got = bytearray()
            while len(got) < len(want):
                more = s.recv(65536)
                assert more, "ended after %d of %d octets of round %d" % (len(got), len(want), i)
                got += more
            assert got == want
        for t in senders:
            t.join()
    for s in socks:
        s.shutdown(1)
        assert s.recv(1) == b""
        s.close()


@pytest.mark.parametrize("how", list(JAVA))
def test_java(net, how):
    needs("java", "javac", "ab", "curl")
    d = home(net, Main__java=JAVA[how])
    run("javac", "-d", d, d + "/Main.java", timeout=60)
    p = net.start("private", "java", "-Xmx128m", "-cp", d, "Main", name="java")
    net.wait_port(PRIVATE, 7000, p, 40)
    if how == "http":
        url = "http://%s:7000/" % PRIVATE
        ab(net, url, 1000, 16)
        ab(net, url, 500, 16, keep=False)
        with open(d + "/up", "wb") as f:
            f.write(os.urandom(3 << 20))
        net.call("peer", "curl", "-sf", "--data-binary", "@" + d + "/up", "-o", d + "/down", url)
        assert sha256_file(d + "/up") == sha256_file(d + "/down")
    else:
        echo_by_turns(net, conns=32, rounds=10)
        echo_by_turns(net, conns=2, rounds=4, most=2 << 20)
    p.kill()
    assert p.wait(20) == 143        # its own handler of SIGTERM
    assert p.text("err") == ""


JAVA_CLOSE = """
import java.net.*;
import java.nio.*;
import java.nio.channels.*;
public class Main {
    interface Act { void run() throws Exception; }
    static void blocked(String what, Act a, Act end) throws Exception {
        Thread t = new Thread(() -> {
            try { a.run(); System.out.println(what + ": returned"); }
            catch (Exception e) { System.out.println(what + ": " + e.getClass().getSimpleName()); }
        });
        t.start();
        while (t.getState() == Thread.State.NEW || t.getStackTrace().length < 2) Thread.onSpinWait();
        Thread.sleep(200);
        end.run();
        t.join(5000);
        if (t.isAlive()) System.out.println(what + ": STUCK");
    }
    public static void main(String[] a) throws Exception {
        ServerSocket l = new ServerSocket(7000, 100);
        System.err.println("up");
        Socket s = l.accept();
        blocked("read of a socket closed by another thread", () -> s.getInputStream().read(), s::close);
        blocked("accept of a server closed by another thread", l::accept, l::close);
        ServerSocketChannel lc = ServerSocketChannel.open();
        lc.bind(new InetSocketAddress(7001));
        SocketChannel c = lc.accept(), c2 = lc.accept();
        blocked("read of a channel closed by another thread", () -> c.read(ByteBuffer.allocate(10)), c::close);
        Thread[] reader = new Thread[1];
        blocked("read of a thread that is interrupted", () -> { reader[0] = Thread.currentThread(); c2.read(ByteBuffer.allocate(10)); },
                () -> reader[0].interrupt());
        blocked("accept of a channel closed by another thread", lc::accept, lc::close);
        Socket t = new Socket();
        t.connect(new InetSocketAddress("@PEER@", 7002), 2000);
        t.setSoTimeout(200);
        blocked("read with a time-out", () -> t.getInputStream().read(), () -> {});
        t.close();
    }
}
"""


def test_java_blocked_calls(make_net):
    """close() and interrupt() from another thread end blocked calls: by dup2 of a half-closed socket and a signal."""
    needs("java", "javac")
    seen = []
    for net in (make_net(mode="kernel"), make_net()):
        d = home(net, Main__java=JAVA_CLOSE.replace("@PEER@", PEER))
        run("javac", "-d", d, d + "/Main.java", timeout=60)
        quiet = net.start("peer", "socat", "TCP-LISTEN:7002,fork,reuseaddr", "EXEC:sleep 20", name="quiet")
        p = net.start("private", "java", "-Xmx128m", "-cp", d, "Main", name="java")
        wait_for("the server", lambda p=p: "up" in p.text("err") or not p.alive(), 30)
        socks = [net.connect(PRIVATE, 7000)]

        def second(net=net):
            with contextlib.suppress(OSError):
                return net.connect(PRIVATE, 7001, 1.0)
        socks += [wait_for("the channel", second, 20), net.connect(PRIVATE, 7001)]
        seen.append(p.done(40))
        quiet.kill()
    assert seen[0] == seen[1]
    assert "STUCK" not in seen[0] and len(seen[0].splitlines()) == 6


SCRIPTS = {
    "perl-fork": ("perl", """
use IO::Socket::INET;
my $l = IO::Socket::INET->new(LocalPort => 7000, Listen => 100, ReuseAddr => 1) or die;
$SIG{CHLD} = 'IGNORE';
while (1) {
    my $s = $l->accept or next;
    if (fork) { close $s; next }
    close $l;
    my $b;
    syswrite $s, $b while sysread $s, $b, 65536;
    exit;
}
"""),
    "perl-select": ("perl", """
use IO::Socket::INET; use IO::Select;
my $l = IO::Socket::INET->new(LocalPort => 7000, Listen => 100, ReuseAddr => 1) or die;
my $set = IO::Select->new($l);
while (my @r = $set->can_read) {
    for my $s (@r) {
        if ($s == $l) { $set->add(scalar $l->accept); next }
        if (sysread $s, my $b, 65536) { print $s $b; $s->flush } else { $set->remove($s); close $s }
    }
}
"""),
    "ruby-threads": ("ruby", """
require 'socket'
l = TCPServer.new('0.0.0.0', 7000)
loop do
  Thread.new(l.accept) do |s|
    begin
      loop { s.write(s.readpartial(65536)) }
    rescue EOFError
      s.close
    end
  end
end
"""),
    "ruby-fork": ("ruby", """
require 'socket'
l = TCPServer.new('0.0.0.0', 7000)
3.times { fork { loop { s = l.accept; Thread.new(s) { |c| IO.copy_stream(c, c); c.close } } } }
Process.waitall
"""),
    "bash-socat": ("bash", "exec socat TCP-LISTEN:7000,fork,reuseaddr EXEC:cat\n"),
}


@pytest.mark.parametrize("how", list(SCRIPTS))
def test_scripts(net, how):
    program, text = SCRIPTS[how]
    needs(program)
    p = net.start("private", program, home(net, server=text) + "/server", name=program)
    net.wait_port(PRIVATE, 7000, p)
    echo_by_turns(net, conns=8, rounds=10)
    echo_by_turns(net, conns=2, rounds=3, most=400000)
    assert p.alive(), p.tails()
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
    out = net.call("peer", pgbench, *at, "-c", "16", "-j", "2", "-T", "60" if Options.full else "5", "postgres", seconds=120)
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


def test_pg_ctl_restart(net):
    """As its script does it: started behind, restarted while clients are connected (they are told), and stopped."""
    pg_ctl, pgbench, psql = pg_bin("pg_ctl"), pg_bin("pgbench"), pg_bin("psql")
    d = pg_data(net)
    ctl = [*AS_POSTGRES, pg_ctl, "-D", d + "/data", "-w", "-t", "30", "-o", "-c listen_addresses=0.0.0.0 -k %s -F" % d]
    at = ["-h", PRIVATE, "-U", "postgres"]
    net.call("private", *ctl, "-l", d + "/log", "start", name="pg_ctl")
    net.wait_port(PRIVATE, 5432)
    net.call("peer", pgbench, *at, "-i", "-q", "postgres", seconds=60)
    for mode in ("fast", "immediate", "fast"):
        load = net.start("peer", pgbench, *at, "-S", "-c", "4", "-T", "20", "postgres")
        wait_for("load", lambda: net.call("peer", psql, *at, "-Atc", "select count(*) > 4 from pg_stat_activity where backend_type = "
                                          "'client backend'") == "t\n", 15)
        net.call("private", *ctl, "-l", d + "/log", "-m", mode, "restart", name="pg_ctl", seconds=40)
        load.wait(30)
        assert "terminating connection" in load.text("err") or "closed the connection" in load.text("err"), load.tails()
        out = net.call("peer", pgbench, *at, "-S", "-c", "4", "-T", "1", "postgres")
        assert "number of failed transactions: 0" in out, out
    net.call("private", *ctl, "-m", "fast", "stop", name="pg_ctl")
    if net.mode != "kernel":
        wait_for("warden and keeper to leave", lambda: not net.helpers(), 15)


# ---- redis ----

def redis(net, port, *more, side="private", name="redis-server"):
    d = home(net)
    p = net.start(side, "redis-server", "--bind", "0.0.0.0", "--port", str(port), "--protected-mode", "no", "--save", "", "--dir", d,
                  *more, name=name)
    net.wait_port(ADDR[side], port, p)
    return p


def cli(net, port, *words, side="peer", addr=PRIVATE, **kw):
    return net.call(side, "redis-cli", "-h", addr, "-p", str(port), *words, **kw).strip()


def benchmark(net, port, n, *more, side="peer", addr=PRIVATE):
    return net.start(side, "redis-benchmark", "-h", addr, "-p", str(port), "-n", str(n), "-q", *more)


def no_error(p, seconds=60):
    out = p.done(seconds)
    assert "rror" not in out, out


def test_redis_io_threads(net):
    """Four threads read and write; requests in a pipeline and large values."""
    needs("redis-server", "redis-benchmark")
    p = redis(net, 6379, "--io-threads", "4", "--io-threads-do-reads", "yes")
    n = 200000 if Options.full else 3000        # they spin for one another, and there may be two CPUs
    no_error(benchmark(net, 6379, n, "-t", "set,get", "-c", "50"))
    no_error(benchmark(net, 6379, 5 * n, "-t", "set,get", "-c", "50", "-P", "16"))
    no_error(benchmark(net, 6379, n // 10, "-t", "set,get", "-c", "16", "-d", "100000"))
    cli(net, 6379, "shutdown", "nosave")
    assert p.wait(10) == 0


def test_redis_append_only(net):
    """The append-only file is rewritten by a child, several times under load; what was acknowledged is there after a restart."""
    needs("redis-server", "redis-benchmark")
    d = home(net)
    more = ("--appendonly", "yes", "--appendfsync", "no", "--dir", d, "--auto-aof-rewrite-percentage", "0")
    p = redis(net, 6379, *more)
    load = benchmark(net, 6379, 60000, "-t", "set,lpush,incr", "-r", "10000", "-c", "20")
    for _ in range(3):
        wait_for("a rewrite to start", lambda: "started" in cli(net, 6379, "bgrewriteaof") or "scheduled" in cli(net, 6379, "bgrewriteaof"), 20)
        wait_for("the rewrite", lambda: "aof_rewrite_in_progress:0" in cli(net, 6379, "info", "persistence"), 30)
        assert "aof_last_bgrewrite_status:ok" in cli(net, 6379, "info", "persistence")
    no_error(load)
    cli(net, 6379, "set", "last", "word")
    before = cli(net, 6379, "debug", "digest") if "err" not in cli(net, 6379, "debug", "digest").lower() else cli(net, 6379, "dbsize")
    os.kill(p.pid, signal.SIGKILL)
    p.wait(10)
    p = redis(net, 6379, *more)
    wait_for("its data", lambda: cli(net, 6379, "get", "last") == "word")
    after = cli(net, 6379, "debug", "digest") if "err" not in cli(net, 6379, "debug", "digest").lower() else cli(net, 6379, "dbsize")
    assert after == before


@pytest.mark.parametrize("replica", ["private", "peer"])
def test_redis_replication(net, replica):
    """A full copy while clients write, what is written then, and a link that is cut. On the same private host, and over the wire."""
    needs("redis-server", "redis-benchmark")
    redis(net, 6379)
    no_error(benchmark(net, 6379, 20000, "-t", "set", "-r", "100000", "-d", "500"))
    redis(net, 6380, side=replica, name="replica")
    load = benchmark(net, 6379, 20000, "-t", "set,lpush", "-r", "100000")
    there = {"side": "beside" if replica == "peer" else "peer", "addr": "127.0.0.1" if replica == "peer" else PRIVATE}
    if net.mode != "tap" and replica == "peer":
        there = {"side": "peer", "addr": "127.0.0.1"}
    cli(net, 6380, "replicaof", PRIVATE, "6379", **there)

    def in_step():
        offset = [dict(ln.split(":", 1) for ln in cli(net, port, "info", "replication", **kw).split() if ":" in ln)
                  for port, kw in ((6379, {}), (6380, there))]
        return offset[1].get("master_link_status") == "up" and offset[0]["master_repl_offset"] == offset[1]["master_repl_offset"]
    no_error(load)
    wait_for("the replica", in_step, 30)
    assert cli(net, 6379, "dbsize") == cli(net, 6380, "dbsize", **there)
    cli(net, 6379, "client", "kill", "type", "replica")
    cli(net, 6379, "set", "after", "the cut")
    wait_for("the replica again", in_step, 30)
    assert cli(net, 6380, "get", "after", **there) == "the cut"


def test_redis_multi_and_pubsub(net):
    """Transactions of several clients at once are whole; each of many subscribers gets every message in order."""
    needs("redis-server")
    redis(net, 6379)

    def say(s, *words):
        s.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in map(str.encode, words)))
    socks = [net.connect(PRIVATE, 6379) for _ in range(20)]
    for k in range(50):
        for s in socks:
            for words in (("multi",), ("incr", "a"), ("incr", "b"), ("get", "a"), ("exec",)):
                say(s, *words)
        for s in socks:
            f = b""
            while not f.count(b"\r\n") >= 9:
                f += s.recv(4096)
            lines = f.split(b"\r\n")
            assert lines[:5] == [b"+OK", b"+QUEUED", b"+QUEUED", b"+QUEUED", b"*3"]
            assert lines[5] == lines[6] and lines[5][1:] == lines[8], lines     # a and b went up together
    subscribers = [net.connect(PRIVATE, 6379) for _ in range(50)]
    for s in subscribers:
        say(s, "subscribe", "news")
        assert s.recv(100).startswith(b"*3")
    for i in range(500):
        say(socks[0], "publish", "news", "%05d" % i)
    one = b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\n%05d\r\n"
    want = b"".join(one % i for i in range(500))
    for s in subscribers:
        got = b""
        while len(got) < len(want):
            got += s.recv(1 << 16)
        assert got == want


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
