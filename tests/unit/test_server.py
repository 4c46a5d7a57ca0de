"""Processes that share a listening socket share what comes to it."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
from fastapi import FastAPI

from plugvault.ecosystem import server

ASKED = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with server.listen() as listening:
        yield listening


@asynccontextmanager
async def up(listener: socket.socket, shared: bool = False):  # type: ignore[no-untyped-def]
    """A server that has begun, and takes nothing by itself."""
    app = FastAPI()
    app.get("/")(lambda: "here")
    made = server.server(app, shared=shared)
    made.config.load()
    made.lifespan = made.config.lifespan_class(made.config)
    await made.startup([listener])
    yield made
    await made.shutdown([listener])


def clients(listener: socket.socket, stack: ExitStack, count: int) -> list[socket.socket]:
    return [
        stack.enter_context(socket.create_connection(listener.getsockname())) for _ in range(count)
    ]


async def taken(made: server.HttpServer, count: int) -> None:
    deadline = asyncio.get_running_loop().time() + 10
    while len(made.server_state.connections) < count:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.001)


def test_connections_are_taken_one_at_a_time(listener: socket.socket):
    async def story() -> None:
        with ExitStack() as stack:
            async with up(listener) as made:
                asyncio.get_running_loop().remove_reader(listener)
                clients(listener, stack, 3)
                made.accept(listener)
                await taken(made, 1)
                assert len(made.server_state.connections) == 1
                for _ in range(2):
                    listener.accept()[0].close()  # they were left for others

    asyncio.run(story())


@pytest.mark.parametrize("shared", [False, True])
def test_a_sibling_is_let_go_first(listener: socket.socket, shared: bool):
    async def story() -> None:
        with ExitStack() as stack:
            async with up(listener, shared) as made:
                clients(listener, stack, 1)
                made.accept(listener)
                assert asyncio.get_running_loop().remove_reader(listener) is not shared

    asyncio.run(story())


def test_all_are_taken_in_the_end(listener: socket.socket):
    async def story() -> None:
        with ExitStack() as stack:
            async with up(listener, shared=True) as made:
                asked = clients(listener, stack, 20)
                await taken(made, 20)
                for one in asked:
                    one.sendall(ASKED)
                    one.setblocking(False)
                    async with asyncio.timeout(10):
                        answer = await asyncio.get_running_loop().sock_recv(one, 4096)
                    assert answer.endswith(b'"here"')

    asyncio.run(story())


def test_who_has_no_room_takes_the_next_when_there_is(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
):
    class Full:
        def accept(self) -> None:
            raise OSError(errno.EMFILE, "too many open files")

        def fileno(self) -> int:
            return listener.fileno()

    async def story() -> None:
        monkeypatch.setattr(server, "_EXHAUSTED_PAUSE", 0.05)
        with ExitStack() as stack:
            async with up(listener) as made:
                made.accept(Full())
                assert not asyncio.get_running_loop().remove_reader(listener)
                clients(listener, stack, 1)
                made._listen(listener)
                await taken(made, 1)

    asyncio.run(story())


# The end of a server.


def opened() -> set[str]:
    """What this process has open, but for the list itself."""
    found = set()
    for one in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found.add(f"{one} {one.readlink()}")
    return found


def test_a_request_under_way_is_answered_and_everything_closed():
    begun = threading.Event()
    app = FastAPI()

    @app.get("/")
    def slow() -> str:
        begun.set()
        time.sleep(0.5)
        return "to its end"

    with server.listen() as first, server.in_thread(app, first):
        pass  # what the libraries open once and keep
    before = opened()
    with socket.socket() as client, server.listen() as listener:
        with server.in_thread(app, listener):
            client.connect(listener.getsockname())
            client.sendall(ASKED)
            assert begun.wait(10)
        client.settimeout(10)
        answer = b""
        while piece := client.recv(4096):
            answer += piece
        assert answer.endswith(b'"to its end"')
    assert opened() == before
    assert not [one for one in threading.enumerate() if one.name == "plugvault-opcp"]


def test_a_server_that_does_not_start_is_told_of(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(server.HttpServer, "run", lambda *_, **__: None)
    before = opened()
    with (
        server.listen() as listener,
        pytest.raises(RuntimeError, match="did not start"),
        server.in_thread(FastAPI(), listener),
    ):
        pass
    assert opened() == before


def test_a_port_that_is_taken_leaves_nothing_open():
    with server.listen() as listener:
        before = opened()
        with pytest.raises(OSError, match="in use"):
            server.listen(port=listener.getsockname()[1])
        assert opened() == before


def test_a_handshake_that_never_comes_does_not_outlive_its_server(listener: socket.socket):
    async def story() -> None:
        with ExitStack() as stack:
            async with up(listener) as made:
                never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                opening = asyncio.get_running_loop().create_task(_wait_for(never))
                made._handshakes.add(opening)
                opening.add_done_callback(made._end_handshake)
                clients(listener, stack, 1)
                await taken(made, 1)
            await asyncio.sleep(0)
            assert opening.cancelled()
            assert made._handshakes == set()

    asyncio.run(story())


async def _wait_for(future: asyncio.Future[None]) -> None:
    await future
