# SPDX-License-Identifier: BSD-2-Clause
"""report.py - table and charts of ./dev bench"""

import os
import shutil
import statistics
import subprocess

NAMES = {"kernel": "kernel TCP on veth", "tap": "ownstack on TAP", "packet": "ownstack on AF_PACKET",
         "again": "kernel TCP once more"}
DIRTY = 0.02            # share of the CPU that others may take around a run


def show(v, unit):
    if unit.endswith("/s") and unit != "Gbit/s":
        return "%.1f k" % (v / 1000) if v >= 1000 else "%.0f" % v
    return "%.2f" % v


def summary(bench):
    rows = []
    for name in bench.names:
        case = bench.cases[name]
        row = {"case": name, "title": case.title, "unit": case.unit, "goal": case.goal, "most": case.most, "more": case.more,
               "dirty": bench.dirty[name], "of": {}}
        base = [s["value"] for s in bench.samples[name]["kernel"]]
        for k in bench.contenders:
            values = [s["value"] for s in bench.samples[name][k]]
            if not values:
                continue
            e = row["of"][k] = {"median": statistics.median(values), "min": min(values), "max": max(values), "values": values}
            for q in ("p50_us", "p99_us"):
                got = [s[q] for s in bench.samples[name][k] if s.get(q)]
                if got:
                    e[q] = statistics.median(got)
            if k != "kernel" and len(base) == len(values):
                e["ratio"] = statistics.median(v / b for v, b in zip(values, base))
                pairs = [(b["cpu_seconds_per_op"], s["cpu_seconds_per_op"]) for b, s in
                         zip(bench.samples[name]["kernel"], bench.samples[name][k]) if "cpu_seconds_per_op" in s]
                if pairs:
                    e["cpu_ratio"] = statistics.median(b / s for b, s in pairs)
        rows.append(row)
    return rows


def cell(e, unit):
    if not e:
        return "not measured"
    text = "**%s** [%s .. %s]" % tuple(show(e[x], unit) for x in ("median", "min", "max"))
    if "p50_us" in e and unit != "µs":
        text += ", p50 %.0f µs, p99 %.0f µs" % (e["p50_us"], e.get("p99_us", 0))
    return text


def goal(r):
    if r["most"]:
        return "≤ %.1f %s" % (r["most"], r["unit"])
    return ("%s %.1f" % ("≥" if r["more"] else "≤", r["goal"])) if r["goal"] else ""


def table(rows, bench):
    head = "| case | unit |" + "".join(" %s |" % NAMES[k] for k in bench.contenders)
    head += "".join(" %s / kernel |" % k for k in bench.contenders[1:]) + " goal |"
    out = [head, "|---|---|" + "---:|" * (2 * len(bench.contenders))]
    for r in rows:
        cells = [cell(r["of"].get(k), r["unit"]) for k in bench.contenders]
        cells += ["%.2f" % r["of"][k]["ratio"] if "ratio" in r["of"].get(k, {}) else "" for k in bench.contenders[1:]]
        out.append("| %s | %s | %s |" % (r["title"], r["unit"], " | ".join(cells + [goal(r)])))
    return out


def settings(bench):
    out = []
    for k in bench.contenders:
        s = bench.settings.get(k)
        if s:
            out.append("- %s: MTU %d, %s, frames up to %d octets, peer's congestion control %s%s" %
                       (NAMES[k], s["mtu"], s["offloads"], s["gso_max_size"], s["congestion_control"],
                        "" if k in ("kernel", "again") else ", I/O level %s" % s["io"]))
    return out


def dirty_line(rows, bench):
    spoilt = sum(sum(r["dirty"].values()) for r in rows)
    total = sum(len(bench.samples[c][k]) for c in bench.samples for k in bench.contenders)
    return "%s of %d runs had more than %d %% of the CPU taken away by others around them%s." % (
        spoilt or "None", total, DIRTY * 100, "" if bench.args.quick else " even at the third try")


def markdown(rows, bench, m, two=None, two_rows=()):
    out = ["Commit `%s`, %s. %s, %d CPUs, Linux %s, nginx %s. All processes on CPU %d; %d runs of %d s each, in turn." %
           (m["commit"], m["date"], m["cpu"], m["cpus"], m["kernel"], m["nginx"], m["pinned_to"], bench.args.pairs,
            bench.args.seconds), "", *settings(bench),
           "", "Median [least .. most]; the ratios are medians of the pairs' ratios. Of rates more than 1 is better than the "
           "kernel, of times and calls less.", "", *table(rows, bench), "", dirty_line(rows, bench)]
    if two:
        out += ["", "Two CPUs, nothing pinned, pairs in turn. **Noisy**: between virtual CPUs a wake-up costs what the host makes "
                "it cost, and the host's other guests show.", "", *table(two_rows, two)]
    return "\n".join(out)


# -- charts ---------------------------------------------------------------------------------------------------------------

PLOT = r"""
set terminal svg size {width},{height} font "Helvetica,13" background "white"
set output "{svg}"
set title "{title}" font "Helvetica,16"
set ylabel "{ylabel}"
set style data histograms
set style histogram errorbars gap 1.5 lw 1.2
set style fill solid 0.9 border rgb "#555555"
set boxwidth 0.9 relative
set yrange [0:*]
set grid ytics lc rgb "#dddddd" lt 1
set border 3 lc rgb "#666666"
set tics nomirror
set key outside top center horizontal
set xtics font "Helvetica,12"
set bmargin 4
plot {series}
"""
CHARTS = (("performance-requests.svg", ("c1", "c64", "c1000", "close", "file10k"), "nginx on one CPU, client included",
           "thousands per second", 1000),
          ("performance-bulk.svg", ("sent", "received"), "iperf3 on one CPU, client included", "Gbit/s", 1),
          ("performance-servers.svg", ("redis1", "redis16", "memcached"), "redis and memcached on one CPU, client included",
           "thousands per second", 1000))
COLOURS = {"kernel": "#8c96a3", "tap": "#1f77b4", "packet": "#6baed6", "again": "#b0b7c0"}


def chart(rows, bench, svg, names, title, ylabel, scale, build):
    """Return: the picture's name, None where no run of it was made"""
    rows = [r for r in rows if r["case"] in names and all(k in r["of"] for k in bench.contenders)]
    if not rows:
        return None
    data = os.path.join(build, os.path.basename(svg) + ".dat")
    with open(data, "w") as f:
        for r in rows:
            f.write('"%s"' % r["title"].replace(", ", "\\n"))
            for k in bench.contenders:
                e = r["of"][k]
                f.write(" %g %g %g" % tuple(e[x] / scale for x in ("median", "min", "max")))
            f.write("\n")
    series = ", ".join('"%s" using %d:%d:%d:xtic(1) title "%s" lc rgb "%s"' %
                       (data, 2 + 3 * i, 3 + 3 * i, 4 + 3 * i, NAMES[k].replace("_", "\\\\_"), COLOURS[k])
                       for i, k in enumerate(bench.contenders))
    text = PLOT.format(svg=svg, title=title, ylabel=ylabel, series=series, width=260 + 190 * len(rows), height=420)
    subprocess.run(["gnuplot"], input=text, text=True, check=True)
    return os.path.basename(svg)


# -- the page -------------------------------------------------------------------------------------------------------------

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
INTRO = """# Performance

Measured by `./dev bench`, which anybody can repeat; it rewrites the part below. Server, keeper, warden and load generator
share **one** CPU, so each figure is the CPU cost of the operation on both sides together. What that leaves out: latency
across CPUs, and scaling over several.

"""


def write(out, body, rows, bench, build):
    """The part of OUT/performance.md between the two marks, and the charts beside it"""
    os.makedirs(out, exist_ok=True)
    if shutil.which("gnuplot"):
        for name, *rest in CHARTS:
            if chart(rows, bench, os.path.join(out, name), *rest, build):
                body += "\n\n![%s](%s)" % (name.split(".")[0], name)
    path = os.path.join(out, "performance.md")
    text = open(path).read() if os.path.exists(path) else INTRO + BEGIN + "\n" + END + "\n"
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    with open(path, "w") as f:
        f.write(before + BEGIN + "\n" + body + "\n" + END + after)
    return path
