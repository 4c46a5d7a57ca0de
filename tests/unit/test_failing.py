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
    for number in range(3):
        loops.fails("deliveries", KeyError(f"a bug, turn {number}"))
    assert [bool(record.exc_info) for record in caplog.records[2:]] == [True, False]
    assert loops.reasons == {"deliveries": "'a bug, turn 2'"}


def test_each_kind_of_failure_is_told_once_until_the_loop_works(caplog: pytest.LogCaptureFixture):
    told: list[tuple[str, str, str]] = []
    loops = FailingLoops(lambda *event: told.append(event))
    for turn in range(3):
        loops.fails("events", PoolError("unavailable", f"away for {turn} s"))
        loops.fails("events", PoolError("conflict", f"with {turn}"))
        loops.fails("events", OSError(f"full {turn}"))
        loops.fails("events", TimeoutError(f"after {turn} s"))
    failures = ["unavailable: away for 0 s", "conflict: with 0", "full 0", "after 0 s"]
    assert told == [("failing", "events", text) for text in failures]
    assert len(caplog.records) == 2  # the unexpected ones, each with its place
    for is_again in (loops.works, loops.ends):
        is_again("events")
        told.clear()
        loops.fails("events", OSError("full again"))
        assert told == [("failing", "events", "full again")]
