"""uvicorn's HTTP, with an end to how long a request may take to come, and how long its head is.

uvicorn limits neither: a client that opens connections and sends nothing, or sends slowly, or
sends a head without end, would take all connections or all memory. Bodies have their limit in
`plugvault.opcp.limits`; uvicorn itself closes a connection that is idle after a request.
"""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

REQUEST_TIMEOUT = 30.0  # seconds to a request's end, from its first byte or the connection
HEAD = 65_536  # bytes: the longest address, an OCSP request in base64, has some 3,000


class HttpProtocol(HttpToolsProtocol):
    """Closes a connection whose request is late or whose head is too long."""

    _timeout: asyncio.TimerHandle | None = None
    _head = 0  # bytes of a head so far
    _in_body = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._timeout = self.loop.call_later(REQUEST_TIMEOUT, transport.abort)

    def data_received(self, data: bytes) -> None:
        if not self._in_body:
            self._head += len(data)
        super().data_received(data)
        if self._timeout is None and (self._head or self._in_body):  # the request goes on
            self._timeout = self.loop.call_later(REQUEST_TIMEOUT, self.transport.abort)
        if self._head > HEAD and not self.transport.is_closing():
            self.transport.abort()

    def on_headers_complete(self) -> None:
        self._head, self._in_body = 0, True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_body = False
        self._stop_timeout()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timeout()
        super().connection_lost(exc)

    def _stop_timeout(self) -> None:
        if self._timeout:
            self._timeout.cancel()
            self._timeout = None
