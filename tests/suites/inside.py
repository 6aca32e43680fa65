# SPDX-License-Identifier: BSD-2-Clause
"""inside.py - one side of one unit of a suite, in the namespaces that run.py made for it

Called as `inside.py JOB.json`; process 1 of a pid namespace of its own, in a network namespace without any interface but
loopback. Runs the command, on the kernel or on a private host with 127.0.0.0/8, and writes what it saw beside its output:
exit status, seconds, connections opened on either stack, kernel sockets of IPv4 that were to be seen meanwhile.
"""

import glob
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

HOST = "suite"
TMP = "/mnt"                                # short: paths of UNIX sockets below it have 107 characters
MAPPED = "0000000000000000FFFF0000"         # ::ffff:0:0/96 as /proc/net/tcp6 writes it


def kernel_opens():
    """Active opens of this namespace's kernel, IPv4 and IPv6 together."""
    rows = [x.split() for x in open("/proc/net/snmp") if x.startswith("Tcp:")]
    return int(rows[1][rows[0].index("ActiveOpens")])


class Watch(threading.Thread):
    """Looks for TCP sockets of IPv4 in the kernel; on the private side there should be none."""

    def __init__(self):
        super().__init__(daemon=True)
        self.seen, self.stop = set(), threading.Event()

    def run(self):
        while not self.stop.wait(0.05):
            for name in ("tcp", "tcp6"):
                for line in open("/proc/net/" + name).readlines()[1:]:
                    f = line.split()
                    if name == "tcp" or MAPPED in f[1] or MAPPED in f[2]:
                        self.seen.add("%s %s state %s" % (f[1], f[2], f[3]))


def private_opens(tool):
    out = subprocess.run([tool, "stats", "--host", HOST], stdout=subprocess.PIPE, text=True, timeout=20).stdout
    got = re.search(r"TcpActiveOpens\s+(\d+)", out)
    return int(got.group(1)) if got else 0


def left_over(tool):
    """Private sockets that are still there when nothing of the suite runs any more (TIME_WAIT does not count)."""
    out = subprocess.run([tool, "ss", "--host", HOST, "-a"], stdout=subprocess.PIPE, text=True, timeout=20).stdout
    return [x.strip() for x in out.splitlines()[1:] if x.strip() and not x.startswith("TIME-WAIT")]


def end_others(but):
    """Everything in this pid namespace except ourselves, @but and the host's helpers."""
    for d in glob.glob("/proc/[0-9]*"):
        pid = int(d[6:])
        try:
            name = open(d + "/comm").read().strip()
        except OSError:
            continue
        if pid not in (1, os.getpid(), *but) and not name.startswith("ownstack"):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def reap():
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def wait_reaping(p, until):
    """Status of @p, None if it does not come in time. Process 1 buries orphans meanwhile, as any init does."""
    while time.monotonic() < until:
        got = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if got and got.si_pid == p.pid:
            return p.wait()
        if got:
            os.waitpid(got.si_pid, 0)
        else:
            time.sleep(0.02)
    return None


def main(path):
    with open(path) as f:
        job = json.load(f)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["mount", "--bind", job["tmp"], TMP], check=True)
    env = dict(os.environ, TMPDIR=TMP, HOME=TMP, **job["env"])
    pre, holder = [], None
    if job["side"] == "private":
        pre = [job["tool"], "run", "--host", HOST, "--addr", "10.77.0.2/24", "--tap", "tap0", "--tap-peer", "10.77.0.1/24",
               "--loopback", job["loopback"], "--"]
        holder = subprocess.Popen([*pre, "/bin/sleep", "100000"], stdin=subprocess.DEVNULL)      # counters outlive the suite
    watch, t0 = Watch(), time.monotonic()
    watch.start()
    with open(job["output"], "wb") as out:
        p = subprocess.Popen([*pre, *job["argv"]], stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=env,
                             cwd=job["cwd"], start_new_session=True)
        status = wait_reaping(p, time.monotonic() + job["seconds"])
        if status is None:
            status = "out of time (%d s)" % job["seconds"]
            end_others([holder.pid] if holder else [])
            p.wait()
    seconds = time.monotonic() - t0
    watch.stop.set()
    watch.join()
    end_others([holder.pid] if holder else [])
    result = {"status": status, "seconds": seconds, "kernel_opens": kernel_opens(), "kernel_ipv4": sorted(watch.seen)[:20],
              "private_opens": 0, "left": []}
    if holder:
        result["private_opens"] = private_opens(job["tool"])
        end = time.monotonic() + 5
        while True:             # the helpers take a moment to notice deaths
            reap()
            result["left"] = left_over(job["tool"])
            if not result["left"] or time.monotonic() > end:
                break
            time.sleep(0.05)
        holder.kill()
    with open(job["result"], "w") as f:
        json.dump(result, f)


main(sys.argv[1])
