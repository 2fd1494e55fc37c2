"""From samples to a table with ratios and targets.

It runs nothing. Invariant: a ratio is the median of the ratios of single rounds, so that what
disturbed one round disturbs neither side alone.
"""

import os
import pathlib
import platform
import statistics
import subprocess

import workloads as table
from workloads import Workload

REFERENCE = "nutcracker"


def about(arguments, started, versions: dict[str, str], absent: dict[str, str],
          share_kind: str) -> dict:
    """What must be known to repeat the run."""
    cpu = "unknown"
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
            break
    share = f"{arguments.share} % of its core ({share_kind}, period 10 ms)"
    if not share_kind.startswith("cgroup"):
        share = f"no share of its core was set ({share_kind})"
    command = ["rustc", "--version"]
    return {
        "date": started.strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{cpu}, {os.cpu_count()} CPUs, {memory_gib()} GiB",
        "kernel": platform.release(),
        "compiler": subprocess.run(command, capture_output=True, text=True, check=False,
                                   cwd=pathlib.Path(__file__).parent).stdout.strip(),
        "versions": versions | {
            "redis-server": first_line(["redis-server", "--version"]),
            "memcached": first_line(["memcached", "--version"]),
        },
        "absent": absent,
        "share": share,
        "share_percent": arguments.share,
        "rounds": arguments.rounds,
        "seconds": arguments.seconds,
        "cpus": {"proxy": arguments.proxy_cpu, "load": arguments.load_cpu},
        "command": "bench/compare/compare.py " + " ".join(
            f"--{name} {getattr(arguments, name)}"
            for name in ("rounds", "share", "seconds", "warmup", "peers", "workloads")
            if getattr(arguments, name) is not None),
    }


def memory_gib() -> int:
    """Of the machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30


def first_line(command: list[str]) -> str:
    """Of what a program prints."""
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    return run.stdout.splitlines()[0] if run.stdout else "not installed"


def median(samples: list[dict], field: str) -> float | None:
    """Of one field."""
    values = [sample[field] for sample in samples if field in sample]
    return statistics.median(values) if values else None


def ratio(samples: list[dict], reference: list[dict], field: str = "cpu_us") -> float | None:
    """The median of the ratios round by round."""
    pairs = [(a[field], b[field]) for a, b in zip(samples, reference) if b.get(field)]
    return statistics.median(a / b for a, b in pairs) if pairs else None


def number(value: float | None, digits: int = 2) -> str:
    """For a cell."""
    return "-" if value is None else f"{value:,.{digits}f}"


def verdict(good: bool) -> str:
    """For a cell."""
    return "met" if good else "missed"


def markdown(result: dict, workloads: list[Workload]) -> str:
    """The whole page."""
    facts = result["about"]
    lines = [
        "# The proxy beside its peers", "",
        f"{facts['date']}. Machine: {facts['machine']}; Linux {facts['kernel']}; "
        f"{facts['compiler']}. The proxy had {facts['share']}, CPU {facts['cpus']['proxy']}; load "
        f"and servers CPU {facts['cpus']['load']}. Medians of {facts['rounds']} interleaved rounds "
        f"of {facts['seconds']} s each.", "",
        f"Command: `{facts['command']}`", "",
    ]
    lines += [f"- {name}: {version}" for name, version in facts["versions"].items()]
    lines += [f"- {name} took no part: {why}" for name, why in facts["absent"].items()]
    lines += ["", *summary(result, workloads)]
    for workload in workloads:
        lines += ["", *one_table(result, workload)]
    if result.get("tails"):
        lines += ["", *tails(result["tails"])]
    if result["sweeps"]:
        lines += ["", *sweeps(result["sweeps"])]
    return "\n".join(lines) + "\n"


def summary(result: dict, workloads: list[Workload]) -> list[str]:
    """Processor time an operation and the targets, one row a workload."""
    lines = [
        "## Processor time an operation", "",
        "| workload | nutcracker us | weir us | ratio | target | | weir / floor | "
        "polling / uring |",
        "|---|--:|--:|--:|--:|---|--:|--:|",
    ]
    for workload in workloads:
        peers = result["samples"].get(workload.name, {})
        weir, reference = peers.get("weir", []), peers.get(REFERENCE, [])
        against = ratio(weir, reference)
        met = "" if against is None or workload.target is None else verdict(
            against <= workload.target)
        floor = ratio(weir, peers.get("floor", []))
        polling = ratio(peers.get("weir-polling", []), weir)
        lines.append(
            f"| {workload.title} | {number(median(reference, 'cpu_us'), 3)} | "
            f"{number(median(weir, 'cpu_us'), 3)} | {number(against)} | "
            f"{number(workload.target)} | {met} | {number(floor)} | {number(polling)} |")
    lines += unsaturated(result, workloads, result["about"]["share_percent"] / 100)
    lines += ["", f"Targets of the last two columns: at most {table.FLOOR_MAX} at pipeline 16 and "
              f"above, and at most {table.POLLING_MAX}."]
    return lines


def one_table(result: dict, workload: Workload) -> list[str]:
    """Everything about one workload."""
    lines = [
        f"## {workload.title}", "",
        "| proxy | CPU us/op | min-max | ratio | op/s | p50 us | p99 us | p99.9 us | "
        "peak RSS MiB | "
        "calls/op | req/server send | req/server read | completions/enter | proxy busy | "
        "load core idle |",
        "|---|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    peers = result["samples"].get(workload.name, {})
    seen = result["observations"].get(workload.name, {})
    for name, samples in peers.items():
        if not samples:
            lines.append(f"| {name} | failed |" + " |" * 13)
            continue
        costs = [sample["cpu_us"] for sample in samples]
        other = seen.get(name, {})
        memory = median(samples, "memory_kib")
        cells = [
            name, number(median(samples, "cpu_us"), 3), f"{min(costs):.3f}-{max(costs):.3f}",
            number(ratio(samples, peers.get(REFERENCE, []))), number(median(samples, "rate"), 0),
            *(number(median(samples, field), 0) for field in ("p50_us", "p99_us", "p999_us")),
            number(memory / 1024 if memory else None, 1),
            number(other.get("calls_per_operation"), 3),
            number(other.get("requests_per_server_send"), 1),
            number(other.get("requests_per_server_read"), 1),
            number(other.get("completions_per_enter"), 1),
            number(median(samples, "busy")), number(median(samples, "core_idle")),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def unsaturated(result: dict, workloads: list[Workload], share: float) -> list[str]:
    """A warning where Weir had not enough to do."""
    idle = []
    for workload in workloads:
        busy = median(result["samples"].get(workload.name, {}).get("weir", []), "busy")
        if busy is not None and busy < 0.85 * share:
            idle.append(workload.title)
    if not idle:
        return []
    return ["", "The load could not keep Weir busy for all of its share (`proxy busy`), so its "
            "batches are smaller than they would be, and the ratios less certain, in: "
            + "; ".join(idle) + "."]


def tails(kept: dict[str, dict[str, list[dict]]]) -> list[str]:
    """Latencies of open loads, and whether any peer's tail is shorter than Weir's."""
    lines = ["## Tail at half of saturation, open loop", "",
             "Requests are due by a Poisson schedule of `weir-bench`, whatever the proxy does, and "
             "a latency begins when its request was due. `own` is half of what the proxy did in "
             "the table above, `same` half of what nutcracker did. The verdicts are those of "
             "`weir-bench`, whose generator shares a core with the servers.", "",
             "| workload and load | proxy | requests/s | p50 us | p99 us | p99.9 us | min-max | "
             "verdicts | |", "|---|---|--:|--:|--:|--:|---|---|---|"]
    for name, peers in kept.items():
        tail = {peer: median(runs, "p999_us") for peer, runs in peers.items()}
        others = [value for peer, value in tail.items()
                  if value is not None and peer not in ("weir", "weir-polling", "floor")]
        for peer, runs in peers.items():
            if not runs:
                continue
            note = ""
            if peer == "weir" and others and tail[peer] is not None:
                best = tail[peer] / min(others)
                note = f"{best:.2f} of the best peer's, at most 1: {verdict(best <= 1)}"
            worst = [run["p999_us"] for run in runs if "p999_us" in run]
            grades = [run["grade"] for run in runs]
            figures = ("rate", "p50_us", "p99_us", "p999_us")
            cells = [name, peer, *(number(median(runs, field), 0) for field in figures),
                     f"{min(worst):,.0f}-{max(worst):,.0f}" if worst else "-",
                     ", ".join(f"{grades.count(grade)} {grade}" for grade in dict.fromkeys(grades)),
                     note]
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def sweeps(samples: dict[str, list[dict]]) -> list[str]:
    """Weir against itself, and one client against nutcracker."""
    lines = ["## Weir against itself", "", "| what | CPU us/op | op/s | p50 us | p99 us | |",
             "|---|--:|--:|--:|--:|---|"]
    notes: dict[str, str] = {}
    for sweep in (table.CONNECTIONS_SWEEP, table.SERVERS_SWEEP):
        costs = {f"{w.name} weir": median(samples.get(f"{w.name} weir", []), "cpu_us")
                 for w in sweep}
        known = {name: cost for name, cost in costs.items() if cost is not None}
        if not known:
            continue
        middle = (min(known.values()) + max(known.values())) / 2
        spread = max(known.values()) / middle - 1
        notes[f"{sweep[-1].name} weir"] = (
            f"within {spread:.0%} of the middle, at most {table.FLAT_MAX:.0%}: "
            f"{verdict(spread <= table.FLAT_MAX)}")
    rate = ratio(samples.get("two workers", []), samples.get("one worker", []), "rate")
    if rate is not None:
        notes["two workers"] = (f"{rate:.2f} times one worker's, at least "
                                f"{table.TWO_WORKERS_MIN}: "
                                f"{verdict(rate >= table.TWO_WORKERS_MIN)}")
    for workload in table.ONE_CLIENT:
        name = f"{workload.name} weir"
        latency = ratio(samples.get(name, []),
                        samples.get(f"{workload.name} {REFERENCE}", []), "p50_us")
        if latency is not None:
            notes[name] = (f"p50 {latency:.2f} times nutcracker's, at most "
                           f"{table.ONE_CLIENT_MAX}: {verdict(latency <= table.ONE_CLIENT_MAX)}")
    for name, kept in samples.items():
        cells = [name, number(median(kept, "cpu_us"), 3), number(median(kept, "rate"), 0),
                 number(median(kept, "p50_us"), 1), number(median(kept, "p99_us"), 1),
                 notes.get(name, "")]
        lines.append("| " + " | ".join(cells) + " |")
    return lines
