"""uvicorn's HTTP with three more limits: the time to send a request, the bytes of a request
outside its body, and the time to read an answer.

uvicorn limits none of them. A client that opens connections and sends nothing, or sends slowly, or
sends a head or trailers without end, or never reads, would take all connections or all memory.
Bodies have their limit in `plugvault.opcp.limits`; the number of connections has it in
`plugvault.opcp.connections`; uvicorn itself closes a connection that is idle after a request.
"""

import asyncio
from collections.abc import Callable

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

REQUEST_TIMEOUT = 30.0  # seconds to a request's end, from its first byte or the connection
WRITE_TIMEOUT = 30.0  # seconds in which the peer reads what waits for it,
SLOWEST = 10_000.0  # and one more for so many bytes of it
HEAD = 65_536  # bytes: the longest address, an OCSP request in base64, has some 3,000


class HttpProtocol(HttpToolsProtocol):
    """Aborts a connection whose request takes too long or has too many bytes beside its body, or
    whose peer does not read. `at_end()`: called when the connection has ended."""

    at_end: Callable[[], None] | None = None
    _timeout: asyncio.TimerHandle | None = None
    _write_timeout: asyncio.TimerHandle | None = None
    _beside_body = 0  # bytes of a request: its head, the lengths of its chunks, its trailers
    _in_body = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._timeout = self.loop.call_later(REQUEST_TIMEOUT, transport.abort)

    def data_received(self, data: bytes) -> None:
        self._beside_body += len(data)
        super().data_received(data)
        if self._timeout is None and (self._beside_body or self._in_body):  # more follows
            self._timeout = self.loop.call_later(REQUEST_TIMEOUT, self.transport.abort)
        if self._beside_body > HEAD and not self.transport.is_closing():
            self.transport.abort()

    def on_headers_complete(self) -> None:
        self._in_body = True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._beside_body -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._beside_body, self._in_body = 0, False
        self._stop_timeout()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._limit_writing()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._stop_write_timeout()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._limit_writing()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._limit_writing()

    def send_400_response(self, msg: str) -> None:
        super().send_400_response(msg)
        self._limit_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_timeout()
        self._stop_write_timeout()
        if self.at_end:
            self.at_end()

    def _limit_writing(self) -> None:
        """A closing transport, too, waits until its peer has read the rest."""
        if self._write_timeout is None:
            seconds = WRITE_TIMEOUT + self.transport.get_write_buffer_size() / SLOWEST
            self._write_timeout = self.loop.call_later(seconds, self.transport.abort)

    def _stop_timeout(self) -> None:
        if self._timeout:
            self._timeout.cancel()
            self._timeout = None

    def _stop_write_timeout(self) -> None:
        if self._write_timeout:
            self._write_timeout.cancel()
            self._write_timeout = None
