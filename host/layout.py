#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Prints a header that names the layout of the arena: a hash over all files that declare structures in it."""
import hashlib
import sys

digest = hashlib.sha256(b"".join(open(f, "rb").read() for f in sys.argv[1:])).hexdigest()
print(f'#define OWNSTACK_LAYOUT "{digest}"')
