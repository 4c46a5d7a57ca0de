"""The HTTP server of the application, in this thread or in another one.

Its listening socket is opened first, so that the address is known before the server starts.
"""

import asyncio
import errno
import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from plugvault.opcp import tls
from plugvault.opcp.connections import Connections
from plugvault.opcp.protocol import HttpProtocol
from plugvault.processes import PATIENCE
from plugvault.seldom import Seldom

log = logging.getLogger("plugvault.ecosystem.server")

_STOP = 10.0  # seconds the server may take to stop
_BACKLOG = 2048  # connections that wait to be accepted
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_EXHAUSTED_PAUSE = 1.0  # seconds without a new connection after that
_SHARED_PAUSE = 0.001  # seconds in which another process accepts the next connection


def listen(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """A listening TCP socket. port: 0 for any free one. Raises OSError."""
    # asyncio turns Nagle's delay off only for a socket with its protocol named.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


class HttpServer(uvicorn.Server):
    """Accepts one connection at a time.

    `shared`: other processes listen on the same socket. After each connection this process pauses,
    so that the others accept the next ones: an event loop alone would accept all of them.
    """

    def __init__(self, config: uvicorn.Config, shared: bool) -> None:
        super().__init__(config)
        self._shared = shared
        self._connections = Connections()
        self._refused = Seldom(log, "a connection is closed over the limit of connections: {}")

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup([])
        self._handshakes: set[asyncio.Task[Any]] = set()
        for listener in sockets or []:
            listener.setblocking(False)
            self._listen(listener)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for listener in sockets or []:
            asyncio.get_running_loop().remove_reader(listener)
        for handshake in self._handshakes:
            handshake.cancel()
        await super().shutdown(sockets)

    def _listen(self, listener: socket.socket) -> None:
        if not self.should_exit:
            asyncio.get_running_loop().add_reader(listener, self.accept, listener)

    def _pause(self, listener: socket.socket, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener)
        loop.call_later(seconds, self._listen, listener)

    def accept(self, listener: socket.socket) -> None:
        """Accept one of the waiting connections, if there is any."""
        loop = asyncio.get_running_loop()
        try:
            connection, peer = listener.accept()
        except OSError as error:
            if error.errno in _EXHAUSTED:
                self._pause(listener, _EXHAUSTED_PAUSE)
            return  # or another process was faster, or the client has closed the connection
        if self._shared:
            self._pause(listener, _SHARED_PAUSE)
        protocol = self._protocol()
        if not self._connections.add(peer[0], protocol):
            connection.close()
            self._refused("%d are open, the last one from %s", len(self._connections), peer[0])
            return
        protocol.at_end = partial(self._connections.remove, peer[0], protocol)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        handshake = loop.create_task(
            loop.connect_accepted_socket(lambda: protocol, connection, ssl=self.config.ssl)
        )
        self._handshakes.add(handshake)
        handshake.add_done_callback(partial(self._end_handshake, protocol))

    def _end_handshake(self, protocol: HttpProtocol, handshake: asyncio.Task[Any]) -> None:
        self._handshakes.discard(handshake)
        # The exception is read, or asyncio logs it; the client has got the alert of TLS.
        if (handshake.cancelled() or handshake.exception()) and protocol.at_end:
            protocol.at_end()

    def _protocol(self) -> HttpProtocol:
        protocol: HttpProtocol = self.config.http_protocol_class(  # type: ignore[call-arg, assignment]
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        return protocol


def server(app: FastAPI, tls_folder: Path | None = None, shared: bool = False) -> HttpServer:
    """A server without logs; run it with `run(sockets=[...])`.

    `tls_folder`: serve HTTPS with the files that `tls.prepare` has written; `shared`: see
    `HttpServer`.
    """
    options: dict[str, Any] = {
        "loop": "uvloop",  # with httptools three times as fast as asyncio's own loop
        "http": HttpProtocol,
        "log_config": None,
        "access_log": False,
        "proxy_headers": False,
        "server_header": False,
        "lifespan": "off",
        "timeout_graceful_shutdown": 2,
        **(tls.options(tls_folder) if tls_folder else {}),
    }
    config = uvicorn.Config(app, **options)
    if tls_folder:
        clear_openssl_errors()
        config.load()
    return HttpServer(config, shared)


def clear_openssl_errors() -> None:
    """Empty OpenSSL's error queue. SoftHSM leaves errors in it, and Python's `ssl` takes the last
    one for its own. Refusing an unknown cipher empties the queue."""
    with suppress(ssl.SSLError):
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).set_ciphers("NONE")


@contextmanager
def in_thread(app: FastAPI, listener: socket.socket) -> Iterator[None]:
    """Serve from a thread of this process while the context lasts. Raises RuntimeError when the
    server does not start."""
    http_server = server(app)
    thread = threading.Thread(
        target=http_server.run, args=([listener],), name="plugvault-opcp", daemon=True
    )
    thread.start()
    try:
        deadline = time.monotonic() + PATIENCE
        while not http_server.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("the OPCP server did not start")
            time.sleep(0.002)
        yield
    finally:
        http_server.should_exit = True
        thread.join(_STOP)
