"""The end of waits that a wrong clock has made.

A clock that was years ahead for a while has leased and postponed deliveries and jobs until then,
and they would wait as long. A date later than any that a right clock can write counts as over.
"""

from plugvault.delivery.outcome import DeliverySettings, longest_wait
from plugvault.delivery.worker import LEASE
from plugvault.pools import termination
from plugvault.pools.repositories import Store

_DOUBT = 2  # times the longest wait: clocks of several machines differ


class EndWaits:
    """A function (store, now) that ends impossible waits."""

    def __init__(self, settings: DeliverySettings) -> None:
        self._longest = longest_wait(settings)

    def __call__(self, store: Store, now: float) -> None:
        with store.write() as records:
            due, lease = now + _DOUBT * max(self._longest, LEASE), now + _DOUBT * LEASE
            records.deliveries.end_waits(now, due, lease)
            records.jobs.end_leases(now + _DOUBT * termination.LEASE)
