"""Warnings of events that another party may cause at any rate: one a minute, with their number."""

import logging
import threading
import time
from collections.abc import Callable

INTERVAL = 60.0  # seconds between two warnings


class Seldom:
    """A function that warns. Safe to use from several threads.

    `text`: the warning, with {} in place of the event; `log`: gets it.
    """

    def __init__(
        self,
        log: logging.Logger,
        text: str,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log, self._text, self._monotonic = log, text, monotonic
        self._lock = threading.Lock()
        self._next = float("-inf")
        self._untold = 0

    def __call__(self, event: str, *arguments: object) -> None:
        """Warn of an event, `event % arguments`, or count it until the next warning."""
        with self._lock:
            now = self._monotonic()
            if now < self._next:
                self._untold += 1
                return
            self._next, untold, self._untold = now + INTERVAL, self._untold, 0
        text = self._text.format(event % arguments if arguments else event)
        self._log.warning("%s%s", text, f"; {untold} more before this" if untold else "")
