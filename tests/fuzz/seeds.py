#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""seeds.py - writes the first inputs of the fuzz targets into corpus/TARGET/; file names say what they do"""
import os

HERE = os.path.dirname(os.path.abspath(__file__))
FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32


def u16(v):
    return (v & 0xffff).to_bytes(2, "big")


# -- fuzz_frame ------------------------------------------------------------------------------------------------------

def seg(sock, flags, seq=0, ack=0, wnd=65535, opt=b"", length=0, port=0, conn=True, gso=0, urg=0):
    out = bytes([2, sock, flags]) + (b"" if conn else bytes([port])) + u16(seq) + u16(ack) + u16(wnd)
    out += (u16(urg) if flags & URG else b"") + bytes([len(opt)]) + opt + u16(length)
    return out + (bytes([gso // 8]) if length > 1460 else b"")


def call(sock, what, args=b""):
    return bytes([7, sock, what]) + args


def wait(ms):
    return b"\x06" + u16(ms)


def write(sock, n, flags=0):
    return call(sock, 0, u16(n - 1) + bytes([flags]))


OPTS = bytes.fromhex("020403e80402080a00000064000000000103 0307".replace(" ", ""))
OPEN = seg(0, SYN, conn=False, opt=OPTS[:4] + b"\x04\x02\x01\x01")
CONNECT = call(1, 5) + seg(1, SYN | ACK, seq=5000, opt=OPTS[:4] + b"\x04\x02\x01\x01")
SACK = b"\x01\x01\x05\x0a" + u16(0) + u16(1000) + u16(0) + u16(2000)

FRAME = {
    "syn_to_listener": OPEN,
    "connect_and_established": CONNECT,
    "connect_refused": call(1, 5) + seg(1, RST | ACK),
    "write_and_acknowledged": CONNECT + write(1, 3000) + seg(1, ACK),
    "write_sacked_and_recovered": CONNECT + write(1, 8000) + seg(1, ACK, ack=-8000, opt=SACK) * 4 + seg(1, ACK),
    "write_timeout_and_late_ack": CONNECT + write(1, 3000) + wait(1500) + seg(1, ACK),
    "data_in_order_and_read": CONNECT + seg(1, ACK | PSH, length=1000) + call(1, 2, u16(500)),
    "data_out_of_order": CONNECT + seg(1, ACK, seq=2000, length=500) + seg(1, ACK, seq=1000, length=500) + seg(1, ACK, length=1000),
    "super_segment": CONNECT + seg(1, ACK, length=8000, gso=1000) + seg(1, ACK, seq=-500, length=4000, gso=1000),
    "urgent": CONNECT + seg(1, ACK | URG, length=100, urg=50) + write(1, 10, 2),
    "fin_both_ways": CONNECT + seg(1, FIN | ACK) + call(1, 4, b"\x01") + seg(1, ACK),
    "close_then_time_wait": CONNECT + call(1, 5, b"\x00") + seg(0, FIN | ACK, conn=False) + wait(2000),
    "reset_in_window_then_exact": CONNECT + seg(1, RST, seq=10) + seg(1, RST),
    "syn_in_established": CONNECT + seg(1, SYN, seq=100),
    "zero_window_probed": CONNECT + seg(1, ACK, wnd=0) + write(1, 1000) + wait(3000) + seg(1, ACK, wnd=1000),
    "path_mtu_shrinks": CONNECT + write(1, 3000) + b"\x05\x01\x03\x04" + u16(600) + u16(0) + b"\x00",
    "unreachable": call(1, 5) + b"\x05\x01\x03\x01" + u16(0) + u16(0) + b"\x00",
    "arp_request": b"\x00" + u16(42) + bytes.fromhex("ffffffffffff0200000000020806000108000604000102000000000" + "20a0000020000000000000a000001") + b"\x03",
    "echo_request": b"\x01\x01\xff" + u16(16) + bytes.fromhex("08000000000100016162636465666768"),
    "fragment": b"\x01\x06\x06" + u16(40) + bytes(40) + b"\x20",
    "small_receive_buffer": CONNECT + call(1, 7, u16(0)) + seg(1, ACK, length=1400) * 4 + call(1, 2, u16(9000)),
    "keepalive": CONNECT + call(1, 8, b"\x00") + wait(2000) + wait(60000),
    "disconnect_and_connect": CONNECT + call(1, 6) + call(1, 9),
}


# -- fuzz_pair: first octet: super-frames or not; 128 in a step means the side that listens -----------------------------

def pair(*steps, gso=0):
    return bytes([gso]) + b"".join(steps)


def pw(side, n, flags=0, k=b""):
    return bytes([side << 7]) + k + u16(n - 1) + bytes([flags])


def pr(side, n, k=b""):
    return bytes([side << 7 | 2]) + k + u16(n - 1)


FLOW = b"\x0f\x00\x28"          # 40 ms on a whole wire (one frame may be waiting)
PAIR = {
    "request_and_answer": pair(pw(0, 200), FLOW, pr(1, 500), pw(1, 3000), FLOW, pr(0, 4000)),
    "bulk": pair(*([pw(0, 20000), FLOW, pr(1, 60000)] * 4)),
    "bulk_super_frames": pair(*([pw(0, 60000), FLOW, pr(1, 60000)] * 4), gso=1),
    "lost_frame": pair(pw(0, 8000), b"\x07\x00", FLOW, pr(1, 9000)),
    "swapped_frames": pair(pw(0, 8000), b"\x04\x03\x04\x01\x04\x00", FLOW, pr(1, 9000)),
    "doubled_frames": pair(pw(0, 8000), b"\x06\x00\x06\x01\x06\x00", FLOW, pr(1, 9000)),
    "damaged_frame": pair(pw(0, 3000), b"\x08\x00\x00\x40\x07", FLOW, pr(1, 9000)),
    "timeout": pair(pw(0, 3000), b"\x07\x00\x07\x00\x07\x00", b"\x09" + u16(900), FLOW, pr(1, 9000)),
    "half_close": pair(pw(0, 100), FLOW, b"\x0b\x00\x00", FLOW, pw(1, 5000), FLOW, pr(0, 9000)),
    "both_close": pair(pw(0, 100), pw(1, 100), b"\x0b\x00\x8b\x00", FLOW, pr(0, 200), pr(1, 200)),
    "close_with_unread_data": pair(pw(0, 100), FLOW, b"\x8c\x00", FLOW),
    "slow_reader": pair(*([pw(0, 60000), FLOW] * 3 + [pr(1, 100), FLOW] * 5)),
}

OPTIONS = {
    "none": b"", "end": b"\x00", "nops": b"\x01" * 40, "mss": OPTS[:4], "all_of_a_syn": OPTS,
    "timestamp_aligned": bytes.fromhex("0101080a0000000100000002"),
    "sack_one": bytes.fromhex("0101050a0000000100000002"),
    "sack_four": bytes.fromhex("01010522") + bytes(range(32)),
    "sack_beside_timestamp": bytes.fromhex("0101080a00000001000000020101051a") + bytes(24),
    "length_zero": b"\x08\x00", "length_one": b"\x08\x01", "length_too_long": b"\x08\xff", "length_missing": b"\x02",
    "unknown": b"\xfd\x06abcd", "wscale_large": b"\x03\x03\xff",
}

for target, corpus in (("frame", FRAME), ("pair", PAIR), ("options", OPTIONS)):
    folder = os.path.join(HERE, "corpus", target)
    os.makedirs(folder, exist_ok=True)
    for name, data in corpus.items():
        with open(os.path.join(folder, name), "wb") as f:
            f.write(data)
