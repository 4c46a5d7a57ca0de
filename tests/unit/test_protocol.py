"""uvicorn's HTTP protocol with the server's limits leaves answers as they are.

The limits themselves: tests/attacks/test_backend_http.py.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from plugvault.opcp import protocol
from plugvault.opcp.protocol import HttpProtocol

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n"
HEAD = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]}


class Wire(asyncio.Transport):
    """Collects the bytes that the server sends."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.closed = False

    def write(self, data: Any) -> None:
        assert not self.closed
        self.sent += bytes(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Page:
    """An application that sends the second half of its body when `go` is set."""

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def __call__(self, _scope: Any, _receive: Any, send: Any) -> None:
        await send(HEAD)
        await send({"type": "http.response.body", "body": b"he", "more_body": True})
        await self.go.wait()
        await send({"type": "http.response.body", "body": b"re"})


async def pass_time() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def connect(wire: Wire, request: bytes) -> Page:
    page = Page()
    config = uvicorn.Config(page, log_config=None)
    config.load()
    connection = HttpProtocol(config, ServerState(), {})
    connection.connection_made(wire)
    connection.data_received(request)
    await pass_time()
    return page


def test_the_first_part_of_an_answer_does_not_wait_for_the_rest():
    async def answer() -> None:
        wire = Wire()
        page = await connect(wire, REQUEST + b"\r\n")
        assert wire.sent.startswith(b"HTTP/1.1 200 OK\r\n")
        assert wire.sent.endswith(b"\r\n\r\nhe")
        page.go.set()
        await pass_time()
        assert wire.sent.endswith(b"here")
        assert not wire.closed

    asyncio.run(answer())


def test_a_connection_closes_behind_its_answer():
    async def answer() -> None:
        wire = Wire()
        page = await connect(wire, REQUEST + b"Connection: close\r\n\r\n")
        page.go.set()
        await pass_time()
        assert wire.sent.endswith(b"here")
        assert wire.closed

    asyncio.run(answer())


def test_a_slow_answer_is_not_cut_off_by_the_timeout_of_its_request(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(protocol, "REQUEST_TIMEOUT", 0.05)

    async def answer() -> None:
        wire = Wire()
        page = await connect(wire, REQUEST + b"\r\n")
        await asyncio.sleep(0.2)
        assert not wire.closed
        page.go.set()
        await pass_time()
        assert wire.sent.endswith(b"here")

    asyncio.run(answer())
