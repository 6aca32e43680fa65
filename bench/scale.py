#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""scale.py - instructions for one request at 10, 10^4 (and 10^6) connections, counted by callgrind

    bench/scale.py build/bench/scale [--million]

Fails if a request at more connections costs over 3 % more instructions than at 10 (whatever else it costs then is cache
misses), and if a figure has grown by more than 5 % over the one in bench/figures.json: who means it changes that file.
Ends with 77 (skipped) where there is no valgrind.
"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

REQUESTS = 5000
LIMIT = 1.03
GROWTH = 1.05
FIGURES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "figures.json")


def count(program, conns):
    with tempfile.TemporaryDirectory() as d:
        r = subprocess.run(["valgrind", "--tool=callgrind", "--instr-atstart=no", "--callgrind-out-file=%s/out" % d, program,
                            str(conns), str(REQUESTS)], capture_output=True, text=True, timeout=1800)
    collected = re.search(r"Collected\s*:\s*(\d+)", r.stderr)
    if r.returncode or not collected or int(collected.group(1)) == 0:
        sys.exit("no count: %s" % r.stderr[-500:])
    return int(collected.group(1)) / REQUESTS


def main():
    program = sys.argv[1]
    if not shutil.which("valgrind") or not shutil.os.path.exists("/usr/include/valgrind/callgrind.h"):
        print("valgrind and its headers are not installed")
        sys.exit(77)
    sizes = [10, 10000] + ([1000000] if "--million" in sys.argv else [])
    native = {n: subprocess.run([program, str(n), "100000"], check=True, capture_output=True, text=True).stdout for n in sizes}
    counts = {n: count(program, n) for n in sizes}
    print("| connections | instructions per request | ns per request | bytes per idle connection |\n|---|---|---|---|")
    for n in sizes:
        ns, held = re.search(r"(\d+) ns each, (\d+) bytes", native[n]).groups()
        print("| %d | %.0f | %s | %s |" % (n, counts[n], ns, held))
        seen = {"instructions per request": counts[n], "bytes per idle connection": int(held)}
    with open(FIGURES) as f:
        for name, was in json.load(f).items():      # those of hooks: tests/app/test_hooks.py
            if name in seen and seen[name] > was * GROWTH:
                sys.exit("%s: %.0f, was %d" % (name, seen[name], was))
    worst = max(counts.values()) / counts[sizes[0]]
    if worst > LIMIT:
        sys.exit("a request costs %.1f %% more instructions" % (100 * worst - 100))


if __name__ == "__main__":
    main()
