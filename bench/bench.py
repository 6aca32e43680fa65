#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""bench.py - the private stack against the kernel's, measured so that the answer repeats

Everything that takes part (server, keeper, warden, load generator) is pinned to one CPU, so a figure is the whole CPU
cost of an operation on both sides of the wire; two-CPU figures follow the wake-up habits of the virtual machine rather
than the code. Contenders run in turn (A B, B A, A B ...), congestion control is the same on every kernel side, a run in
which the CPU was taken away is repeated, and an error of the load generator fails the benchmark.

    ./dev bench [--quick] [--packet | --aa] [--pairs N] [--seconds N] [--cases c1,c64,...] [--cpu N] [--out DIR]

Writes DIR/performance.md (the part between its two markers), DIR/performance-*.svg and build/bench/*.json.
"""

import argparse
import datetime
import json
import os
import platform
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(TOP, "tests", "app"))

from harness import (PRIVATE, Net, Nginx, Options, count_syscalls, parse_wrk, run, to_json, wait_for, wrk_argv)  # noqa: E402

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
NAMES = {"kernel": "kernel TCP on veth", "tap": "ownstack on TAP", "packet": "ownstack on AF_PACKET",
         "again": "kernel TCP once more"}
DIRTY = 0.02            # share of the CPU that others may take around a run


class BenchError(Exception):
    pass


# -- cases: each gets a warm server and gives one figure ----------------------------------------------------------------

def wrk_case(conns, *more):
    def measure(net, ng, seconds):
        r = parse_wrk(net.call("peer", *wrk_argv(ng.url, conns, seconds, *more), seconds=seconds + 30))
        if r["errors"] or r["bad_answers"]:
            raise BenchError("wrk -c%d: %d bad answers, %s" % (conns, r["bad_answers"], r["error_line"]))
        return {"value": r["rate"], "ops": r["requests"], "p50_us": r["p50_us"], "p99_us": r["p99_us"]}
    return measure


def bulk_case(*more):
    def measure(net, _ng, seconds):
        srv = net.start("private", "iperf3", "-s", "-1", "--forceflush")
        wait_for("iperf3 to listen", lambda: "listening" in srv.text() or not srv.alive(), 15)
        out = json.loads(net.call("peer", "iperf3", "-c", PRIVATE, "-t", str(seconds), "-J", *more, seconds=seconds + 30))
        srv.done(20)
        if "error" in out:
            raise BenchError("iperf3: " + out["error"])
        return {"value": out["end"]["sum_received"]["bits_per_second"] / 1e9, "ops": out["end"]["sum_received"]["bytes"]}
    return measure


def syscalls_case(net, ng, seconds):
    load = net.start("peer", *wrk_argv(ng.url, 64, seconds + 2))
    wait_for("load", lambda: net.http(ng.addr, "/pid", close=True))
    pids = ng.workers() + (net.helpers() if net.mode != "kernel" else [])
    got = count_syscalls(net, ng, pids, seconds)
    load.done(seconds + 30)
    return {"value": got[0] / got[1]} if got and got[1] else None


# name: (title, unit, what of two figures is better, goal as ratio to the kernel or None, measure)
CASES = {
    "c1": ("HTTP keep-alive, 1 connection", "requests/s", "more", None, wrk_case(1)),
    "c64": ("HTTP keep-alive, 64 connections", "requests/s", "more", 1.0, wrk_case(64)),
    "c1000": ("HTTP keep-alive, 1000 connections", "requests/s", "more", None, wrk_case(1000)),
    "close": ("new connection per request, 64 at once", "connections/s", "more", 1.0, wrk_case(64, "-H", "Connection: close")),
    "sent": ("bulk, one stream, sent by the server", "Gbit/s", "more", 0.6, bulk_case("-R")),
    "received": ("bulk, one stream, received by the server", "Gbit/s", "more", 0.4, bulk_case()),
    "syscalls": ("system calls per request, 64 connections", "calls", "fewer", None, syscalls_case),
}


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
    def __init__(self, args):
        self.args = args
        self.contenders = ["kernel", "again"] if args.aa else ["kernel", "tap"] + (["packet"] if args.packet else [])
        self.samples = {c: {k: [] for k in self.contenders} for c in args.cases}
        self.dirty = {c: {k: 0 for k in self.contenders} for c in args.cases}
        self.nets, self.settings = {}, {}

    def one(self, case, contender):
        """One figure; taken again up to twice (not with --quick) if the CPU was taken away around it."""
        measure, args = CASES[case][4], self.args
        net, ng = self.nets[contender]
        for last in (True,) if args.quick else (False, False, True):
            before = gap_share(args.cpu, args.gap_ms)
            used = cpu_seconds(net)
            got = measure(net, ng, args.seconds)
            used = cpu_seconds(net) - used
            after = gap_share(args.cpu, args.gap_ms)
            clean = max(before, after) <= DIRTY
            if clean or last:
                break
        if got is not None:
            got.update(lost_before=round(before, 4), lost_after=round(after, 4), clean=clean)
            if "ops" in got:
                got["cpu_seconds_per_op"] = used / got["ops"]
            self.dirty[case][contender] += not clean
            self.samples[case][contender].append(got)
        return got

    def case(self, case):
        print("%s" % CASES[case][0])
        for contender in self.contenders:
            net = Net("kernel" if contender == "again" else contender, cpu=self.args.cpu, mtu=self.args.mtu)
            try:
                self.nets[contender] = (net, Nginx(net, workers=1))
                self.settings[contender] = describe_net(net)
                if net.mode != "kernel":
                    self.settings[contender]["helpers_pinned"] = all(
                        os.sched_getaffinity(p) == {self.args.cpu} for p in net.helpers())
            except BaseException:
                net.close(failed=True)
                raise
        for i in range(self.args.pairs):
            order = self.contenders if i % 2 == 0 else self.contenders[::-1]
            got = {k: self.one(case, k) for k in order}
            print("  " + "   ".join("%s %s" % (k, show(got[k]["value"], CASES[case][1]) if got[k] else "not measured")
                                    for k in self.contenders), flush=True)

    def close(self):
        for net, _ in self.nets.values():
            net.close()
        self.nets.clear()

    def run(self):
        for case in self.args.cases:
            try:
                self.case(case)
            finally:
                self.close()


# -- the report ----------------------------------------------------------------------------------------------------------

def show(v, unit):
    if unit.endswith("/s") and unit != "Gbit/s":
        return "%.1f k" % (v / 1000) if v >= 1000 else "%.0f" % v
    return "%.2f" % v


def summary(bench):
    rows = []
    for case in bench.args.cases:
        title, unit, better, goal, _ = CASES[case]
        row = {"case": case, "title": title, "unit": unit, "goal": goal, "better": better, "dirty": bench.dirty[case], "of": {}}
        base = [s["value"] for s in bench.samples[case]["kernel"]]
        for k in bench.contenders:
            values = [s["value"] for s in bench.samples[case][k]]
            if not values:
                continue
            e = row["of"][k] = {"median": statistics.median(values), "min": min(values), "max": max(values), "values": values}
            p50 = [s["p50_us"] for s in bench.samples[case][k] if s.get("p50_us")]
            if p50:
                e["p50_us"] = statistics.median(p50)
            if k != "kernel" and len(base) == len(values):
                e["ratio"] = statistics.median(v / b for v, b in zip(values, base))
                pairs = [(b["cpu_seconds_per_op"], s["cpu_seconds_per_op"]) for b, s in
                         zip(bench.samples[case]["kernel"], bench.samples[case][k]) if "cpu_seconds_per_op" in s]
                if pairs:
                    e["cpu_ratio"] = statistics.median(b / s for b, s in pairs)
        rows.append(row)
    return rows


def markdown(rows, bench, m):
    out = ["Commit `%s`, %s. %s, %d CPUs, Linux %s, nginx %s. All processes on CPU %d; %d runs of %d s each, in turn." %
           (m["commit"], m["date"], m["cpu"], m["cpus"], m["kernel"], m["nginx"], m["pinned_to"], bench.args.pairs,
            bench.args.seconds), ""]
    for k in bench.contenders:
        s = bench.settings[k]
        out.append("- %s: MTU %d, %s, frames up to %d octets, peer's congestion control %s%s" %
                   (NAMES[k], s["mtu"], s["offloads"], s["gso_max_size"], s["congestion_control"],
                    "" if k in ("kernel", "again") else ", I/O level %s" % s["io"]))
    head = "| case | unit |" + "".join(" %s |" % NAMES[k] for k in bench.contenders)
    head += "".join(" %s / kernel |" % k for k in bench.contenders[1:]) + " goal |"
    out += ["", "Median [least .. most]; the ratios are medians of the pairs' ratios, more than 1 is better than the kernel.", "",
            head, "|---|---|" + "---:|" * (2 * len(bench.contenders))]
    for r in rows:
        cells = []
        for k in bench.contenders:
            e = r["of"].get(k)
            cells.append("not measured" if not e else "**%s** [%s .. %s]%s" % (
                show(e["median"], r["unit"]), show(e["min"], r["unit"]), show(e["max"], r["unit"]),
                ", p50 %.0f µs" % e["p50_us"] if "p50_us" in e else ""))
        for k in bench.contenders[1:]:
            e = r["of"].get(k, {})
            cells.append("%.2f" % e["ratio"] if "ratio" in e and r["better"] == "more" else "")
        cells.append("≥ %.1f" % r["goal"] if r["goal"] else "≤ 0.5 calls" if r["case"] == "syscalls" else "")
        out.append("| %s | %s | %s |" % (r["title"], r["unit"], " | ".join(cells)))
    spoilt = sum(sum(r["dirty"].values()) for r in rows)
    total = sum(len(bench.samples[c][k]) for c in bench.samples for k in bench.contenders)
    out += ["", "%s of %d runs had more than %d %% of the CPU taken away by others around them%s." %
            (spoilt or "None", total, DIRTY * 100, "" if bench.args.quick else " even at the third try")]
    return "\n".join(out)


PLOT = r"""
set terminal svg size {width},{height} font "Helvetica,13" background "white"
set output "{svg}"
set title "{title}" font "Helvetica,16"
set ylabel "{ylabel}"
set style data histograms
set style histogram errorbars gap 1.5 lw 1.2
set style fill solid 0.9 border rgb "#555555"
set boxwidth 0.9 relative
set yrange [0:*]
set grid ytics lc rgb "#dddddd" lt 1
set border 3 lc rgb "#666666"
set tics nomirror
set key outside top center horizontal
set xtics font "Helvetica,12"
set bmargin 4
plot {series}
"""


def chart(rows, bench, names, title, ylabel, scale, svg, build):
    rows = [r for r in rows if r["case"] in names and all(k in r["of"] for k in bench.contenders)]
    if not rows:
        return None
    data = os.path.join(build, os.path.basename(svg) + ".dat")
    with open(data, "w") as f:
        for r in rows:
            f.write('"%s"' % r["title"].replace(", ", "\\n"))
            for k in bench.contenders:
                e = r["of"][k]
                f.write(" %g %g %g" % tuple(e[x] / scale for x in ("median", "min", "max")))
            f.write("\n")
    colours = {"kernel": "#8c96a3", "tap": "#1f77b4", "packet": "#6baed6", "again": "#b0b7c0"}
    series = ", ".join('"%s" using %d:%d:%d:xtic(1) title "%s" lc rgb "%s"' %
                       (data, 2 + 3 * i, 3 + 3 * i, 4 + 3 * i, NAMES[k].replace("_", "\\\\_"), colours[k])
                       for i, k in enumerate(bench.contenders))
    text = PLOT.format(svg=svg, title=title, ylabel=ylabel, series=series, width=260 + 190 * len(rows), height=420)
    subprocess.run(["gnuplot"], input=text, text=True, check=True)
    return os.path.basename(svg)


INTRO = """# Performance

Measured by `./dev bench`, which anybody can repeat; it rewrites the part below. Server (one nginx worker), keeper, warden and
load generator share **one** CPU, so each figure is the CPU cost of the operation on both sides together. What that leaves
out: latency across CPUs, and scaling over several.

"""


def write_report(rows, bench, m, out, build):
    os.makedirs(out, exist_ok=True)
    body = markdown(rows, bench, m)
    if shutil.which("gnuplot"):
        for svg in (chart(rows, bench, ("c1", "c64", "c1000", "close"), "nginx on one CPU, client included",
                          "thousands per second", 1000, os.path.join(out, "performance-requests.svg"), build),
                    chart(rows, bench, ("sent", "received"), "iperf3 on one CPU, client included", "Gbit/s", 1,
                          os.path.join(out, "performance-bulk.svg"), build)):
            if svg:
                body += "\n\n![%s](%s)" % (svg.split(".")[0], svg)
    path = os.path.join(out, "performance.md")
    text = open(path).read() if os.path.exists(path) else INTRO + BEGIN + "\n" + END + "\n"
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    with open(path, "w") as f:
        f.write(before + BEGIN + "\n" + body + "\n" + END + after)
    return path


def parse_args(argv):
    p = argparse.ArgumentParser(prog="./dev bench", description=__doc__.splitlines()[0])
    p.add_argument("--quick", action="store_true", help="under two minutes: two short pairs per case")
    p.add_argument("--packet", action="store_true", help="AF_PACKET on a veth as a third contender")
    p.add_argument("--aa", action="store_true", help="the kernel against itself: how far apart do equals come out?")
    p.add_argument("--pairs", type=int, help="runs per contender and case (9, quick 2)")
    p.add_argument("--seconds", type=int, help="seconds per run (3, quick 2)")
    p.add_argument("--cases", default=",".join(CASES), help="default: all (%(default)s)")
    p.add_argument("--cpu", type=int, default=0, help="the one CPU (default 0)")
    p.add_argument("--mtu", type=int, default=1500)
    p.add_argument("--out", default=None, help="where performance.md is (default docs/, with --quick build/bench/)")
    a = p.parse_args(argv)
    a.pairs = a.pairs or (2 if a.quick else 9)       # many short pairs: what disturbs comes in spells of seconds
    a.seconds = a.seconds or (2 if a.quick else 3)
    a.gap_ms = 200 if a.quick else 300
    a.cases = a.cases.split(",")
    for c in a.cases:
        if c not in CASES:
            p.error("--cases=%s: no such case; there are %s" % (c, " ".join(CASES)))
    a.out = a.out or os.path.join(TOP, "build/bench" if a.quick or a.aa else "docs")
    return a


def main():
    args = parse_args(sys.argv[1:])

    def interrupted(_sig, _frame):
        for sig in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sig, signal.SIG_IGN)      # once is enough: what follows is the cleaning
        raise KeyboardInterrupt
    for sig in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sig, interrupted)
    others = os.sched_getaffinity(0) - {args.cpu}
    if others:
        os.sched_setaffinity(0, others)         # this script's own work stays off the measured CPU
    build = os.path.join(Options.build, "bench")
    m, bench = machine(args.cpu), Bench(args)
    try:
        bench.run()
    except KeyboardInterrupt:
        print("interrupted")
        return 130
    except (BenchError, AssertionError, RuntimeError) as e:
        print("\nThe benchmark failed: %s" % e)
        return 1
    rows = summary(bench)
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    js = os.path.join(build, "bench-%s.json" % stamp)
    to_json(js, {"machine": m, "arguments": vars(args), "settings": bench.settings, "samples": bench.samples, "summary": rows})
    path = write_report(rows, bench, m, args.out, build)
    print("\n" + markdown(rows, bench, m))
    print("\nReport: %s\nEvery run: %s" % (os.path.relpath(path, TOP), os.path.relpath(js, TOP)))
    if args.aa:
        print("\nVerdict: no errors; the ratios above are the noise of the method")
        return 0
    missed = ["%s %.2f (goal %.1f)" % (r["case"], r["of"]["tap"]["ratio"], r["goal"]) for r in rows
              if r["goal"] and r["of"].get("tap", {}).get("ratio", 0) < r["goal"]]
    missed += ["syscalls %.2f (goal 0.5)" % r["of"]["tap"]["median"] for r in rows
               if r["case"] == "syscalls" and r["of"].get("tap", {}).get("median", 0) > 0.5]
    print("\nVerdict: " + ("below the goal: " + ", ".join(missed) if missed else "no errors, every goal is met"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
