#!/usr/bin/env python3
"""Where the processor time of a proxy goes, by function, kernel included.

The proxy runs as in `compare.py` (one core, its share of it, the same servers and load) and perf
samples it. A virtual machine without counters has only the clock to sample by, so expect whole
percents, no more. Invariant: nothing else is measured in the same run.

    profile.py                                          Weir at pipeline 1, 16, 64 and 16 KiB
    profile.py --peer nutcracker --workloads redis-get-64 --calls
"""

import argparse
import contextlib
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

import compare
import measure
import workloads as table
from measure import Share, running
from peers import PEERS, Place

DEFAULT = "redis-get-64,redis-get-64-p16,redis-get-64-p64,redis-get-16384-p4"


def record(pid: int, seconds: float, path: str, calls: bool) -> None:
    """Samples a process a thousand times a second of its running."""
    command = ["perf", "record", "-q", "-e", "cpu-clock", "-F", "1999", "-p", str(pid), "-o", path]
    command += ["-g"] if calls else []
    subprocess.run([*command, "--", "sleep", str(seconds)], check=True, capture_output=True)


def shares(path: str, calls: bool, by: str) -> list[str]:
    """The files, or the functions, with the most samples."""
    command = ["perf", "report", "-i", path, "--stdio", "-q", "--percent-limit", "0.7",
               "--sort", by]
    command += ["--children" if calls else "--no-children", "-g", "none"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", default="weir")
    parser.add_argument("--workloads", default=DEFAULT)
    parser.add_argument("--share", type=int, default=compare.SHARE)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--calls", action="store_true", help="count what a function calls to it")
    parser.add_argument("--no-build", action="store_true")
    arguments = parser.parse_args()
    arguments.warmup, arguments.proxy_cpu, arguments.load_cpu = 0.4, 0, 1
    arguments.binaries = compare.build(arguments)
    measure.raise_file_limit()
    by_name = {kind.name: kind for kind in PEERS}
    if arguments.peer not in by_name:
        sys.exit(f"no peer is named {arguments.peer}")
    peer = by_name[arguments.peer](arguments.binaries)
    workloads = compare.chosen(arguments.workloads, table.WORKLOADS, "workload")
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = pathlib.Path(name)
        bench = compare.Bench(arguments, folder)
        servers = compare.Servers(arguments.binaries, arguments.load_cpu)
        for command, port in servers.commands():
            stack.enter_context(running(command, {arguments.load_cpu}, port))
        servers.fill(workloads)
        for workload in workloads:
            place = Place(folder, bench.port, bench.stats_port, servers.ports(workload),
                          arguments.proxy_cpu)
            with Share(arguments.share) as limit, running(
                peer.command(workload, place), {arguments.proxy_cpu}, bench.port, limit
            ) as process:
                samples = str(folder / "samples")
                load = threading.Thread(
                    target=bench.load, args=(workload, process.pid, arguments.seconds + 1))
                load.start()
                time.sleep(1.0)
                record(process.pid, arguments.seconds, samples, arguments.calls)
                load.join()
            print(f"== {peer.name}, {workload.title}")
            print("\n".join(shares(samples, False, "dso")))
            functions = shares(samples, arguments.calls, "dso,symbol")
            print("\n".join(functions[:60]), flush=True)


if __name__ == "__main__":
    main()
