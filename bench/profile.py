#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""profile.py - where the time of a benchmark case goes: a flame graph, and a table of the library's own share

    ./dev profile CASE [--mode tap|packet|kernel] [--seconds N] [--cpu N] [--out DIR]

Samples the clock of the one CPU on which everything runs (perf record -e cpu-clock: virtual machines have no cycle counter).
Writes DIR/profile-CASE.svg, one frame of stack per box, as wide as its share, and prints the time per operation by process,
by part of the library, and by its functions.
"""

import argparse
import collections
import html
import os
import re
import subprocess
import sys
import threading

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.join(TOP, "tests", "app")]

from cases import CASES  # noqa: E402
from harness import Net, Options  # noqa: E402

HZ = 5000
FOLDERS = ("stack", "io", "host", "preload")


# -- sampling -------------------------------------------------------------------------------------------------------------

def record(args, data):
    """Return: what the case measured meanwhile, and the processes that took part"""
    case = CASES[args.case]
    net = Net(args.mode, cpu=args.cpu)
    perf, pids, over = None, set(), threading.Event()

    def watch():                # the load generator comes and goes inside measure()
        while not over.wait(0.1):
            pids.update(net.pids())
    watcher = threading.Thread(target=watch)
    try:
        server = case.server(net)
        perf = subprocess.Popen(["perf", "record", "-q", "-o", data, "-F", str(HZ), "-g", "-e", "cpu-clock", "-C", str(args.cpu)],
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        watcher.start()
        got = case.measure(net, server, args.seconds)
        perf.terminate()
        perf.wait(30)
        return got, pids
    finally:
        over.set()
        if watcher.ident:
            watcher.join()
        if perf and perf.poll() is None:
            perf.kill()
        net.close()


def stacks(data, pids):
    """perf's samples of @pids: {(process, outermost frame, ..., innermost frame): count}; a frame is (symbol, object)"""
    text = subprocess.run(["perf", "script", "-i", data, "-F", "comm,pid,ip,sym,dso"], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True, check=True).stdout
    found = collections.Counter()
    comm, pid, frames = None, 0, []
    for line in text.splitlines() + [""]:
        if not line.strip():
            if pid in pids and frames:
                found[(comm, *reversed(frames))] += 1
            comm, frames = None, []
        elif comm is None:
            comm, pid = line.rsplit(None, 1)
            comm, pid = comm.strip(), int(pid)
        else:
            m = re.match(r"\s*[0-9a-f]+ (.*) \((.*)\)$", line)
            if m and (m.group(1) != "[unknown]" or not frames):
                frames.append((re.sub(r"\+0x[0-9a-f]+$", "", m.group(1)), os.path.basename(m.group(2)).strip("[]")))
    return found


def folder_of_symbol(library):
    """{function: folder} of the library, by the file it was compiled from"""
    out = subprocess.run(["nm", "-l", "--defined-only", library], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    found = {}
    for line in out.splitlines():
        m = re.match(r"[0-9a-f]+ [tT] (\S+)\s+(\S+):\d+$", line)
        if m:
            folder = os.path.basename(os.path.dirname(m.group(2)))
            found[re.sub(r"\.(constprop|isra|part|cold)\..*$", "", m.group(1))] = folder if folder in FOLDERS else "other"
    return found


# -- the picture ----------------------------------------------------------------------------------------------------------

WIDTH, ROW, FONT, LEAST = 1400, 17, 11, 0.0008
COLOURS = {"kernel.kallsyms": "#e0a030", "libownstack.so": "#3b87c8", "vdso": "#c8b060"}


def tree(found):
    root = {"n": 0, "of": {}}
    for frames, n in found.items():
        at = root
        at["n"] += n
        for f in ((frames[0], "process"), *frames[1:]):
            at = at["of"].setdefault(f, {"n": 0, "of": {}})
            at["n"] += n
    return root


def boxes(node, x, depth, total, out):
    for (name, dso), child in sorted(node["of"].items(), key=lambda kv: kv[0]):
        w = child["n"] / total
        if w >= LEAST:
            out.append((x, depth, w, name, dso, child["n"]))
            boxes(child, x, depth + 1, total, out)
        x += w


def flame(found, title):
    root, out = tree(found), []
    boxes(root, 0.0, 0, root["n"], out)
    depth = max(b[1] for b in out) + 1
    height = (depth + 3) * ROW
    svg = ['<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="Helvetica" font-size="%d">' % (WIDTH, height, FONT),
           '<rect width="100%" height="100%" fill="white"/>',
           '<text x="8" y="%d" font-size="14">%s</text>' % (ROW, html.escape(title))]
    for x, d, w, name, dso, n in out:
        left, wide, top = x * WIDTH, w * WIDTH, height - (d + 1) * ROW
        chars = int(wide / (FONT * 0.58))
        label = name if len(name) <= chars else name[:chars - 2] + ".." if chars > 4 else ""
        colour = "#b8b8b8" if dso == "process" else COLOURS.get(dso, "#7fb26a")
        svg.append('<g><title>%s (%s), %.2f %%</title><rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s" stroke="white" '
                   'stroke-width="0.5"/><text x="%.1f" y="%d">%s</text></g>' %
                   (html.escape(name), html.escape(dso), 100 * w, left, top, wide, ROW - 1, colour, left + 3, top + ROW - 5,
                    html.escape(label)))
    return "\n".join(svg + ["</svg>", ""])


# -- the table ------------------------------------------------------------------------------------------------------------

def parts(found, folders):
    """Samples by (process, part); a part is a folder of the library or another object"""
    by, functions = collections.Counter(), collections.Counter()
    for frames, n in found.items():
        name, dso = frames[-1]
        part = {"kernel.kallsyms": "kernel"}.get(dso, dso)
        if dso == "libownstack.so":
            part = folders.get(re.sub(r"\.(constprop|isra|part|cold)\..*$", "", name), "other")
            part = "ownstack " + part
            functions[(part, name)] += n
        by[(frames[0], part)] += n
    return by, functions


def main():
    p = argparse.ArgumentParser(prog="./dev profile", description=__doc__.splitlines()[0])
    p.add_argument("case", choices=CASES, metavar="CASE", help=" ".join(CASES))
    p.add_argument("--mode", choices=("tap", "packet", "kernel"), default="tap")
    p.add_argument("--seconds", type=int, default=5)
    p.add_argument("--cpu", type=int, default=0)
    p.add_argument("--out", default=os.path.join(Options.build, "bench"))
    args = p.parse_args()
    data = os.path.join(Options.build, "bench", "perf.data")
    got, pids = record(args, data)
    found = stacks(data, pids)
    total = sum(found.values())
    if not got or not got.get("ops") or not total:
        sys.exit("profile: nothing was measured")
    us = 1e6 / HZ / got["ops"]
    by, functions = parts(found, folder_of_symbol(os.path.join(Options.build, "preload", "libownstack.so")))
    print("%s, %s: %.2f us of CPU per operation (%d samples of CPU %d)\n" % (CASES[args.case].title, args.mode, total * us, total, args.cpu))
    for (process, part), n in by.most_common(24):
        print("  %6.3f us  %4.1f %%  %-16s %s" % (n * us, 100 * n / total, process, part))
    print("\nThe library's functions:")
    for (part, name), n in functions.most_common(40):
        print("  %6.0f ns  %-18s %s" % (n * us * 1000, part, name))
    path = os.path.join(args.out, "profile-%s%s.svg" % (args.case, "" if args.mode == "tap" else "-" + args.mode))
    os.makedirs(args.out, exist_ok=True)
    with open(path, "w") as f:
        f.write(flame(found, "%s, %s: %.2f us of CPU per operation" % (CASES[args.case].title, args.mode, total * us)))
    print("\nFlame graph: %s" % os.path.relpath(path, TOP))
    return 0


if __name__ == "__main__":
    sys.exit(main())
