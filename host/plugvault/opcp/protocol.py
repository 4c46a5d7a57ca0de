"""uvicorn's HTTP, with an end to how long a request may take to come, and how long its head is.

Both are unlimited in uvicorn: who opens connections and says nothing, or little by little, or a
head without end, would take every connection, or the memory, from everybody else. Bodies have
their limit in `plugvault.opcp.limits`; a connection that is idle after a request ends by itself.
"""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

PATIENCE = 30.0  # seconds from the first byte of a request, or from the connection, to its end
HEAD = 65_536  # bytes: the longest address, an OCSP request in base64, has some 3,000


class HttpProtocol(HttpToolsProtocol):
    """See the module."""

    _late: asyncio.TimerHandle | None = None
    _head = 0  # bytes of a head so far
    _in_body = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._late = self.loop.call_later(PATIENCE, transport.abort)

    def data_received(self, data: bytes) -> None:
        if self._late is None:
            self._late = self.loop.call_later(PATIENCE, self.transport.abort)
        if not self._in_body:
            self._head += len(data)
        super().data_received(data)
        if self._head > HEAD and not self.transport.is_closing():
            self.transport.abort()

    def on_headers_complete(self) -> None:
        self._head, self._in_body = 0, True
        super().on_headers_complete()

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
