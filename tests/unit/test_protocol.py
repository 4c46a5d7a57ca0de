"""How an answer leaves: whole, but never waiting for what is still to be made."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from plugvault.opcp.limits import BodyLimit
from plugvault.opcp.protocol import HttpProtocol
from plugvault.patience import begins, comes, is_last

ASKED = b"GET / HTTP/1.1\r\nHost: x\r\n"
HEAD = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]}


class Wire(asyncio.Transport):
    """What is written goes into `written`, in the pieces it came in."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        assert not self.closed
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


def piece(body: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


class Page:
    """An application whose body comes in two pieces; the second when `go` is set."""

    def __init__(self) -> None:
        self.go, self.answered = asyncio.Event(), asyncio.Event()

    async def __call__(self, _scope: Any, _receive: Any, send: Any) -> None:
        await send(HEAD)
        if self.go.is_set():
            await send(piece(b"here"))
            self.answered.set()
            return
        await asyncio.sleep(0)
        await send(piece(b"he", more=True))
        await self.go.wait()
        await send(piece(b"re"))


async def asked(
    wire: Wire, at_once: bool, request: bytes = ASKED + b"\r\n", turns: int = 5
) -> Page:
    page = Page()
    if at_once:
        page.go.set()
    config = uvicorn.Config(page, log_config=None)
    config.load()
    protocol = HttpProtocol(config, ServerState(), {})
    protocol.connection_made(wire)
    protocol.data_received(request)
    for _ in range(turns):
        await asyncio.sleep(0)
    return page


def test_an_answer_leaves_in_one_piece():
    wire = Wire()
    asyncio.run(asked(wire, at_once=True))
    (whole,) = wire.written
    assert whole.startswith(b"HTTP/1.1 200 OK\r\n")
    assert whole.endswith(b"\r\n\r\nhere")


def test_an_answer_waits_for_no_other():
    """Eight requests that come together are answered one after the other, in one turn."""

    async def story() -> None:
        wire = Wire()
        page = await asked(wire, at_once=True, turns=0)
        while not page.answered.is_set():  # noqa: ASYNC110 - waiting for it takes a turn more
            await asyncio.sleep(0)
        assert wire.written

    asyncio.run(story())


def test_what_is_there_does_not_wait_for_the_rest():
    async def story() -> None:
        wire = Wire()
        page = await asked(wire, at_once=False)
        assert b"".join(wire.written).endswith(b"\r\n\r\nhe")
        assert not wire.written[0].endswith(b"he")  # the head did not wait either
        page.go.set()
        for _ in range(5):
            await asyncio.sleep(0)
        assert wire.written[-1] == b"re"

    asyncio.run(story())


@pytest.mark.parametrize("at_once", [True, False])
def test_a_connection_closes_behind_its_answer(at_once: bool):
    async def story() -> None:
        wire = Wire()
        page = await asked(wire, at_once, ASKED + b"Connection: close\r\n\r\n")
        page.go.set()
        for _ in range(5):
            await asyncio.sleep(0)
        assert wire.closed
        assert b"".join(wire.written).endswith(b"here" if at_once else b"re")

    asyncio.run(story())


def test_nothing_is_written_to_a_connection_that_has_gone():
    async def story() -> None:
        wire = Wire()
        config = uvicorn.Config(Page(), log_config=None)
        config.load()
        protocol = HttpProtocol(config, ServerState(), {})
        protocol.connection_made(wire)
        protocol.transport.write(b"lost")
        wire.close()
        await asyncio.sleep(0)
        assert wire.written == []

    asyncio.run(story())


def test_who_has_come_is_known_before_his_turn():
    async def two_at_once() -> None:
        while not is_last():
            begins()
        config = uvicorn.Config(BodyLimit(Page()), log_config=None)
        config.load()
        for _ in range(2):
            protocol = HttpProtocol(config, ServerState(), {})
            protocol.connection_made(Wire())
            protocol.data_received(ASKED + b"\r\n")
        assert not is_last()
        begins()
        assert not is_last()
        comes()
        await asyncio.sleep(0)
        assert is_last()

    asyncio.run(two_at_once())
