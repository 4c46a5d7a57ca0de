"""The failing loops of a process. A loop that fails waits, and tries again: its first failure and
its first success after that are news, the same failure again is none.

Failures are the same by their type and, for an EvccError, its `reason`: a text may have a number
that differs each time. Each kind is news once until the loop works, so that two kinds by turns, or
any number of turns, cannot flood the log.
"""

import logging
import threading
from collections.abc import Callable

from evcc.errors import EvccError

log = logging.getLogger("plugvault.failing")

FAILING, WORKS = "failing", "works"  # a loop fails; it works again
_Kind = tuple[type[Exception], str]  # of a failure: its type, and the reason of an EvccError


def log_event(name: str, loop: str, reason: str) -> None:
    """Log that a loop fails (`name` FAILING), or that it works again (WORKS)."""
    log.warning("%s: %s", loop, f"{name}: {reason}" if reason else name)


class FailingLoops:
    """The loops that fail now. Safe to use from several threads.

    `tell(name, loop, reason)`: called with FAILING at a loop's first failure of each kind, and
    with WORKS and "" at its first success after that. It must not wait.
    """

    def __init__(self, tell: Callable[[str, str, str], None] = log_event) -> None:
        self.tell = tell
        self._lock = threading.Lock()
        self._failing: dict[str, str] = {}
        self._told: dict[str, set[_Kind]] = {}

    @property
    def reasons(self) -> dict[str, str]:
        """The reason of each loop that fails now, by its name."""
        with self._lock:
            return dict(self._failing)

    def fails(self, loop: str, error: Exception) -> None:
        """Note that a turn of a loop has failed. An unexpected error is logged with its traceback
        when its kind is news."""
        reason, kind = str(error) or type(error).__name__, _kind(error)
        with self._lock:
            self._failing[loop] = reason
            told = self._told.setdefault(loop, set())
            is_known = kind in told
            told.add(kind)
        if is_known:
            return
        if not isinstance(error, EvccError):
            log.error("%s", loop, exc_info=error)
        self.tell(FAILING, loop, reason)

    def works(self, loop: str) -> None:
        """Note that a turn of a loop has succeeded."""
        with self._lock:
            was_failing = self._end(loop)
        if was_failing:
            self.tell(WORKS, loop, "")

    def ends(self, loop: str) -> None:
        """Note that a loop has ended as intended."""
        with self._lock:
            self._end(loop)

    def _end(self, loop: str) -> bool:
        """Forget the failures of a loop. Returns whether it was failing."""
        self._told.pop(loop, None)
        return self._failing.pop(loop, None) is not None


def _kind(error: Exception) -> _Kind:
    return type(error), error.reason if isinstance(error, EvccError) else ""
