"""The failing loops of a process: each change is news, a repetition is none."""

from __future__ import annotations

import pytest

from plugvault.failing import FailingLoops
from plugvault.pools.errors import PoolError


def test_the_first_failure_of_a_loop_and_its_end_are_told():
    told: list[tuple[str, str, str]] = []
    loops = FailingLoops(lambda *event: told.append(event))
    loops.works("events")
    loops.fails("events", PoolError("unavailable", "away"))
    loops.fails("events", PoolError("unavailable", "still away"))
    loops.fails("deliveries", PoolError("unavailable", "full"))
    assert loops.reasons == {
        "events": "unavailable: still away",
        "deliveries": "unavailable: full",
    }
    loops.works("events")
    loops.ends("deliveries")
    assert loops.reasons == {}
    assert told == [
        ("failing", "events", "unavailable: away"),
        ("failing", "deliveries", "unavailable: full"),
        ("works", "events", ""),
    ]


def test_the_log_has_each_change_and_the_place_of_an_unexpected_error(
    caplog: pytest.LogCaptureFixture,
):
    loops = FailingLoops()
    for _ in range(2):
        loops.fails("events", PoolError("unavailable", "away"))
    loops.works("events")
    assert caplog.messages == ["events: failing: unavailable: away", "events: works"]
    loops.fails("deliveries", KeyError("a bug"))
    assert [bool(record.exc_info) for record in caplog.records[2:]] == [True, False]
