"""The health of a maker's backend: each change is told once, and an observer does no harm."""

from __future__ import annotations

import threading

import pytest

from fixtures.fleet import until
from plugvault.backoff import Backoff
from plugvault.roles import health as health_module
from plugvault.roles.health import BACK, GONE, LOST, Health, HealthEvent


def test_a_failing_loop_is_told_once_and_again_when_it_works():
    seen: list[HealthEvent] = []
    with Health(seen.append) as health:
        health.works("events")
        for number in range(3):
            health.fails("events", RuntimeError(f"disk full {number}"))
        assert health.failing == {"events": "disk full 2"}
        health.works("events")
        health.works("events")
        assert health.failing == {}
    assert seen == [("failing", "events", "disk full 0"), ("works", "events", "")]
    assert health.events == seen


def test_an_error_that_no_code_expects_is_logged_with_its_place(caplog: pytest.LogCaptureFixture):
    try:
        raise KeyError("a bug")
    except KeyError as error:
        Health().fails("events", error)
    assert [bool(record.exc_info) for record in caplog.records] == [True, False]


def test_an_observer_that_fails_does_not_stop_the_loop(caplog: pytest.LogCaptureFixture):
    def observe(event: HealthEvent) -> None:
        raise RuntimeError("the observer's own")

    with Health(observe) as health:
        health.tell(GONE, "PVT")
        health.tell(BACK, "PVT")
    assert [event.name for event in health.events] == ["gone", "back"]
    assert "the observer of the events" in caplog.text


def test_observer_that_is_too_slow_loses_events_and_stops_no_loop(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(health_module, "EVENTS", 2)
    begun, goes_on = threading.Event(), threading.Event()
    seen: list[str] = []

    def observe(event: HealthEvent) -> None:
        begun.set()
        goes_on.wait(30)
        seen.append(event.subject)

    with Health(observe) as health:
        health.tell(GONE, "0")
        begun.wait(30)
        for number in range(1, 5):
            health.tell(GONE, str(number))
        goes_on.set()
    assert seen == ["0", "1", "2"]
    assert "too slow" in caplog.text


def test_an_observer_that_closes_gets_the_waiting_events_and_its_thread_ends(
    monkeypatch: pytest.MonkeyPatch,
):
    """However many events wait for it, and although its owner closes too."""
    monkeypatch.setattr(health_module, "EVENTS", 2)
    goes_on = threading.Event()
    seen: list[str] = []
    threads: list[threading.Thread] = []

    def observe(event: HealthEvent) -> None:
        threads.append(threading.current_thread())
        goes_on.wait(30)
        health.close()
        seen.append(event.subject)

    health = Health(observe)
    health.tell(GONE, "0")
    until(lambda: threads, "the observer is called")
    for number in range(1, 3):
        health.tell(GONE, str(number))
    goes_on.set()
    threads[0].join(10)
    assert not threads[0].is_alive()
    assert seen == ["0", "1", "2"]
    for _ in range(5):
        health.close()


def test_a_lasting_state_is_told_when_it_begins_and_when_it_changes():
    health = Health()
    for text in ("A", "A", "A, B", "", "", "A"):
        health.tell_change(LOST, "PVT", text)
    assert [event.text for event in health.events] == ["A", "A, B", "A"]
    assert health.lasting(LOST) == {"PVT"}


def test_pauses_grow_to_a_limit_and_begin_anew_after_a_success():
    backoff = Backoff(1.0, 5.0)
    assert [backoff.pause() for _ in range(5)] == [1, 2, 4, 5, 5]
    backoff.reset()
    assert backoff.pause() == 1
