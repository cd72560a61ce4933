#!/usr/bin/env python3
"""Draws the curves of benches/README.md, and fits the costs that `spanmill plan` reckons with.

    benches/results/plot.py            # reads the *.jsonl beside it; writes *.svg and coefficients.json
    benches/results/plot.py --check    # says what it would write otherwise; fails if that differs

Only Python's standard library is used. The lines come from the benchmarks: benches/README.md has their commands.
"""

import json
import math
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SIZES = "benches/results/sizes.jsonl"
COLORS = ["#3b6ea8", "#c2571a", "#3f8f4f", "#8a4fa3", "#b02a4c", "#6b6b6b"]
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 680, 340, 70, 20, 44, 50


def lines(name):
    """The lines of a file of results; none if it is not there."""
    path = HERE / name
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{")]


def net(m):
    """CPU seconds per million spans without the admin server, which only the benchmark kept busy."""
    return (m["cpu_s"] - m.get("thread_admin_s", 0.0)) * 1e6 / m["spans"]


def runs_of(*experiments):
    """How many runs the medians of these experiments are of, in words."""
    counts = {m["median_of"] for m in lines("throughput.jsonl") if m.get("median_of") and m["experiment"] in experiments}
    return " to ".join(str(n) for n in sorted({min(counts), max(counts)})) + " runs"


def medians(experiment, subject):
    """The medians of a subject, by case, in the order of the axis."""
    found = [m for m in lines("throughput.jsonl") if m.get("median_of")]
    found = [m for m in found if m["experiment"] == experiment and m["subject"] == subject]
    return sorted(found, key=lambda m: m["x"])


# === drawing ===


def text(x, y, content, anchor="middle", size=12, extra=""):
    content = str(content).replace("&", "&amp;").replace("<", "&lt;")
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" {extra}>{content}</text>'


def frame(title, body):
    style = 'font-family="sans-serif" fill="#222"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {style}>'
    ground = f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'
    return "\n".join([head, ground, text(WIDTH / 2, 20, title, size=15), *body, "</svg>"]) + "\n"


def amount(value):
    """A short number: 1.5k, 20M."""
    for size, unit in [(1e9, "G"), (1e6, "M"), (1e3, "k")]:
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


class Axis:
    """From values to places, linear or logarithmic."""

    def __init__(self, values, log, low, high):
        self.log, self.low, self.high = log, low, high
        least, most = (min(values), max(values)) if values else (0, 1)
        if log:
            self.least, self.most = math.floor(math.log10(least)), math.ceil(math.log10(most))
        else:
            step = 10 ** math.floor(math.log10(most or 1))
            step = next(s for s in (step / 5, step / 2, step, step * 2) if most / s <= 7)
            self.least, self.most, self.step = 0, math.ceil(most / step) * step, step
        if self.least == self.most:
            self.most += 1

    def place(self, value):
        value = math.log10(value) if self.log else value
        return self.low + (value - self.least) / (self.most - self.least) * (self.high - self.low)

    def ticks(self):
        if self.log:
            return [10.0**e for e in range(self.least, self.most + 1)]
        count = round((self.most - self.least) / self.step)
        return [self.least + i * self.step for i in range(count + 1)]


def grid(x, y, x_label, y_label):
    out = []
    for tick in y.ticks():
        at = y.place(tick)
        out.append(f'<line x1="{LEFT}" y1="{at:.1f}" x2="{WIDTH - RIGHT}" y2="{at:.1f}" stroke="#ddd"/>')
        out.append(text(LEFT - 6, at + 4, amount(tick), "end"))
    for tick in x.ticks() if x else []:
        out.append(text(x.place(tick), HEIGHT - BOTTOM + 18, amount(tick)))
    out.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, x_label))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    out.append(text(16, middle, y_label, extra=f'transform="rotate(-90 16 {middle:.1f})"'))
    return out


def curve(title, x_label, y_label, curves, log_y=False):
    """Points joined by lines, x logarithmic; `curves` is a list of (name, [(x, y)])."""
    curves = [(name, points) for name, points in curves if points]
    if not curves:
        return None
    x = Axis([p[0] for _, points in curves for p in points], True, LEFT, WIDTH - RIGHT)
    y = Axis([p[1] for _, points in curves for p in points], log_y, HEIGHT - BOTTOM, TOP)
    out = grid(x, y, x_label, y_label)
    for i, (name, points) in enumerate(curves):
        color = COLORS[i % len(COLORS)]
        places = [(x.place(a), y.place(b)) for a, b in points]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
        out.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        out += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{color}"/>' for a, b in places]
        out.append(text(LEFT + 10 + i * 150, TOP - 8, "— " + name, "start", extra=f'style="fill:{color}"'))
    return frame(title, out)


def bars(title, y_label, groups):
    """Groups of bars; `groups` is a list of (name, [(subject, value)])."""
    if not groups:
        return None
    y = Axis([v for _, values in groups for _, v in values], False, HEIGHT - BOTTOM, TOP)
    out, wide = grid(None, y, "", y_label), (WIDTH - LEFT - RIGHT) / len(groups)
    for g, (name, values) in enumerate(groups):
        out.append(text(LEFT + (g + 0.5) * wide, HEIGHT - BOTTOM + 18, name))
        each = wide * 0.8 / len(values)
        for i, (subject, value) in enumerate(values):
            left, top = LEFT + g * wide + wide * 0.1 + i * each, y.place(value)
            color = COLORS[i % len(COLORS)]
            size = f'width="{each - 3:.1f}" height="{HEIGHT - BOTTOM - top:.1f}"'
            out.append(f'<rect x="{left:.1f}" y="{top:.1f}" {size} fill="{color}"/>')
            out.append(text(left + each / 2, top - 4, amount(value), size=10))
            if g == 0:
                out.append(text(LEFT + 10 + i * 150, TOP - 8, "■ " + subject, "start", extra=f'style="fill:{color}"'))
    return frame(title, out)


def cost(experiment, subject, by="cpu_s", x=lambda m: m["x"]):
    of = net if by == "cpu_s" else lambda m: m[by]
    return [(x(m), of(m)) for m in medians(experiment, subject) if by in m]


def plots():
    """Every picture: file name and content."""
    both = lambda experiment: [("worker", cost(experiment, "worker")), ("reader", cost(experiment, "reader"))]
    seconds = "CPU-s per million spans"
    compressions = [m["case"] for m in medians("compression", "worker")]
    of = lambda case: [
        (s, net(m)) for s in ("worker", "reader") for m in medians("compression", s)
        if m["case"] == case and "cpu_s" in m
    ]
    yield "records.svg", curve("Record size", "spans per record", seconds, both("records"), log_y=True)
    yield "partitions.svg", curve("Partitions of one worker", "partitions", seconds, both("partitions"))
    memory = [(f"{s}, at most", cost("partitions", s, "rss_peak_mb")) for s in ("worker", "reader")]
    yield "partitions-memory.svg", curve("Memory by partitions", "partitions", "MB", memory)
    yield "compression.svg", bars(
        "Compression", seconds, [(c, of(c)) for c in compressions]
    )
    yield "steps.svg", curve("Steps of event time in the same million spans", "steps", seconds, both("steps"))
    sets = lambda m: m["shape"]["label_sets"] + m["shape"]["edges"]
    growth = [(s, cost("series", s, x=sets)) for s in ("worker", "reader")]
    yield "series.svg", curve("Label sets, 150 s of event time", "label sets", seconds, growth)
    memory = [("worker, at most", cost("series", "worker", "rss_peak_mb", x=sets))]
    yield "series-memory.svg", curve("Memory by label sets, 4 partitions", "label sets", "MB", memory)
    yield "threads.svg", bars(
        "One thread, two threads, two workers",
        "spans per CPU-second",
        [(m["subject"], [("spans per CPU-second", 1e6 / net(m))]) for m in lines("throughput.jsonl")
         if m.get("median_of") and m["experiment"] == "threads"],
    )
    yield from micro()


def micro():
    """Growth of single stages, as the benches `growth` and `fold` print it; `case` is there when a line is not of the usual build."""
    span_task, shard = "of one span task, without decoding", "(19 to a label set)"
    for axis, of, y, file in [
        ("pending half edges", span_task, "ns per span", "growth-edges.svg"),
        ("label sets", span_task, "ns per span", "growth-sets.svg"),
        ("series of a shard", shard, "ns per label set", "growth-shard.svg"),
    ]:
        by_case = {}
        for line in lines("growth.jsonl"):
            if line["axis"] == axis:
                by_case.setdefault(line.get("case", "as it is"), []).append((line["n"], line["ns_each"]))
        title = f"{axis[0].upper()}{axis[1:]} {of}"
        picture = curve(title, axis, y, [(case, sorted(points)) for case, points in by_case.items()], log_y=True)
        if picture:
            yield file, picture


# === fitting ===


def solve(rows, values):
    """Least squares by the normal equations, without negative costs: the most negative one is left out and it is tried again."""
    use = list(range(len(rows[0])))
    while use:
        a = [[sum(r[i] * r[j] for r in rows) for j in use] for i in use]
        b = [sum(r[i] * v for r, v in zip(rows, values)) for i in use]
        for i in range(len(use)):
            pivot = max(range(i, len(use)), key=lambda k: abs(a[k][i]))
            a[i], a[pivot], b[i], b[pivot] = a[pivot], a[i], b[pivot], b[i]
            for k in range(i + 1, len(use)):
                factor = a[k][i] / a[i][i]
                a[k] = [x - factor * y for x, y in zip(a[k], a[i])]
                b[k] -= factor * b[i]
        found = [0.0] * len(use)
        for i in reversed(range(len(use))):
            found[i] = (b[i] - sum(a[i][k] * found[k] for k in range(i + 1, len(use)))) / a[i][i]
        worst = min(range(len(use)), key=lambda i: found[i])
        if found[worst] >= 0:
            result = [0.0] * len(rows[0])
            for i, value in zip(use, found):
                result[i] = value
            return result
        del use[worst]
    return [0.0] * len(rows[0])


def work(m):
    """How often each part of the work was done in a measurement: spans, records, touched label sets, commits, samples."""
    shape = m["shape"]
    steps = max(shape["seconds"] / 15.0, 1.0)
    sets = shape["label_sets"] + shape["edges"]
    each = m["spans"] / shape["partitions"] / steps
    touched = sets * -math.expm1(-each / sets) * shape["partitions"] * steps
    return [m["spans"], m["records"], touched, m["commits"], m["samples"]]


def coefficients():
    """The costs of `spanmill plan`, each with its source."""
    out = {}

    def put(name, value, unit, source, where="benches/results/throughput.jsonl"):
        out[name] = {"value": float(f"{value:.3g}"), "unit": unit, "source": f"{source}, {where}"}

    worker = [m for m in lines("throughput.jsonl") if m.get("median_of") and m["subject"] == "worker"]
    # Medians of fewer are drawn, and no cost is taken from them.
    worker = [m for m in worker if m["experiment"] != "threads" and m["median_of"] >= 3]
    if not worker:
        return None
    for m in medians("compression", "worker"):
        # Fetching and decompressing is all that librdkafka's broker threads do.
        cost = m["thread_rdk:broker_s"] * 1e9 / m["spans"] / m["bytes_per_span"]
        source = f"librdkafka's threads in the experiment `compression`, medians of {runs_of('compression')}"
        put(f"cpu_ns_per_byte_{m['case']}", cost, "ns", source)
    for m in medians("compression", "reader"):
        source = f"reader of the experiment `compression`, medians of {runs_of('compression')}"
        put(f"wire_share_{m['case']}", m["received_bytes_per_span"] / m["bytes_per_span"], "of the bytes", source)
    sending = medians("steps", "worker")[-1]
    per_sample = sending["thread_export_s"] * 1e9 / sending["sent_samples"]
    byte = {codec: out[f"cpu_ns_per_byte_{codec}"]["value"] for codec in ("none", "lz4", "snappy", "zstd", "gzip")}
    rows, values = [], []
    for m in worker:
        bytes_cost = byte[m["shape"]["compression"]] * m["bytes_per_span"]
        # Every measurement counts alike, whatever it took.
        rows.append([n / m["spans"] for n in work(m)])
        values.append(net(m) * 1e3 - bytes_cost - m["thread_export_s"] * 1e9 / m["spans"])
    span, record, touched, commit, sample = solve(rows, values)
    source = f"least squares over {len(worker)} cases of all experiments, medians of 3 to 5 runs"
    put("cpu_ns_per_span", span, "ns", source + "; without what its bytes cost")
    put("cpu_ns_per_record", record, "ns", source)
    put("cpu_ns_per_touched_set", touched, "ns", source)
    put("cpu_us_per_commit", commit / 1e3, "µs", source + "; with 16 shards")
    sent = f"the sending threads in the longest case of `steps`, and what is left for samples in: {source}"
    put("cpu_ns_per_sample", per_sample + sample, "ns", sent)
    traffic(put)
    memory(put)
    return json.dumps(out, indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def fit(rows, columns, value):
    """What each of `columns` adds to `value`. A case that is off by a percent counts the same, however large it is."""
    return dict(zip(columns, solve([[m[c] / m[value] for c in columns] for m in rows], [1.0] * len(rows))))


def sizes():
    """The cases of the bench `sizes`, with what is derived from its sums."""
    rows = lines("sizes.jsonl")
    for m in rows:
        m["named"] = m["touched"] - m["spelled"]
        m["shard_commits"] = m["commits"] * m["shards"]
        m["journal_rest"] = m["journal_packed"] - m["live_bytes"]
    return rows


def traffic(put):
    """Bytes that leave the worker."""
    rows = sizes()
    source = f"bench `sizes`: least squares over {len(rows)} runs of 1 to 64 shards, with and without exemplars"
    columns = ["named", "spelled", "exemplars", "shard_commits"]
    deltas = fit(rows, columns, "delta_record_packed")
    journal = fit(rows, columns + ["commits"], "journal_rest")
    for name, column in [("touched_set", "named"), ("exemplar", "exemplars"), ("delta_record", "shard_commits")]:
        put(f"bytes_per_{name}", deltas[column] + journal[column], "bytes", f"{source}; in the journal and in the deltas", SIZES)
    put("bytes_per_commit", journal["commits"], "bytes", f"{source}; without its delta records", SIZES)
    each = sum(m["live_bytes"] for m in rows) / sum(m["waiting"] for m in rows)
    put("bytes_per_half_edge", each, "bytes", f"bench `sizes`: in the list of each commit while it waits, over {len(rows)} runs", SIZES)
    snapshot = fit(rows, ["shard_sets", "shards"], "snapshot_packed")
    put("bytes_per_snapshot_set", snapshot["shard_sets"], "bytes", source, SIZES)
    sent = fit(rows, ["samples", "sent_exemplars"], "sent_bytes")
    # Longer runs have more digits: this is of those, whose few exemplars are in it.
    many = [m for m in medians("series", "worker") + medians("steps", "worker") if m["samples"] > 0 and m["commits"] >= 40]
    sample = sum(m["sent_bytes"] for m in many) / sum(m["sent_samples"] for m in many)
    put("bytes_per_sample", sample, "bytes", f"experiments `series` and `steps`, medians of {runs_of('series', 'steps')}")
    put("bytes_per_sent_exemplar", sent["sent_exemplars"], "bytes", source, SIZES)
    put("exemplars_per_touched_set", most_exemplars(rows), "exemplars", f"{source}; at most, of a label set with many spans", SIZES)


def most_exemplars(rows):
    """The `c` with which `c (1 - exp(-n / c))` comes nearest to the exemplars of a label set that sees `n` spans in a step."""
    seen = [(m["rate"] * 15.0 * 8 / m["touched"], m["exemplars"] / m["touched"]) for m in rows if m["exemplars"]]
    error = lambda c: sum((c * -math.expm1(-n / c) - told) ** 2 for n, told in seen)
    return min((c / 100 for c in range(10, 2_000)), key=error)


def memory(put):
    """What a worker holds."""
    partitions = medians("partitions", "worker")
    source = f"most memory in the experiment `partitions`, medians of {runs_of('partitions')}"
    base, each = solve([[1.0, m["x"]] for m in partitions], [m["rss_peak_mb"] for m in partitions])
    put("memory_mb_base", base, "MB", source)
    put("memory_kb_per_partition", each * 1e3, "kB", source)
    rows = sizes()
    held = lambda rows: solve(
        [[1.0, m["known_sets"]] for m in rows], [m["task_held"] - m["edges_account"] for m in rows]
    )[1]
    source = "bench `sizes`: what the allocator gave a span task, over {} runs {} exemplars"
    without = [m for m in rows if not m["exemplars"]]
    known, with_exemplars = held(without), held([m for m in rows if m["exemplars"]])
    put("memory_bytes_per_known_set", known, "bytes", source.format(len(without), "without"), SIZES)
    more = source.format(len(rows) - len(without), "with") + ", less those without"
    put("memory_bytes_per_known_set_exemplars", with_exemplars - known, "bytes", more, SIZES)
    shard = fit(rows, ["shard_sets", "shards"], "shard_account")["shards"]
    put("memory_kb_per_shard", shard / 1e3, "kB", f"bench `sizes`: own account of the shards, least squares over {len(rows)} runs", SIZES)
    # The account of a worker leaves out what lists and tables have to spare.
    spare = sum(m["task_held"] - m["edges_account"] for m in rows if m["exemplars"]) / sum(
        m["known_account"] for m in rows if m["exemplars"]
    )
    many = medians("series", "worker")
    sets = lambda m: m["shape"]["label_sets"] + m["shape"]["edges"]
    _, slope = solve([[1.0, sets(m)] for m in many], [m["rss_peak_mb"] * 1e6 - m["known_bytes"] * spare for m in many])
    source = f"experiment `series`: how most memory grows, less what its partitions know, medians of {runs_of('series')}"
    put("memory_bytes_per_label_set", slope, "bytes", source)
    waiting = [m for m in medians("reference", "worker") if m["edges_pending"] > 0]
    half = sum(m["edges_bytes"] for m in waiting) / sum(m["edges_pending"] for m in waiting)
    put("memory_bytes_per_half_edge", half, "bytes", f"experiment `reference`: own account of the worker, medians of {runs_of('reference')}")


def main():
    wanted = {name: content for name, content in plots() if content}
    fitted = coefficients()
    if fitted:
        wanted["coefficients.json"] = fitted
    differ = [name for name, content in wanted.items() if not (HERE / name).exists() or (HERE / name).read_text() != content]
    if "--check" in sys.argv[1:]:
        sys.exit(f"not what the results say: {', '.join(differ)}" if differ else 0)
    for name in differ:
        (HERE / name).write_text(wanted[name])
        print(f"wrote {name}")


if __name__ == "__main__":
    main()
