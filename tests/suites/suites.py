# SPDX-License-Identifier: BSD-2-Clause
"""suites.py - where each suite comes from, how it is built, its units, and how its output is read

A unit is what one process is started for: a test module, a back end, a script. parse() turns its output into
{name of test: "ok", "FAIL" or "skip"}. Nothing of these suites is kept in this repository; all of it lies in build/suites.
"""

import glob
import os
import re
import shutil
import subprocess
import xml.etree.ElementTree as xml


class Unit:
    def __init__(self, name, argv, seconds=600, env=None, copy=None, wire=True):
        self.name, self.argv, self.seconds, self.env = name, argv, seconds, env or {}
        self.copy = copy        # folder to run in; each side gets a copy of it
        self.wire = wire        # speaks TCP over 127.0.0.1: the private host must have seen connections


class Suite:
    name = about = ""
    packages = ()

    def __init__(self, place):
        self.place = os.path.join(place, self.name)

    def path(self, *more):
        return os.path.join(self.place, *more)

    def prepare(self, tools):
        """Fetch and build; called again, it finds all done."""

    def units(self):
        """A fresh list; {side}, {work} and {tool} in arguments and environment are filled in by run.py."""

    def parse(self, unit, output, work):
        return {}

    def stamp(self, step, make):
        """Runs @make once."""
        done = self.path(".%s-done" % step)
        if not os.path.exists(done):
            os.makedirs(self.place, exist_ok=True)
            make()
            open(done, "w").close()


class CPython(Suite):
    name, about = "cpython", "CPython 3.11, the modules of its regression suite that speak TCP or wait for descriptors"
    packages = ("python3.11", "openssl")
    MODULES = {
        "test_socket": ("-i", "*VSOCK*"), "test_asyncio": (), "test_asyncore": (), "test_asynchat": (), "test_epoll": (),
        "test_httpservers": (), "test_httplib": (), "test_telnetlib": (), "test_urllib2_localnet": (), "test_ftplib": (),
        "test_poplib": (), "test_imaplib": (), "test_smtplib": (), "test_nntplib": (), "test_socketserver": ("-u", "network"),
        "test_xmlrpc": (), "test_wsgiref": (), "test_ssl": (), "test_os": ("-m", "*endfile*", "-m", "*plice*"),
        "test_multiprocessing_fork": ("-m", "*Listener*", "-m", "*Pickling*", "-m", "*Manager*"),
        "test_select": (), "test_poll": (), "test_selectors": (),
    }
    SILENT = ("test_select", "test_poll", "test_selectors")        # no TCP of their own: passed through

    def prepare(self, tools):
        def fetch():        # the package `test` lies half in one, half in the other
            for package in ("libpython3.11-stdlib", "libpython3.11-testsuite"):
                tools.deb(package, "python3.11", self.path("root"))
            shutil.copytree(self.path("root/usr/lib/python3.11/test"), self.path("lib", "test"), dirs_exist_ok=True)
        self.stamp("fetch", fetch)

    def units(self):
        env = {"PYTHONPATH": self.path("lib"), "PYTHONDONTWRITEBYTECODE": "1"}
        for module, options in self.MODULES.items():
            yield Unit(module, ["/usr/bin/python3.11", "-m", "test", "-v", "--timeout", "500", "--junit-xml", "{work}/out.xml",
                                *options, module], env=env, wire=module not in self.SILENT)

    def parse(self, unit, output, work):
        path = os.path.join(work, "out.xml")
        if os.path.exists(path):
            return self.parse_xml(path)
        # ended before its time: the lines say how far it came
        got = {}
        for name, word in re.findall(r"(?m)^(test_\w+ \(\S+\)).*? \.\.\. (?:.*\n)??.*?(ok|FAIL|ERROR|skipped)\b", output):
            got[name.split("(")[1].rstrip(")")] = {"ok": "ok", "skipped": "skip"}.get(word, "FAIL")
        return got

    @staticmethod
    def parse_xml(path):
        got = {}
        for case in xml.parse(path).iter("testcase"):
            name = case.get("name") or "(without a name)"
            name = re.sub(r"^(\w+) \((\S+)\)", r"\2", name).removeprefix("test.")
            bad = case.find("failure") is not None or case.find("error") is not None
            status = "FAIL" if bad else "skip" if case.find("skipped") is not None or case.get("status") != "run" else "ok"
            if got.get(name) != "FAIL":
                got[name] = status
        return got


class Libuv(Suite):
    name, about = "libuv", "libuv 1.44, its whole test runner"
    packages = ("cmake", "ninja-build", "gcc")

    def prepare(self, tools):
        def build():
            tools.source("libuv1", self.path("src"))
            tools.cmake(self.path("src"), self.path("build"), "uv_run_tests_a", BUILD_TESTING="ON")
        self.stamp("build", build)

    def units(self):
        yield Unit("uv_run_tests", [self.path("build/uv_run_tests_a")], env={"UV_RUN_AS_ROOT": "1"}, copy=self.path("src"))

    def parse(self, unit, output, work):
        got = {}
        for bad, name, skip in re.findall(r"(?m)^(not )?ok \d+ - (\S+)( # SKIP)?", output):
            got[name] = "FAIL" if bad else "skip" if skip else "ok"
        return got


class Libevent(Suite):
    name, about = "libevent", "libevent 2.1, regress with epoll, poll and select, and its small programs"
    packages = ("cmake", "ninja-build", "gcc", "libssl-dev", "zlib1g-dev")
    SMALL = ("test-eof", "test-weof", "test-closed", "test-fdleak", "test-changelist")
    BACK_ENDS = {"epoll": {}, "poll": {"EVENT_NOEPOLL": "1"}, "select": {"EVENT_NOEPOLL": "1", "EVENT_NOPOLL": "1"}}

    def prepare(self, tools):
        def build():
            tools.source("libevent", self.path("src"))
            tools.cmake(self.path("src"), self.path("build"), "regress", *self.SMALL, EVENT__DISABLE_BENCHMARK="ON",
                        EVENT__DISABLE_SAMPLES="ON", EVENT__LIBRARY_TYPE="STATIC")
        self.stamp("build", build)

    def units(self):
        for name, env in self.BACK_ENDS.items():
            yield Unit("regress-" + name, [self.path("build/bin/regress"), "--timeout", "60"], env=env)
        for name, env in self.BACK_ENDS.items():
            for prog in self.SMALL:
                yield Unit("%s-%s" % (prog, name), [self.path("build/bin", prog)], env=env, seconds=60,
                           wire=prog == "test-fdleak")

    def parse(self, unit, output, work):
        got = {}
        for line in output.splitlines():
            m = re.match(r"([a-z_0-9]+/\S+): (?:\[forking\] )?(OK|SKIPPED|DISABLED)?", line)
            if m:
                name = m.group(1)
                got[name] = {"OK": "ok", "SKIPPED": "skip", "DISABLED": "skip"}.get(m.group(2), "?")
            elif m := re.match(r"\s*\[(?:\S+/)?(\S+) FAILED\]", line):
                got[name] = "FAIL"
            elif line.strip() == "OK" and got.get(name) == "?":
                got[name] = "ok"
        return {k: "FAIL" if v == "?" else v for k, v in got.items()}


class Tcl(Suite):
    name, about = "tcl", "Tcl 8.6, socket.test and what stands on sockets"
    packages = ("tcl8.6", "libtcl8.6")
    FILES = ("socket", "http", "http11", "httpold", "io", "ioCmd", "zlib")

    def prepare(self, tools):
        self.stamp("source", lambda: tools.source("tcl8.6", self.path("src")))

    def units(self):
        for f in self.FILES:
            yield Unit(f + ".test", ["/usr/bin/tclsh8.6", self.path("src/tests/%s.test" % f), "-verbose", "pste", "-tmpdir", "/mnt"],
                       wire=f not in ("ioCmd",))

    def parse(self, unit, output, work):
        got = {}
        for word, name, more in re.findall(r"(?m)^(\+\+\+\+|====) (\S+)(.*)$", output):
            if word == "++++":
                got[name] = "skip" if "SKIPPED" in more else "ok" if "PASSED" in more else got.get(name, "FAIL")
            elif more.rstrip().endswith("FAILED"):
                got[name] = "FAIL"
        return got


class Socat(Suite):
    name, about = "socat", "socat 1.7, test.sh: tcp tcp4 ip4 fork listen"
    packages = ("socat", "net-tools", "iproute2", "iputils-ping", "openssl")
    # test.sh asks ss whether a port listens; the kernel's does not know private ones
    SS = "#!/bin/sh\n/usr/bin/ss \"$@\"\ncase \"$*\" in *-n*-t*) [ -z \"$OWNSTACK_TOKEN\" ] || LD_PRELOAD= \"$SUITE_TOOL\" ss -l -n 2>/dev/null;; esac\n"

    def prepare(self, tools):
        self.stamp("fetch", lambda: tools.source("socat", self.path("src")))
        with open(self.path("src", "ss"), "w") as f:
            f.write(self.SS)
        os.chmod(self.path("src", "ss"), 0o755)

    def units(self):
        yield Unit("test.sh", ["./test.sh", "-t", "0.2", "tcp", "tcp4", "ip4", "fork", "listen"], seconds=900,
                   env={"SOCAT": "/usr/bin/socat", "FILAN": "/usr/bin/filan", "PROCAN": "/usr/bin/procan", "USER": "root",
                        "SUITE_TOOL": "{tool}"},
                   copy=self.path("src"))

    def parse(self, unit, output, work):
        got = {}
        output = re.sub(r"\x1b\[\d*m", "", output)
        for number, name, rest in re.findall(r"(?m)^test +(\d+) (\S+?): .*?\.\.\. ?(.*)$", output):
            word = re.search(r"\b(OK|FAILED|NO RESULT|CANT|skipped|disabled|not available|not feasible)", rest)
            status = "ok" if word and word.group(1) == "OK" else "FAIL" if not word or word.group(1) == "FAILED" else "skip"
            got["%s %s" % (number, name)] = status
        return got


ALL = (CPython, Libuv, Libevent, Tcl, Socat)
