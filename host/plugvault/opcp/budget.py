"""How much of what costs work anybody gets: so much at once, and so much a second from then on.

In this process alone, and in memory: with several, each gives as much. Of who spends only a digest
is kept, for what they call themselves may be as long as they like.
"""

import hashlib
import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from fastapi import Request

KNOWN = 10_000  # who spent last; who is forgotten starts anew


class Budget:
    """Safe to use from several threads. `clock()`: seconds of a clock that never goes back."""

    def __init__(
        self, at_once: int, per_second: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most, self._rate, self._clock = at_once, per_second, clock
        self._left: OrderedDict[bytes, tuple[float, float]] = OrderedDict()  # what, and when
        self._lock = threading.Lock()

    def wait(self, *who: str) -> float:
        """Seconds until they have something left to spend; 0.0 when they do."""
        with self._lock:
            return max(0.0, (1.0 - self._now(digest(*who))) / self._rate)

    def spend(self, *who: str) -> None:
        known = digest(*who)
        with self._lock:
            self._left[known] = (max(0.0, self._now(known) - 1.0), self._clock())
            self._left.move_to_end(known)
            if len(self._left) > KNOWN:
                self._left.popitem(last=False)

    def _now(self, who: bytes) -> float:
        left, then = self._left.get(who, (float(self._most), 0.0))
        return min(float(self._most), left + (self._clock() - then) * self._rate)


def digest(*texts: str) -> bytes:
    """16 bytes by which texts are known again, whatever JSON can spell in them."""
    return hashlib.blake2b(ascii(texts).encode(), digest_size=16).digest()


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
