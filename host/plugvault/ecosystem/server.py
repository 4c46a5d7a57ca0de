"""The HTTP server around the application: in a thread of this process.

Every certificate pool behind one listening socket, which is opened first, so that its address is
known before anything is served.
"""

import asyncio
import errno
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from plugvault.opcp import tls
from plugvault.opcp.protocol import HttpProtocol

_START = 10.0  # seconds the server may take to start, or to stop
_WAITING = 2048  # connections, until they are taken
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_BREATH = 1.0  # seconds until there may be room again
_AFTER_YOU = 0.001  # seconds in which a sibling takes the next connection


def listen(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """A listening socket. Raises OSError."""
    # With its protocol named: asyncio turns Nagle's delay off only where it sees TCP.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_WAITING)
    except BaseException:
        listener.close()
        raise
    return listener


class HttpServer(uvicorn.Server):
    """Takes one connection at a time. `shared`: others listen on the same socket, and are let go
    first then: each has as many, and who is busy fewer. A loop would take all that wait, and its
    siblings had nothing to do."""

    def __init__(self, config: uvicorn.Config, shared: bool) -> None:
        super().__init__(config)
        self._shared = shared

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup([])
        self._opening: set[asyncio.Task[Any]] = set()
        for listener in sockets or []:
            listener.setblocking(False)
            self._listen(listener)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for listener in sockets or []:
            asyncio.get_running_loop().remove_reader(listener)
        for opening in self._opening:  # a handshake that nobody waits for any more
            opening.cancel()
        await super().shutdown(sockets)

    def _listen(self, listener: socket.socket) -> None:
        if not self.should_exit:
            asyncio.get_running_loop().add_reader(listener, self.accept, listener)

    def _pause(self, listener: socket.socket, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener)
        loop.call_later(seconds, self._listen, listener)

    def accept(self, listener: socket.socket) -> None:
        """One of the connections that wait, if one does."""
        loop = asyncio.get_running_loop()
        try:
            connection, _ = listener.accept()
        except OSError as error:
            if error.errno in _EXHAUSTED:
                self._pause(listener, _BREATH)
            return  # or a sibling was quicker, or whoever it was went away again
        if self._shared:
            self._pause(listener, _AFTER_YOU)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opening = loop.create_task(
            loop.connect_accepted_socket(self._protocol, connection, ssl=self.config.ssl)
        )
        self._opening.add(opening)
        opening.add_done_callback(self._opened)

    def _opened(self, opening: asyncio.Task[Any]) -> None:
        self._opening.discard(opening)
        if not opening.cancelled():
            opening.exception()  # of a handshake that failed: the other end has been told

    def _protocol(self) -> asyncio.Protocol:
        made: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        return made


def server(app: FastAPI, secured: Path | None = None, shared: bool = False) -> HttpServer:
    """A server that says nothing; run it with `run(sockets=[...])`. `secured`: HTTPS, with what
    `tls.prepare` has put into that folder; `shared`: see `HttpServer`."""
    options: dict[str, Any] = {
        "loop": "uvloop",  # with httptools three times as fast as what is in the box
        "http": HttpProtocol,
        "log_config": None,
        "access_log": False,
        "proxy_headers": False,
        "server_header": False,
        "lifespan": "off",
        "timeout_graceful_shutdown": 2,
        **(tls.options(secured) if secured else {}),
    }
    config = uvicorn.Config(app, **options)
    if secured:
        forget_errors()
        config.load()
    return HttpServer(config, shared)


def forget_errors() -> None:
    """SoftHSM leaves errors in the queue that its OpenSSL shares with Python's, where `ssl` takes
    the last one for its own. A cipher that does not exist is refused, and the queue emptied."""
    with suppress(ssl.SSLError):
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).set_ciphers("NONE")


@contextmanager
def in_thread(app: FastAPI, listener: socket.socket) -> Iterator[None]:
    """Serve from a thread of this process. Raises RuntimeError when it does not start."""
    made = server(app)
    thread = threading.Thread(
        target=made.run, args=([listener],), name="plugvault-opcp", daemon=True
    )
    thread.start()
    try:
        deadline = time.monotonic() + _START
        while not made.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("the OPCP server did not start")
            time.sleep(0.002)
        yield
    finally:
        made.should_exit = True
        thread.join(_START)
