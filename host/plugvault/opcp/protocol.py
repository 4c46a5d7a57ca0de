"""uvicorn's HTTP, with an end to how long a request may take to come, and how long its head is.

Both are unlimited in uvicorn: who opens connections and says nothing, or little by little, or a
head without end, would take every connection, or the memory, from everybody else. Bodies have
their limit in `plugvault.opcp.limits`; a connection that is idle after a request ends by itself.

And an answer leaves in one piece: each piece costs a call of the system, a segment, and waking
who waits for it.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from plugvault.patience import comes

PATIENCE = 30.0  # seconds from the first byte of a request, or from the connection, to its end
HEAD = 65_536  # bytes: the longest address, an OCSP request in base64, has some 3,000


class HttpProtocol(HttpToolsProtocol):
    """See the module."""

    _late: asyncio.TimerHandle | None = None
    _head = 0  # bytes of a head so far
    _in_body = False
    _whole: "_Whole"

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._whole = _Whole(transport, self.loop)
        super().connection_made(self._whole)  # type: ignore[arg-type]
        self._late = self.loop.call_later(PATIENCE, transport.abort)

    def data_received(self, data: bytes) -> None:
        if not self._in_body:
            self._head += len(data)
        super().data_received(data)
        if self._late is None and (self._head or self._in_body):  # there is more to come
            self._late = self.loop.call_later(PATIENCE, self.transport.abort)
        if self._head > HEAD and not self.transport.is_closing():
            self.transport.abort()

    def on_response_complete(self) -> None:
        self._whole.flush()
        super().on_response_complete()

    def on_headers_complete(self) -> None:
        self._head, self._in_body = 0, True
        super().on_headers_complete()
        comes()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_body = False
        self._end_wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_wait()
        super().connection_lost(exc)

    def _end_wait(self) -> None:
        if self._late:
            self._late.cancel()
            self._late = None


class _Whole:
    """A transport that keeps what is written until `flush`, or until the loop's next turn: an
    answer's head until its body is there, and no longer where that is still to come."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._kept: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._kept:
            self._loop.call_soon(self.flush)
        self._kept.append(data)

    def flush(self) -> None:
        kept, self._kept = self._kept, []
        if kept and not self._transport.is_closing():
            self._transport.write(b"".join(kept))

    def close(self) -> None:
        self.flush()
        self._transport.close()
