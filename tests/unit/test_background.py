"""The background work of an ecosystem in one process: errors, and deletion by date."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from fixtures.pools import Pools
from plugvault import delivery
from plugvault.delivery import plausible
from plugvault.ecosystem import background
from plugvault.failing import FailingLoops
from plugvault.opcp.services import Settings
from world import NOW


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


def test_the_pauses_between_errors_grow_until_the_work_has_lasted(
    monkeypatch: pytest.MonkeyPatch,
):
    pauses: list[float] = []
    now = 0.0

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            pauses.append(timeout or 0.0)
            return False

        def is_set(self) -> bool:
            return len(pauses) == 5

    def turn(*_: Any) -> None:
        nonlocal now
        now += 2 * background.STEADY if len(pauses) == 3 else 0.0

    monkeypatch.setattr(background, "_turn", turn)
    monkeypatch.setattr(background.time, "monotonic", lambda: now)
    services: Any = object()
    background.keep_running(services, Stop())
    assert pauses == [1.0, 2.0, 4.0, 1.0, 2.0]


def test_neither_records_nor_events_are_deleted_at_a_time_that_leaps(
    pools: Pools, monkeypatch: pytest.MonkeyPatch
):
    pools.register()
    pools.put()
    tasks: dict[str, delivery.PeriodicTask] = {}

    def take(*arguments: Any) -> None:
        tasks.update({task.name: task for task in arguments[5]})

    monkeypatch.setattr(delivery, "run", take)
    services: Any = SimpleNamespace(
        store=pools.store,
        authorities=(),
        settings=Settings(keep_events=1.0),
        webhook_secret=None,
        clock=None,
        failing=FailingLoops(),
    )
    background.run(services, threading.Event())
    years = NOW + 1000 * plausible.LEAP
    with pools.store.read() as records:
        events = records.events.since(0, None, 100)
    assert "waits" in tasks
    for name in ("cleansing", "old events"):
        tasks[name].run(pools.store, NOW)
        tasks[name].run(pools.store, years)
    assert pools.contract()
    with pools.store.read() as records:
        assert records.events.since(0, None, 100) == events != []
