"""Stands in for a server where a suite starts its own: listens where it is told, and leads to the
relay. Each start empties the servers, as a new server has neither data nor scripts.

Arguments: the kind, the port of the relay, then those of the server, of which only those that say
where it listens are read.
"""

import asyncio
import os
import sys

# What empties the servers, and the answer to each.
EMPTYING = {"redis": ((b"FLUSHALL\r\n", b"SCRIPT FLUSH\r\n"), b"+OK\r\n"),
            "memcached": ((b"flush_all\r\n",), b"OK\r\n")}
# async-memcached refuses to be tried with an older one than 1.6.40, so it is told of another.
VERSION = (b"VERSION 1.6.18\r\n", b"VERSION 1.6.40\r\n")


async def copy(reader, writer):
    try:
        while data := await reader.read(1 << 16):
            writer.write(data.replace(*VERSION))
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.close()


async def listen(accepted, words):
    """Listens where the arguments say; port -1 is any, whose number goes to a file."""
    if "-s" in words:
        return await asyncio.start_unix_server(accepted, words[words.index("-s") + 1])
    port = int(words[words.index("--port" if "--port" in words else "-p") + 1])
    server = await asyncio.start_server(accepted, "127.0.0.1", max(port, 0))
    if port == -1:
        with open(os.environ["MEMCACHED_PORT_FILENAME"], "w", encoding="ascii") as file:
            file.write(f"TCP INET: {server.sockets[0].getsockname()[1]}\n")
    return server


async def main(kind, relay, words):
    reader, writer = await asyncio.open_connection("127.0.0.1", relay)
    commands, answer = EMPTYING[kind]
    for command in commands:
        writer.write(command)
        if await reader.readline() != answer:
            raise RuntimeError("the servers could not be emptied")
    writer.close()

    async def accepted(client_reader, client_writer):
        relay_reader, relay_writer = await asyncio.open_connection("127.0.0.1", relay)
        await asyncio.gather(copy(client_reader, relay_writer), copy(relay_reader, client_writer))
        client_writer.close()
        relay_writer.close()

    server = await listen(accepted, words)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
