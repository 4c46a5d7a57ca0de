"""What is kept of the story while it runs: steps, messages, checks, times.

A check is a fact somebody verified, in a sentence; one that does not hold raises and ends the
story. Times are seconds, sizes are bytes on the wire named.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol


class DemoError(Exception):
    """A step that did not come true: which one, and what was seen instead."""


@dataclass
class Moved:
    """One message: who sent it to whom, over what, and how large it was."""

    sender: str
    receiver: str
    message: str
    bytes: int
    over: str


@dataclass
class Step:
    name: str
    title: str
    moved: list[Moved] = field(default_factory=list)
    checks: list[str] = field(default_factory=list)
    seconds: float = 0.0
    verified: bool = False

    def move(self, sender: str, receiver: str, message: str, size: int, over: str) -> None:
        self.moved.append(Moved(sender, receiver, message, size, over))

    def check(self, claim: str, holds: bool, seen: object = None) -> None:
        """Keep a claim that holds; end the story at one that does not."""
        if not holds:
            raise DemoError(
                f"{self.title}: not so: {claim}" + (f" (seen: {seen})" if seen else "")
            )
        self.checks.append(claim)


class Watcher(Protocol):
    """Somebody to whom the story is told as it happens."""

    def begin(self, step: Step) -> None: ...

    def end(self, step: Step) -> None: ...


class DemoRecord:
    """The whole run. `watcher` is told of every step as it begins and ends."""

    def __init__(self, watcher: Watcher | None = None) -> None:
        self.steps: list[Step] = []
        self.facts: dict[str, Any] = {}
        self._watcher = watcher
        self._started = time.perf_counter()

    @contextmanager
    def step(self, name: str, title: str) -> Iterator[Step]:
        """One step; verified when its block ends without an error and checked something."""
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
