# SPDX-License-Identifier: BSD-2-Clause
"""Clients of every make on a private host, against servers of the kernel's side. Those whose server is tested as well are
in test_more_servers.py, both ways."""

import hashlib
import os
import re
import subprocess

import pytest

from harness import PEER, PRIVATE, Nginx, Options, parse_ab, parse_wrk, run, sha256_file, wait_for, wrk_argv
from programs import AS_POSTGRES, ab, certificate, fetch, home, needs, pg_bin, pg_data

pytestmark = [pytest.mark.more, pytest.mark.modes("tap", "packet", "kernel")]

N = 100000 if Options.full else 5000


@pytest.fixture
def web(net, files):
    """nginx of the peer's kernel: port 80, with TLS and HTTP/2 on 443."""
    d = home(net)
    key, cert, _ = certificate(d)
    for name in ("1k", "1m", "4m"):
        files[name]
    return Nginx(net, side="peer", root=files.dir, http="server { listen 443 ssl http2; ssl_certificate %s; ssl_certificate_key %s; "
                 "root %s; location = / { return 200 hello; } }" % (cert, key, files.dir))


# ---- load ----

@pytest.mark.parametrize("keep", [True, False], ids=["kept", "connection-each"])
def test_ab(net, web, keep):
    ab(net, web.url + "1k", N, 32, keep, side="private")


def test_ab_tls(net, web):
    ab(net, "https://%s/1k" % PEER, N // 10, 16, False, side="private")
    ab(net, "https://%s/1m" % PEER, 100, 8, side="private")


@pytest.mark.parametrize("threads", [1, 2])
def test_wrk(net, web, threads):
    out = net.call("private", "wrk", "-t%d" % threads, *wrk_argv(web.url, 64, 10 if Options.full else 2)[2:], seconds=60)
    r = parse_wrk(out)
    assert (r["errors"], r["bad_answers"]) == (0, 0) and r["requests"] > 1000, out


@pytest.mark.parametrize("url", ["https://%s/1k", "http://%s/1k"])
def test_h2load(net, web, url):
    """HTTP/2 over TLS, and HTTP/1.1, with several threads."""
    needs("h2load")
    more = [] if url.startswith("https") else ["--h1"]
    out = net.call("private", "h2load", "-n", str(N), "-c", "16", "-m", "8" if not more else "1", "-t", "2", *more, url % PEER, seconds=60)
    assert re.search(r"%d succeeded, 0 failed, 0 errored, 0 timeout" % N, out), out


def test_siege(net, web):
    """A thread for each user; with and without keep-alive."""
    needs("siege")
    for connection in ("keep-alive", "close"):
        d = home(net, siegerc="connection = %s\nlogging = false\nverbose = false\njson_output = true\n" % connection)
        out = net.call("private", "siege", "-R", d + "/siegerc", "-b", "-c", "16", "-r", str(N // 50), web.url + "1k", seconds=60,
                       env={"HOME": d})
        said = {k: float(v) for k, v in re.findall(r'"(\w+)":\s*([\d.]+)', out)}
        assert said["failed_transactions"] == 0 and said["transactions"] == 16 * (N // 50), out


def test_redis_benchmark(net):
    needs("redis-server", "redis-benchmark")
    srv = net.start("peer", "redis-server", "--bind", "0.0.0.0", "--port", "6379", "--protected-mode", "no", "--save", "", "--dir", net.dir)
    net.wait_port(PEER, 6379, srv)
    for what, n, more in (("set,get,lrange_100", N, ()), ("set,get", N, ("-P", "16")), ("set,get", N, ("--threads", "2")),
                          ("set,get", 500, ("-d", "50000"))):
        out = net.call("private", "redis-benchmark", "-h", PEER, "-t", what, "-n", str(n), "-q", *more, seconds=60)
        assert "rror" not in out and "GET" in out, out
    assert net.call("private", "redis-cli", "-h", PEER, "ping") == "PONG\n"


def test_psql_and_pgbench(net):
    """pgbench in threads, a dump and a COPY of some megabytes each way."""
    postgres, pgbench, psql = pg_bin("postgres"), pg_bin("pgbench"), pg_bin("psql")
    d = pg_data(net)
    p = net.start("peer", *AS_POSTGRES, postgres, "-D", d + "/data", "-c", "listen_addresses=0.0.0.0", "-k", d, "-F", name="postgres")
    net.wait_port(PEER, 5432, p, 30)
    at = ["-h", PEER, "-U", "postgres"]
    wait_for("the database", lambda: subprocess.run(net.argv("private", psql, *at, "-Atc", "select 1"), capture_output=True).stdout == b"1\n", 30)
    net.call("private", pgbench, *at, "-i", "-q", "postgres", seconds=60)
    out = net.call("private", pgbench, *at, "-c", "16", "-j", "2", "-T", "60" if Options.full else "4", "postgres", seconds=120)
    assert "number of failed transactions: 0" in out, out
    net.call("private", psql, *at, "-c", "create table t (n int, s text)", "-c",
             "insert into t select i, repeat(md5(i::text), 10) from generate_series(1, 20000) i")
    net.call("private", psql, *at, "-c", "\\copy t to '%s/out'" % d)
    net.call("private", psql, *at, "-c", "create table u (n int, s text)", "-c", "\\copy u from '%s/out'" % d)
    net.call("private", psql, *at, "-c", "\\copy u to '%s/again'" % d)
    assert sha256_file(d + "/out") == sha256_file(d + "/again") and os.path.getsize(d + "/out") > 6 << 20
    # cancel: a second connection that psql makes in its signal handler
    s = net.start("private", psql, *at, "-Atc", "select pg_sleep(60)", name="sleeper")
    wait_for("the query", lambda: net.call("private", psql, *at, "-Atc", "select count(*) from pg_stat_activity where query ~ "
                                           "'pg_sleep\\(60' and pid <> pg_backend_pid()") == "1\n")
    s.kill(2)
    assert s.wait(15) == 1 and "canceling statement" in s.text("err"), s.tails()


# ---- files ----

def test_curl(net, web, files):
    """TLS, HTTP/2, many at once in one process, up and down, resumed, at a limited rate."""
    _, _, digest = files["4m"]
    tls = "https://%s/" % PEER
    for how in ((web.url,), (tls, "-k", "--http1.1"), (tls, "-k", "--http2"), (web.url, "--limit-rate", "4M"), (web.url, "--http1.0")):
        fetch(net, how[0] + "4m", digest, *how[1:], side="private")
    d = home(net)
    for more in ((), ("-k", "--http2")):
        url = tls if more else web.url
        net.call("private", "curl", "-sfZ", "--parallel-max", "32", *more, *sum((["-o", "%s/%d" % (d, i), url + "1m"] for i in range(64)), []),
                 seconds=60)
        assert {sha256_file("%s/%d" % (d, i)) for i in range(64)} == {files["1m"][2]}
    with open(d + "/part", "wb") as f, open(files["4m"][0], "rb") as whole:
        f.write(whole.read(1234567))
    net.call("private", "curl", "-sf", "-C", "-", "-o", d + "/part", web.url + "4m")
    assert sha256_file(d + "/part") == digest
    # the number of connections: one is used again and again
    out = net.call("private", "curl", "-sfw", "%{num_connects}\\n", *sum((["-o", "/dev/null", web.url + "1k"] for _ in range(20)), []))
    assert [int(n) for n in out.split()] == [1] + [0] * 19


def test_wget(net, web, files):
    """Files, one resumed, a tree by its links, TLS."""
    needs("wget")
    d = home(net)
    for name in ("1k", "4m"):
        net.call("private", "wget", "-q", "-O", d + "/got", web.url + name, seconds=60)
        assert sha256_file(d + "/got") == files[name][2]
    net.call("private", "wget", "-q", "--no-check-certificate", "-O", d + "/got", "https://%s/4m" % PEER, seconds=60)
    assert sha256_file(d + "/got") == files["4m"][2]
    with open(d + "/4m", "wb") as f, open(files["4m"][0], "rb") as whole:
        f.write(whole.read(1234567))
    net.call("private", "wget", "-q", "-c", web.url + "4m", cwd=d, seconds=60)
    assert sha256_file(d + "/4m") == files["4m"][2]
    os.mkdir(d + "/site")
    for i in range(20):
        with open("%s/site/%d.html" % (d, i), "w") as f:
            f.write("<a href='%d.html'>next</a>%s" % ((i + 1) % 20, "x" * 5000))
    site = net.start("peer", "/usr/bin/python3", "-m", "http.server", "8000", "-d", d + "/site", "-b", "0.0.0.0", name="site")
    net.wait_port(PEER, 8000, site)
    os.mkdir(d + "/mirror")
    net.call("private", "wget", "-q", "-r", "-l", "30", "-nH", "http://%s:8000/0.html" % PEER, cwd=d + "/mirror", seconds=60)
    run("diff", "-r", "-x", "robots*", d + "/site", d + "/mirror")


# ---- runtimes ----

PYTHON = {
    "urllib": """
import hashlib, sys, urllib.request
for i in range(20):
    print(hashlib.sha256(urllib.request.urlopen(sys.argv[1]).read()).hexdigest())
""",
    "asyncio": """
import asyncio, hashlib, sys
from urllib.parse import urlsplit
u = urlsplit(sys.argv[1])
async def get():
    r, w = await asyncio.open_connection(u.hostname, u.port)
    w.write(b'GET %s HTTP/1.0\\r\\n\\r\\n' % u.path.encode())
    print(hashlib.sha256((await r.read()).split(b'\\r\\n\\r\\n', 1)[1]).hexdigest())
    w.close()
async def main():
    await asyncio.gather(*(get() for i in range(20)))
asyncio.run(main())
""",
    "threads": """
import hashlib, sys, urllib.request
from concurrent.futures import ThreadPoolExecutor
def get(i):
    return hashlib.sha256(urllib.request.urlopen(sys.argv[1]).read()).hexdigest()
for h in ThreadPoolExecutor(10).map(get, range(20)):
    print(h)
""",
    "processes": """
import hashlib, multiprocessing, sys, urllib.request
def get(i):
    return hashlib.sha256(urllib.request.urlopen(sys.argv[1]).read()).hexdigest()
for h in multiprocessing.Pool(4).map(get, range(20)):
    print(h)
""",
}
OTHERS = {
    "node": ("node", "js", """
const http = require('http'), crypto = require('crypto'), agent = new http.Agent({ keepAlive: true, maxSockets: 5 });
for (let i = 0; i < 20; i++)
    http.get(process.argv[2], { agent }, (r) => { const h = crypto.createHash('sha256'); r.on('data', (d) => h.update(d));
        r.on('end', () => { console.log(h.digest('hex')); if (++n == 20) agent.destroy(); }); });
let n = 0;
"""),
    "node-threads": ("node", "js", """
const w = require('worker_threads'), http = require('http'), crypto = require('crypto');
if (w.isMainThread) for (let i = 0; i < 4; i++) new w.Worker(__filename, { argv: process.argv.slice(2) });
else for (let i = 0; i < 5; i++)
    http.get(process.argv[2], (r) => { const h = crypto.createHash('sha256'); r.on('data', (d) => h.update(d));
        r.on('end', () => console.log(h.digest('hex'))); });
"""),
    "perl": ("perl", "pl", """
use HTTP::Tiny; use Digest::SHA 'sha256_hex';
my $h = HTTP::Tiny->new;
print sha256_hex($h->get($ARGV[0])->{content}), "\\n" for 1 .. 20;
"""),
    "ruby": ("ruby", "rb", """
require 'net/http'; require 'digest'
u = URI(ARGV[0])
puts (1..10).map { Thread.new { Digest::SHA256.hexdigest(Net::HTTP.get(u)) } }.map(&:value)
Net::HTTP.start(u.host, u.port) { |h| 10.times { puts Digest::SHA256.hexdigest(h.get(u.path).body) } }
"""),
    "java": ("java", "java", """
import java.net.*; import java.net.http.*; import java.security.*; import java.util.*; import java.util.concurrent.*;
public class Main {
    static void show(byte[] b) throws Exception {
        System.out.println(HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(b)));
    }
    public static void main(String[] a) throws Exception {
        HttpClient c = HttpClient.newHttpClient();
        var all = new ArrayList<CompletableFuture<HttpResponse<byte[]>>>();
        for (int i = 0; i < 10; i++)
            all.add(c.sendAsync(HttpRequest.newBuilder(URI.create(a[0])).build(), HttpResponse.BodyHandlers.ofByteArray()));
        for (var r : all)
            show(r.get().body());
        for (int i = 0; i < 10; i++)
            try (var in = new URL(a[0]).openStream()) { show(in.readAllBytes()); }
        System.exit(0);
    }
}
"""),
    "bash": ("bash", "sh", """
u=${1#http://}; host=${u%%:*}; rest=${u#*:}
for i in {1..20}; do
    exec 3<>/dev/tcp/$host/${rest%%/*}
    printf 'GET /%s HTTP/1.0\\r\\n\\r\\n' "${rest#*/}" >&3
    sed -b '1,/^\\r$/d' <&3 | sha256sum | cut -d' ' -f1
    exec 3<&-
done
"""),
}


@pytest.mark.parametrize("how", [*PYTHON, *OTHERS])
def test_http_of_runtimes(net, web, files, how):
    """Twenty times the same file, in the runtime's own ways to wait."""
    program, ending, text = OTHERS.get(how, ("/usr/bin/python3", "py", PYTHON.get(how)))
    needs(program)
    name = home(net, **{"Main__" + ending: text}) + "/Main." + ending
    argv = ["-Xmx128m", name] if how == "java" else [name]
    out = net.call("private", program, *argv, web.url + "1m", name=how, seconds=60)
    assert out.split() == [files["1m"][2]] * 20


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_socat_client(net, web, files, tls):
    needs("socat")
    d = home(net)
    with open(d + "/ask", "w") as f:
        f.write("GET /4m HTTP/1.0\r\n\r\n")
    to = "OPENSSL:%s:443,verify=0" % PEER if tls else "TCP:%s:80,shut-none" % PEER        # nginx gives up on who has shut its direction
    p = net.start("private", "socat", "-t", "10", "STDIO", to, stdin=open(d + "/ask", "rb"))
    p.done(30)
    with open(p.out_path, "rb") as f:
        body = f.read().split(b"\r\n\r\n", 1)[1]
    assert hashlib.sha256(body).hexdigest() == files["4m"][2]


def test_many_at_once(net, web, files):
    """Several kinds of client on one private host at the same time."""
    load = [net.start("private", *wrk_argv(web.url + "1k", 16, 4)),
            net.start("private", "ab", "-q", "-n", str(N), "-c", "8", web.url + "1k"),
            net.start("private", "ab", "-q", "-n", str(N), "-c", "8", "-k", web.url + "1k")]
    for _ in range(10):
        fetch(net, web.url + "4m", files["4m"][2], side="private")
    r = parse_wrk(load[0].done(30))
    assert (r["errors"], r["bad_answers"]) == (0, 0), load[0].tails()
    for p in load[1:]:
        r = parse_ab(p.done(60))
        assert (r["complete"], r["failed"], r["bad_answers"]) == (N, 0, 0), p.tails()
    if net.mode != "kernel":
        wait_for("warden and keeper to leave", lambda: not net.helpers(), 20)
    assert net.mode == "kernel" or PRIVATE not in net.ip(net.private_ns, "addr")
