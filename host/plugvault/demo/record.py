"""The record of a run of the demo: steps, messages, checks, times.

A check is a verified fact in a sentence; a wrong one raises DemoError and ends the run. Times are
seconds, sizes are bytes on the named wire.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol


class DemoError(Exception):
    """A claim of a step that is wrong. The text has the step, the claim and the observed value."""


@dataclass
class Moved:
    """One message between two parties. bytes: its size; over: the wire it took."""

    sender: str
    receiver: str
    message: str
    bytes: int
    over: str


@dataclass
class Step:
    """One step. result: its outcome in one sentence."""

    name: str
    title: str
    moved: list[Moved] = field(default_factory=list)
    checks: list[str] = field(default_factory=list)
    result: str = ""
    seconds: float = 0.0
    verified: bool = False

    def move(self, sender: str, receiver: str, message: str, size: int, over: str) -> None:
        """Record a message. size: bytes."""
        self.moved.append(Moved(sender, receiver, message, size, over))

    def check(self, claim: str, holds: bool, seen: object = None) -> None:
        """Record a claim that holds. Raises DemoError for one that does not."""
        if not holds:
            raise DemoError(
                f"{self.title}: not so: {claim}" + (f" (seen: {seen})" if seen else "")
            )
        self.checks.append(claim)


class Watcher(Protocol):
    """An observer of the steps, such as a terminal. `begin` and `end` get each step."""

    def begin(self, step: Step) -> None: ...

    def end(self, step: Step) -> None: ...


class DemoRecord:
    """The whole run. `watcher` is called at the beginning and the end of every step."""

    def __init__(self, watcher: Watcher | None = None) -> None:
        self.steps: list[Step] = []
        self.facts: dict[str, Any] = {}
        self._watcher = watcher
        self._started = time.perf_counter()

    @contextmanager
    def step(self, name: str, title: str) -> Iterator[Step]:
        """One step, while the context lasts. It is verified when its block has checked a claim and
        raised no error."""
        step = Step(name, title)
        self.steps.append(step)
        if self._watcher:
            self._watcher.begin(step)
        started = time.perf_counter()
        try:
            yield step
            if not step.checks:
                raise DemoError(f"{title}: nothing was checked")
            step.verified = True
        finally:
            step.seconds = time.perf_counter() - started
            if self._watcher:
                self._watcher.end(step)

    def as_data(self) -> dict[str, Any]:
        """The run as plain data, for `--json`."""
        return {
            "ok": bool(self.steps) and all(step.verified for step in self.steps),
            **self.facts,
            "steps": [asdict(step) for step in self.steps],
            "seconds": round(time.perf_counter() - self._started, 3),
        }
