"""The clients of the soak: those that check every reply, and those that misbehave.

Invariant: no call waits for longer than `REPLY_MAX_S`, so all end soon after they are told to.
"""

import random
import socket
import struct
import threading

REPLY_MAX_S = 20
# Keys of the two servers, by their hash tags.
TAGS = {"left": "{k10}", "right": "{k0}"}
ERRORS = (b"-ERR ", b"SERVER_ERROR ")
PADDING = [0, 100, 1500, 7, 20_000, 400]


class Wrong(Exception):
    """A reply that must not be."""


class Wire:
    """One connection, and how to speak on it."""

    def __init__(self, kind, port, receive_buffer=None):
        self.kind = kind
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(REPLY_MAX_S)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")

    def set_request(self, key, value):
        if self.kind == "redis":
            return b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % (
                len(key), key, len(value), value)
        return b"set %s 0 0 %d\r\n%s\r\n" % (key, len(value), value)

    def get_request(self, key):
        if self.kind == "redis":
            return b"*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n" % (len(key), key)
        return b"get %s\r\n" % key

    def line(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise Wrong(f"the connection ended within a reply: {line!r}")
        return line[:-2]

    def stored(self):
        """The reply to `set`: whether it was done; an error's text else."""
        line = self.line()
        if line in (b"+OK", b"STORED"):
            return None
        if line.startswith(ERRORS):
            return line
        raise Wrong(f"the reply to a set is {line!r}")

    def found(self, key):
        """The reply to `get`: the value, or `None`; and an error's text, or `None`."""
        line = self.line()
        if line in (b"$-1", b"END"):
            return None, None
        if line.startswith(ERRORS):
            return None, line
        if self.kind == "redis" and line.startswith(b"$"):
            return self.exact(int(line[1:])), None
        if line.startswith(b"VALUE %s 0 " % key):
            value = self.exact(int(line.split()[3]))
            if self.line() == b"END":
                return value, None
        raise Wrong(f"the reply to a get is {line!r}")

    def exact(self, size):
        value = self.file.read(size + 2)
        if len(value) != size + 2 or not value.endswith(b"\r\n"):
            raise Wrong("a value is cut")
        return value[:-2]

    def close(self, by_force=False):
        if by_force:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.file.close()
        self.socket.close()


class Trouble:
    """When the left servers are in trouble: then, and only then, their requests may fail."""

    def __init__(self):
        self.lock = threading.Lock()
        self.count = {"redis": 0, "memcached": 0}
        self.kills = {"redis": 0, "memcached": 0}

    def now(self, kind):
        with self.lock:
            return self.count[kind], self.kills[kind]

    def change(self, kind, kills=0):
        """Begins or ends it."""
        with self.lock:
            self.count[kind] += 1
            self.kills[kind] += kills


class Checker(threading.Thread):
    """Writes and reads, and knows what each reply may be."""

    def __init__(self, kind, port, side, number, stop, trouble):
        super().__init__(daemon=True)
        self.kind, self.side, self.stop, self.trouble = kind, side, stop, trouble
        tag = TAGS[side]
        self.keys = [f"{tag}:{number}:{i}".encode() for i in range(8)]
        self.last = {key: None for key in self.keys}
        self.unknown = {key: set() for key in self.keys}
        self.wire = Wire(kind, port)
        self.rounds = self.clean_rounds = self.errors = 0
        self.failure = None

    def run(self):
        version = 0
        try:
            while not self.stop.is_set():
                version += 1
                self.round(version)
                # Both CPUs of a small machine are not to be used up by the clients alone.
                self.stop.wait(0.002)
        except (Wrong, OSError) as error:
            self.failure = f"{self.kind} {self.side}: {error!r}"
        finally:
            self.wire.close()

    def value(self, key, version):
        fill = bytes([ord("a") + version % 26])
        return b"%s=%d;" % (key, version) + fill * PADDING[version % len(PADDING)]

    def round(self, version):
        before = self.trouble.now(self.kind)
        wire, errors = self.wire, 0
        wire.socket.sendall(b"".join(
            wire.set_request(key, self.value(key, version)) + wire.get_request(key)
            for key in self.keys))
        for key in self.keys:
            set_error = wire.stored()
            value, get_error = wire.found(key)
            after = self.trouble.now(self.kind)
            error = set_error or get_error
            if error is not None:
                errors += 1
                may_fail = before[0] != after[0] or after[0] % 2 == 1
                if self.side == "right" or not may_fail:
                    raise Wrong(f"{error!r} without a reason")
            if set_error is None:
                self.last[key] = (version, before[1])
            else:
                self.unknown[key].add(version)
            if get_error is None:
                self.judge(key, value, after[1])
        self.errors += errors
        self.rounds += 1
        self.clean_rounds += errors == 0

    def judge(self, key, value, kills):
        last = self.last[key]
        if value is None:
            if last is not None and last[1] == kills:
                raise Wrong(f"{key!r} is lost; version {last[0]} was acknowledged")
            self.last[key] = None
            return
        versions = self.unknown[key] | ({last[0]} if last is not None else set())
        if all(self.value(key, version) != value for version in versions):
            raise Wrong(f"{key!r} has the wrong value {value[:60]!r}; last is {last}")


class Churn(threading.Thread):
    """Clients that come, misbehave and go."""

    def __init__(self, kind, port, seed, stop):
        super().__init__(daemon=True)
        self.kind, self.port, self.stop = kind, port, stop
        self.random = random.Random(seed)
        self.count = 0
        self.slow = []

    def run(self):
        acts = [self.come_and_go, self.half_a_request, self.reset, self.nonsense, self.read_slowly]
        while not self.stop.is_set():
            act = self.random.choice(acts)
            try:
                act()
            except OSError:
                # The proxy may close any of these.
                pass
            self.count += 1
            self.read_a_little()
            self.stop.wait(0.01)
        for wire in self.slow:
            wire.close(by_force=True)

    def key(self):
        return f"{TAGS[self.random.choice(['left', 'right'])]}:churn:{self.kind}".encode()

    def come_and_go(self):
        wires = [Wire(self.kind, self.port) for _ in range(self.random.randrange(1, 10))]
        for wire in wires:
            wire.socket.sendall(wire.get_request(self.key()))
        for wire in wires:
            wire.socket.recv(1)
            wire.close(by_force=True)

    def half_a_request(self):
        wire = Wire(self.kind, self.port)
        request = wire.set_request(self.key(), b"x" * self.random.choice([10, 1000, 200_000]))
        wire.socket.sendall(request[:self.random.randrange(1, len(request))])
        if self.random.random() < 0.1:
            # It stays until the proxy has had enough of it.
            self.slow.append(wire)
        else:
            wire.close(by_force=self.random.random() < 0.5)

    def reset(self):
        wire = Wire(self.kind, self.port)
        wire.socket.sendall(wire.get_request(self.key()) * self.random.randrange(1, 300))
        wire.close(by_force=True)

    def nonsense(self):
        wire = Wire(self.kind, self.port)
        wire.socket.sendall(self.random.randbytes(self.random.randrange(1, 5000)))
        wire.close(by_force=self.random.random() < 0.5)

    def read_slowly(self):
        wire = Wire(self.kind, self.port, receive_buffer=8192)
        key = self.key()
        wire.socket.sendall(wire.set_request(key, b"y" * 100_000) + wire.get_request(key) * 20)
        self.slow.append(wire)

    def read_a_little(self):
        """Some kilobytes of each, and the oldest leaves when there are many."""
        for wire in self.slow:
            wire.socket.settimeout(0)
            try:
                wire.socket.recv(4096)
            except OSError:
                pass
        if len(self.slow) > 20:
            self.slow.pop(0).close(by_force=True)
