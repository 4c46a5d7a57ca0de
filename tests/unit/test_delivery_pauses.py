"""Loops of the deliveries whose database is away ask it less and less often."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from plugvault.delivery import PeriodicTask, Worker, periodic, worker
from plugvault.failing import FailingLoops
from plugvault.opcp.services import Settings
from plugvault.pools.errors import PoolError
from world import NOW

SECONDS = 0.5


class Away:
    """A store whose database does not answer. `asked`: the number of attempts."""

    def __init__(self) -> None:
        self.asked = 0

    def read(self) -> Any:
        self.asked += 1
        raise PoolError("unavailable", "The database is not available.")


def test_the_deliveries_ask_a_database_that_is_away_less_and_less_often(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(worker, "POLL", 0.01)
    store: Any = Away()
    failing = FailingLoops()
    deliveries = Worker(store, str, Settings(), lambda: NOW, failing)
    run_for_a_while(deliveries.run)
    assert 2 <= store.asked <= 7
    assert list(failing.reasons) == ["deliveries"]


def test_a_periodic_task_that_fails_pauses_longer_each_time():
    store: Any = Away()
    task = PeriodicTask("task", 0.01, lambda store, now: store.read())
    failing = FailingLoops()
    run_for_a_while(lambda stop: periodic._repeat(task, store, lambda: NOW, stop, failing))
    assert 2 <= store.asked <= 7
    assert list(failing.reasons) == ["task"]


def run_for_a_while(run: Any) -> None:
    stop = threading.Event()
    timer = threading.Timer(SECONDS, stop.set)
    timer.start()
    run(stop)
    timer.join()
