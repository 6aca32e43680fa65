#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# build.sh ROOT OUTPUT TARGET - one libFuzzer program with address and undefined-behaviour checks; needs clang
set -e
root=$1 out=$2 target=$3
exec clang -g -O1 -std=gnu17 -D_GNU_SOURCE -fno-strict-aliasing -fno-omit-frame-pointer \
	-fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
	"$root/tests/fuzz/fuzz_$target.c" "$root"/stack/*.c -o "$out"
