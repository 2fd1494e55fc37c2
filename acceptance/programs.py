"""The programs that a suite speaks to: servers, Weir before them, and the relay before Weir.

Invariant: whatever was started here has ended when the `with` block ends.
"""

import os
import shutil
import socket
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
# How long a program may take to start.
START_MAX_S = 30
KINDS = ("redis", "memcached")
# Two that share no prefix, so that `ketama` has no reason to favour one.
NAMES = ("left", "right")


def program(name):
    found = shutil.which(name, path=PATH)
    if found is None:
        raise RuntimeError(f"{name} is needed: run make setup")
    return found


def free_ports(count):
    """Ports that nobody uses. All are held until all are known, so they differ."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def until_listening(port):
    end = time.monotonic() + START_MAX_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise RuntimeError(f"nobody listens on port {port}") from None
            time.sleep(0.02)


class Site:
    """Servers of both kinds, Weir with a pool of each, and a relay for each pool. With `shards` 0
    the relays lead to one server without Weir, which shows what a suite can reach at all."""

    def __init__(self, weir, shards, folder):
        self.without_weir = shards == 0
        shards = max(shards, 1)
        self.weir, self.folder = weir, folder
        self.processes = []
        ports = free_ports(2 * shards + 4)
        self.servers = {kind: [ports.pop() for _ in range(shards)] for kind in KINDS}
        self.pools = {kind: ports.pop() for kind in KINDS}
        if self.without_weir:
            self.pools = {kind: ports[0] for kind, ports in self.servers.items()}
        self.relays = {kind: ports.pop() for kind in KINDS}

    def __enter__(self):
        try:
            for port in self.servers["redis"]:
                folder = os.path.join(self.folder, f"redis-{port}")
                os.makedirs(folder)
                self.start(program("redis-server"), "--port", str(port), "--bind", "127.0.0.1",
                           "--save", "", "--dir", folder, "--enable-debug-command", "yes")
            for port in self.servers["memcached"]:
                self.start(program("memcached"), "-l", "127.0.0.1", "-p", str(port), "-U", "0",
                           "-t", "1", "-u", "root", "-m", "128")
            if not self.without_weir:
                self.start(self.weir, "-c", self.configuration(), "-o", self.file("weir.log"),
                           "-a", self.file("stats"), "--workers", "2")
            for kind in KINDS:
                behind = [] if self.without_weir else self.servers[kind]
                self.start(sys.executable, os.path.join(HERE, "relay.py"), kind,
                           *map(str, [self.relays[kind], self.pools[kind], *behind]))
            for ports in (*self.servers.values(), self.pools.values(), self.relays.values()):
                for port in ports:
                    until_listening(port)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.kill()
            process.wait()

    def start(self, *command):
        with open(self.file("programs.log"), "ab") as log:
            self.processes.append(subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log))

    def ended(self):
        """Programs that have ended, which none should before the suites have."""
        return [process.args[0] for process in self.processes if process.poll() is not None]

    def file(self, name):
        return os.path.join(self.folder, name)

    def configuration(self):
        """Writes Weir's file. A time-out turns what would hang into a failed test."""
        text = ""
        for kind in KINDS:
            text += (f"{kind}:\n  listen: 127.0.0.1:{self.pools[kind]}\n"
                     f"  redis: {'true' if kind == 'redis' else 'false'}\n"
                     "  hash_tag: \"{}\"\n  timeout: 8000\n  servers:\n")
            for port, name in zip(self.servers[kind], NAMES):
                text += f"    - 127.0.0.1:{port}:1 {name}\n"
        with open(self.file("weir.yml"), "w", encoding="ascii") as file:
            file.write(text)
        return self.file("weir.yml")
