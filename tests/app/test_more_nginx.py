# SPDX-License-Identifier: BSD-2-Clause
"""What nginx can be told to do: reload and change of binary under load, its ways to send a file, upstreams, TLS, HTTP/2."""

import os
import re
import signal

import pytest

from harness import PEER, PRIVATE, Nginx, Options, is_alive, wait_for
from programs import ab, certificate, fetch, home, needs, stop_ab

pytestmark = [pytest.mark.more, pytest.mark.modes("tap", "packet", "kernel")]

RELOADS = 50

# Every body is compared, and what is wrong counted over all threads.
CHECKING_WRK = """
local threads = {}
function setup(t) table.insert(threads, t) end
function init(args)
   wrong, right = 0, 0
   local f = io.open("%s", "rb"); body = f:read("*a"); f:close()
end
function response(status, headers, got)
   if status == 200 and got == body then right = right + 1 else wrong = wrong + 1 end
end
function done(summary, latency, requests)
   local w, r = 0, 0
   for _, t in ipairs(threads) do w = w + t:get("wrong"); r = r + t:get("right") end
   local e = summary.errors
   print(string.format("checked right %%d wrong %%d connect %%d read %%d write %%d timeout %%d", r, w, e.connect, e.read,
         e.write, e.timeout))
end
"""


def checked(out):
    return {k: int(v) for k, v in re.findall(r"(\w+) (\d+)", re.search(r"^checked .*$", out, re.M).group(0))}


def fresh_workers(ng, old, count):
    wait_for("new workers", lambda: len(set(ng.workers()) - set(old)) == count, 20)
    return ng.workers()


def reload_often(net, ng, times, load):
    old = wait_for("workers", lambda: len(ng.workers()) == 4 and ng.workers())
    for _ in range(times):
        assert load.alive(), load.tails()
        net.http(ng.addr, "/pid", close=True)
        ng.signal("reload")
        old = fresh_workers(ng, old, 4)
    return old


def test_fifty_reloads_connection_per_request(net):
    """Not one of some ten thousand connections fails."""
    ng = Nginx(net, workers=4)
    load = net.start("peer", "ab", "-q", "-n", "1000000", "-c", "32", ng.url)
    reload_often(net, ng, RELOADS, load)
    r = stop_ab(load)
    assert r["complete"] > 2000, load.tails()
    assert ng.errors() == []


def keep_alive_through_reloads(net, files):
    path, _, _ = files["1k"]
    ng = Nginx(net, root=files.dir, workers=4)
    d = home(net, check__lua=CHECKING_WRK % path)
    load = net.start("peer", "wrk", "-t2", "-c32", "-d60s", "--timeout", "5s", "-s", d + "/check.lua", ng.url + "1k")
    reload_often(net, ng, RELOADS if Options.full else 15, load)
    load.kill(signal.SIGINT)
    load.wait(20)
    return checked(load.text())


def test_reloads_keep_alive(make_net, files):
    """Never a wrong byte, and no more read errors than the kernel's nginx gives: it closes idle connections, too, nearly
    one for each of the 32 at each reload. Whether a request is on its way then is chance; hence a reload's worth more."""
    kernel = keep_alive_through_reloads(make_net(mode="kernel"), files)
    ours = keep_alive_through_reloads(make_net(), files)
    for r in (kernel, ours):
        assert r["wrong"] == 0 and r["right"] > 1000, r
    assert (ours["connect"], ours["write"], ours["timeout"]) == (0, 0, 0), ours
    assert ours["read"] <= kernel["read"] + 32, "%s, kernel: %s" % (ours, kernel)


def change_binary(net, ng):
    """The manual's steps. Returns the new master's pid, after the old one has gone."""
    old_master, old_workers = ng.pid, ng.workers()
    os.kill(old_master, signal.SIGUSR2)
    wait_for("nginx.pid.oldbin", lambda: os.path.exists(ng.dir + "/nginx.pid.oldbin"))
    ng.pid = wait_for("the new master", lambda: ng._read_pid() not in (None, old_master) and ng._read_pid(), 20)
    wait_for("its workers", lambda: len(ng.workers()) == 4, 20)
    os.kill(old_master, signal.SIGWINCH)
    wait_for("the old workers' end", lambda: not any(map(is_alive, old_workers)), 20)
    os.kill(old_master, signal.SIGQUIT)
    wait_for("the old master's end", lambda: not is_alive(old_master), 20)
    return ng.pid


def test_binary_upgrade(net):
    """USR2, WINCH, QUIT, with a connection per request: not one fails, and the new one can be upgraded in turn."""
    ng = Nginx(net, workers=4, daemon=True)         # in the foreground it does not listen to USR2
    wait_for("workers", lambda: len(ng.workers()) == 4)
    load = net.start("peer", "ab", "-q", "-n", "1000000", "-c", "32", ng.url)
    for _ in range(3):
        new = change_binary(net, ng)
        assert load.alive(), load.tails()
        net.http(ng.addr, "/pid", close=True)
    stop_ab(load)
    assert ng.errors() == []
    ng.signal("quit")
    wait_for("the end", lambda: not is_alive(new), 15)
    if net.mode != "kernel":
        wait_for("warden and keeper to leave", lambda: not net.helpers(), 15)


def test_upgrade_taken_back(net):
    """The new master is told to go, the old one's workers come back (HUP): no connection fails."""
    ng = Nginx(net, workers=4, daemon=True)
    old_master, old = ng.pid, wait_for("workers", lambda: len(ng.workers()) == 4 and ng.workers())
    load = net.start("peer", "ab", "-q", "-n", "1000000", "-c", "32", ng.url)
    os.kill(old_master, signal.SIGUSR2)
    new = wait_for("the new master", lambda: ng._read_pid() not in (None, old_master) and ng._read_pid(), 20)
    os.kill(old_master, signal.SIGWINCH)
    wait_for("the old workers' end", lambda: not any(map(is_alive, old)), 20)
    os.kill(old_master, signal.SIGHUP)
    fresh_workers(ng, old, 4)
    os.kill(new, signal.SIGQUIT)
    wait_for("the new master's end", lambda: not is_alive(new), 20)
    assert load.alive(), load.tails()
    stop_ab(load)
    net.http(ng.addr, "/pid", close=True)


def test_reuseport(net):
    """A listener per worker: all of them are given connections, also after a reload."""
    ng = Nginx(net, workers=4, listen="80 reuseport backlog=4096")
    old = wait_for("workers", lambda: len(ng.workers()) == 4 and ng.workers())
    for _ in range(3):
        want = set(ng.workers())

        def asked():
            return {int(net.http(ng.addr, "/pid", close=True)[0]) for _ in range(64)}
        assert asked() == want
        ab(net, ng.url, 2000, keep=False)
        ng.signal("reload")
        fresh_workers(ng, old, 4)
        wait_for("the old workers' end", lambda: not any(map(is_alive, old)), 15)
        old = ng.workers()


FILE_WAYS = {
    "sendfile": "sendfile on;",
    "sendfile-chunks": "sendfile on; sendfile_max_chunk 64k;",
    "no-sendfile": "sendfile off; output_buffers 2 128k;",
    "threads": "sendfile off; aio threads;",
    "threads-sendfile": "sendfile on; aio threads;",
    "threads-directio": "sendfile on; aio threads; directio 512k;",
}


@pytest.mark.parametrize("way", list(FILE_WAYS))
def test_ways_to_send_a_file(net, files, way):
    ng = Nginx(net, root=files.dir, server=FILE_WAYS[way])
    for name in ("1k", "1m", "4m", "big"):
        files[name]
        fetch(net, ng.url + name, files[name][2])
    # resumed in the middle of what is there
    with open(net.dir + "/part", "wb") as f, open(files["1m"][0], "rb") as whole:
        f.write(whole.read(300001))
    net.call("peer", "curl", "-sf", "-C", "-", "-o", net.dir + "/part", ng.url + "1m")
    assert open(net.dir + "/part", "rb").read() == open(files["1m"][0], "rb").read()
    ab(net, ng.url + "1m", 200, 16)
    assert ng.errors() == []


UPSTREAM = """
upstream u { server %s; %s }
proxy_http_version 1.1; proxy_set_header Connection "";
"""


@pytest.mark.parametrize("keep", [False, True], ids=["connection-each", "kept"])
@pytest.mark.parametrize("at", ["kernel-loopback", "private-host", "own-address", "peer", "unix"])
def test_upstream(net, files, at, keep):
    """One nginx before another: on the kernel's loopback, elsewhere on the private host, over the wire, by path."""
    side, server = {"kernel-loopback": ("beside", "127.0.0.1:8080"), "private-host": ("private", PRIVATE + ":8080"),
                    "own-address": (None, PRIVATE + ":8080"), "peer": ("peer", PEER + ":8080"),
                    "unix": ("beside", "unix:%s/sock" % net.dir)}[at]
    for name in ("1k", "4m"):
        files[name]
    http, own = UPSTREAM % (server, "keepalive 16;" if keep else ""), ""
    if at == "own-address":
        own = "server { listen 8080; root %s; }" % files.dir
    elif at == "unix":
        behind(net, files, side, "unix:%s/sock" % net.dir)
    else:
        behind(net, files, side, "8080")
    ng = Nginx(net, http=http + own, server="location /up/ { proxy_pass http://u/; }")
    wait_for("the upstream", lambda: b"200" in answer(net, ng.addr, "/up/1k"))
    ab(net, ng.url + "up/1k", 3000, 32)
    ab(net, ng.url + "up/1k", 1000, 32, keep=False)
    fetch(net, ng.url + "up/4m", files["4m"][2])
    assert [e for e in ng.errors() if "Connection refused" not in e and "No such file" not in e] == []


def behind(net, files, side, listen):
    """nginx as upstream, without a probe from the peer's side, which cannot reach loopback."""
    d = home(net)
    conf = ("daemon off; user nobody nogroup; pid @/pid; error_log @/error.log; events { worker_connections 1000; }\n"
            "http { access_log off; keepalive_requests 1000000; client_body_temp_path @/t; proxy_temp_path @/t;\n"
            "fastcgi_temp_path @/t; uwsgi_temp_path @/t; scgi_temp_path @/t; server { listen %s; root %s; } }\n"
            % (listen, files.dir)).replace("@", d)
    with open(d + "/conf", "w") as f:
        f.write(conf)
    return net.start(side, "/usr/sbin/nginx", "-p", d, "-e", d + "/error.log", "-c", d + "/conf", name="behind")


def answer(net, addr, path):
    s = net.connect(addr, 80)
    s.sendall(b"GET %s HTTP/1.0\r\n\r\n" % path.encode())
    return s.recv(100)


def tls(net, files, listen="443 ssl http2", **kw):
    d = home(net)
    key, cert, _ = certificate(d)
    http = "server { listen %s; ssl_certificate %s; ssl_certificate_key %s; root %s; %s }" % (
        listen, cert, key, files.dir, kw.pop("server", ""))
    for name in ("1k", "1m", "4m"):
        files[name]
    return Nginx(net, http=http, **kw)


def test_tls(net, files):
    """curl and ab, a handshake per request and kept, with and without sendfile (the kernel's TLS is not offered)."""
    ng = tls(net, files)
    url = "https://%s/" % PRIVATE
    fetch(net, url + "4m", files["4m"][2], "-k", "--http1.1")
    fetch(net, url + "4m", files["4m"][2], "-k", "--tls-max", "1.2")
    ab(net, url + "1k", 400, 16, keep=False)
    ab(net, url + "1k", 4000, 16)
    ab(net, url + "1m", 100, 8)
    ng.signal("reload")
    ab(net, url + "1k", 400, 16, keep=False)
    assert ng.errors() == []


def h2load(net, url, requests, clients, streams, side="peer"):
    out = net.call(side, "h2load", "-n", str(requests), "-c", str(clients), "-m", str(streams), url, seconds=60)
    assert re.search(r"requests: %d total, %d started, %d done, %d succeeded, 0 failed, 0 errored, 0 timeout" % ((requests,) * 4), out), out
    return out


def test_http2(net, files):
    """Many streams over one connection and over many; with TLS and without; bodies whole."""
    needs("h2load")
    ng = tls(net, files, listen="443 ssl http2")
    url = "https://%s/" % PRIVATE
    fetch(net, url + "4m", files["4m"][2], "-k", "--http2")
    assert "Application protocol: h2" in h2load(net, url + "1k", 4000, 1, 100)
    h2load(net, url + "1k", 8000, 16, 10)
    h2load(net, url + "1m", 64, 4, 4)
    assert ng.errors() == []


def test_http2_cleartext(net, files):
    needs("h2load")
    files["1k"]
    ng = Nginx(net, root=files.dir, http="server { listen 8080 http2; root %s; }" % files.dir)
    h2load(net, "http://%s:8080/1k" % PRIVATE, 10000, 16, 16)
    assert ng.errors() == []


def test_upload_and_slow_reader(net, files):
    """PUT of a file into nginx (dav), and a client that takes its answer a little at a time."""
    d = home(net)
    os.chmod(d, 0o777)
    ng = Nginx(net, root=files.dir, server="location /put/ { alias %s/; dav_methods PUT; client_max_body_size 1g; } " % d)
    path, size, digest = files["4m"]
    net.call("peer", "curl", "-sf", "-T", path, ng.url + "put/up", seconds=60)
    with open(path, "rb") as a, open(d + "/up", "rb") as b:
        assert a.read() == b.read()
    net.call("peer", "curl", "-sf", "--limit-rate", "3M", "-o", d + "/slow", ng.url + os.path.basename(path), seconds=60)
    assert os.path.getsize(d + "/slow") == size
    assert ng.errors() == []
