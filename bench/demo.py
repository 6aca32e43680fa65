#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""demo.py - the main job, step by step, for somebody who watches (`./dev demo`; `--small` for 64 MiB instead of 1 GiB)"""

import argparse
import os
import re
import shutil
import signal
import sys
import tempfile
import textwrap
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(TOP, "tests", "app"))

from harness import PEER, PRIVATE, Net, Nginx, Options, make_file, parse_wrk, sha256_file, wait_for, wrk_argv  # noqa: E402


class NotSeen(Exception):
    """What was promised did not show."""


step_number = 0


def step(text):
    global step_number
    step_number += 1
    print("\n%d. %s" % (step_number, textwrap.fill(text, 96, subsequent_indent="   ")), flush=True)


def saw(text):
    print(textwrap.fill(text, 96, initial_indent="   - ", subsequent_indent="     "), flush=True)


def size(n):
    for unit in ("B", "KiB", "MiB"):
        if n < 1024:
            return "%d %s" % (n, unit)
        n //= 1024
    return "%d GiB" % n


def fetch(net, side, url, want, n):
    """curl on @side gets @url; the SHA-256 must be @want."""
    path = os.path.join(net.dir, "got")
    t0 = time.monotonic()
    net.call(side, "curl", "-sS", "--fail", "--max-time", "240", "-o", path, url, seconds=250)
    took = time.monotonic() - t0
    got = sha256_file(path)
    if got != want:
        raise NotSeen("%s arrived with another SHA-256: %s instead of %s" % (url, got, want))
    saw("%s in %.2f s%s, SHA-256 equal (%s...)" % (size(n), took, " (%.1f Gbit/s)" % (n * 8e-9 / took) if n > 1 << 22 else "",
                                                   got[:12]))


def command(net, *cmd):
    """The command as a user would type it."""
    return " ".join(["ownstack", *net.ownstack_run()[1:], *cmd])


def serve(files, root, mode):
    net = Net(mode)
    try:
        ng = Nginx(net, root=root)
        saw("started: " + command(net, "nginx"))
        wait_for("two workers", lambda: len(ng.workers()) == 2)
        saw("nginx's master is process %d, its workers are %s" % (ng.pid, " and ".join(map(str, ng.workers()))))
        if PRIVATE in net.ip(net.private_ns, "addr"):
            raise NotSeen("the kernel owns %s" % PRIVATE)
        helpers = net.helpers()
        saw("the kernel does not know the address %s; %d helper processes of ownstack stand by" % (PRIVATE, len(helpers)))
        for name in ("page", "big"):
            fetch(net, "peer", ng.url + name, *files[name])
        ng.signal("quit")
        if ng.proc.wait(15):
            raise NotSeen("nginx ended with status %d" % ng.proc.p.returncode)
        saw("nginx -s quit: it ended by itself, status 0")
        if ng.errors():
            raise NotSeen("nginx's error log: " + ng.errors()[0])
    except BaseException:
        print(net.diagnose())
        raise
    finally:
        net.close()


def client(files, root, mode):
    net = Net(mode)
    try:
        ng = Nginx(net, side="peer", root=root)
        saw("the kernel's nginx listens on %s" % PEER)
        saw("started: " + command(net, "curl", ng.url + "..."))
        for name in ("page", "big"):
            fetch(net, "private", ng.url + name, *files[name])
    finally:
        net.close()


def rate(mode, seconds):
    """Requests per second at 64 keep-alive connections, everything on one CPU."""
    net = Net(mode, cpu=0)
    try:
        ng = Nginx(net, workers=1)
        r = parse_wrk(net.call("peer", *wrk_argv(ng.url, 64, seconds), seconds=seconds + 30))
        if r["errors"] or r["bad_answers"]:
            raise NotSeen("wrk saw errors: %s" % r["error_line"])
        return r["rate"]
    finally:
        net.close()


def side_by_side():
    rounds = [(rate("kernel", 2), rate("tap", 2)) for _ in range(3)]
    kernel, ours = (sorted(r[i] for r in rounds)[1] for i in (0, 1))
    saw("kernel TCP on a veth:  %7.0f requests per second" % kernel)
    saw("ownstack on a TAP:     %7.0f requests per second, %.2f times as many" % (ours, ours / kernel))
    saw("three short runs of each in turn; `./dev bench` does it properly")


def main():
    p = argparse.ArgumentParser(prog="./dev demo")
    p.add_argument("--small", action="store_true", help="64 MiB instead of 1 GiB")
    args = p.parse_args()

    def interrupted(_sig, _frame):
        for sig in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sig, signal.SIG_IGN)      # once is enough: what follows is the cleaning
        raise KeyboardInterrupt
    for sig in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sig, interrupted)
    version = re.sub(r"\s+", " ", os.popen("%s --version 2>&1" % Options.ownstack()).read()).strip()
    root = tempfile.mkdtemp(prefix="own-demo-", dir="/tmp")
    os.chmod(root, 0o755)
    print("%s on Linux %s. Everything below happens in network namespaces of its own, which go away at the end." %
          (version, os.uname().release))
    big = 64 << 20 if args.small else 1 << 30
    try:
        step("A page of 10 KiB and a file of %s are made, of random octets." % size(big))
        files = {"page": (make_file(root + "/page", 10 << 10, 1), 10 << 10), "big": (make_file(root + "/big", big, 2), big)}
        step("nginx, master and two workers, on a private TCP stack on a TAP device. The kernel's curl fetches from it.")
        serve(files, root, "tap")
        step("The other way round: curl on the private stack fetches from the kernel's nginx.")
        client(files, root, "tap")
        step("The same over AF_PACKET: the private stack sits on one end of a veth pair.")
        serve(files, root, "packet")
        client(files, root, "packet")
        step("Side by side with kernel TCP: nginx, wrk with 64 connections, all on one CPU.")
        side_by_side()
    except KeyboardInterrupt:
        print("\nVerdict: interrupted at step %d; nothing is left behind." % step_number)
        return 130
    except (NotSeen, AssertionError, RuntimeError) as e:
        print("\n   ! %s" % str(e).strip().replace("\n", "\n     "))
        print("\nVerdict: step %d did NOT show what it should." % step_number)
        return 1
    finally:
        shutil.rmtree(root, ignore_errors=True)
    print("\nVerdict: all %d steps showed what they should. nginx and curl are the packaged ones, unchanged." % step_number)
    return 0


if __name__ == "__main__":
    sys.exit(main())
