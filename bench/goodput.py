#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""goodput.py - what arrives over a bad wire, the private stack's TCP beside the kernel's

One flow of 20 MiB, 100 Mbit/s, 20 ms there and back, 512 KiB of queue, by the project's relay (there need be no netem).
Sender and receiver sit in network namespaces of their own on the two sides of the relay; CUBIC by route on the kernel's
sides. The same seeds for all contenders:

    kernel      kernel to kernel
    ownstack    private stack to kernel
    received    kernel to private stack

The table also has the same transfer in the simulator (tests/sim), where both ends are the private stack.

    ./dev bench --goodput [--quick] [--seeds N] [--cases clean,loss1,...] [--contenders ...] [--out DIR]
    ./dev bench --fairness [--runs N]: one private and one kernel flow in the same queue, seconds 10 to 40, and as the control
    two of the kernel's, at the same time over a wire of their own; each is the first in half of the runs. Then flows
    among their like, in the simulator: 20 seeds

Runs that are slow because of their losses go side by side, as many as leave the machine idle enough. Relay and programs
run before anything else on the machine, so that its other work does not delay packets. Writes DIR/goodput.md.
"""

import argparse
import concurrent.futures
import json
import os
import platform
import re
import statistics
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(TOP, "tests", "app"))

from harness import PEER, PRIVATE, Net, Options, wait_for  # noqa: E402

WIRE = "rate=100mbit,queue=512k,delay=10ms"
BYTES = 20 << 20
PORT = 5001

# name: (title, what the wire does more, scenario of the simulator, side by side)
CASES = {
    "clean": ("nothing lost", "", "goodput_clean", 1),
    "loss01": ("0.1 % lost", "loss=0.1%", "goodput_loss_01pct", 2),
    "loss1": ("1 % lost", "loss=1%", "goodput_loss_1pct", 6),
    "loss3": ("3 % lost", "loss=3%", "goodput_loss_3pct", 10),
    "reorder": ("5 % late by up to 10 ms", "reorder=5%,late=10ms", "goodput_reorder", 1),
    "blackout": ("nothing passes for 200 ms", "", "goodput_blackout", 1),
}
SIMULATED_SHARES = {"fair_2_cubic": "2 CUBIC", "fair_10_cubic": "10 CUBIC", "fair_2_bbr": "2 BBR", "fair_10_bbr": "10 BBR"}
CONTENDERS = {"kernel": ("kernel", "private", "peer"), "ownstack": ("tap", "private", "peer"),
              "received": ("tap", "peer", "private")}
TITLES = {"kernel": "Linux to Linux", "ownstack": "ownstack to Linux", "received": "Linux to ownstack"}


def program(name, *folders):
    path = os.path.join(Options.build, *folders, name)
    if not os.access(path, os.X_OK):
        sys.exit("%s is not there: ./dev build" % path)
    return path


def relay_argv(more, seed, blackout):
    spec = ",".join(filter(None, (WIRE, more, "seed=%d" % seed)))
    argv = ["chrt", "-f", "2", program("relay", "tests", "relay"), "--impair", spec]
    if blackout:
        argv += ["--blackout", "%d:200" % (500 + seed * 7919 % 500)]
    return argv


def fields(text):
    return {k: float(v) for k, v in re.findall(r"(\w+)=([\d.]+)", text)}


def one(case, contender, seed):
    """One transfer. Returns the sender's figures."""
    mode, sender, receiver = CONTENDERS[contender]
    net = Net(mode, relay=relay_argv(CASES[case][1], seed, case == "blackout"))
    bulk = program("bulk", "bench")
    try:
        sink = net.start(receiver, bulk, "recv", str(PORT))
        wait_for("the receiver", lambda: "listening" in sink.text() or not sink.alive(), 20)
        net.cubic()
        source = net.start(sender, bulk, "send", PRIVATE if receiver == "private" else PEER, str(PORT), str(BYTES))
        got = fields(source.done(600))
        sink.done(20)
        assert fields(sink.text())["bytes"] == BYTES, sink.tails()
        if mode != "kernel":
            got["stats"] = {k: int(v) for k, v in re.findall(r"^(Tcp\w+) +([1-9]\d*)", net.ownstack("stats", "--host", "host0"), re.M)}
        net.relay.kill()
        net.relay.wait(5)
        got['relay'] = net.relay.text()
        return got
    except AssertionError as e:
        raise AssertionError("%s, %s, seed %d: %s\n%s" % (case, contender, seed, e, net.diagnose())) from None
    finally:
        net.close()


def quarters(values):
    v = sorted(values)
    return statistics.median(v), v[len(v) // 4], v[len(v) * 3 // 4], v[0], v[-1]


def case_run(case, contenders, seeds):
    """All seeds of all contenders, in turn, so that what disturbs the machine disturbs all. Returns {contender: [kbit/s]}"""
    jobs = [(seed, c) for seed in range(1, seeds + 1) for c in (contenders if seed % 2 else contenders[::-1])]
    got = {c: [] for c in contenders}
    with concurrent.futures.ThreadPoolExecutor(CASES[case][3]) as pool:
        futures = {pool.submit(one, case, c, seed): (seed, c) for seed, c in jobs}
        for f in concurrent.futures.as_completed(futures):
            seed, c = futures[f]
            r = f.result()
            got[c].append(r)
            r["seed"] = seed
    for c in contenders:
        got[c].sort(key=lambda r: r["seed"])
        m, q1, q3, lo, hi = quarters([r["kbit_s"] for r in got[c]])
        print("%-9s %-9s median %6.2f Mbit/s, quarters %6.2f %6.2f, from %6.2f to %6.2f, %4.0f sent again" %
              (case, c, m / 1e3, q1 / 1e3, q3 / 1e3, lo / 1e3, hi / 1e3, statistics.median(r["retrans"] for r in got[c])),
              flush=True)
    return got


def simulated(case):
    path = os.path.join(TOP, "tests", "sim", "expected", CASES[case][2] + ".txt")
    m = re.search(r"median (\d+) kbit/s, quarters at (\d+) and (\d+)", open(path).read())
    return tuple(int(x) for x in m.groups()) if m else None


def cell(m, q1, q3):
    return "%.1f (%.1f to %.1f)" % (m / 1e3, q1 / 1e3, q3 / 1e3)


def report(results, seeds):
    lines = ["| wire | %s | ownstack / Linux | simulated |" % " | ".join(TITLES[c] for c in next(iter(results.values()))),
             "|---|%s---|---|" % ("---|" * len(next(iter(results.values()))))]
    for case, got in results.items():
        stats = {c: quarters([r["kbit_s"] for r in rs]) for c, rs in got.items()}
        ratio = "%.2f" % (stats["ownstack"][0] / stats["kernel"][0]) if {"ownstack", "kernel"} <= stats.keys() else ""
        sim = simulated(case)
        lines.append("| %s | %s | %s | %s |" % (CASES[case][0], " | ".join(cell(*stats[c][:3]) for c in got), ratio,
                                                cell(*sim) if sim else ""))
    text = "\n".join(lines)
    text += ("\n\nMbit/s: median of %d seeds and the quarters. Linux %s, CUBIC on both; Linux's own buffers and settings but "
             "for\nroute-wise `congctl cubic`." % (seeds, platform.release()))
    return text


def report_shares(shares, simulated_shares):
    text = ("One flow and one kernel CUBIC flow in the same queue of 256 KiB, 100 Mbit/s, 20 ms, the second 1 s after the first, "
            "each the\nfirst in half of the runs; what arrived between 10 s and 40 s, as a multiple of the kernel flow's:\n\n"
            "| flow | median | quarters | from, to |\n|---|---|---|---|")
    for who, got in shares.items():
        m, q1, q3, lo, hi = quarters(got)
        text += "\n| %s | %.2f | %.2f to %.2f | %.2f to %.2f |" % (TITLES[who].split()[0], m, q1, q3, lo, hi)
    if simulated_shares:
        text += ("\n\nFlows among their like, simulated, 100 Mbit/s and 20 ms for 50 s, 20 seeds; Jain's index:\n\n"
                 "| flows | median | quarters | least |\n|---|---|---|---|")
        for name, got in simulated_shares.items():
            m, q1, q3, lo, _ = quarters(got)
            text += "\n| %s | %.3f | %.3f to %.3f | %.3f |" % (SIMULATED_SHARES[name], m, q1, q3, lo)
    return text


# -- shares ------------------------------------------------------------------------------------------------------------

def share(number, who="ownstack", seconds=40, trace=None):
    """
    A flow of @who ("ownstack", or "kernel" as the control) and a kernel's side by side into one kernel receiver. Returns
    the first's share / the second's. @trace: a folder for both senders' windows, ten lines a second
    """
    spec = ["chrt", "-f", "2", program("relay", "tests", "relay"), "--impair", "rate=100mbit,queue=256k,delay=10ms,seed=%d" % number]
    net = Net(CONTENDERS[who][0], relay=spec, rival=True)
    bulk = program("bulk", "bench")
    try:
        sinks = [net.start("peer", bulk, "recv", str(PORT + i), str(10 - i * (number % 2) - (1 - i) * (1 - number % 2)),
                           str(seconds)) for i in (0, 1)]
        for s in sinks:
            wait_for("the receiver", lambda s=s: "listening" in s.text() or not s.alive(), 20)
        net.cubic()
        sources = [None, None]
        for i in (0, 1) if number % 2 else (1, 0):      # each is the first in half of the runs
            sources[i] = net.start(("private", "rival")[i], bulk, "send", PEER, str(PORT + i), str(1 << 40), *(["100"] if trace else []))
            wait_for("a second", lambda p=sources[i]: not p.alive() or age(p) > 1, 5)
        for s in sinks:
            s.done(seconds + 20)
        counted = [fields(s.text())["counted"] for s in sinks]
        print("share %d: %s %.1f Mbit/s, kernel beside it %.1f Mbit/s: %.2f" %
              (number, who, *(c * 8 / 1e6 / (seconds - 9) for c in counted), counted[0] / counted[1]), flush=True)
        if trace:
            for i, p in enumerate(sources):
                with open(os.path.join(trace, "%s-%d-%s.txt" % (who, number, ("private", "rival")[i])), "w") as f:
                    f.write(p.text())
        return counted[0] / counted[1]
    except AssertionError as e:
        raise AssertionError("share %d: %s\n%s" % (number, e, net.diagnose())) from None
    finally:
        net.close()


def shares_run(runs):
    """Both kinds of a run at the same time, so that a slow spell of the machine hits both."""
    jobs = [(who, n) for n in range(1, runs + 1) for who in ("ownstack", "kernel")]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        got = list(pool.map(lambda job: share(job[1], job[0]), jobs))
    return {who: [r for (w, _), r in zip(jobs, got) if w == who] for who in ("ownstack", "kernel")}


def shares_simulated(seeds):
    """Jain's index of each scenario and seed"""
    def index(job):
        r = subprocess.run([program("sim", "tests", "sim"), job[0], "--seed", str(job[1])], capture_output=True, text=True,
                           timeout=600)
        return int(r.stdout.split()[-1]) / 1000         # the last column of the row; below 0.95 a line says so before it
    jobs = [(name, seed) for name in SIMULATED_SHARES for seed in range(1, seeds + 1)]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        got = list(pool.map(index, jobs))
    return {name: [r for (n, _), r in zip(jobs, got) if n == name] for name in SIMULATED_SHARES}


def age(proc):
    with open("/proc/uptime") as f:
        up = float(f.read().split()[0])
    with open("/proc/%d/stat" % proc.pid) as f:
        return up - float(f.read().rsplit(")", 1)[1].split()[19]) / os.sysconf("SC_CLK_TCK")


def write(path, name, text):
    begin, end = "<!-- %s:begin -->" % name, "<!-- %s:end -->" % name
    with open(path) as f:
        old = f.read()
    with open(path, "w") as f:
        f.write(old.split(begin)[0] + begin + "\n" + text + "\n" + end + old.split(end, 1)[1])


def parse_args(argv):
    p = argparse.ArgumentParser(prog="./dev bench --goodput", description=__doc__.splitlines()[0])
    p.add_argument("--goodput", action="store_true")
    p.add_argument("--fairness", action="store_true", help="shares only")
    p.add_argument("--quick", action="store_true", help="3 seeds, no shares, docs/ is left alone")
    p.add_argument("--seeds", type=int)
    p.add_argument("--runs", type=int, default=8, help="of the shares (default %(default)s)")
    p.add_argument("--cases", default=",".join(CASES))
    p.add_argument("--contenders", default="kernel,ownstack,received")
    p.add_argument("--json", help="every run, to this file")
    p.add_argument("--out", default=None, help="the page whose marked part is written anew (default docs/goodput.md)")
    a = p.parse_args(argv)
    a.seeds = a.seeds or (3 if a.quick else 20)
    a.cases, a.contenders = a.cases.split(","), a.contenders.split(",")
    return a


def main():
    args = parse_args(sys.argv[1:])
    if os.geteuid():
        sys.exit("needs root: namespaces and devices")
    os.nice(-19)
    results, shares, simulated_shares = {}, {}, {}
    page = args.out or (None if args.quick else os.path.join(TOP, "docs", "goodput.md"))
    if not args.fairness:
        for case in args.cases:
            results[case] = case_run(case, args.contenders, args.seeds)
    if args.fairness or not args.quick:
        shares = shares_run(args.runs)
        simulated_shares = {} if args.quick else shares_simulated(args.seeds)
    if args.json:
        with open(args.json, "w") as f:
            json.dump({"results": results, "shares": shares, "simulated shares": simulated_shares}, f, indent=1)
    for name, text in (("goodput", report(results, args.seeds) if results else None),
                       ("shares", report_shares(shares, simulated_shares) if shares else None)):
        if text:
            print("\n" + text)
            if page:
                write(page, name, text)
    below = [c for c, got in results.items() if {"kernel", "ownstack"} <= got.keys() and
             statistics.median(r["kbit_s"] for r in got["ownstack"]) <
             0.95 * statistics.median(r["kbit_s"] for r in got["kernel"])]
    unfair = ["beside Linux's"] if shares and not 0.8 <= statistics.median(shares["ownstack"]) <= 1.25 else []
    unfair += [SIMULATED_SHARES[n] for n, got in simulated_shares.items() if statistics.median(got) < 0.95]
    print("\nVerdict: " + ("below Linux by more than 5 %%: %s; unfair in the median: %s" % (below, unfair)
                           if below or unfair else "every bar is met"))
    return 1 if below or unfair else 0


if __name__ == "__main__":
    sys.exit(main())
