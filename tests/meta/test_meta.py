#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Rules that no compiler checks: who may include whom, what the library shows, what the stack may need.

test_meta.py RULE ROOT [FILE...]
"""
import os
import re
import subprocess
import sys

MAY_INCLUDE = {  # folder -> folder -> which of its headers (None: all but *_priv.h)
    "stack": {},
    "io": {"stack": {"netdev.h", "pbuf.h"}},
    "host": {"stack": None, "io": None},
    "preload": {"host": None, "stack": None, "io": None},
    "cli": {"host": None, "stack": None, "io": None},
}
STACK_MAY_NEED = {"memcpy", "memmove", "memset", "memcmp", "strcmp", "strncmp", "strlen", "strnlen",
                  # what compilers and sanitizers put in by themselves
                  "__stack_chk_fail", "__memcpy_chk", "__memset_chk", "__assert_fail", "_GLOBAL_OFFSET_TABLE_"}


def layering(root):
    """an #include "..." leads only where the folder may look"""
    bad, seen = [], 0
    for folder, others in MAY_INCLUDE.items():
        for name in sorted(os.listdir(os.path.join(root, folder)) if os.path.isdir(os.path.join(root, folder)) else []):
            if not name.endswith((".c", ".h", ".def")):
                continue
            path = os.path.join(root, folder, name)
            with open(path, encoding="utf-8") as f:
                text = f.read()
            for inc in re.findall(r'^\s*#\s*include\s+"([^"]+)"', text, re.M):
                seen += 1
                target = os.path.relpath(os.path.normpath(os.path.join(root, folder, inc)), root)
                to, _, header = target.rpartition("/")
                if to == folder:
                    continue
                allowed = others.get(to, set())
                if to not in others or header.endswith("_priv.h") or (allowed is not None and header not in allowed):
                    bad.append(f"{folder}/{name} includes {target}")
    if not seen:
        bad.append("no include found: is this the source tree?")
    return bad


def nm(options, path):
    out = subprocess.run(["nm", *options, path], check=True, capture_output=True, text=True).stdout
    return [line.split() for line in out.splitlines() if line.strip()]


def exports(root, library):
    """the library exports the rows of calls.def and nothing else"""
    listed = subprocess.run([sys.executable, os.path.join(root, "preload/calls.py"), "list",
                             os.path.join(root, "preload/calls.def")], check=True, capture_output=True, text=True)
    rows = set(listed.stdout.split())
    shown = {f[-1].split("@")[0] for f in nm(["-D", "--defined-only"], library)}
    shown -= {"_init", "_fini"}
    return [f"{n}: in calls.def, not exported" for n in sorted(rows - shown)] + \
           [f"{n}: exported, not in calls.def" for n in sorted(shown - rows)]


def bound_past_us(root, library):
    """no object inside the library reaches an exported call through the loader: all are bound to the next definition"""
    listed = subprocess.run([sys.executable, os.path.join(root, "preload/calls.py"), "list",
                             os.path.join(root, "preload/calls.def")], check=True, capture_output=True, text=True)
    rows = set(listed.stdout.split())
    out = subprocess.run(["readelf", "-rW", library], check=True, capture_output=True, text=True).stdout
    hits = {m[1] for m in re.finditer(r"R_X86_64_(?:JUMP_SLO\w*|GLOB_DAT|64)\s+\S+\s+(\w+)", out)} & rows
    return [f"{n}: called by its own name inside the library" for n in sorted(hits)]


def stack_symbols(_root, *libraries):
    """stack/ needs nothing but memcpy and friends: no system call, clock, malloc, lock, thread"""
    bad = []
    for library in libraries:
        table = nm(["-g"], library)
        defined = {f[-1] for f in table if len(f) >= 3}
        for f in table:
            if len(f) == 2 and f[0] == "U" and f[1] not in defined and f[1] not in STACK_MAY_NEED and \
                    not f[1].startswith(("__asan_", "__ubsan_", "__tsan_", "__gcov")):
                bad.append(f"stack needs {f[1]}")
        if not defined:
            bad.append(f"{library}: no symbols")
    return sorted(set(bad))


def stack_globals(_root, *libraries):
    """stack/ has no variable (constant tables, relocated or not, are none): two stacks in one process never meet"""
    bad = set()
    for library in libraries:
        out = subprocess.run(["nm", "-f", "sysv", library], check=True, capture_output=True, text=True).stdout
        for fields in (line.split("|") for line in out.splitlines() if line.count("|") == 6):
            section = fields[6].strip()
            if fields[0].strip().startswith("__odr_asan."):     # AddressSanitizer's own, one for each constant table
                continue
            if re.match(r"\.t?(data|bss)(?!\.rel\.ro)|\*COM\*", section) and fields[3].strip() in ("OBJECT", "TLS"):
                bad.add(f"stack has a variable: {fields[0].strip()} in {section}")
    return sorted(bad)


def docs(root, *_):
    """docs/calls.md is what calls.def says"""
    made = subprocess.run([sys.executable, os.path.join(root, "preload/calls.py"), "docs",
                           os.path.join(root, "preload/calls.def")], check=True, capture_output=True, text=True).stdout
    with open(os.path.join(root, "docs/calls.md"), encoding="utf-8") as f:
        return [] if f.read() == made else ["docs/calls.md is old; preload/calls.py docs preload/calls.def > docs/calls.md"]


def states(root, *_):
    """each test that states.def names exists, and docs/rfc/rfc9293-states.md is what it says"""
    sys.path.insert(0, os.path.join(root, "tests/unit"))
    import states as table
    known = table.known_tests(root)
    bad = [f"states.def names {r[5]}, which is no test" for r in table.read(root)["ROW"] if len(r) > 5 and r[5] and r[5] not in known]
    with open(os.path.join(root, "docs/rfc/rfc9293-states.md"), encoding="utf-8") as f:
        if f.read() != table.page(root):
            bad.append("docs/rfc/rfc9293-states.md is old; tests/unit/states.py . > docs/rfc/rfc9293-states.md")
    return bad


def all_tests(root):
    """names of packet scripts, unit tests, scenarios (sim_NAME), parity programs, app tests and meson tests"""
    sys.path.insert(0, os.path.join(root, "tests/unit"))
    import states as table
    names = table.known_tests(root)
    for folder, pattern, prefix in (("tests/sim", r'^\t\{ "(\w+)"', "sim_"), ("tests/app", r"^def (test_\w+)", "")):
        for name in os.listdir(os.path.join(root, folder)):
            if name.endswith((".c", ".py")):
                with open(os.path.join(root, folder, name), encoding="utf-8") as f:
                    names.update(prefix + m for m in re.findall(pattern, f.read(), re.M))
    return names


def rows(path):
    """cells of each row of each table of a page; heads and rulers left out"""
    with open(path, encoding="utf-8") as f:
        lines = f.read().splitlines()
    for i, line in enumerate(lines):
        if line.startswith("|") and not line.startswith("|---") and not lines[i + 1:i + 2] == []:
            if not lines[i + 1].startswith("|---"):
                yield [c.strip() for c in line.strip("|").split("|")]
        elif line.startswith("|") and not line.startswith("|---"):
            yield [c.strip() for c in line.strip("|").split("|")]


def packet_list(root, *_):
    """tests/packet/README.md: each row names a test, each name is one"""
    known, bad, named = all_tests(root), [], 0
    for cells in rows(os.path.join(root, "tests/packet/README.md")):
        names = re.findall(r"`(\w+)`", cells[-1])
        named += len(names)
        bad += ["%s: no test" % cells[0]] if not names else []
        bad += ["%s: %s is no test" % (cells[0], n) for n in names if n not in known]
    return bad if named else ["no row found"]


def rfc_tests(root, *_):
    """docs/rfc: each test that a row names exists"""
    known, bad, seen = all_tests(root), [], 0
    folder = os.path.join(root, "docs/rfc")
    for page in sorted(os.listdir(folder)):
        for cells in rows(os.path.join(folder, page)):
            for name in re.findall(r"`([^`]+)`", cells[-1]):
                seen += 1
                short = name.split("::")[-1]
                if name.startswith("sim_") and name.endswith("*"):
                    if any(k.startswith(name[:-1]) for k in known):
                        continue
                elif short in known or "sim_" + short in known:
                    continue
                elif re.fullmatch(r"[\w/]+(\.\w+)?", name) and any(
                        os.path.exists(os.path.join(root, d, name)) for d in ("", "tests", "tests/unit", "tests/packet", "tests/sim")):
                    continue
                elif name + ".pkt" in {os.path.basename(k) for k in known}:
                    continue
                bad.append("%s: %s is no test" % (page, name))
    return bad if seen else ["no row names a test"]


RULES = {f.__name__: f for f in (packet_list, rfc_tests, layering, exports, bound_past_us, stack_symbols, stack_globals, docs, states)}
bad = RULES[sys.argv[1]](*sys.argv[2:])
print("\n".join(bad))
sys.exit(bool(bad))
