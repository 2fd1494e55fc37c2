#!/usr/bin/env python3
"""Counts the instructions that the proxy core executes for one operation.

It runs `hot_path` under callgrind with N and with 2 N rounds and divides the difference by the
difference in operations, so that neither starting nor preparing counts. It does not measure time:
the kernel, the event base and memory that is not in the cache cost nothing here, and a copy of more
than 2 KiB counts one instruction a byte, since it is one `rep movsb`. Invariant: for the same
compiler and sources the figures are the same in every run.

    instructions.py                    prints the figures
    instructions.py --check            fails when one has grown by more than 3 %; with another
                                       compiler than the recorded one, it only says so
    instructions.py --update           records them in baseline.json
    instructions.py --functions NAME   the most expensive functions of one workload
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

FOLDER = pathlib.Path(__file__).resolve().parent
ROOT = FOLDER.parent.parent
BASELINE = FOLDER / "baseline.json"
TOLERANCE = 0.03
ROUNDS = 10


def build() -> pathlib.Path:
    """Builds `hot_path` as the proxy is shipped, and gives its path."""
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", FOLDER / "target"))
    subprocess.run(
        ["cargo", "build", "--quiet", "--release", "--locked", "--bin", "hot_path"],
        cwd=FOLDER,
        check=True,
    )
    return target / "release" / "hot_path"


def callgrind(binary: pathlib.Path, workload: str, rounds: int, out: str) -> tuple[int, int]:
    """Instructions and operations of one run."""
    run = subprocess.run(
        ["valgrind", "--tool=callgrind", "--dump-line=yes", "--compress-strings=no",
         "--compress-pos=no", f"--callgrind-out-file={out}", binary, workload, str(rounds)],
        capture_output=True, text=True, check=True,
    )
    found = re.search(r"Collected : (\d+)", run.stderr)
    if found is None:
        sys.exit(f"callgrind did not say what it collected:\n{run.stderr}")
    return int(found.group(1)), int(run.stdout)


def instructions_per_operation(binary: pathlib.Path, workload: str) -> float:
    """The figure of one workload."""
    few, few_operations = callgrind(binary, workload, ROUNDS, "/dev/null")
    many, many_operations = callgrind(binary, workload, 2 * ROUNDS, "/dev/null")
    return (many - few) / (many_operations - few_operations)


# --- which functions ---------------------------------------------------------------------------


class Source:
    """Where the functions of a source file begin, to name the one that a line belongs to."""

    def __init__(self, path: str) -> None:
        self.starts: list[tuple[int, str]] = []
        try:
            text = pathlib.Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return
        for number, line in enumerate(text.splitlines(), 1):
            found = re.match(r"\s*(?:pub(?:\([a-z]+\))? |const |unsafe |async |extern \"C\" )*"
                             r"fn (\w+)", line)
            if found:
                self.starts.append((number, found.group(1)))

    def function_at(self, line: int) -> str:
        """The function that begins last before the line."""
        before = [name for number, name in self.starts if number <= line]
        return before[-1] if before else "?"


def costs_by_function(path: str) -> tuple[dict[str, int], dict[str, int]]:
    """Instructions by function as compiled, with what was inlined into it; and by file and function
    as written, as far as the file is there to be read."""
    compiled: dict[str, int] = {}
    costs: dict[str, int] = {}
    sources: dict[str, Source] = {}
    file, function, called = "?", "?", False
    for line in pathlib.Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith(("fl=", "fi=", "fe=")):
            file = line[3:]
        elif line.startswith("fn="):
            function = line[3:]
        elif line.startswith("calls="):
            called = True
        elif re.match(r"^\d+ \d+$", line):
            if called:
                # What the callee cost, which is counted where it was spent.
                called = False
                continue
            number, cost = map(int, line.split())
            source = sources.setdefault(file, Source(file))
            name = source.function_at(number) if source.starts else function
            key = f"{short(file)} {name}"
            costs[key] = costs.get(key, 0) + cost
            compiled[function] = compiled.get(function, 0) + cost
    return compiled, costs


def short(file: str) -> str:
    """A path without what is the same for all."""
    for cut in ("/crates/", "/bench/", "/library/", "/registry/src/"):
        if cut in file:
            return file.split(cut, 1)[1]
    return file


def print_functions(binary: pathlib.Path, workload: str) -> None:
    """The most expensive functions of a workload."""
    with tempfile.TemporaryDirectory() as folder:
        few, few_operations = callgrind(binary, workload, ROUNDS, f"{folder}/few")
        many, many_operations = callgrind(binary, workload, 2 * ROUNDS, f"{folder}/many")
        before, after = (costs_by_function(f"{folder}/{name}") for name in ("few", "many"))
    operations = many_operations - few_operations
    print(f"{workload}: {(many - few) / operations:.1f} instructions an operation")
    for title, old, new in zip(("as compiled", "as written"), before, after):
        print(f"-- {title}")
        rows = [((cost - old.get(name, 0)) / operations, name) for name, cost in new.items()]
        for cost, name in sorted(rows, reverse=True)[:25]:
            print(f"{cost:9.1f}  {name}")


# --- the command -------------------------------------------------------------------------------


def compiler() -> str:
    """Its version."""
    run = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=True,
                         cwd=FOLDER)
    return run.stdout.strip()


def compare(figures: dict[str, float], baseline: dict[str, float]) -> bool:
    """Prints the figures beside those that were recorded. Whether none has grown too much."""
    good = True
    for name, figure in figures.items():
        recorded = baseline.get(name)
        if recorded is None:
            print(f"{name:24} {figure:10.1f}   not recorded")
            good = False
            continue
        change = figure / recorded - 1
        verdict = ""
        if change > TOLERANCE:
            verdict, good = "  GROWN", False
        elif change < -TOLERANCE:
            verdict = "  smaller: record it with --update"
        print(f"{name:24} {figure:10.1f}   recorded {recorded:10.1f}   {change:+7.1%}{verdict}")
    return good


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail when a figure has grown")
    parser.add_argument("--update", action="store_true", help="record the figures")
    parser.add_argument("--functions", metavar="WORKLOAD", help="where the instructions go")
    arguments = parser.parse_args()
    binary = build()
    if arguments.functions:
        print_functions(binary, arguments.functions)
        return
    names = subprocess.run([binary], capture_output=True, text=True, check=True).stdout.split()
    figures = {name: round(instructions_per_operation(binary, name), 1) for name in names}
    record = json.loads(BASELINE.read_text()) if BASELINE.exists() else {"instructions": {}}
    good = compare(figures, record["instructions"])
    here = {"compiler": compiler(), "machine": os.uname().machine}
    if arguments.update:
        BASELINE.write_text(json.dumps(here | {"instructions": figures}, indent=2) + "\n")
    elif arguments.check and any(record.get(name) != value for name, value in here.items()):
        print(f"not judged: recorded with {record.get('compiler')} on {record.get('machine')}, "
              f"this is {here['compiler']} on {here['machine']}; record anew with --update")
    elif arguments.check and not good:
        sys.exit(f"more than {TOLERANCE:.0%} above {BASELINE.relative_to(ROOT)}: "
                 "make it cheaper, or record it with --update and say why in the commit")


if __name__ == "__main__":
    main()
