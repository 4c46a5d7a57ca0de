"""Processes that share a listening socket share its connections."""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, asynccontextmanager
from functools import partial

import pytest
from fastapi import FastAPI

from fixtures.open_files import open_files
from plugvault.ecosystem import server
from plugvault.opcp.connections import Connections

ASKED = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with server.listen() as listening:
        yield listening


@asynccontextmanager
async def up(listener: socket.socket, shared: bool = False):  # type: ignore[no-untyped-def]
    """Yield a started server that accepts nothing by itself."""
    app = FastAPI()
    app.get("/")(lambda: "here")
    running = server.server(app, shared=shared)
    running.config.load()
    running.lifespan = running.config.lifespan_class(running.config)
    await running.startup([listener])
    yield running
    await running.shutdown([listener])


def clients(listener: socket.socket, stack: ExitStack, count: int) -> list[socket.socket]:
    return [
        stack.enter_context(socket.create_connection(listener.getsockname())) for _ in range(count)
    ]


async def taken(running: server.HttpServer, count: int) -> None:
    deadline = asyncio.get_running_loop().time() + 10
    while len(running.server_state.connections) < count:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.001)


async def left(running: server.HttpServer, count: int) -> None:
    while len(running.server_state.connections) > count:  # noqa: ASYNC110 - uvicorn has no event
        await asyncio.sleep(0.001)


def test_connections_are_accepted_one_at_a_time(listener: socket.socket):
    async def scenario() -> None:
        with ExitStack() as stack:
            async with up(listener) as running:
                asyncio.get_running_loop().remove_reader(listener)
                clients(listener, stack, 3)
                running.accept(listener)
                await taken(running, 1)
                assert len(running.server_state.connections) == 1
                for _ in range(2):
                    listener.accept()[0].close()  # the other connections stay in the backlog

    asyncio.run(scenario())


@pytest.mark.parametrize("shared", [False, True])
def test_a_sibling_is_let_go_first(listener: socket.socket, shared: bool):
    async def scenario() -> None:
        with ExitStack() as stack:
            async with up(listener, shared) as running:
                clients(listener, stack, 1)
                running.accept(listener)
                assert asyncio.get_running_loop().remove_reader(listener) is not shared

    asyncio.run(scenario())


def test_every_connection_is_accepted_in_the_end(listener: socket.socket):
    async def scenario() -> None:
        with ExitStack() as stack:
            async with up(listener, shared=True) as running:
                connections = clients(listener, stack, 20)
                await taken(running, 20)
                for client in connections:
                    client.sendall(ASKED)
                    client.setblocking(False)
                    async with asyncio.timeout(10):
                        answer = await asyncio.get_running_loop().sock_recv(client, 4096)
                    assert answer.endswith(b'"here"')

    asyncio.run(scenario())


def test_a_process_without_descriptors_accepts_again_later(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
):
    class Full:
        def accept(self) -> None:
            raise OSError(errno.EMFILE, "too many open files")

        def fileno(self) -> int:
            return listener.fileno()

    async def scenario() -> None:
        monkeypatch.setattr(server, "_EXHAUSTED_PAUSE", 0.05)
        with ExitStack() as stack:
            async with up(listener) as running:
                running.accept(Full())
                assert not asyncio.get_running_loop().remove_reader(listener)
                clients(listener, stack, 1)
                running._listen(listener)
                await taken(running, 1)

    asyncio.run(scenario())


# The end of a server.


def test_a_request_under_way_is_answered_and_everything_closed():
    begun = threading.Event()
    app = FastAPI()

    @app.get("/")
    def slow() -> str:
        begun.set()
        time.sleep(0.5)
        return "to its end"

    with server.listen() as first, server.in_thread(app, first):
        pass  # the libraries open some descriptors once
    before = open_files()
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
    assert open_files() <= before
    assert not [thread for thread in threading.enumerate() if thread.name == "plugvault-opcp"]


def ended(client: socket.socket) -> bool:
    client.settimeout(20)
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True


def test_a_connection_beyond_the_limit_is_closed_until_another_has_ended(
    listener: socket.socket, caplog: pytest.LogCaptureFixture
):
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        with ExitStack() as stack:
            async with up(listener) as running:
                running._connections = Connections(2)
                first, _ = clients(listener, stack, 2)
                await taken(running, 2)
                (third,) = clients(listener, stack, 1)
                assert await loop.run_in_executor(None, ended, third)
                first.close()
                await left(running, 1)
                clients(listener, stack, 1)
                await taken(running, 2)

    asyncio.run(scenario())
    assert "over the limit of connections: 2 are open, the last one from 127.0.0.1" in caplog.text


def test_a_failed_handshake_makes_room(listener: socket.socket):
    async def fails() -> None:
        raise OSError

    async def scenario() -> None:
        async with up(listener) as running:
            running._connections = Connections(1)
            protocol = running._protocol()
            protocol.at_end = lambda: running._connections.remove("127.0.0.1", protocol)
            assert running._connections.add("127.0.0.1", protocol)
            handshake = asyncio.create_task(fails())
            await asyncio.wait([handshake])
            running._end_handshake(protocol, handshake)
            assert running._connections.add("127.0.0.1", object())

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "hosts",
    [["192.0.2.1"] * 3, ["2001:db8::1", "2001:db8::2", "2001:db8::3"]],
    ids=["an address", "a network"],
)
def test_one_address_has_a_share_of_the_connections(hosts: list[str]):
    connections, held = Connections(8), [object(), object(), object()]
    assert [connections.add(*each) for each in zip(hosts, held, strict=True)] == [
        True,
        True,
        False,
    ]
    assert connections.add("198.51.100.1", object())
    for _ in range(2):
        connections.remove(hosts[0], held[0])
    assert connections.add(hosts[2], held[2])
    assert not connections.add(hosts[2], object())


def test_all_addresses_together_have_a_limit():
    connections = Connections(8)
    hosts = [f"192.0.2.{number // 2}" for number in range(10)]
    assert [connections.add(host, object()) for host in hosts] == [True] * 8 + [False] * 2


def test_the_loopback_has_no_share_of_its_own():
    connections = Connections(8)
    assert [connections.add("127.0.0.1", object()) for _ in range(9)] == [True] * 8 + [False]


def test_connections_leave_half_of_the_descriptors(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    assert Connections().most == 512


def test_a_server_that_does_not_start_is_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(server.HttpServer, "run", lambda *_, **__: None)
    before = open_files()
    with (
        server.listen() as listener,
        pytest.raises(RuntimeError, match="did not start"),
        server.in_thread(FastAPI(), listener),
    ):
        pass
    assert open_files() <= before


def test_a_port_that_is_taken_leaves_nothing_open():
    with server.listen() as listener:
        before = open_files()
        with pytest.raises(OSError, match="in use"):
            server.listen(port=listener.getsockname()[1])
        assert open_files() <= before


def test_an_unfinished_handshake_does_not_outlive_its_server(listener: socket.socket):
    async def scenario() -> None:
        with ExitStack() as stack:
            async with up(listener) as running:
                never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                opening = asyncio.get_running_loop().create_task(_wait_for(never))
                running._handshakes.add(opening)
                opening.add_done_callback(partial(running._end_handshake, running._protocol()))
                clients(listener, stack, 1)
                await taken(running, 1)
            await asyncio.sleep(0)
            assert opening.cancelled()
            assert running._handshakes == set()

    asyncio.run(scenario())


async def _wait_for(future: asyncio.Future[None]) -> None:
    await future
