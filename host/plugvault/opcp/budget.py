"""How much of what costs work anybody gets: so much at once, and so much a second from then on.

In this process alone, and in memory: with several, each gives as much.
"""

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

from fastapi import Request

KNOWN = 10_000  # who spent last; who is forgotten starts anew


class Budget:
    """Safe to use from several threads. `clock()`: seconds of a clock that never goes back."""

    def __init__(
        self, at_once: int, per_second: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most, self._rate, self._clock = at_once, per_second, clock
        self._left: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()  # what, and when
        self._lock = threading.Lock()

    def wait(self, who: Hashable) -> float:
        """Seconds until they have something left to spend; 0.0 when they do."""
        with self._lock:
            return max(0.0, (1.0 - self._now(who)) / self._rate)

    def spend(self, who: Hashable) -> None:
        with self._lock:
            self._left[who] = (max(0.0, self._now(who) - 1.0), self._clock())
            self._left.move_to_end(who)
            if len(self._left) > KNOWN:
                self._left.popitem(last=False)

    def _now(self, who: Hashable) -> float:
        left, then = self._left.get(who, (float(self._most), 0.0))
        return min(float(self._most), left + (self._clock() - then) * self._rate)


def address(request: Request) -> str:
    """Where a request comes from: an IPv4 address, or the network that an IPv6 host has.

    Of the connection, for what a header says anybody can write: behind a proxy all are one.
    """
    host = request.client.host if request.client else ""
    try:
        found = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if found.version == 4:
        return host
    return str(ipaddress.ip_network((int(found) >> 64 << 64, 64)))
