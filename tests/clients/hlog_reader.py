"""Reads an interval log of weir-bench with HdrHistogram's own reader and compares it with the JSON.

Usage: hlog_reader.py LOG JSON. Exits with 0 and prints how many figures were compared, or raises at
the first one that differs.
"""

import json
import math
import sys

from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

HOUR_NS = 3_600_000_000_000
compared = 0


def same(got, wanted, what):
    """One comparison."""
    global compared
    compared += 1
    if got != wanted:
        raise AssertionError(f"{what}: the log has {got!r}, the JSON {wanted!r}")


def read(path):
    """All intervals of each tag, added; and the reader, which knows when the log began."""
    whole = {}
    reader = HistogramLogReader(path, HdrHistogram(1, HOUR_NS, 3))
    while (interval := reader.get_next_interval_histogram()) is not None:
        tag = interval.get_tag()
        whole.setdefault(tag, HdrHistogram(1, HOUR_NS, 3)).add(interval)
        if not interval.get_start_time_stamp() < interval.get_end_time_stamp():
            raise AssertionError(f"{tag}: an interval without a length")
    return whole, reader


def value_at(histogram, percent):
    """The value with so many percent of all at or below it. The reader rounds the rank to the
    nearest, where other readers go up: so it is asked for the rank itself."""
    rank = max(1, math.ceil(percent / 100 * histogram.get_total_count()))
    return histogram.get_value_at_percentile(100 * rank / histogram.get_total_count())


def check(histogram, figures, tag):
    """One line of the summary."""
    same(histogram.get_total_count(), figures["count"], f"{tag} count")
    if figures["count"] == 0:
        return
    top = histogram.get_highest_equivalent_value(histogram.get_max_value())
    same(top, histogram.get_highest_equivalent_value(figures["max_ns"]), f"{tag} max")
    for name, percent in [("p50", 50), ("p90", 90), ("p99", 99), ("p999", 99.9)]:
        if figures[f"{name}_ns"] is not None:
            same(value_at(histogram, percent), figures[f"{name}_ns"], f"{tag} {name}")


def main():
    log, summary = sys.argv[1:]
    with open(summary, encoding="utf-8") as file:
        summary = json.load(file)
    whole, reader = read(log)
    # The log begins when measuring does, after keys were written and the server was warmed up.
    began = (summary["started_unix_ms"] / 1000) + summary["settings"]["warmup_s"]
    same(reader.base_time_sec > began, True, "whether it begins with the measured time")
    for op in summary["ops"]:
        for kind in ["response", "service"]:
            tag = f"{op['name']}.{kind}"
            check(whole.pop(tag, HdrHistogram(1, HOUR_NS, 3)), op[kind], tag)
    for tag in ["slip_busy", "slip_full"]:
        check(whole.pop(tag, HdrHistogram(1, HOUR_NS, 3)), summary[tag], tag)
    same(sorted(whole), [], "tags that the JSON does not know")
    print(f"{compared} figures compared")


main()
