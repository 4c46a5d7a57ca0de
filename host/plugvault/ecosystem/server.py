"""The HTTP server around the application: in a thread of this process.

Every certificate pool behind one listening socket, which is opened first, so that its address is
known before anything is served.
"""

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


def listen(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """A listening socket. Raises OSError."""
    # With its protocol named: asyncio turns Nagle's delay off only where it sees TCP.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
    except BaseException:
        listener.close()
        raise
    return listener


def server(app: FastAPI, secured: Path | None = None) -> uvicorn.Server:
    """A server that says nothing; run it with `run(sockets=[...])`. `secured`: HTTPS, with what
    `tls.prepare` has put into that folder."""
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
    return uvicorn.Server(config)


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
