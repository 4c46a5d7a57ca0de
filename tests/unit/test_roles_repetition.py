"""Repeated work goes on after any failure, says so, and ends with its owner."""

from __future__ import annotations

from fixtures.fleet import until
from plugvault.failing import FAILING, WORKS
from plugvault.roles.health import Health
from plugvault.roles.repetition import Repetition


def test_work_is_repeated_through_failures_until_it_is_closed():
    turns: list[int] = []

    def work() -> None:
        turns.append(len(turns))
        if len(turns) in (2, 3):
            raise KeyError("no error that anything expects")

    with Health() as health:
        with Repetition("work", work, 0.001, health):
            until(lambda: len(turns) > 4, "it goes on")
        count = len(turns)
        assert [event.name for event in health.events] == [FAILING, WORKS]
        assert health.failing == {}
    assert len(turns) == count


def test_the_first_turn_waits_for_no_interval():
    turns: list[str] = []
    with Health() as health, Repetition("work", lambda: turns.append(""), 3600.0, health):
        until(lambda: turns, "the first turn")
