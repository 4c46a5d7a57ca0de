"""The health of a backend: the state of its loops and of its vehicles, and events about them.

An observer gets the events in a thread of its own, because the loops hold locks and the observer
may call the backend.
"""

import logging
import queue
import threading
from collections.abc import Callable
from typing import NamedTuple

from plugvault import bounded
from plugvault.contexts import Closeable
from plugvault.failing import WORKS, FailingLoops

log = logging.getLogger("plugvault.roles.health")

EVENTS = 1000  # latest events that are kept; those that wait for the observer

GONE, BACK = "gone", "back"  # a vehicle does not answer; it answers again
LOCKED = "locked"  # a vehicle installs nothing until `Backend.unlock`
FULL = "full"  # a vehicle has no room for another envelope: see `evcc.envelopes`
UNPROVISIONED = "unprovisioned"  # a vehicle has no certificate, or no V2G root: it pays nowhere
UNNAMED = "unnamed"  # a vehicle's token has keys that belong to no contract
OUTDATED = "outdated"  # a vehicle does not take the list of revoked certificates
LOST = "lost"  # a vehicle has lost the keys of contracts
UNKNOWN = "unknown"  # a vehicle has contracts that the pool never had
REFUSED = "refused"  # a vehicle, or the maker for it, refuses a contract


class HealthEvent(NamedTuple):
    """An event. `name`: a constant above, or of `failing`; `subject`: the PCID of a vehicle, or
    the name of a loop; `text`: the reason in words."""

    name: str
    subject: str
    text: str


class Health(Closeable):
    """The failing loops and the latest events. Safe to use from several threads.

    `observe(event)`: called for each event, in order, in a thread of its own. `events`: the latest
    ones. `close()` when done: the observer then gets the events that still wait for it. The
    observer may call it too, and gets those events after its return.
    """

    def __init__(self, observe: Callable[[HealthEvent], None] | None = None) -> None:
        # Without a limit of its own, so that `close` need not wait for room.
        self._unobserved: queue.SimpleQueue[HealthEvent | None] = queue.SimpleQueue()
        self._observer: threading.Thread | None = None
        if observe is not None:
            self._observer = threading.Thread(
                target=self._deliver, args=(observe,), name="health", daemon=True
            )
            self._observer.start()
        self._lock = threading.Lock()
        self._loops = FailingLoops(self.tell)
        self._told: dict[tuple[str, str], str] = {}
        self.events: list[HealthEvent] = []

    def close(self) -> None:
        if self._observer is None:
            return
        self._unobserved.put(None)
        if self._observer is not threading.current_thread():
            self._observer.join()

    @property
    def failing(self) -> dict[str, str]:
        """The reason of each loop that fails now, by its name."""
        return self._loops.reasons

    def fails(self, loop: str, error: Exception) -> None:
        """Note that a turn of a loop has failed: see `FailingLoops`."""
        self._loops.fails(loop, error)

    def works(self, loop: str) -> None:
        """Note that a turn of a loop has succeeded."""
        self._loops.works(loop)

    def ends(self, loop: str) -> None:
        """Note that a loop has ended as intended."""
        self._loops.ends(loop)

    def tell(self, name: str, subject: str, text: str = "") -> None:
        """Log an event and pass it to `observe`."""
        event = HealthEvent(name, subject, text)
        with self._lock:
            bounded.append(self.events, EVENTS, event)
            is_lost = self._unobserved.qsize() >= EVENTS
            if self._observer is not None and not is_lost:
                self._unobserved.put(event)
        level = logging.INFO if name in (BACK, WORKS) else logging.WARNING
        log.log(level, "%s: %s", subject, f"{name}: {text}" if text else name)
        if is_lost:
            log.error("the observer is too slow, and does not get the event")

    def _deliver(self, observe: Callable[[HealthEvent], None]) -> None:
        while (event := self._unobserved.get()) is not None:
            try:
                observe(event)
            except Exception:  # the next event must not be lost
                log.exception("the observer of the events")

    def tell_change(self, name: str, subject: str, text: str) -> None:
        """Report a lasting state. A repeated text is no event; "" ends the state without an
        event."""
        with self._lock:
            is_news = self._told.pop((name, subject), "") != text
            if text:
                self._told[name, subject] = text
        if is_news and text:
            self.tell(name, subject, text)

    def lasting(self, name: str) -> set[str]:
        """The subjects that have this lasting state."""
        with self._lock:
            return {subject for told, subject in self._told if told == name}
