"""The end of waits that a wrong clock has made.

A clock that was years ahead for a while has leased and postponed deliveries and jobs until then,
and they would wait as long. A date later than any that a right clock can write counts as over.

Only a process with the latest clock of all ends waits. For a clock that is behind, the waits of
the right ones are too long, and their end at every turn would use up all retries at once. So each
run stores its time, and a process whose time is before it does nothing. A stored time that no run
has changed for `STALE` counts as wrong: the clock that was ahead is right again.
"""

import logging
import time
from collections.abc import Callable

from plugvault.delivery.outcome import DeliverySettings, longest_wait
from plugvault.delivery.worker import LEASE
from plugvault.pools import termination
from plugvault.pools.repositories import Store

log = logging.getLogger("plugvault.delivery")

STALE = 600.0  # seconds of a process's life, several times the interval between two runs
_NAME = "waits"  # of its time in the store
_DOUBT = 2  # times the longest wait: clocks of several machines differ


class EndWaits:
    """A function (store, now) that ends impossible waits. `monotonic()`: seconds of this process's
    life."""

    def __init__(
        self, settings: DeliverySettings, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._longest = longest_wait(settings)
        self._monotonic = monotonic
        self._later: tuple[int, float] | None = None  # a stored time, and since when it is there
        self._is_told = False

    def __call__(self, store: Store, now: float) -> None:
        with store.write() as records:
            last = records.times.get(_NAME)
            if last is not None and now < last and not self._is_stale(last):
                self._tell(last - now)
                return
            records.times.put(_NAME, int(now))
            due, lease = now + _DOUBT * max(self._longest, LEASE), now + _DOUBT * LEASE
            records.deliveries.end_waits(now, due, lease)
            records.jobs.end_leases(now + _DOUBT * termination.LEASE)
        self._is_told = False

    def _is_stale(self, last: int) -> bool:
        if self._later is None or self._later[0] != last:
            self._later = (last, self._monotonic())
        return self._monotonic() - self._later[1] >= STALE

    def _tell(self, behind: float) -> None:
        if behind > LEASE and not self._is_told:
            self._is_told = True
            log.warning("the clock is %d s behind one that used the same store", behind)
