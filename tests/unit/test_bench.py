"""The bench's end of the line: a module that sends nonsense, a vault that restarts."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from serial import SerialException

from evcc.link.line import ChannelStream, Line
from evcc.link.mux import CONTROL, QUEUES, SESSION, VAULT, LinkError, Mux, weight
from evcc.ports import clock
from evcc.ports.stream import of_socket
from evcc.vault import PROVISIONING, VaultError, service
from plugvault.link.bench import Bench, BenchError
from plugvault.link.endpoint import LinkEndpoint


@pytest.fixture
def ends() -> Iterator[tuple[Any, Line]]:
    """The bench's stream, and the module's end of the line."""
    near, far = socket.socketpair()
    yield of_socket(near), Line(of_socket(far), Mux(1), clock.ticks_ms)
    near.close()
    far.close()


NONSENSE = [
    b"",
    b"\xff",
    b"{",
    b"[" * 4000,
    b"3",
    b"[]",
    b"{}",
    b'"event"',
    b'{"event": "x"}',
    b'{"event": "x", "text": "", "session": []}',
    b'{"id": {}}',
]


def test_a_malformed_message_of_the_module_does_not_end_the_bench(ends: tuple[Any, Line]):
    stream, line = ends
    with Bench(stream) as bench:
        for junk in NONSENSE:
            line.send(CONTROL, junk)
        line.send(CONTROL, json.dumps({"event": "trusted", "text": "", "session": None}).encode())
        end = time.monotonic() + 10
        while not bench.events and time.monotonic() < end:
            line.pump(10)
        assert bench.events == [("trusted", "")]
        assert len(bench.log) == len(NONSENSE)


def test_an_error_of_the_observer_does_not_end_the_line(ends: tuple[Any, Line]):
    stream, line = ends
    seen: list[str] = []

    def observe(channel: str, text: str) -> None:
        seen.append(text)
        raise RuntimeError("a bug of the observer")

    with Bench(stream, observe) as bench:
        for name in ("trusted", "installed"):
            message = {"event": name, "text": "", "session": None}
            line.send(CONTROL, json.dumps(message).encode())
        end = time.monotonic() + 10
        while len(seen) < 2 and time.monotonic() < end:
            line.pump(10)
    assert seen == ["trusted", "installed"]
    assert [event.name for event in bench.events] == seen


def test_an_error_of_any_kind_in_the_line_is_told_to_the_callers(
    ends: tuple[Any, Line], monkeypatch: pytest.MonkeyPatch
):
    stream, line = ends
    with Bench(stream) as bench:

        def broken(*_: Any) -> Any:
            raise RuntimeError("a bug of the line")

        monkeypatch.setattr(bench.endpoint._mux, "feed", broken)
        line.send(CONTROL, b"{}")
        line.flush()
        begun = time.monotonic()
        with pytest.raises(BenchError, match="a bug of the line"):
            bench.request("status", 20.0)
        assert time.monotonic() - begun < 10


@pytest.mark.parametrize(
    "error, words",
    [
        (
            SerialException("device reports readiness to read but returned no data"),
            "port has ended",
        ),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
    ],
)
def test_a_pulled_cable_is_told_to_the_callers_in_words_and_logs_no_traceback(
    error: OSError,
    words: str,
    ends: tuple[Any, Line],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    stream, line = ends
    with Bench(stream) as bench:

        def gone(*_: Any) -> Any:
            raise error

        monkeypatch.setattr(stream, "read", gone)
        line.send(CONTROL, b"{}")
        line.flush()
        with pytest.raises(BenchError, match=f"lost: closed: .*{words}$"):
            bench.request("status", 20.0)
        assert "Errno" not in str(bench.failure)
    assert caplog.records == []


def test_last_bytes_of_a_station_never_reach_the_next_session(ends: tuple[Any, Line]):
    stream, line = ends
    came: list[tuple[int, Any]] = []

    def take(is_done: Callable[[], bool]) -> None:
        end = time.monotonic() + 10
        while not is_done() and time.monotonic() < end:
            line.pump(10)
            came.extend(line.inbox)
            line.inbox.clear()

    def plugged(times: int) -> bool:
        return [channel for channel, _ in came].count(CONTROL) == times

    def says(**words: Any) -> None:
        line.send(CONTROL, json.dumps(words).encode())
        line.flush()

    with (
        socket.create_server(("127.0.0.1", 0)) as station,
        Bench(stream) as bench,
        ThreadPoolExecutor(1) as pool,
    ):
        pool.submit(bench.charge, *station.getsockname())
        take(lambda: plugged(1))
        says(id=1, session=1)
        connection, _ = station.accept()
        connection.sendall(bytes(8000))  # more than the line carries without a reader
        connection.close()
        end = time.monotonic() + 10
        while bench.endpoint.bytes_out[SESSION] < 8000 and time.monotonic() < end:
            time.sleep(0.001)
        again = pool.submit(bench.charge, *station.getsockname())
        says(event="closed", text="", session=1)
        station.settimeout(0.3)  # the time in which the next session may try to overtake
        with contextlib.suppress(TimeoutError):
            station.accept()
        take(lambda: plugged(2))
        assert [channel for channel, _ in came].index(CONTROL, 1) == len(came) - 1
        assert sum(len(data) for channel, data in came if channel == SESSION) == 8000
        says(id=2, session=2)
        says(event="closed", text="", session=2)
        take(again.done)
        assert again.result() == []


@pytest.mark.parametrize("key", [b"", os.urandom(32)], ids=["plain", "sealed"])
def test_restart_of_the_vault_is_not_noticed_over_the_link(
    ends: tuple[Any, Line], car_token: Any, key: bytes, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(service, "_LINE_TIMEOUT_MS", 4000)
    stream, line = ends
    with (
        car_token.service(keys={"board": key} if key else {}) as running,
        Bench(stream, vault=running.socket_path),
    ):
        vault = service.connect(ChannelStream(line, VAULT), "board", key)
        point = vault.generate_provisioning_key()
        for _ in range(2):
            os.kill(running.pid, signal.SIGKILL)
            assert vault.public(PROVISIONING) == point


def test_bench_computer_cannot_answer_for_the_vault(ends: tuple[Any, Line], car_token: Any):
    """It is the module that finds out, by the key it shares with the service."""
    stream, line = ends
    with (
        car_token.service(keys={"board": os.urandom(32)}) as running,
        Bench(stream, vault=running.socket_path),
    ):
        running.client().generate_provisioning_key()
        vault = service.connect(ChannelStream(line, VAULT), "board", os.urandom(32))
        with pytest.raises(VaultError, match=r"^unavailable"):
            vault.public(PROVISIONING)


def test_a_line_without_the_key_has_no_use_of_a_service_with_keys(
    ends: tuple[Any, Line], car_token: Any, monkeypatch: pytest.MonkeyPatch
):
    """Not one operation, whatever owner it claims: the bench is the user's, the line is not."""
    monkeypatch.setattr(service, "_LINE_TIMEOUT_MS", 60_000)
    stream, line = ends
    with (
        car_token.service(keys={"board": os.urandom(32)}) as running,
        Bench(stream, vault=running.socket_path) as bench,
    ):
        user = running.client()
        user.generate_provisioning_key()
        thief = service.connect(ChannelStream(line, VAULT))
        for operation, count in service.OPERATIONS:
            with pytest.raises(VaultError, match=r"^refused: .*not authenticated"):
                thief._request(service.OPERATIONS.index((operation, count)), *[b""] * count)
        assert len(user.sign(PROVISIONING, bytes(32))) == 64
        assert ("unable", "vault") in bench.events


def test_events_the_module_lost_are_counted_in_the_log(ends: tuple[Any, Line]):
    stream, line = ends
    with Bench(stream) as bench:
        event = {"event": "trusted", "text": "", "session": None, "missed": 3}
        line.send(CONTROL, json.dumps(event).encode())
        end = time.monotonic() + 10
        while not bench.events and time.monotonic() < end:
            line.pump(10)
        assert bench.log == ["answers or events lost before this one: 3"]


def test_a_module_that_takes_nothing_gets_no_more_than_fits(ends: tuple[Any, Line]):
    stream, line = ends
    with LinkEndpoint(stream, {}) as endpoint:
        fill(endpoint, SESSION)
        with pytest.raises(LinkError, match="full"):
            endpoint.send(SESSION, bytes(1024), timeout=0)
        assert weight(endpoint._outbox[SESSION]) <= QUEUES[SESSION]
        endpoint.send(CONTROL, b"other channels go on", timeout=0)
        sent, came = endpoint.bytes_out[SESSION], 0
        end = time.monotonic() + 10
        while came < sent and time.monotonic() < end:
            line.pump(10)
            came += sum(len(data) for channel, data in line.inbox if channel == SESSION)
            line.inbox.clear()
        assert came == sent
        endpoint.send(SESSION, b"and again", timeout=0)


def test_sender_waiting_for_room_is_released_when_the_line_is_lost():
    near, far = socket.socketpair()
    with LinkEndpoint(of_socket(near), {}) as endpoint, ThreadPoolExecutor() as pool:
        fill(endpoint, SESSION)
        waits = pool.submit(endpoint.send, SESSION, bytes(1024), 30)
        far.close()
        assert waits.result(timeout=10) is None


def test_a_request_to_a_module_that_takes_nothing_times_out(
    ends: tuple[Any, Line], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(LinkEndpoint.send, "__defaults__", (0,))
    with Bench(ends[0]) as bench:
        fill(bench.endpoint, CONTROL)
        with pytest.raises(BenchError, match="timeout"):
            bench.request("status", emaid="x" * 3000)


def fill(endpoint: LinkEndpoint, channel: int) -> None:
    with contextlib.suppress(LinkError):
        while True:
            endpoint.send(channel, bytes(1024), timeout=0)


def test_only_the_last_unread_telematics_messages_are_kept(ends: tuple[Any, Line]):
    stream, _ = ends
    with Bench(stream) as bench:
        for number in range(200):
            bench._to_maker(bytes([number]))
        assert bench._telematics.qsize() == 64
        assert bench._telematics.get() == bytes([136])
