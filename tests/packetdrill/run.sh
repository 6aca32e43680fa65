#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# run.sh LIBRARY FOLDER - plays the scripts of FOLDER with packetdrill on LIBRARY; 77 (skipped) without packetdrill
if ! command -v packetdrill >/dev/null; then
	echo "packetdrill is not installed (Debian 12 has no package of it)"
	exit 77
fi
failed=0
for script in "$2"/*.pkt; do
	packetdrill --so_filename="$1" "$script" || { echo "$script failed"; failed=1; }
done
exit $failed
