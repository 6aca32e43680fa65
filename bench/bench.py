#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""bench.py - the private stack against the kernel's, measured so that the answer repeats

Everything that takes part (server, keeper, warden, load generator) is pinned to one CPU, so a figure is the whole CPU
cost of an operation on both sides of the wire; two-CPU figures follow the wake-up habits of the virtual machine rather
than the code. Contenders run in turn (A B, B A, A B ...), congestion control is the same on every kernel side, a run in
which the CPU was taken away is repeated, and an error of the load generator fails the benchmark.

    ./dev bench [--quick] [--packet | --aa] [--pairs N] [--seconds N] [--cases c1,c64,...] [--cpu N] [--out DIR] [--one-cpu]

Writes DIR/performance.md (the part between its two markers), DIR/performance-*.svg and build/bench/*.json.
"""

import argparse
import datetime
import json
import os
import platform
import re
import resource
import signal
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.join(TOP, "tests", "app")]

import report  # noqa: E402
from cases import CASES, TWO_CPUS, BenchError  # noqa: E402
from harness import Net, Options, run, to_json  # noqa: E402

# -- the machine ---------------------------------------------------------------------------------------------------------

def first(pattern, text, default="unknown"):
    m = re.search(pattern, text)
    return m.group(1).strip() if m else default


def machine(cpu):
    with open("/proc/cpuinfo") as f:
        model = first(r"model name\s*: (.*)", f.read())

    def git(*args):
        r = subprocess.run(["git", "-C", TOP, *args], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        return r.stdout.strip() or "unknown"
    return {"cpu": model, "cpus": os.cpu_count(), "pinned_to": cpu, "kernel": platform.release(),
            "commit": git("describe", "--always", "--dirty", "--abbrev=12"), "date": datetime.date.today().isoformat(),
            "nginx": first(r"nginx/(\S+)", run("/usr/sbin/nginx", "-v")), "compiler": run("gcc", "--version").splitlines()[0]}


def describe_net(net):
    """MTU, offloads and congestion control as they are, not as they should be."""
    dev = "tap0" if net.mode == "tap" else "veth1"
    link = net.ip(net.peer_ns, "-d", "link", "show", "dev", dev)
    route = net.ip(net.peer_ns, "route", "show", "dev", dev)
    return {"device": dev, "mtu": int(first(r"mtu (\d+)", link, "0")), "gso_max_size": int(first(r"gso_max_size (\d+)", link, "0")),
            "offloads": "checksum and TSO" + (" (virtio-net header)" if net.mode != "kernel" else ""),
            "congestion_control": first(r"congctl (\S+)", route), "io": net.io or "default"}


def gap_share(cpu, ms):
    out = run(os.path.join(Options.build, "bench", "gap"), str(cpu), str(ms))
    return int(out.split()[0]) / (ms * 1000)


def cpu_seconds(net):
    """CPU time so far of the processes in @net that live, and of those that this script has waited for."""
    ns = 0
    for pid in net.pids():
        try:
            for t in os.listdir("/proc/%d/task" % pid):
                with open("/proc/%d/task/%s/schedstat" % (pid, t)) as f:
                    ns += int(f.read().split()[0])
        except OSError:
            continue
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ns / 1e9 + used.ru_utime + used.ru_stime


# -- measuring -----------------------------------------------------------------------------------------------------------

class Bench:
    """Runs @names of @cases for each contender in turn. @cpu: all on this one, None: wherever they like"""

    def __init__(self, args, cases, names, cpu):
        self.args, self.cases, self.names, self.cpu = args, cases, names, cpu
        self.contenders = ["kernel", "again"] if args.aa else ["kernel", "tap"] + (["packet"] if args.packet else [])
        self.samples = {c: {k: [] for k in self.contenders} for c in names}
        self.dirty = {c: {k: 0 for k in self.contenders} for c in names}
        self.nets, self.settings = {}, {}

    def one(self, name, contender):
        """One figure; taken again up to twice (not with --quick) if the CPU was taken away around it."""
        measure, args = self.cases[name].measure, self.args
        net, server = self.nets[contender]
        for last in (True,) if args.quick or self.cpu is None else (False, False, True):
            before = gap_share(args.cpu, args.gap_ms)
            self.check_pinned(net)
            used = cpu_seconds(net)
            got = measure(net, server, args.seconds)
            used = cpu_seconds(net) - used
            after = gap_share(args.cpu, args.gap_ms)
            clean = max(before, after) <= report.DIRTY
            if clean or last:
                break
        if got is not None:
            got.update(lost_before=round(before, 4), lost_after=round(after, 4), clean=clean)
            if "ops" in got:
                got["cpu_seconds_per_op"] = used / got["ops"]
            self.dirty[name][contender] += not clean
            self.samples[name][contender].append(got)
        return got

    def check_pinned(self, net):
        """A thread that may run elsewhere would work for nothing, as the figures see it."""
        if self.cpu is None:
            return
        for pid in net.pids():
            try:
                for t in os.listdir("/proc/%d/task" % pid):
                    if os.sched_getaffinity(int(t)) != {self.cpu}:
                        raise BenchError("thread %s of process %d may run on other CPUs" % (t, pid))
            except (ProcessLookupError, FileNotFoundError):
                continue

    def case(self, name):
        case = self.cases[name]
        print("%s" % case.title)
        for contender in self.contenders:
            net = Net("kernel" if contender == "again" else contender, cpu=self.cpu, mtu=self.args.mtu)
            try:
                self.nets[contender] = (net, None)
                self.nets[contender] = (net, case.server(net))
                self.settings[contender] = describe_net(net)
            except BaseException:
                net.close(failed=True)
                raise
        for i in range(self.args.pairs):
            order = self.contenders if i % 2 == 0 else self.contenders[::-1]
            got = {k: self.one(name, k) for k in order}
            print("  " + "   ".join("%s %s" % (k, report.show(got[k]["value"], case.unit) if got[k] else "not measured")
                                    for k in self.contenders), flush=True)

    def close(self):
        for net, _ in self.nets.values():
            net.close()
        self.nets.clear()

    def run(self):
        for name in self.names:
            try:
                self.case(name)
            finally:
                self.close()


def parse_args(argv):
    p = argparse.ArgumentParser(prog="./dev bench", description=__doc__.splitlines()[0])
    p.add_argument("--quick", action="store_true", help="under two minutes: two short pairs of the main cases, one CPU")
    p.add_argument("--packet", action="store_true", help="AF_PACKET on a veth as a third contender")
    p.add_argument("--aa", action="store_true", help="the kernel against itself: how far apart do equals come out?")
    p.add_argument("--pairs", type=int, help="runs per contender and case (7, quick 2)")
    p.add_argument("--seconds", type=int, help="seconds per run (2)", default=2)
    p.add_argument("--cases", help="of %s" % " ".join(CASES))
    p.add_argument("--one-cpu", action="store_true", help="leave out the figures of two CPUs")
    p.add_argument("--cpu", type=int, default=0, help="the one CPU (default 0)")
    p.add_argument("--mtu", type=int, default=1500)
    p.add_argument("--out", default=None, help="where performance.md is (default docs/, with --quick build/bench/)")
    a = p.parse_args(argv)
    a.pairs = a.pairs or (2 if a.quick else 7)       # many short pairs: what disturbs comes in spells of seconds
    a.gap_ms = 200 if a.quick else 300
    a.one_cpu = a.one_cpu or a.quick or a.aa or bool(a.cases) or (os.cpu_count() or 1) < 2
    a.cases = a.cases.split(",") if a.cases else [c for c in CASES if CASES[c].quick or not a.quick]
    for c in a.cases:
        if c not in CASES:
            p.error("--cases=%s: no such case; there are %s" % (c, " ".join(CASES)))
    a.out = a.out or os.path.join(TOP, "build/bench" if a.quick or a.aa else "docs")
    return a


def missed_goals(rows):
    out = []
    for r in rows:
        e = r["of"].get("tap", {})
        if r["goal"] and e.get("ratio", 0) < r["goal"]:
            out.append("%s %.2f (goal %.1f)" % (r["case"], e.get("ratio", 0), r["goal"]))
        if r["most"] and e.get("median", 0) > r["most"]:
            out.append("%s %.2f (goal %.1f)" % (r["case"], e["median"], r["most"]))
    return out


def main():
    args = parse_args(sys.argv[1:])

    def interrupted(_sig, _frame):
        for sig in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sig, signal.SIG_IGN)      # once is enough: what follows is the cleaning
        raise KeyboardInterrupt
    for sig in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sig, interrupted)
    everywhere = os.sched_getaffinity(0)
    others = everywhere - {args.cpu}
    build = os.path.join(Options.build, "bench")
    m, bench, two = machine(args.cpu), Bench(args, CASES, args.cases, args.cpu), None
    try:
        if others:
            os.sched_setaffinity(0, others)         # this script's own work stays off the measured CPU
        bench.run()
        if not args.one_cpu:
            os.sched_setaffinity(0, everywhere)
            two = Bench(args, TWO_CPUS, list(TWO_CPUS), None)
            two.run()
    except KeyboardInterrupt:
        print("interrupted")
        return 130
    except (BenchError, AssertionError, RuntimeError) as e:
        print("\nThe benchmark failed: %s" % e)
        return 1
    rows, two_rows = report.summary(bench), report.summary(two) if two else []
    js = os.path.join(build, "bench-%s.json" % datetime.datetime.now().strftime("%Y%m%d-%H%M%S"))
    to_json(js, {"machine": m, "arguments": vars(args), "settings": bench.settings, "samples": bench.samples, "summary": rows,
                 "two_cpus": {"samples": two.samples, "summary": two_rows} if two else None})
    body = report.markdown(rows, bench, m, two, two_rows)
    path = report.write(args.out, body, rows, bench, build)
    print("\n" + body)
    print("\nReport: %s\nEvery run: %s" % (os.path.relpath(path, TOP), os.path.relpath(js, TOP)))
    if args.aa:
        print("\nVerdict: no errors; the ratios above are the noise of the method")
        return 0
    missed = missed_goals(rows)
    print("\nVerdict: " + ("below the goal: " + ", ".join(missed) if missed else "no errors, every goal is met"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
