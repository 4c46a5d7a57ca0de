"""The two kinds of connection that a vehicle may open: TCP, and TLS over TCP.

Both read and write V2GTP, pass the wire's bytes to a capture, and can have a limited bandwidth. A
TLS handshake works in threads, so that a slow token does not delay the other vehicles.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from concurrent.futures import Executor

from plugvault.tls import Connection, Handshake, TlsError

Wire = Callable[[str, bytes], object]  # ("in" or "out", the payload of TCP; b"" at its end)

CLOSE_SECONDS = 5.0
_READ_BYTES = 4096
_PIECES_PER_SECOND = 20  # of a slow line


class PlainStream:
    """V2GTP on TCP. wire: called with ("in" or "out", the payload of TCP); bandwidth: bytes a
    second that are sent at most; None: no limit."""

    is_secure = False

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        wire: Wire | None = None,
        bandwidth: int | None = None,
    ) -> None:
        self._reader, self._writer = reader, writer
        self._wire = wire
        self._bandwidth = bandwidth

    async def read(self) -> bytes:
        """The next bytes; b"" when the vehicle has closed the connection. Raises OSError,
        TlsError."""
        return await self._receive()

    async def write(self, data: bytes) -> None:
        """Send bytes, and wait until the vehicle reads. Raises OSError, TlsError."""
        await self._send(data)

    def say_end(self) -> None:
        """Send the end of the connection (close_notify with TLS), before `close`."""

    def abort(self) -> None:
        """Drop the connection (a TCP reset), without the end of TLS."""
        connection = self._writer.get_extra_info("socket")
        at_once = struct.pack("ii", 1, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        self._writer.transport.abort()

    async def _receive(self) -> bytes:
        data = await self._reader.read(_READ_BYTES)
        if self._wire is not None:
            self._wire("in", data)
        return data

    async def _send(self, data: bytes) -> None:
        size = self._bandwidth // _PIECES_PER_SECOND if self._bandwidth else len(data)
        size = max(size, 1)
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            if self._wire is not None:
                self._wire("out", piece)
            self._writer.write(piece)
            await self._writer.drain()
            if self._bandwidth:
                await asyncio.sleep(len(piece) / self._bandwidth)


class TlsStream(PlainStream):
    """V2GTP on TLS. `handshake` must come first."""

    is_secure = True

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        connection: Connection,
        wire: Wire | None = None,
        bandwidth: int | None = None,
    ) -> None:
        super().__init__(reader, writer, wire, bandwidth)
        self._tls = connection

    async def handshake(self, threads: Executor) -> Handshake:
        """Carry out the TLS handshake; its computations run in `threads`. Raises TlsError,
        OSError."""
        loop, complete = asyncio.get_running_loop(), False
        while not complete:
            data = await self._receive()
            if not data:
                raise TlsError("handshake", "the vehicle closed the connection")
            self._tls.feed(data)
            try:
                complete = await loop.run_in_executor(threads, self._tls.handshake)
            except TlsError:
                await self._send(self._tls.take())  # the alert
                raise
            # Not after a cancellation: the thread still uses the connection then.
            await self._send(self._tls.take())
        return self._tls.facts

    async def read(self) -> bytes:
        while (plain := self._tls.read(_READ_BYTES)) is None:
            await self._send(self._tls.take())
            self._tls.feed(await self._receive())
        return plain

    async def write(self, data: bytes) -> None:
        self._tls.write(data)
        await self._send(self._tls.take())

    def say_end(self) -> None:
        self._tls.close()
        farewell = self._tls.take()
        if self._wire is not None:
            self._wire("out", farewell)
        self._writer.write(farewell)


async def close(writer: asyncio.StreamWriter, seconds: float = CLOSE_SECONDS) -> None:
    """Close a connection. A connection whose vehicle does not read is aborted after `seconds`."""
    writer.close()
    try:
        await asyncio.wait_for(writer.wait_closed(), seconds)
    except (OSError, TimeoutError):
        writer.transport.abort()
