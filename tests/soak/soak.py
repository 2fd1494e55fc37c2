"""Load with churn on a proxy for some minutes: its memory and descriptors must stay flat.

MINUTES (10; at least 3) is how long it takes in all; the last of them is without load. WEIR_BIN
names the proxy. Each minute a server is killed and started again, each half minute the
configuration is reloaded, all the while clients connect, send half of a request, reset, and read
slowly. Exits with 0 only if nobody got a wrong reply, the resident memory of the last minute is at
most a fifth above the mean of the second, and as many descriptors are open as before the load.
"""

import os
import sys
import tempfile
import threading
import time

from load import TAGS, Checker, Churn, Trouble, Wire
from programs import Server, Weir, until

SAMPLE_S, RELOAD_S, KILL_S = 10, 30, 60
GROWTH_MAX = 1.2
# Client connections that reach each of two workers, since clients are shared out evenly.
TOUCH_COUNT = 4
KINDS = ("redis", "memcached")


class Soak:
    """A run."""

    def __init__(self, path, minutes, folder):
        self.minutes = minutes
        self.servers = {kind: [Server(kind, folder) for _ in range(2)] for kind in KINDS}
        self.weir = Weir(path, self.servers, folder)
        self.stop = threading.Event()
        self.trouble = Trouble()
        self.checkers, self.churns = [], []
        self.samples = []
        self.kills = 0
        self.problems = []

    def touch(self):
        """Opens every worker's connection to every server, and leaves."""
        for kind in KINDS:
            wires = [Wire(kind, self.weir.ports[kind]) for _ in range(TOUCH_COUNT)]
            for wire in wires:
                for tag in TAGS.values():
                    wire.socket.sendall(wire.get_request(tag.encode()))
                    until("a server is used again", lambda w=wire, t=tag: self.is_well(w, t))
            for wire in wires:
                wire.close()
        until("all clients are gone", lambda: self.weir.clients() == 0)

    @staticmethod
    def is_well(wire, tag):
        _, error = wire.found(tag.encode())
        if error is not None:
            wire.socket.sendall(wire.get_request(tag.encode()))
        return error is None

    def start_load(self):
        for kind in KINDS:
            port = self.weir.ports[kind]
            for number in range(2):
                for side in TAGS:
                    self.checkers.append(
                        Checker(kind, port, side, number, self.stop, self.trouble))
            self.churns.append(Churn(kind, port, 1, self.stop))
        for thread in self.checkers + self.churns:
            thread.start()

    def stop_load(self):
        self.stop.set()
        for thread in self.checkers + self.churns:
            thread.join(30)
            if thread.is_alive():
                self.problems.append(f"{type(thread).__name__} waits for a reply")
        self.problems += [checker.failure for checker in self.checkers if checker.failure]

    def kill_one(self):
        """Kills the left server of one kind, and waits until its clients are served again."""
        kind = KINDS[self.kills % 2]
        self.kills += 1
        checkers = [one for one in self.checkers if (one.kind, one.side) == (kind, "left")]
        self.trouble.change(kind, kills=1)
        server = self.servers[kind][0]
        server.stop()
        rounds = [one.rounds for one in checkers]
        self.wait_for(checkers, lambda: all(
            one.rounds >= before + 2 for one, before in zip(checkers, rounds)))
        # Nothing is acknowledged by the old one from here on.
        self.trouble.change(kind, kills=1)
        self.trouble.change(kind)
        server.start()
        rounds = [one.clean_rounds for one in checkers]
        self.wait_for(checkers, lambda: all(
            one.clean_rounds >= before + 2 for one, before in zip(checkers, rounds)))
        self.trouble.change(kind)

    @staticmethod
    def wait_for(checkers, is_done):
        until("the clients of a killed server are answered and served",
              lambda: is_done() or any(one.failure for one in checkers), 30)

    def sample(self, started, phase):
        row = (time.monotonic() - started, phase, self.weir.resident_kib(),
               self.weir.descriptors(), self.weir.clients(),
               sum(one.rounds for one in self.checkers),
               sum(one.errors for one in self.checkers),
               sum(one.count for one in self.churns), self.weir.reloads, self.kills)
        self.samples.append(row)
        print("{:6.0f}  {:5} {:9} {:5} {:8} {:8} {:7} {:7} {:8} {:6}".format(*row), flush=True)

    def run(self):
        self.touch()
        baseline = self.weir.descriptors()
        print(f"before the load: {self.weir.resident_kib()} KiB, {baseline} descriptors\n")
        print("     s  phase   RSS KiB   fds  clients   rounds  errors   churn  reloads  kills")
        started = time.monotonic()
        self.start_load()
        self.loop(started, (self.minutes - 1) * 60, "load")
        self.stop_load()
        if self.weir.process.poll() is None:
            self.touch()
            self.loop(started, self.minutes * 60, "quiet")
            self.judge(baseline)
        code = self.weir.stop()
        if code != 0:
            self.problems.append(f"the proxy ended with {code}")

    def loop(self, started, until_s, phase):
        """Does everything in its time, until so long after the start."""
        due = {act: time.monotonic() - started + first for act, first in
               [(self.sample, SAMPLE_S), (self.weir.reload, RELOAD_S), (self.kill_one, KILL_S / 2)]}
        periods = {self.sample: SAMPLE_S, self.weir.reload: RELOAD_S, self.kill_one: KILL_S}
        while (now := time.monotonic() - started) < until_s:
            if self.weir.process.poll() is not None:
                self.problems.append("the proxy ended by itself")
                return
            if phase == "load" and any(one.failure for one in self.checkers):
                return
            for act, at in due.items():
                if at > now or phase == "quiet" and act != self.sample:
                    continue
                due[act] = at + periods[act]
                if act == self.sample:
                    act(started, phase)
                else:
                    act()
            time.sleep(0.1)

    def judge(self, baseline):
        second = [row[2] for row in self.samples if row[1] == "load" and 60 <= row[0] < 125]
        last = [row[2] for row in self.samples if row[1] == "quiet"][-3:]
        if not second or not last:
            self.problems.append("there are too few samples")
            return
        before, after = sum(second) / len(second), sum(last) / len(last)
        print(f"\nRSS: {before:.0f} KiB in the second minute, {after:.0f} KiB in the last "
              f"({after / before:.2f} times)")
        if after > before * GROWTH_MAX:
            self.problems.append("the memory has grown")
        now = self.weir.descriptors()
        print(f"descriptors: {baseline} before, {now} after")
        if now != baseline:
            self.problems.append("the descriptors are not as many as before")
        if self.kills == 0 or self.weir.reloads == 0 or not any(o.errors for o in self.checkers):
            self.problems.append("nothing was killed, or reloaded, or nobody noticed")

    def end(self):
        self.stop.set()
        if self.weir.process.poll() is None:
            self.weir.process.kill()
            self.weir.process.wait()
        for servers in self.servers.values():
            for server in servers:
                server.stop()


def main():
    minutes = float(os.environ.get("MINUTES", "10"))
    if minutes < 3:
        sys.exit("soak: MINUTES must be at least 3: one to warm up, one to measure, one to rest")
    with tempfile.TemporaryDirectory(prefix="weir-soak-") as folder:
        soak = Soak(os.environ["WEIR_BIN"], minutes, folder)
        try:
            soak.run()
        except RuntimeError as error:
            soak.problems.append(str(error))
        finally:
            soak.end()
        if soak.problems:
            print("".join(soak.weir.logged().splitlines(True)[-20:]))
    for problem in soak.problems:
        print(f"soak: {problem}")
    print("soak: failed" if soak.problems else "soak: passed")
    sys.exit(1 if soak.problems else 0)


main()
