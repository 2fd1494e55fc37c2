"""Stands in for redis-server where a suite starts its own: listens where it is told, and leads to
the relay. Each start empties the servers, as a new server has neither data nor scripts.

Arguments: the port of the relay, then those of redis-server, of which `--port` alone is read.
"""

import asyncio
import sys


async def copy(reader, writer):
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.close()


async def main(relay, port):
    reader, writer = await asyncio.open_connection("127.0.0.1", relay)
    for command in (b"FLUSHALL\r\n", b"SCRIPT FLUSH\r\n"):
        writer.write(command)
        if await reader.readline() != b"+OK\r\n":
            raise RuntimeError("the servers could not be emptied")
    writer.close()

    async def accepted(client_reader, client_writer):
        relay_reader, relay_writer = await asyncio.open_connection("127.0.0.1", relay)
        await asyncio.gather(copy(client_reader, relay_writer), copy(relay_reader, client_writer))
        client_writer.close()
        relay_writer.close()

    server = await asyncio.start_server(accepted, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    words = sys.argv[2:]
    asyncio.run(main(int(sys.argv[1]), int(words[words.index("--port") + 1])))
