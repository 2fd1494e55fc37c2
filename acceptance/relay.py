"""A relay between a suite and Weir, which sends administrative commands straight to every server.

All other bytes go to Weir as they are, and its bytes come back as they are. An administrative
command waits until everything before it has been answered, goes to each server, and has its answers
joined. Invariant: replies leave in the order of the requests. docs/testing.md lists the commands.
"""

import asyncio

import wire

# What a request before an administrative command may take to be answered.
DRAIN_MAX_S = 5
READ_SIZE = 1 << 16


def is_number(reply):
    return reply.startswith(b":")


def joined_redis(replies):
    """The first error; the sum of numbers; otherwise what the first server said."""
    for reply in replies:
        if reply.startswith(b"-"):
            return reply
    if all(map(is_number, replies)):
        return b":%d\r\n" % sum(int(reply[1:]) for reply in replies)
    return replies[0]


class Redis:
    """What the relay must know of Redis."""

    # Of the whole server, not of a key. AUTH is among them because CONFIG SET may set a password.
    ADMINISTRATIVE = {b"flushall", b"flushdb", b"config", b"info", b"dbsize", b"auth"}
    request = staticmethod(wire.redis_request)
    reply = staticmethod(wire.redis_reply)
    joined = staticmethod(joined_redis)

    def is_administrative(self, words):
        name = words[0].lower() if words else b""
        if name == b"script":
            return len(words) > 1 and words[1].lower() == b"flush"
        return name in self.ADMINISTRATIVE

    @staticmethod
    def is_answered(words):
        return bool(words)

    @staticmethod
    def barriers(_words):
        """No request of Redis is without an answer, so nothing can be overtaken."""
        return b""


class Memcache:
    """What the relay must know of memcached."""

    ADMINISTRATIVE = {b"flush_all", b"stats", b"cache_memlimit"}
    request = staticmethod(wire.memcache_request)
    reply = staticmethod(wire.memcache_reply)

    def is_administrative(self, words):
        return bool(words) and words[0] in self.ADMINISTRATIVE

    @staticmethod
    def joined(replies):
        for reply in replies:
            if b"ERROR" in reply.split(b"\r\n", 1)[0]:
                return reply
        return replies[0]

    @staticmethod
    def is_answered(words):
        """`stats noreply` is an error, which is answered."""
        silent = words[-1:] == [b"noreply"] and words[0] != b"stats"
        return not silent and words[:1] != [b"quit"]

    def barriers(self, words):
        """A request on the same connection to the same server as one without an answer: when it is
        answered the other has been carried out."""
        if self.is_answered(words) or len(words) < 2 or len(words[1]) > 250:
            return b""
        return b"get %s\r\n" % words[1]


PROTOCOLS = {"redis": Redis, "memcached": Memcache}


class Connection:
    """One client of the relay."""

    def __init__(self, protocol, weir, servers):
        self.protocol = protocol
        self.weir, self.servers = weir, servers
        self.links = []
        # Requests that Weir has not answered, and those answers that are not the client's.
        self.owed = 0
        self.hidden = 0
        self.unanswered = b""
        self.framed = True
        self.progress = asyncio.Event()

    async def run(self, reader, writer):
        self.client_reader, self.client = reader, writer
        weir_reader, self.weir_writer = await asyncio.open_connection("127.0.0.1", self.weir)
        tasks = [asyncio.ensure_future(work) for work in (self.up(), self.down(weir_reader))]
        try:
            # The client may half-close and still wait for replies; Weir ends both.
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for end in [writer, self.weir_writer, *(link[1] for link in self.links)]:
                end.close()

    async def up(self):
        """From the client to Weir, or to the servers."""
        data = bytearray()
        while received := await self.client_reader.read(READ_SIZE):
            data += received
            place = 0
            while self.framed and place < len(data):
                try:
                    found = self.protocol.request(memoryview_of(data, place))
                except wire.NotFramed:
                    self.framed = False
                    break
                if found is None:
                    break
                words, size = found
                whole = bytes(data[place:place + size])
                place += size
                await self.pass_on(words, whole)
            if not self.framed:
                self.weir_writer.write(bytes(data[place:]))
                place = len(data)
            del data[:place]
            await self.weir_writer.drain()
        self.weir_writer.write(bytes(data))
        self.weir_writer.write_eof()

    async def pass_on(self, words, whole):
        if self.servers and self.protocol.is_administrative(words):
            await self.drained()
            # Servers are always waited for, also where the client does not want to know.
            answered = self.protocol.is_answered(words)
            if not answered:
                whole = b" ".join(words[:-1]) + b"\r\n"
            reply = await self.ask_servers(whole)
            if answered:
                self.client.write(reply)
            return
        self.owed += self.protocol.is_answered(words)
        self.unanswered += self.protocol.barriers(words)
        self.weir_writer.write(whole)

    async def drained(self):
        """Waits until Weir has answered everything."""
        if self.unanswered:
            count = self.unanswered.count(b"\n")
            await self.until_owed_is_zero()
            self.hidden, self.owed = count, count
            self.weir_writer.write(self.unanswered)
            self.unanswered = b""
        await self.until_owed_is_zero()

    async def until_owed_is_zero(self):
        while self.owed:
            self.progress.clear()
            try:
                await asyncio.wait_for(self.progress.wait(), DRAIN_MAX_S)
            except asyncio.TimeoutError:
                # A request that was no request to one of the two: go on without it.
                self.owed = 0

    async def down(self, reader):
        """From Weir to the client."""
        data = bytearray()
        while received := await reader.read(READ_SIZE):
            data += received
            while self.framed:
                try:
                    size = self.protocol.reply(data)
                except wire.NotFramed:
                    self.framed = False
                    break
                if size is None:
                    break
                self.hand_down(bytes(data[:size]))
                del data[:size]
            if not self.framed:
                self.client.write(bytes(data))
                data.clear()
            await self.client.drain()
        self.client.write(bytes(data))
        # Weir closed: so does the relay, which ends `up` as well.
        self.client.write_eof()
        raise EOFError

    def hand_down(self, reply):
        self.owed = max(self.owed - 1, 0)
        if self.hidden:
            self.hidden -= 1
        else:
            self.client.write(reply)
        self.progress.set()

    async def ask_servers(self, whole):
        if not self.links:
            self.links = [await asyncio.open_connection("127.0.0.1", port)
                          for port in self.servers]
        replies = []
        for reader, writer in self.links:
            writer.write(whole)
            data = bytearray()
            while self.protocol.reply(data) is None:
                received = await reader.read(READ_SIZE)
                if not received:
                    raise EOFError("a server has closed")
                data += received
            replies.append(bytes(data))
        return self.protocol.joined(replies)


def memoryview_of(data, place):
    """What begins at `place`; a copy only if something stands before it."""
    return data if place == 0 else data[place:]


async def serve(kind, port, weir, servers):
    """Listens until it is cancelled."""
    protocol = PROTOCOLS[kind]()

    async def accepted(reader, writer):
        try:
            await Connection(protocol, weir, servers).run(reader, writer)
        except OSError:
            writer.close()

    server = await asyncio.start_server(accepted, "127.0.0.1", port, limit=1 << 22)
    async with server:
        await server.serve_forever()


def main(arguments):
    """kind, port, port of Weir, ports of the servers (none: everything goes to Weir)"""
    kind, port, weir, *servers = arguments
    asyncio.run(serve(kind, int(port), int(weir), [int(server) for server in servers]))


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
