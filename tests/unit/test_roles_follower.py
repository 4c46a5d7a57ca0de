"""The thread that reads events loses none of them: only what is no event is skipped."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fixtures.fleet import until
from plugvault.roles import events, follower
from plugvault.roles.follower import Follower
from plugvault.roles.health import Health
from plugvault.roles.state_file import EventError, StateFile


class Lines(list[str]):
    def close(self) -> None:
        """The lines end by themselves."""


class Client:
    """A stream of two events. `damaged`: the number of times that the first one is cut off."""

    def __init__(self) -> None:
        self.damaged = 0

    @contextmanager
    def stream(
        self, method: str, path: str, silence: float, headers: Mapping[str, str]
    ) -> Iterator[Lines]:
        lines = Lines()
        for number in range(int(headers["Last-Event-ID"]) + 1, 3):
            data = json.dumps({"eventId": str(number)})
            if number == 1 and self.damaged:
                self.damaged -= 1
                data = data[:-1]
            lines += [f"id: {number}", f"data: {data}", ""]
        yield lines


class Reader:
    """`errors`: raised one by one when an event is taken; `taken`: the attempts."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.taken = list(errors), list[str]()

    def take(self, event: Mapping[str, Any]) -> None:
        self.taken.append(event["eventId"])
        if self.errors:
            raise self.errors.pop()


@pytest.fixture
def state_file(tmp_path: Path) -> Iterator[StateFile]:
    opened = StateFile(tmp_path / "state.sqlite", "")
    yield opened
    opened.close()


def read(state_file: StateFile, reader: Reader, client: Client, health: Health) -> list[str]:
    """The attempts until both events are done."""
    any_client: Any = client
    running = Follower(any_client, state_file, reader.take, health)
    until(lambda: state_file.position() == "2", "both events are done")
    running.close()
    return reader.taken


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses that a test need not wait for."""
    monkeypatch.setattr(follower, "RETRY", 0.01)
    monkeypatch.setattr(events, "_WAITS", (0.01,))


def test_what_is_no_event_is_skipped(state_file: StateFile):
    health = Health()
    assert read(state_file, Reader(EventError("no id")), Client(), health) == ["1", "2"]
    assert health.events == []


@pytest.mark.parametrize("error", [ValueError("of a library"), KeyError("a bug"), OSError("disk")])
def test_event_that_any_other_error_stops_comes_again(state_file: StateFile, error: Exception):
    health = Health()
    assert read(state_file, Reader(error, error), Client(), health) == ["1", "1", "1", "2"]
    assert [event.name for event in health.events] == ["failing", "works"]


def test_event_that_is_damaged_on_its_way_comes_again(state_file: StateFile):
    client = Client()
    client.damaged = 2
    assert read(state_file, Reader(), client, Health()) == ["1", "2"]
