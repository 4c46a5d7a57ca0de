"""Deletion by date, only at a plausible time.

A clock that is years ahead for a while would delete every record. So each run stores its time. A
time more than `LEAP` after that of the last run is accepted only when the process has seen such a
time for `DOUBT`. An ecosystem that was off for longer than `LEAP` keeps its expired records for
`DOUBT`; no call uses them.
"""

import logging
import time
from collections.abc import Callable

from plugvault.pools.repositories import Store

log = logging.getLogger("plugvault.delivery")

LEAP = 7 * 86_400.0  # seconds between two runs
DOUBT = 86_400.0  # seconds of a process's life


class AtPlausibleTime:
    """A function (store, now) that calls `run(store, now)` at a plausible time, and else does
    nothing. `name`: of its time in the store."""

    def __init__(
        self,
        name: str,
        run: Callable[[Store, float], object],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name, self._run, self._monotonic = name, run, monotonic
        self._doubted_since: float | None = None

    def __call__(self, store: Store, now: float) -> object:
        with store.write() as records:
            last = records.times.get(self._name)
            if last is not None and now > last + LEAP and not self._is_over():
                return None
            records.times.put(self._name, int(now))
        self._doubted_since = None
        return self._run(store, now)

    def _is_over(self) -> bool:
        """Whether the time was implausible for long enough. The first call begins to measure."""
        if self._doubted_since is None:
            self._doubted_since = self._monotonic()
            log.warning("the clock is days after the last %s: nothing is deleted yet", self._name)
        return self._monotonic() - self._doubted_since >= DOUBT
