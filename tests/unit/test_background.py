"""The background work of an ecosystem in one process goes on after an error of any kind."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from plugvault.ecosystem import background


def test_an_error_of_the_background_work_is_told_and_it_begins_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    stop, turns = threading.Event(), []
    monkeypatch.setattr(background, "RESTART", 0.0)

    def run(services: Any, ended: threading.Event) -> None:
        turns.append(services)
        if len(turns) < 3:
            ended.set()  # as `delivery.run` does
            raise RuntimeError("a bug")
        stop.set()
        assert ended.wait(60)

    monkeypatch.setattr(background, "run", run)
    services: Any = object()
    background.keep_running(services, stop)
    assert turns == [services] * 3
    assert caplog.text.count("begin again") == 2
