#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""callfuzz.py - the same random programs on the kernel and on a private host; what differs is made small and shown

    callfuzz.py [--seconds N] [--seed S] [--programs N] [--stop-after N]

A program is its seed (gen.c). Both sides print each call with what it gave; where that differs, calls are left out one after
another as long as it still differs (and the kernel agrees with itself), and what is left is printed, with the command that
repeats it. Exit status 1: there was a difference, a crash or a hang.
"""

import argparse
import os
import random
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "app"))

from harness import Net, Options        # noqa: E402

BATCH = 40
AGAIN = 4       # times that what differed is tried
SLOW = 60       # seconds that a batch may take, or one program with its waits


def prog():
    return os.path.join(Options.build, "tests", "callfuzz", "callfuzz")


def by_seed(text):
    """Output of a run as {seed: [lines]}; the last program may be cut short."""
    found, lines = {}, None
    for line in text.splitlines():
        if line.startswith("seed "):
            lines = found[int(line.split()[1].rstrip(":"))] = []
        if lines is not None:
            lines.append(line)
    return found


class Side:
    """The kernel, or a private host that keeps 127.0.0.0/8 to itself."""

    def __init__(self, net):
        self.net, self.runs = net, 0

    def run(self, seed, count=1, drop=()):
        """(lines by seed, how it ended): "", or what was wrong with the end."""
        argv = [prog(), "--seed", str(seed), "--count", str(count), "--trace"]
        if drop:
            argv += ["--drop", ",".join(map(str, sorted(drop)))]
        options = () if self.net.mode == "kernel" else ("--loopback", "private")
        self.runs += 1
        p = self.net.start("private", *argv, name="run%d" % self.runs, options=options)
        try:
            status = p.p.wait(SLOW)
            end = "" if status == 0 else "ended with status %d" % status
        except subprocess.TimeoutExpired:
            p.p.kill()
            p.p.wait()
            end = "was still running after %d s" % SLOW
        out, err = p.text(), p.text("err")
        if "Sanitizer" in err or "runtime error" in err or "ownstack: bug" in err:
            end = (end + "\n" + err[-3000:]).strip()
        self.net.procs.remove(p)
        for path in (p.out_path, p.err_path):
            os.unlink(path)
        return by_seed(out), end

    def one(self, seed, drop=()):
        lines, end = self.run(seed, 1, drop)
        return lines.get(seed, []) + ([end] if end else [])


class Difference:
    def __init__(self, seed, want, got, drop, calls, how=""):
        self.seed, self.want, self.got, self.drop, self.calls = seed, want, got + ([how] if how else []), drop, calls
        self.broken = bool(how)         # a crash, a hang, a sanitizer's word: no matter how often

    def first(self):
        """The line at which the two part, of both sides."""
        for w, g in zip(self.want, self.got):
            if w != g:
                return w, g
        n = min(len(self.want), len(self.got))
        return (self.want[n:] or ["(end)"])[0], (self.got[n:] or ["(end)"])[0]

    def __str__(self):
        w, g = self.first()
        at = next((i for i, (a, b) in enumerate(zip(self.want, self.got)) if a != b), min(len(self.want), len(self.got)))
        text = ["--- seed %d, %d of its calls" % (self.seed, self.calls - len(self.drop))]
        text += ["    " + ln for ln in self.want[1:at]]
        text += ["kernel:  " + w.strip(), "private: " + g.strip()]
        text += ["         " + ln for ln in self.got[at + 1:] if not ln.startswith("end ")][:6]
        keep = sorted(set(range(self.calls)) - set(self.drop))
        text += ["again: callfuzz --seed %d%s" % (self.seed, " --keep " + ",".join(map(str, keep)) if self.drop else "")]
        return "\n".join(text)


def minimize(kernel, ours, seed, deadline):
    """The fewest calls that still differ, or None where the difference does not come again."""
    def differs(drop):
        want, got = kernel.one(seed, drop), ours.one(seed, drop)
        if want == got or kernel.one(seed, drop) != want:
            return None
        return want, got

    best = differs(())
    if not best:
        return None
    calls = int(best[0][0].split()[-2])
    drop, step = set(), calls // 2
    # all that stands behind the first difference goes at once
    while step >= 1:
        start = calls - 1
        while start >= 0 and time.monotonic() < deadline:
            block = {i for i in range(start, max(start - step, -1), -1)} - drop
            start -= step
            if block:
                found = differs(drop | block)
                if found:
                    drop |= block
                    best = found
        step //= 2
    return Difference(seed, best[0], best[1], drop, calls)


def fuzz(kernel_net, our_net, seconds, seed, stop_after=1, shrink_seconds=60, say=lambda *_: None):
    """Runs programs from @seed on for @seconds. Returns (number of programs, differences, seeds that differed once only)."""
    kernel, ours = Side(kernel_net), Side(our_net)
    end, n, found, once = time.monotonic() + seconds, 0, [], []
    batch = 10
    while time.monotonic() < end and len(found) < stop_after:
        want, _ = kernel.run(seed, batch)
        got, how = ours.run(seed, batch)
        for s in range(seed, seed + batch):
            if s not in want:
                raise AssertionError("the kernel's run did not get to seed %d" % s)
            n += 1
            if want[s] == got.get(s) or any("A PORT TWICE" in ln for ln in want[s] + got.get(s, [])):
                continue
            d = None
            for _ in range(AGAIN):
                d = d or minimize(kernel, ours, s, time.monotonic() + shrink_seconds)
            if d:
                found.append(d)
                say(str(d))
            elif kernel.one(s) == want[s] or how:      # else the kernel does not agree with itself
                once.append(Difference(s, want[s], got.get(s, []), (), 0, how))
                say("(once only) " + str(once[-1]))
            if len(found) >= stop_after:
                break
            if s not in got or how and s == max(got):
                n -= seed + batch - s - 1
                batch = s - seed + 1
                break
        seed += batch
        batch = BATCH
    return n, found, once


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--seconds", type=int, default=60)
    ap.add_argument("--seed", type=int, default=None, help="of the first program (default: by chance)")
    ap.add_argument("--stop-after", type=int, default=1, help="differences")
    ap.add_argument("--shrink", type=int, default=60, help="seconds for making one small")
    o = ap.parse_args()
    seed = random.randrange(1 << 40) if o.seed is None else o.seed
    kernel, ours = Net("kernel"), Net("tap")
    try:
        n, found, once = fuzz(kernel, ours, o.seconds, seed, o.stop_after, o.shrink, lambda *a: print(*a, flush=True))
    finally:
        kernel.close()
        ours.close()
    print("programs %d differences %d once %d, from seed %d on" % (n, len(found), len(once), seed))
    sys.exit(1 if found or once else 0)


if __name__ == "__main__":
    main()
