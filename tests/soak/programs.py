"""The programs of the soak: servers that are killed and started again, and the proxy.

Invariant: whatever was started here has ended when `stop` returns.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import time

PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
# How long a program may take to start or to end.
START_MAX_S = 15


def free_port():
    """A port that nobody uses, and that the kernel does not hand out by itself."""
    for port in range(21000 + os.getpid() % 5000, 32000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in free_port.taken:
            free_port.taken.add(port)
            return port
    raise RuntimeError("no free port")


free_port.taken = set()


def program(name):
    found = shutil.which(name, path=PATH)
    if found is None:
        raise RuntimeError(f"{name} is needed: run make setup")
    return found


def until(what, ask, limit_s=START_MAX_S):
    """Asks again and again until the answer is true."""
    end = time.monotonic() + limit_s
    while not ask():
        if time.monotonic() > end:
            raise RuntimeError(f"not within {limit_s} s: {what}")
        time.sleep(0.02)


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


class Server:
    """A real server; its data are gone with its process."""

    def __init__(self, kind, folder):
        self.kind, self.port, self.folder = kind, free_port(), folder
        self.process = None
        self.start()

    def start(self):
        port = str(self.port)
        if self.kind == "redis":
            command = [program("redis-server"), "--port", port, "--bind", "127.0.0.1",
                       "--save", "", "--loglevel", "warning", "--dir", self.folder]
        else:
            command = [program("memcached"), "-l", "127.0.0.1", "-p", port, "-U", "0",
                       "-t", "1", "-u", "root"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        until(f"{self.kind} listens", lambda: listens(self.port))

    def stop(self):
        self.process.kill()
        self.process.wait()


class Weir:
    """The proxy, with a pool of two servers of each kind."""

    def __init__(self, path, servers, folder):
        self.servers, self.folder = servers, folder
        self.ports = {kind: free_port() for kind in servers}
        self.reloads = 0
        self.configure()
        self.log = os.path.join(folder, "log")
        self.process = subprocess.Popen(
            [path, "-c", self.file, "-o", self.log, "-a", os.path.join(folder, "stats"),
             "--workers", "2"])
        until("the proxy runs", lambda: "weir runs" in self.logged())

    @property
    def file(self):
        return os.path.join(self.folder, "weir.yml")

    def configure(self):
        """Writes the configuration; each one differs from that before."""
        text = ""
        for kind, servers in self.servers.items():
            text += (f"{kind}:\n  listen: 127.0.0.1:{self.ports[kind]}\n"
                     f"  redis: {'true' if kind == 'redis' else 'false'}\n"
                     f"  hash_tag: \"{{}}\"\n  timeout: {8000 + self.reloads}\n"
                     "  client_stall_timeout_ms: 3000\n  servers:\n")
            for server, name in zip(servers, ("left", "right")):
                text += f"    - 127.0.0.1:{server.port}:1 {name}\n"
        with open(self.file + ".new", "w", encoding="ascii") as new:
            new.write(text)
        os.replace(self.file + ".new", self.file)

    def reload(self):
        self.reloads += 1
        self.configure()
        self.process.send_signal(signal.SIGUSR1)
        until("the configuration is reloaded",
              lambda: self.logged().count("configuration reloaded") >= self.reloads)

    def logged(self):
        try:
            with open(self.log, encoding="utf-8") as log:
                return log.read()
        except FileNotFoundError:
            return ""

    def resident_kib(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def clients(self):
        """Client connections of all pools, by the proxy's own count."""
        with socket.socket(socket.AF_UNIX) as reader:
            reader.settimeout(START_MAX_S)
            reader.connect(os.path.join(self.folder, "stats"))
            line = b""
            while chunk := reader.recv(1 << 16):
                line += chunk
        return sum(json.loads(line)[kind]["client_connections"] for kind in self.servers)

    def stop(self):
        """Ends it in good order; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(START_MAX_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
