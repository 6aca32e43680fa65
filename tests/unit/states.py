#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""states.py ROOT - docs/rfc/rfc9293-states.md out of tests/unit/states.def, to standard output

The table of every state against every event; the meta test compares it with the page in the tree, and looks for each
script or test that a row names.
"""
import os
import re
import sys


def read(root):
    with open(os.path.join(root, "tests/unit/states.def"), encoding="utf-8") as f:
        text = f.read()
    rows = {"STATE": [], "EVENT": [], "MOVE": [], "ROW": []}
    for kind, args in re.findall(r"^(STATE|EVENT|MOVE|ROW)\((.*)\)$", text, re.M):
        rows[kind].append([a or b for a, b in re.findall(r'\s*(?:"([^"]*)"|([^,"]+))\s*(?:,|$)', args)])
    return rows


def known_tests(root):
    """names of packet scripts and of unit tests"""
    names = set()
    for folder, _, files in os.walk(os.path.join(root, "tests")):
        for name in files:
            if name.endswith(".pkt"):
                names.add(name[:-4])
            elif name.startswith("test_") and name.endswith(".c"):
                with open(os.path.join(folder, name), encoding="utf-8") as f:
                    names.update(re.findall(r"^(?:Test\(\w+, |TEST\()(\w+)", f.read(), re.M))
    return names


def page(root):
    rows = read(root)
    out = ["# RFC 9293: every state, every event", "",
           "Made by `tests/unit/states.py` from `tests/unit/states.def`; `tests/unit/test_tcp_states.c` plays each row. REQUEST is",
           "SYN_RECEIVED at a listener. The reply is the first segment that leaves; a result is what the call returns.", "",
           "## Arrows of figure 5", "", "| from | event | to |", "|---|---|---|"]
    out += ["| %s | %s | %s |" % tuple(m) for m in rows["MOVE"]]
    out += ["", "SEND in LISTEN, which the figure lets lead to SYN_SENT, is EPIPE with sockets.", ""]
    sections = {e[0]: (e[1], e[2]) for e in rows["EVENT"]}
    for state, text in rows["STATE"]:
        out += ["## %s: %s" % (state, text), "", "| section | event | result | reply | next state | see also |", "|---|---|---|---|---|---|"]
        for row in rows["ROW"]:
            if row[0] == state:
                section, what = sections[row[1]]
                call = "" if row[2] == "0" else row[2]
                see = "`%s`" % row[5] if len(row) > 5 and row[5] else ""
                out.append("| %s | %s | %s | %s | %s | %s |" % (section, what, call, row[3].replace("NONE", ""), row[4], see))
        out.append("")
    return "\n".join(out)


if __name__ == "__main__":
    sys.stdout.write(page(sys.argv[1]))
