"""The start of a sandbox waits with patience for its own processes, and says so."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from fixtures.fleet import until
from plugvault.ecosystem import sandbox
from plugvault.ecosystem.sandbox import Plan, Sandbox
from plugvault.opcp.services import Settings
from plugvault.processes import PATIENCE, Supervised
from plugvault.roles.client import Credentials
from plugvault.roles.connections import Answer, Connections, Request


def test_a_start_waits_as_long_for_an_answer_as_for_a_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    waits: list[float] = []

    def send(_: object, request: Request) -> Answer:
        waits.append(request.timeout)
        return Answer(request, 200, b'{"access_token": "t", "expires_in": 3600}')

    monkeypatch.setattr(Connections, "send", send)
    url = "http://127.0.0.1:1"
    with socket.socket() as listener:
        plan = Plan("north", tmp_path, listener, url, url, "sqlite://")
        prepared = sandbox._Prepared({"OEM": Credentials("id", "secret", url)}, b"", None)
        with prepared.client(plan, "OEM") as client:
            client.call("GET", "/")
    assert waits == [PATIENCE, PATIENCE]
    assert Supervised.start_timeout == PATIENCE


@pytest.mark.parametrize("seconds", [0.0, 3600.0])
def test_a_step_that_takes_long_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, seconds: float
):
    monkeypatch.setattr(sandbox, "SLOW", seconds)
    steps: list[str] = []
    start = Sandbox([], Settings(), {}, on_step=steps.append)
    with start._step("Sample vehicles"):
        if not seconds:
            until(lambda: caplog.messages, "it says so")
    assert steps == ["Sample vehicles"]
    assert (
        caplog.messages == [] if seconds else "long: Sample vehicles (up to 120 s" in caplog.text
    )
