"""A station's connection to a vehicle that does not read."""

from __future__ import annotations

import asyncio
import socket

from plugvault.station.streams import PlainStream, close


def test_a_vehicle_that_does_not_read_is_dropped_with_its_unsent_bytes() -> None:
    outcome: list[str] = []
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.set_write_buffer_limits(0)
        try:
            await asyncio.wait_for(PlainStream(reader, writer).write(bytes(32 << 20)), 0.1)
        except TimeoutError:
            outcome.append("timeout")
        await close(writer, 0.1)
        outcome.append("closed")
        done.set()

    async def run() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()):
            await asyncio.wait_for(done.wait(), 30)
        server.close()

    asyncio.run(run())
    assert outcome == ["timeout", "closed"]
