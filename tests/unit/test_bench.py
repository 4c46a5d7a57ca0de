"""The bench's end of the line: a module that talks nonsense, a vault that restarts behind it."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from evcc.link.line import ChannelStream, Line
from evcc.link.mux import CONTROL, VAULT, Mux
from evcc.ports import clock
from evcc.ports.stream import of_socket
from evcc.vault import VaultError, service
from plugvault.link.bench import Bench


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


def test_a_module_that_talks_nonsense_is_heard_out(ends: tuple[Any, Line]):
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


def test_a_vault_that_restarts_is_there_again_over_the_link(
    ends: tuple[Any, Line], car_token: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(service, "_TIMEOUT_MS", 500)
    stream, line = ends
    with (
        car_token.service() as running,
        Bench(stream, vault=running.socket_path),
    ):
        vault = service.connect(ChannelStream(line, VAULT))
        point = vault.generate_provisioning_key()
        os.kill(running.pid, signal.SIGKILL)
        lost = 0
        while True:
            try:
                assert vault.public(b"provisioning") == point
                break
            except VaultError as error:
                assert error.reason == "unavailable"
                lost += 1
        assert lost < 40
