#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""run.py - suites by others, on the kernel and on the private stack in the same run, compared test by test

What passes on the kernel must pass on the private stack. A test that does not is run once more, on both sides; if the
difference stays, it is named, and it is an error unless known.txt names it with a reason. Each run lives in its own
network, mount and process namespaces; the private side is `--loopback private`, so that programs talking to 127.0.0.1 do
so on the private host. Proof that they did: the private host's own count of connections, and no IPv4 TCP socket to be
seen in that namespace's kernel meanwhile.

All that is fetched and built lies in build/suites. `./dev suites [SUITE|UNIT...]` calls this.
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time

import suites

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
SIDES = ("kernel", "private")


class Tools:
    """Packages and builds, all below @place."""

    def __init__(self, place, tool):
        self.place, self.tool = place, tool
        self.logs = os.path.join(place, "logs")
        os.makedirs(self.logs, exist_ok=True)

    def call(self, *argv, cwd=None, ok=(0,)):
        r = subprocess.run(argv, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                           errors="replace", env=dict(os.environ, DEBIAN_FRONTEND="noninteractive", LC_ALL="C"))
        with open(os.path.join(self.logs, "prepare.log"), "a") as f:
            f.write("$ %s\n%s" % (" ".join(argv), r.stdout))
        if r.returncode not in ok:
            raise RuntimeError("%s: status %d\n%s" % (" ".join(argv), r.returncode, r.stdout[-1500:]))
        return r.stdout

    def install(self, packages):
        missing = [p for p in packages if "installed" != subprocess.run(
            ["dpkg-query", "-W", "-f", "${db:Status-Status}", p], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True).stdout]
        if missing:
            print("installing", *missing, flush=True)
            self.call("apt-get", "-qq", "update")
            self.call("apt-get", "-qq", "-y", "--no-install-recommends", "install", *missing)

    def deb(self, package, like, dest):
        """Unpacks a binary package without installing it; the version of package @like if there is one."""
        os.makedirs(dest, exist_ok=True)
        version = self.call("dpkg-query", "-W", "-f", "${Version}", like)
        try:
            self.call("apt-get", "download", "%s=%s" % (package, version), cwd=dest)
        except RuntimeError:
            self.call("apt-get", "-qq", "update")
            self.call("apt-get", "download", package, cwd=dest)
        for f in os.listdir(dest):
            if f.endswith(".deb"):
                self.call("dpkg", "-x", f, ".", cwd=dest)

    def apt_options(self):
        """apt with the configured sources, but for source packages, and with lists of its own."""
        top = os.path.join(self.place, "apt")
        options = ["-o", "Dir::Etc::sourcelist=%s/sources.list" % top, "-o", "Dir::Etc::sourceparts=%s/sources.list.d" % top,
                   "-o", "Dir::State::lists=%s/lists" % top, "-o", "Dir::Cache=%s/cache" % top, "-o", "APT::Sandbox::User=root"]
        if not os.path.isdir(top):
            for d in ("sources.list.d", "lists/partial", "cache/archives/partial"):
                os.makedirs(os.path.join(top, d))
            places = [("/etc/apt/sources.list", "sources.list")]
            if os.path.isdir("/etc/apt/sources.list.d"):
                places += [("/etc/apt/sources.list.d/" + f, "sources.list.d/" + f) for f in os.listdir("/etc/apt/sources.list.d")]
            for old, new in places:
                if os.path.isfile(old):
                    with open(old) as f, open(os.path.join(top, new), "w") as out:
                        text = re.sub(r"(?m)^Types:.*", "Types: deb-src", f.read())
                        text = re.sub(r"(?m)^deb-src .*\n?", "", text)
                        out.write(re.sub(r"(?m)^deb ", "deb-src ", text))
            self.call("apt-get", *options, "update", ok=(0, 100))       # a source without source packages is no matter
        return options

    def source(self, package, dest):
        self.install(["dpkg-dev"])
        options, fetch = self.apt_options(), os.path.join(self.place, "source", package)
        shutil.rmtree(dest, ignore_errors=True)
        os.makedirs(fetch, exist_ok=True)
        versions = re.findall(r"(?m)^Version: (\S+)", self.call("apt-cache", *options, "showsrc", package))
        if not versions:
            raise RuntimeError("no source package %s in the configured sources" % package)
        for i, v in enumerate(versions):        # the newest may be gone from the mirror already
            try:
                self.call("apt-get", *options, "source", "--download-only", "%s=%s" % (package, v), cwd=fetch)
                break
            except RuntimeError:
                if i + 1 == len(versions):
                    raise
        dsc = [f for f in os.listdir(fetch) if f.endswith(".dsc")]
        os.makedirs(os.path.dirname(dest), exist_ok=True)
        self.call("dpkg-source", "--no-check", "-x", dsc[0], dest, cwd=fetch)

    def cmake(self, source, build, *targets, **options):
        self.call("cmake", "-S", source, "-B", build, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=RelWithDebInfo",
                  *("-D%s=%s" % x for x in options.items()))
        self.call("ninja", "-C", build, "-j", str(os.cpu_count()), *targets)


def fill(value, words):
    return re.sub(r"\{(\w+)\}", lambda m: words.get(m.group(1), m.group(0)), value)


class Run:
    """One unit on one side."""

    def __init__(self, suite, unit, side, place, tool, loopback):
        self.suite, self.unit, self.side = suite, unit, side
        self.work = os.path.join(place, "work", suite.name, unit.name, side)
        shutil.rmtree(self.work, ignore_errors=True)
        os.makedirs(os.path.join(self.work, "tmp"))
        if unit.copy:
            shutil.copytree(unit.copy, os.path.join(self.work, "cwd"), symlinks=True)
        self.output, self.result = os.path.join(self.work, "output"), os.path.join(self.work, "result.json")
        words = {"work": self.work, "side": side, "tool": tool}
        env = {k: fill(v, words) for k, v in unit.env.items()}
        env.update(LC_ALL="C.UTF-8", OWNSTACK_LOG=os.path.join(self.work, "helpers.log"))
        tmp, cwd = os.path.join(self.work, "tmp"), os.path.join(self.work, "cwd")
        self.job = {"side": side, "tool": tool, "argv": [fill(a, words) for a in unit.argv], "env": env, "seconds": unit.seconds,
                    "loopback": loopback, "tmp": tmp, "cwd": cwd if unit.copy else tmp, "output": self.output, "result": self.result}

    def start(self):
        job = os.path.join(self.work, "job.json")
        with open(job, "w") as f:
            json.dump(self.job, f)
        self.p = subprocess.Popen(["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
                                   "/usr/bin/python3", os.path.join(HERE, "inside.py"), job], stdin=subprocess.DEVNULL)
        return self

    def finish(self):
        self.p.wait()
        if not os.path.exists(self.result):
            raise RuntimeError("%s %s: the namespace could not be set up (status %d)" %
                               (self.unit.name, self.side, self.p.returncode))
        with open(self.result) as f:
            self.__dict__.update(json.load(f))
        with open(self.output, errors="replace") as f:
            self.tests = self.suite.parse(self.unit, f.read(), self.work)
        return self

    def count(self, status):
        return sum(x == status for x in self.tests.values())


def both(suite, unit, how, apart):
    runs = [Run(suite, unit, side, how.place, how.tool, how.loopback) for side in SIDES]
    if apart:
        return [r.start().finish() for r in runs]
    return [r.finish() for r in [r.start() for r in runs]]


def differences(kernel, private):
    """Tests that pass on the kernel and not on the private stack: {name: what it did}."""
    return {name: private.tests.get(name, "missing") for name, status in kernel.tests.items()
            if status == "ok" and private.tests.get(name) != "ok"}


def keep(run):
    """The first of two runs is what one wants to read when the second went well."""
    first = run.work + ".first"
    shutil.rmtree(first, ignore_errors=True)
    os.rename(run.work, first)


def compare(suite, unit, how):
    kernel, private = both(suite, unit, how, how.apart)
    diff = differences(kernel, private)
    if diff:            # once more, alone: what was only a matter of time goes away, and is said
        keep(kernel)
        keep(private)
        k2, p2 = both(suite, unit, how, True)
        again = differences(k2, p2)
        row = {"unsteady": sorted(set(diff) - set(again)), "diff": {k: v for k, v in again.items() if k in diff}}
        if not row["diff"]:
            kernel, private = k2, p2
    else:
        row = {"unsteady": [], "diff": {}}
    row.update(suite=suite.name, unit=unit.name, wire=unit.wire, loopback=how.loopback, better=len(differences(private, kernel)))
    for r in (kernel, private):
        row[r.side] = {"ok": r.count("ok"), "FAIL": r.count("FAIL"), "skip": r.count("skip"), "seconds": round(r.seconds, 1),
                       "status": r.status}
    row["kernel"]["opens"], row["private"]["opens"] = kernel.kernel_opens, private.private_opens
    row["private"]["kernel_opens"], row["private"]["kernel_ipv4"] = private.kernel_opens, private.kernel_ipv4
    row["private"]["left"] = private.left
    return row


def known_read():
    """{(suite/unit, test): reason}; a unit may be `*`."""
    got = {}
    with open(os.path.join(HERE, "known.txt")) as f:
        for line in f:
            if line.strip() and not line.startswith("#"):
                where, test, reason = line.rstrip("\n").split(None, 2)
                got[where, test.replace("%20", " ")] = reason
    return got


def judge(row, known):
    """Adds to @row what is wrong with it: a list of lines, empty if nothing is."""
    bad, row["known"] = [], {}
    for test, what in sorted(row["diff"].items()):
        reason = known.get((row["suite"] + "/" + row["unit"], test)) or known.get((row["suite"] + "/*", test))
        if reason:
            row["known"][test] = reason
        else:
            bad.append("%s: ok on the kernel, %s on the private stack" % (test, what))
    if not row["kernel"]["ok"] and not row["kernel"]["status"] == 0:
        bad.append("nothing passed on the kernel (status %s)" % row["kernel"]["status"])
    if row["private"]["status"] != row["kernel"]["status"] and not row["diff"] and not row["better"]:
        bad.append("exit status %s, on the kernel %s" % (row["private"]["status"], row["kernel"]["status"]))
    through = row["loopback"] == "kernel"
    if row["wire"] and not through and not row["private"]["opens"]:
        bad.append("the private host has seen no connection")
    if row["private"]["kernel_ipv4"] and not through:
        bad.append("IPv4 TCP sockets in the kernel: " + "; ".join(row["private"]["kernel_ipv4"][:3]))
    if row["private"]["left"]:
        bad.append("left over: " + "; ".join(row["private"]["left"][:3]))
    row["bad"] = bad
    return row


def show(row):
    k, p = row["kernel"], row["private"]
    print("%-10s %-26s kernel %4d ok %3d fail %3d skip %5.0f s   private %4d ok %3d fail %3d skip %5.0f s   opens %d / %d (%d)%s" %
          (row["suite"], row["unit"], k["ok"], k["FAIL"], k["skip"], k["seconds"], p["ok"], p["FAIL"], p["skip"], p["seconds"],
           k["opens"], p["opens"], p["kernel_opens"], "" if not row["bad"] else "   DIFFERS"))
    for test in row["unsteady"]:
        print("    unsteady: %s (equal when run again)" % test)
    for test, reason in row["known"].items():
        print("    known: %s: %s" % (test, reason))
    for line in row["bad"]:
        print("    " + line)
    sys.stdout.flush()


def table(rows):
    """The result as Markdown."""
    out = ["Kernel %s, %s, both sides in the same run." % (platform.release(), time.strftime("%Y-%m-%d", time.gmtime())), "",
           "| suite | unit | passes on the kernel | of these on the private stack | fails on both | connections: kernel, private |",
           "|---|---|---:|---:|---:|---|"]
    total = [0, 0]
    for r in rows:
        k, lost = r["kernel"], len(r["diff"])
        total[0] += k["ok"]
        total[1] += k["ok"] - lost
        out.append("| %s | %s | %d | %d | %d | %d, %d |" % (r["suite"], r["unit"], k["ok"], k["ok"] - lost, k["FAIL"] - r["better"],
                                                       k["opens"], r["private"]["opens"]))
    out += ["| | **total** | **%d** | **%d** | | |" % tuple(total), ""]
    named = [(r, t) for r in rows for t in r["diff"]]
    if named:
        out += ["| passes on the kernel only | why |", "|---|---|"]
        out += ["| %s/%s `%s` | %s |" % (r["suite"], r["unit"], t, r["known"].get(t, "not known yet")) for r, t in named]
    else:
        out += ["No test passes on the kernel only."]
    return "\n".join(out) + "\n"


def document(rows):
    path = os.path.join(TOP, "docs", "suites.md")
    with open(path) as f:
        text = f.read()
    begin, end = "<!-- results -->\n", "<!-- end of results -->\n"
    head, tail = text.split(begin)[0], text.split(end)[1]
    with open(path, "w") as f:
        f.write(head + begin + table(rows) + end + tail)


def merge(rows, path):
    """@rows take the place of what an earlier run with --write found for the same units. Return: all, in order."""
    if os.path.exists(path):
        with open(path) as f:
            new = {(r["suite"], r["unit"]) for r in rows}
            rows = rows + [r for r in json.load(f) if (r["suite"], r["unit"]) not in new]
    order = [(s.name, u.name) for s in (c("") for c in suites.ALL) for u in s.units()]
    rows = sorted((r for r in rows if (r["suite"], r["unit"]) in order), key=lambda r: order.index((r["suite"], r["unit"])))
    with open(path, "w") as f:
        json.dump(rows, f, indent=1)
    return rows


def arguments():
    a = argparse.ArgumentParser(prog="./dev suites", description="suites by others, compared with the kernel")
    a.add_argument("names", nargs="*", help="suites or units; none: all")
    a.add_argument("--list", action="store_true", help="suites and units")
    a.add_argument("--prepare", action="store_true", help="fetch and build only")
    a.add_argument("--apart", action="store_true", help="kernel and private side one after the other, not side by side")
    a.add_argument("--pass-through", action="store_const", dest="loopback", const="kernel", default="private",
                   help="127.0.0.0/8 stays the kernel's: nothing may change where no private address is used")
    a.add_argument("--write", action="store_true", help="write the table into docs/suites.md")
    return a.parse_args()


def main():
    args = arguments()
    build = os.environ.get("OWNSTACK_BUILD", os.path.join(TOP, "build"))
    args.place, args.tool = os.path.join(TOP, "build", "suites"), os.path.join(build, "cli", "ownstack")
    wanted = [s(args.place) for s in suites.ALL]
    for s in wanted:
        s.chosen = [u for u in s.units() if not args.names or s.name in args.names or u.name in args.names]
    wanted = [s for s in wanted if s.chosen]
    if not wanted:
        sys.exit("suites: no suite or unit of that name; --list shows them")
    if args.list:
        for s in wanted:
            print("%s: %s\n    %s" % (s.name, s.about, " ".join(u.name for u in s.chosen)))
        return 0
    tools, known, rows = Tools(args.place, args.tool), known_read(), []
    for s in wanted:
        tools.install(s.packages)
        s.prepare(tools)
    if args.write and args.loopback == "kernel":
        sys.exit("suites: docs/suites.md tells of the private loopback; --write without --pass-through")
    if args.prepare:
        return 0
    for s in wanted:
        for u in s.chosen:
            rows.append(judge(compare(s, u, args), known))
            show(rows[-1])
            if args.write:
                document(merge(rows, os.path.join(args.place, "results.json")))
    bad = sum(bool(r["bad"]) for r in rows)
    passed = sum(r["kernel"]["ok"] for r in rows)
    lost = sum(len(r["diff"]) for r in rows)
    print("\n%d tests pass on the kernel; of these %d pass on the private stack, %d do not (%d of them known and named)" %
          (passed, passed - lost, lost, sum(len(r["known"]) for r in rows)))
    print("%d passed, %d failed, 0 skipped" % (len(rows) - bad, bad))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
