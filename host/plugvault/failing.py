"""The failing loops of a process. A loop that fails waits, and tries again: its first failure and
its first success after that are news, the same failure again is none."""

import logging
import threading
from collections.abc import Callable

from evcc.errors import EvccError

log = logging.getLogger("plugvault.failing")

FAILING, WORKS = "failing", "works"  # a loop fails; it works again


def log_event(name: str, loop: str, reason: str) -> None:
    """Log that a loop fails (`name` FAILING), or that it works again (WORKS)."""
    log.warning("%s: %s", loop, f"{name}: {reason}" if reason else name)


class FailingLoops:
    """The loops that fail now. Safe to use from several threads.

    `tell(name, loop, reason)`: called with FAILING at a loop's first failure, and with WORKS and
    "" at its first success after that. It must not wait.
    """

    def __init__(self, tell: Callable[[str, str, str], None] = log_event) -> None:
        self.tell = tell
        self._lock = threading.Lock()
        self._failing: dict[str, str] = {}

    @property
    def reasons(self) -> dict[str, str]:
        """The reason of each loop that fails now, by its name."""
        with self._lock:
            return dict(self._failing)

    def fails(self, loop: str, error: Exception) -> None:
        """Note that a turn of a loop has failed. An unexpected error is logged with its
        traceback."""
        reason = str(error) or type(error).__name__
        if not isinstance(error, EvccError):
            log.error("%s", loop, exc_info=error)
        with self._lock:
            is_known = loop in self._failing
            self._failing[loop] = reason
        if not is_known:
            self.tell(FAILING, loop, reason)

    def works(self, loop: str) -> None:
        """Note that a turn of a loop has succeeded."""
        with self._lock:
            was_failing = self._failing.pop(loop, None) is not None
        if was_failing:
            self.tell(WORKS, loop, "")

    def ends(self, loop: str) -> None:
        """Note that a loop has ended as intended."""
        with self._lock:
            self._failing.pop(loop, None)
