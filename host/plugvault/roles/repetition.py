"""A thread that repeats a piece of work, at once and then at intervals, through any failure."""

import threading
from collections.abc import Callable

from plugvault.contexts import Closeable
from plugvault.roles.health import Health


class Repetition(Closeable):
    """`work()` now and `interval` seconds after each turn; `health` tells of failures by `name`.
    `close()` when done: it waits for the current turn."""

    def __init__(
        self, name: str, work: Callable[[], object], interval: float, health: Health
    ) -> None:
        self._name, self._work = name, work
        self._interval = interval
        self._health = health
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._repeat, name=name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _repeat(self) -> None:
        while not self._stop.is_set():
            try:
                self._work()
            except Exception as error:  # noqa: BLE001 - the next turn may succeed
                self._health.fails(self._name, error)
            else:
                self._health.works(self._name)
            self._stop.wait(self._interval)
