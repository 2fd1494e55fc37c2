"""Tests of what stands between a suite and its count: framing, the relay, and the judgement.

Run by crates/weir/tests/acceptance.rs. Needs neither Weir nor servers, and takes no time.
"""

import asyncio
import unittest

import expectations
import relay
import suites
import wire


class Framing(unittest.TestCase):
    """Each message ends where it ends, and not before all of it is there."""

    def test_a_message_is_whole_only_with_its_last_byte(self):
        for frame, message in (
            (wire.redis_request, b"*2\r\n$3\r\nGET\r\n$4\r\na\r\nb\r\n"),
            (wire.redis_request, b"get a\r\n"),
            (wire.redis_reply, b"*3\r\n$1\r\na\r\n*1\r\n:1\r\n$-1\r\n"),
            (wire.redis_reply, b"+OK\r\n"),
            (wire.memcache_request, b"set a 0 0 5 noreply\r\nget x\r\n"),
            (wire.memcache_request, b"get a b\r\n"),
            (wire.memcache_reply, b"VALUE a 0 5\r\nEND\r\n\r\nEND\r\n"),
            (wire.memcache_reply, b"STAT a b\r\nSTAT c d\r\nEND\r\n"),
            (wire.memcache_reply, b"NOT_STORED\r\n"),
        ):
            found = frame(message + b"more")
            size = found if isinstance(found, int) else found[1]
            self.assertEqual(size, len(message), message)
            for end in range(len(message)):
                self.assertIsNone(frame(message[:end]), message[:end])

    def test_what_has_no_end_is_not_framed(self):
        for message in (b"*x\r\n", b"*1\r\n$-7\r\n", b"*1\r\n+OK\r\n"):
            with self.assertRaises(wire.NotFramed):
                wire.redis_request(message)
        with self.assertRaises(wire.NotFramed):
            wire.redis_reply(b"HTTP/1.1 200\r\n")


class Peer:
    """Answers each line, or each request of Redis, with what it is told, and notes it."""

    def __init__(self, frame, answer):
        self.frame, self.answer = frame, answer
        self.asked = []
        self.tasks = []

    async def start(self):
        self.server = await asyncio.start_server(self.accepted, "127.0.0.1", 0)
        return self.server.sockets[0].getsockname()[1]

    async def accepted(self, reader, writer):
        self.tasks.append(asyncio.current_task())
        data = b""
        while received := await reader.read(1000):
            data += received
            while found := self.frame(data):
                words, size = found
                data = data[size:]
                self.asked.append(b" ".join(words))
                writer.write(self.answer(words))
        writer.close()


async def converse(kind, frame, weir, server, sent, wanted_size):
    """Sends to a relay before one Weir and two servers. Returns what came back and the peers."""
    peers = [Peer(frame, answer) for answer in (weir, server, server)]
    ports = [await peer.start() for peer in peers]
    protocol = relay.PROTOCOLS[kind]()

    tasks = []

    async def accepted(reader, writer):
        tasks.append(asyncio.current_task())
        await relay.Connection(protocol, ports[0], ports[1:]).run(reader, writer)

    listener = await asyncio.start_server(accepted, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
    writer.write(sent)
    received = await asyncio.wait_for(reader.readexactly(wanted_size), 30)
    writer.write_eof()
    rest = await asyncio.wait_for(reader.read(), 30)
    writer.close()
    await asyncio.gather(*tasks, *(task for peer in peers for task in peer.tasks))
    return received + rest, peers


class Relaying(unittest.TestCase):
    """What goes where, and in which order the answers come."""

    def test_redis_administration_goes_to_each_server_in_its_turn(self):
        sent = b"GET a\r\nDBSIZE\r\nFLUSHALL\r\nSCRIPT FLUSH\r\nSCRIPT LOAD x\r\nGET b\r\n"
        wanted = b"$1\r\nv\r\n:14\r\n+OK\r\n+OK\r\n$1\r\nv\r\n$1\r\nv\r\n"
        answers = {b"DBSIZE": b":7\r\n"}
        came, (weir, *servers) = asyncio.run(converse(
            "redis", wire.redis_request, lambda _: b"$1\r\nv\r\n",
            lambda words: answers.get(words[0], b"+OK\r\n"), sent, len(wanted)))
        self.assertEqual(came, wanted)
        self.assertEqual(weir.asked, [b"GET a", b"SCRIPT LOAD x", b"GET b"])
        for server in servers:
            self.assertEqual(server.asked, [b"DBSIZE", b"FLUSHALL", b"SCRIPT FLUSH"])

    def test_memcached_flush_overtakes_no_unanswered_write(self):
        def weir(words):
            if words[-1] == b"noreply":
                return b""
            return b"END\r\n" if words[0] == b"get" else b"STORED\r\n"

        sent = (b"set a 0 0 1 noreply\r\nx\r\nflush_all noreply\r\nset b 0 0 1\r\nx\r\n"
                b"flush_all\r\n")
        wanted = b"STORED\r\nOK\r\n"
        came, (weir, *servers) = asyncio.run(converse(
            "memcached", wire.memcache_request, weir, lambda _: b"OK\r\n", sent, len(wanted)))
        self.assertEqual(came, wanted)
        # The read is the relay's own: when it is answered, the write has been carried out.
        self.assertEqual(weir.asked, [b"set a 0 0 1 noreply", b"get a", b"set b 0 0 1"])
        for server in servers:
            self.assertEqual(server.asked, [b"flush_all", b"flush_all"])

    def test_an_error_of_one_server_is_the_answer(self):
        self.assertEqual(relay.joined_redis([b"+OK\r\n", b"-ERR x\r\n"]), b"-ERR x\r\n")
        self.assertEqual(relay.Memcache.joined([b"OK\r\n", b"ERROR\r\n"]), b"ERROR\r\n")


class Judging(unittest.TestCase):
    """Nothing is excused that no line names."""

    TEXT = """
# A remark.
refused      says: 'keys' is not supported
by name      *::test_a[?]
[several]
two servers  x.py::test_b
"""

    def judge(self, failed, shards):
        return expectations.judge(failed, expectations.parse(self.TEXT, shards))

    def test_lines_name_tests_or_what_they_say(self):
        judged = self.judge({"x.py::test_a[1]": "", "x.py::test_a": "", "x.py::test_ab[1]": "",
                             "x.py::test_c": "ERR 'keys' is not supported by the proxy",
                             "x.py::test_d": "ERR 'get' is not supported by the proxy"}, 2)
        self.assertEqual(judged.excused, [("x.py::test_a[1]", "by name"),
                                          ("x.py::test_c", "refused")])
        self.assertEqual([name for name, _ in judged.not_excused],
                         ["x.py::test_a", "x.py::test_ab[1]", "x.py::test_d"])

    def test_some_are_excused_before_several_servers_only(self):
        self.assertEqual(len(self.judge({"x.py::test_b": ""}, 2).excused), 1)
        self.assertEqual(len(self.judge({"x.py::test_b": ""}, 1).not_excused), 1)

    def test_a_line_without_a_pattern_is_a_mistake(self):
        with self.assertRaises(ValueError):
            expectations.parse("reason only", 2)

    def test_each_file_can_be_read(self):
        for suite in suites.SUITES:
            expectations.load(suite.name, 2)

    def test_the_worst_outcome_of_a_test_counts(self):
        outcomes = suites.outcomes_of(["passed a\t", "failed a\tin clean-up", "skipped b\t",
                                       "failed c\tfirst", "failed c\tsecond"])
        self.assertEqual(outcomes["a"], suites.Outcome("failed", "in clean-up"))
        self.assertEqual(outcomes["b"], suites.Outcome("skipped"))
        self.assertEqual(outcomes["c"], suites.Outcome("failed", "first second"))


if __name__ == "__main__":
    unittest.main()
