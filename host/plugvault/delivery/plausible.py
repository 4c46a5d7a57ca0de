"""Deletion by date, at a plausible time alone.

A clock that is years ahead for a while would delete every record. So each run stores its time. A
time more than `LEAP` after the last run's is not believed until the process has seen it for
`DOUBT`: a pool that was off for so long has expired records for another day, which no call uses.
"""

import logging
import time
from collections.abc import Callable

from plugvault.pools.repositories import Store

log = logging.getLogger("plugvault.delivery")

LEAP = 7 * 86_400.0  # seconds between two runs
DOUBT = 86_400.0  # seconds of a process's life


class AtPlausibleTime:
    """`run(store, now)` unless the clock has leapt. `name`: of its time in the store."""

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
        """Whether the doubt has lasted long enough. It begins with the first call."""
        if self._doubted_since is None:
            self._doubted_since = self._monotonic()
            log.warning("the clock is days after the last %s: nothing is deleted yet", self._name)
        return self._monotonic() - self._doubted_since >= DOUBT
