"""Runs suites of other projects through Weir, and tells what passed, what failed, and why.

Called by scripts/acceptance. Exits with 0 only if each failed test is named in `expected/` with a
reason, and in each suite at least as many have passed as have before.
"""

import collections
import os
import signal
import sys
import tempfile
import time

import expectations
from programs import Site
from suites import SUITES, Fetched, Outcome

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# So many tests that fail without an excuse are run again; more are no accident.
AGAIN_MAX = 5
# Characters of what a failed test said.
SAID_MAX = 150


class Report:
    """What is known so far."""

    def __init__(self, shards):
        self.shards = shards
        self.lines = []
        self.trouble = 0

    def judge(self, suite, outcomes):
        failed = {name: outcome.said for name, outcome in sorted(outcomes.items())
                  if outcome.word == "failed"}
        return expectations.judge(failed, expectations.load(suite.name, self.shards))

    def add(self, suite, outcomes, seconds):
        counts = collections.Counter(outcome.word for outcome in outcomes.values())
        judgement = self.judge(suite, outcomes)
        reached = counts["passed"] >= suite.target_count
        fewer = counts["passed"] < suite.recorded_count
        self.trouble += fewer or bool(judgement.not_excused)
        self.lines.append(f"{suite.name:18}{counts['passed']:7}{counts['failed']:8}"
                          f"{counts['skipped']:9}   {suite.target:12}"
                          f"{'met' if reached else 'NOT MET':9}{len(judgement.not_excused):12}"
                          f"{seconds:8.0f} s")
        if fewer:
            print(f"  FEWER THAN BEFORE: {suite.recorded_count} have passed")
        by_reason = collections.Counter(reason for _, reason in judgement.excused)
        for reason, count in by_reason.most_common():
            print(f"  {count:5}  {reason}")
        for name, said in judgement.not_excused:
            print(f"  NOT EXCUSED  {name}  {said[:SAID_MAX]}")
        if judgement.not_excused:
            print(f"  in all {len(judgement.not_excused)} not excused")

    def print(self):
        print()
        print(f"{'suite':18}{'passed':>7}{'failed':>8}{'skipped':>9}   {'target':12}"
              f"{'':9}{'not excused':>12}{'took':>10}")
        print("\n".join(self.lines))


def main(names):
    shards = int(os.environ.get("ACC_SHARDS", "2"))
    if shards not in (0, 1, 2):
        sys.exit("acceptance: ACC_SHARDS is 0, 1 or 2")
    unknown = set(names) - {suite.name for suite in SUITES}
    if unknown:
        sys.exit(f"acceptance: no such suite: {', '.join(sorted(unknown))}")
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
    weir = os.environ.get("WEIR_BIN", os.path.join(target, "release", "weir"))
    fetched = Fetched(os.path.join(ROOT, "target", "acceptance"))
    report = Report(shards)
    for suite in SUITES:
        if names and suite.name not in names:
            continue
        folder = tempfile.mkdtemp(prefix=f"{suite.name}-", dir=fetched.path())
        print(f"{suite.name}: logs in {os.path.relpath(folder, ROOT)}", flush=True)
        start = time.monotonic()
        with Site(weir, shards, folder) as site:
            try:
                outcomes = suite.run(fetched, site, folder)
                accused = [name for name, _ in report.judge(suite, outcomes).not_excused]
                if suite.again and 0 < len(accused) <= AGAIN_MAX:
                    print(f"  run again alone: {', '.join(accused)}")
                    outcomes |= suite.again(accused, fetched, site, folder)
            except (RuntimeError, OSError) as error:
                outcomes = {f"({error})": Outcome("failed")}
            outcomes |= {f"({name} ended)": Outcome("failed") for name in site.ended()}
        report.add(suite, outcomes, time.monotonic() - start)
    report.print()
    sys.exit(1 if report.trouble else 0)


if __name__ == "__main__":
    # An end by a signal is an end by an exception: what was started is ended on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("acceptance: ended by a signal"))
    main(sys.argv[1:])
