"""The vault service's rotation: several clients, one answering thread, an alarm."""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest

from evcc.vault import VaultError
from evcc.vault import service as codec
from plugvault.vault_service import server as serving
from plugvault.vault_service.callers import VaultCaller
from plugvault.vault_service.envelopes import EnvelopeRecords
from plugvault.vault_service.handlers import RequestHandler, TokenLost
from plugvault.vault_service.server import Server

SIGN = codec.OPERATIONS.index(("sign", 3))


class Script:
    """A vault that does `steps[n]` at its n-th signature; the last one ends the server."""

    def __init__(self, last: int, steps: dict[int, Callable[[], object]]) -> None:
        self.digests: list[bytes] = []
        self._last, self._steps = last, steps
        self.ended, self._end = os.pipe()

    def sign(self, key: bytes, digest: bytes) -> bytes:
        self.digests.append(digest)
        if len(self.digests) == self._last:
            os.close(self._end)
        self._steps.get(len(self.digests), lambda: None)()
        return digest * 2

    def keys(self) -> list[tuple[bytes, bytes]]:
        raise VaultError("token-missing")


def serve(listener: socket.socket, vault: Script) -> None:
    try:
        answers = RequestHandler(vault, EnvelopeRecords(Path("/nowhere")))
        Server([listener], answers, {b"": (b"", VaultCaller(rate=1e6))}).serve(vault.ended)
    finally:
        os.close(vault.ended)


def request(digest: bytes) -> bytes:
    return codec.pack(1, SIGN, [b"", b"k", digest])


def has_come(client: socket.socket) -> bytes:
    """The answers a client could read by now."""
    try:
        return client.recv(10_000, socket.MSG_DONTWAIT | socket.MSG_PEEK)
    except BlockingIOError:
        return b""


class Several:
    """Clients of `listener`. The first are accepted when the last one sends, immediately; requests
    they send while the token is at that request are read in one round after it."""

    def __init__(self, stack: ExitStack, path: Path, count: int) -> None:
        self._stack, self._path = stack, path
        self.listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        self.listener.bind(str(path))
        self.listener.listen()
        *self.clients, self.last = (self.connect() for _ in range(count + 1))

    def connect(self) -> socket.socket:
        client = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        client.connect(str(self._path))
        return client

    def ask(self, *requests: bytes) -> None:
        """Send one request from each client."""
        for client, data in zip(self.clients, requests, strict=True):
            client.sendall(data)


@pytest.fixture
def several(short_dir: Path) -> Iterator[Several]:
    with ExitStack() as stack:
        yield Several(stack, short_dir / "s", 3)


FIRST, ONE, OTHER, THIRD = (bytes([n]) * 32 for n in range(4))


def test_clients_are_served_in_rotation(several: Several) -> None:
    """A client with a hundred requests delays another client by one request only."""
    greedy, modest = b"g" * 32, b"m" * 32
    several.clients[0].sendall(request(greedy) * 100)
    several.clients[1].sendall(request(modest) * 2)
    vault = Script(102, {})
    serve(several.listener, vault)
    assert signal.alarm(0) == 0  # what would end a process that hangs
    order = vault.digests
    assert len(order) == 102
    assert order.index(modest) <= 2
    assert order[: order.index(modest) + 4].count(modest) == 2


def test_no_answer_waits_for_the_next_request(several: Several) -> None:
    """Of requests read in one round, each is answered before the token works for the next."""
    before: list[bytes] = []
    steps = {
        1: lambda: several.ask(*map(request, (ONE, OTHER, THIRD))),
        2: lambda: before.append(has_come(several.last)),
        3: lambda: before.append(has_come(several.clients[0])),
    }
    several.last.sendall(request(FIRST))
    serve(several.listener, Script(4, steps))
    assert before == [codec.pack(1, 0, [digest * 2]) for digest in (FIRST, ONE)]
    for client, digest in zip(several.clients, (ONE, OTHER, THIRD), strict=True):
        assert has_come(client) == codec.pack(1, 0, [digest * 2])


def test_lost_token_loses_no_answer_and_no_waiting_request(
    several: Several,
) -> None:
    """The finished request is answered; waiting ones are sent again to the next process."""

    def lose() -> None:
        raise VaultError("unavailable")

    steps = {1: lambda: several.ask(*map(request, (ONE, OTHER, THIRD))), 3: lose}
    several.last.sendall(request(FIRST))
    vault = Script(10, steps)
    with pytest.raises(TokenLost):
        serve(several.listener, vault)
    assert vault.digests == [FIRST, ONE, OTHER]
    answers = [has_come(client) for client in several.clients]
    assert answers == [codec.pack(1, 0, [ONE * 2]), b"", b""]
    assert signal.alarm(0) == 0


def test_request_of_a_connection_that_was_dropped_is_not_done(
    several: Several, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its request waits while one connection too many is made."""
    monkeypatch.setattr(serving, "CLIENTS", 4)
    oldest = several.clients[0]

    def ask() -> None:
        oldest.sendall(request(ONE))
        several.connect().sendall(request(OTHER))

    several.last.sendall(request(FIRST))
    vault = Script(2, {1: ask})
    serve(several.listener, vault)
    assert vault.digests == [FIRST, OTHER]
    assert oldest.recv(100) == b""  # closed
    assert "a new one displaces that of a client" in caplog.text


def test_each_request_is_under_an_alarm(several: Several, monkeypatch: pytest.MonkeyPatch) -> None:
    """The alarm ends a hanging process, and is off while no request is under way."""
    now, alarms = [1000.0], [(0.0, 0)]
    idle = [request(ONE)]

    def set_alarm(seconds: int) -> int:
        alarms.append((now[0], seconds))
        if not seconds and idle:  # the next request comes after the idle time
            several.clients[0].sendall(idle.pop())
        return 0

    def work() -> None:
        at, seconds = alarms[-1]
        remaining = at + seconds - now[0]
        assert serving._HANG <= remaining <= serving._HANG + 1
        now[0] += 0.7

    monkeypatch.setattr(
        serving, "time", SimpleNamespace(**vars(time) | {"monotonic": lambda: now[0]})
    )
    monkeypatch.setattr(signal, "alarm", set_alarm)
    several.last.sendall(request(FIRST) * 9)
    vault = Script(10, dict.fromkeys(range(1, 11), work))
    serve(several.listener, vault)
    assert vault.digests == [FIRST] * 9 + [ONE]
    assert alarms[-1][1] == 0


def test_noise_does_not_make_the_alarm_of_the_last_request_go_off(
    several: Several, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client keeps the service busy without a whole request."""
    now, due, asks = [1000.0], [float("inf")], [*request(ONE)]

    def set_alarm(seconds: int) -> int:
        due[0] = now[0] + seconds if seconds else float("inf")
        return 0

    def noise() -> None:
        """Two seconds have passed, and there is another byte."""
        now[0] += 2
        assert now[0] < due[0]
        if asks:
            several.clients[0].sendall(bytes((asks.pop(0),)))

    clock = SimpleNamespace(**vars(time) | {"monotonic": lambda: now[0]})
    monkeypatch.setattr(serving, "time", clock)
    monkeypatch.setattr(serving, "_SPIN", 3600)
    monkeypatch.setattr(os, "sched_yield", noise)
    monkeypatch.setattr(signal, "alarm", set_alarm)
    several.last.sendall(request(FIRST))
    vault = Script(2, {})
    serve(several.listener, vault)
    assert vault.digests == [FIRST, ONE]
