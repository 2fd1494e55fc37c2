"""Starting, pinning, limiting and observing processes.

It knows no proxy and no workload. Invariant: every process and control group that is made here is
gone when its `with` block ends.
"""

import contextlib
import json
import os
import pathlib
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Iterator

# A short period, so that a proxy that has used up its share is not stopped for long.
PERIOD_US = 10_000
START_TIMEOUT_S = 10.0
FILES_MAX = 60_000
# Proxy, servers and load go before whatever else runs on the machine, as far as they may.
NICE = -20


def raise_file_limit() -> int:
    """As many descriptors as may be had, for 10,000 clients on both sides."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = FILES_MAX if hard == resource.RLIM_INFINITY else min(FILES_MAX, hard)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES_MAX, max(hard, FILES_MAX)))
        return FILES_MAX
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def consecutive_ports(count: int) -> int:
    """The first of so many ports that nobody listens on now."""
    for first in range(20_000, 30_000, count):
        sockets = []
        try:
            for port in range(first, first + count):
                each = socket.socket()
                sockets.append(each)
                each.bind(("127.0.0.1", port))
            return first
        except OSError:
            continue
        finally:
            for each in sockets:
                each.close()
    raise RuntimeError(f"no {count} ports in a row are free")


class Share:
    """A share of a core, as a control group's quota. `kind` says what sets it, or why nothing."""

    def __init__(self, percent: int | None) -> None:
        self.percent = percent
        self.group: pathlib.Path | None = None
        self.kind = "none: not asked for"

    def __enter__(self) -> "Share":
        if self.percent is None:
            return self
        quota = PERIOD_US * self.percent // 100
        for kind, parent, settings in candidates(quota):
            group = parent / f"weir-bench-{os.getpid()}-{self.percent}"
            try:
                group.mkdir(exist_ok=True)
                for name, value in settings:
                    (group / name).write_text(value)
                self.group, self.kind = group, kind
                return self
            except OSError as error:
                self.kind = f"none: {parent} refuses ({error.strerror})"
                with contextlib.suppress(OSError):
                    group.rmdir()
        return self

    def __exit__(self, *_: object) -> None:
        if self.group is None:
            return
        for _ in range(50):
            with contextlib.suppress(OSError):
                self.group.rmdir()
                return
            time.sleep(0.02)


def candidates(quota: int) -> Iterator[tuple[str, pathlib.Path, list[tuple[str, str]]]]:
    """Where a quota may be set: cgroup v2, then v1."""
    root = pathlib.Path("/sys/fs/cgroup")
    controllers = root / "cgroup.subtree_control"
    if controllers.exists() and "cpu" in controllers.read_text().split():
        yield "cgroup v2", root, [("cpu.max", f"{quota} {PERIOD_US}")]
    for name in ("cpu", "cpu,cpuacct"):
        if (root / name / "cpu.cfs_quota_us").exists():
            yield "cgroup v1", root / name, [
                ("cpu.cfs_period_us", str(PERIOD_US)), ("cpu.cfs_quota_us", str(quota)),
            ]


@contextlib.contextmanager
def running(
    command: list[str], cpus: set[int], port: int, share: Share | None = None,
    log: pathlib.Path | None = None,
) -> Iterator[subprocess.Popen]:
    """A process on these CPUs, with this share, from when it listens until the block ends."""

    def prepare() -> None:
        os.sched_setaffinity(0, cpus)
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, NICE)
        if share is not None and share.group is not None:
            (share.group / "cgroup.procs").write_text("0")

    output = open(log, "wb") if log else subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL,
                               preexec_fn=prepare)
    try:
        await_listening(process, port, command[0])
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if log:
            output.close()


def await_listening(process: subprocess.Popen, port: int, name: str) -> None:
    """Returns when a connection is accepted."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{name} ended at once, with {process.returncode}")
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        time.sleep(0.02)
    raise RuntimeError(f"{name} does not listen on port {port}")


def peak_memory_kib(pid: int) -> int:
    """The most memory that the process has held so far."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1])
    return 0


# Sends to servers on io_uring: Weir's event base says operation and kind in the user data.
SERVER_SENDS = "user_data >= 0x0420000000000000 && user_data < 0x0430000000000000"
EVENTS = [
    ("calls", "raw_syscalls:sys_enter", None),
    ("enters", "syscalls:sys_enter_io_uring_enter", None),
    ("completions", "io_uring:io_uring_complete", None),
    ("server_sends", "io_uring:io_uring_submit_req", SERVER_SENDS),
]


def count_calls(pid: int, seconds: float) -> dict[str, float] | None:
    """System calls of a process and what io_uring did for it, a second; None without perf."""
    command = ["perf", "stat", "-x", ",", "-p", str(pid)]
    for _, event, condition in EVENTS:
        command += ["-e", event] + (["--filter", condition] if condition else [])
    run = subprocess.run([*command, "--", "sleep", str(seconds)], capture_output=True, text=True,
                         check=False)
    if run.returncode != 0:
        return None
    counts = {}
    for line in run.stderr.splitlines():
        fields = line.split(",")
        for name, event, _ in EVENTS:
            if len(fields) > 2 and fields[2] == event and fields[0].isdigit():
                counts[name] = int(fields[0]) / seconds
    return counts or None


def redis_reads(ports: list[int]) -> tuple[int, int] | None:
    """Commands and reads of these Redis servers so far."""
    commands = reads = 0
    for port in ports:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(b"INFO stats\r\n")
            text = b""
            while b"total_reads_processed" not in text or not text.endswith(b"\r\n"):
                piece = connection.recv(65536)
                if not piece:
                    return None
                text += piece
        fields = dict(line.split(":", 1) for line in text.decode().splitlines() if ":" in line)
        commands += int(fields["total_commands_processed"])
        reads += int(fields["total_reads_processed"])
    return commands, reads


def read_stats(port: int) -> dict | None:
    """What a proxy's statistics port tells, in nutcracker's way."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            text = b""
            while piece := connection.recv(65536):
                text += piece
        return json.loads(text)
    except (OSError, ValueError):
        return None
