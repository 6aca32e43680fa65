#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""What is made from calls.def outside the compiler.

calls.py map  FILE   version script: exactly the calls are exported
calls.py wrap FILE   linker options: our own objects are bound to the next definition (see entry.c)
calls.py list FILE   the exported names, one a line, for tests/meta
calls.py docs FILE   docs/calls.md
"""
import re
import sys

ROUTES = {
    "BY_FD": "number of ours",
    "BY_TYPE": "AF_INET/AF_INET6 stream",
    "BY_HAND": "see source",
}


def rows(text):
    """(section, route or None, result, name, parameters or the name it is an alias of)"""
    text = re.sub(r"^/\*.*?\*/\n", "", text, count=1)  # licence line
    section = ""
    pattern = r"/\* ---- (.*?) ---- \*/|^CALL\((\w+), ([^,]+), (\w+),\s*\((.*?)\),\s*\(.*?\)\)$|^ALIAS\((\w+), (\w+)\)$"
    for m in re.finditer(pattern, text, re.M | re.S):
        if m[1]:
            section = " ".join(m[1].split())
        elif m[2]:
            yield section, m[2], m[3], m[4], " ".join(m[5].split())
        else:
            yield section, None, None, m[6], m[7]


def main():
    mode, path = sys.argv[1:]
    with open(path, encoding="ascii") as f:
        table = list(rows(f.read()))
    names = [name for _, _, _, name, _ in table]
    if len(set(names)) != len(names):
        sys.exit("calls.def: a name stands twice")
    if mode == "map":
        print("{\nglobal:\n" + "".join(f"\t{n};\n" for n in names) + "local:\n\t*;\n};")
    elif mode == "wrap":
        print("\n".join(f"-Wl,--wrap={name}" for _, route, _, name, _ in table if route))
    elif mode == "list":
        print("\n".join(sorted(names)))
    elif mode == "docs":
        print("# Calls we replace\n\nMade from `preload/calls.def` (`preload/calls.py docs preload/calls.def`); `tests/meta`"
              " compares it with the library.\n\n- *number of ours*: on a private socket the call is carried out by the"
              " library; any other descriptor goes to libc.\n- *see source*: takes many descriptors, is variadic, or makes"
              " descriptors or processes; a file of its own in `preload/`.")
        last = None
        for section, route, result, name, params in table:
            if section != last:
                print(f"\n## {section.split(' (')[0]}\n\n| call | taken over when |\n|---|---|")
                last = section
            if route:
                print(f"| `{result} {name}({params})` | {ROUTES[route]} |".replace("* ", "*"))
            else:
                print(f"| `{name}` | another name of `{params}` |")


main()
