"""The workloads of the comparison and the targets that Weir has set itself in each.

Values only. Invariant: a target is a ratio to nutcracker of the same run, in processor time an
operation; the proxy's share of its core and the load are the same for both.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Workload:
    """One row of the table."""

    name: str
    title: str
    memcache: bool = False
    connections: int = 50
    pipeline: int = 1
    value_size: int = 64
    keys_per_request: int = 1
    sets_percent: int = 0
    servers: int = 2
    # At most this many times nutcracker's processor time an operation; None for no target.
    target: float | None = None

    @property
    def keys(self) -> int:
        """Different keys: fewer of the large values, so that every store holds all of them."""
        return 1_000 if self.value_size > 4096 else 10_000

    def load_arguments(self) -> list[str]:
        """What `load` is told."""
        arguments = [
            "--connections", str(self.connections), "--pipeline", str(self.pipeline),
            "--value-size", str(self.value_size), "--keys", str(self.keys),
            "--keys-per-request", str(self.keys_per_request),
            "--sets-percent", str(self.sets_percent),
        ]
        return arguments + (["--memcache"] if self.memcache else [])

    def open_load_arguments(self) -> list[str]:
        """What `weir-bench run` is told. It has its own keys."""
        size = f"values.size={self.value_size}"
        return ["--connections", str(self.connections), "--set", f"keys.count={self.keys}",
                "--set", size, "--set", "commands={get=1}",
                "--protocol", "memcache" if self.memcache else "redis"]


WORKLOADS = [
    Workload("redis-get-64", "Redis GET 64 B, 50 connections", target=0.76),
    Workload("redis-get-64-p16", "Redis GET 64 B, pipeline 16", pipeline=16, target=0.30),
    Workload("redis-get-64-p64", "Redis GET 64 B, pipeline 64", pipeline=64, target=0.14),
    Workload("redis-mix-1024-p16", "Redis 1:9 SET:GET 1 KiB, pipeline 16", pipeline=16,
             value_size=1024, sets_percent=10, target=0.50),
    Workload("redis-get-16384-p4", "Redis GET 16 KiB, pipeline 4", pipeline=4, value_size=16384,
             target=0.80),
    Workload("redis-get-64-c2000", "Redis GET 64 B, 2,000 connections", connections=2000,
             target=0.46),
    Workload("memcache-get-64", "memcached get 64 B, 50 connections", memcache=True, target=0.76),
    Workload("memcache-get-64-p16", "memcached get 64 B, pipeline 16", memcache=True, pipeline=16,
             target=0.25),
    Workload("redis-mget-100", "Redis MGET of 100 keys over 4 servers", keys_per_request=100,
             servers=4, target=0.25),
    Workload("memcache-get-100", "memcached get of 100 keys over 4 servers", memcache=True,
             keys_per_request=100, servers=4, target=0.20),
]

# What is also loaded by a schedule, at half of what a proxy can do, for the tail.
TAIL = [workload for workload in WORKLOADS
        if workload.name in ("redis-get-64", "memcache-get-64")]

# Clients of one request at a time, whose latency is compared; no share of the core is set.
ONE_CLIENT = [
    Workload("redis-one-client", "Redis GET 64 B, one client", connections=1),
    Workload("memcache-one-client", "memcached get 64 B, one client", memcache=True, connections=1),
]

# Processor time an operation should not change along these. What one send carries must not change
# either, or the kernel's part would: so the batches are large enough for that, the smallest being
# 16 replies to a client and some 64 requests to a server.
CONNECTIONS_SWEEP = [
    Workload(f"redis-get-64-p16-c{count}", f"Redis GET 64 B, pipeline 16, {count} connections",
             pipeline=16, connections=count, servers=4)
    for count in (10, 100, 1_000, 10_000)
]
SERVERS_SWEEP = [
    Workload(f"redis-get-64-p64-c200-s{count}", f"Redis GET 64 B, {count} servers",
             pipeline=64, connections=200, servers=count)
    for count in (2, 20, 200)
]
# Two workers with two shares of a core against one with one. Small shares: the load must be able to
# keep both of them busy.
TWO_WORKERS_SHARE = 10
TWO_WORKERS = Workload("redis-get-64-p16", "Redis GET 64 B, pipeline 16", pipeline=16)

# Weir's other targets.
FLOOR_MAX = 1.15
POLLING_MAX = 1.30
TWO_WORKERS_MIN = 1.90
FLAT_MAX = 0.15
ONE_CLIENT_MAX = 1.05
