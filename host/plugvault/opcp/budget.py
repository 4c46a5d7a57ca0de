"""Rate limits for expensive requests: a token bucket for each caller.

Of this process alone, in memory: each process of a server allows as much. A caller is kept as a
digest, because the names that callers give may have any length.
"""

import hashlib
import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from fastapi import Request

from plugvault.token_bucket import TokenBucket

KNOWN = 10_000  # buckets kept; the one that was used longest ago is dropped first


class Budget:
    """Safe to use from several threads. `clock()`: seconds of a clock that never goes back."""

    def __init__(
        self, at_once: int, per_second: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._capacity, self._rate, self._clock = at_once, per_second, clock
        self._buckets: OrderedDict[bytes, TokenBucket] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, *caller: str) -> float:
        """Seconds until the caller has something left to spend; 0.0 when it has."""
        with self._lock:
            bucket = self._buckets.get(digest(*caller))
            return bucket.wait() if bucket else 0.0

    def spend(self, *caller: str) -> None:
        key = digest(*caller)
        with self._lock:
            bucket = self._buckets.get(key)
            if bucket is None:
                bucket = TokenBucket(self._rate, self._capacity, self._clock)
                self._buckets[key] = bucket
            bucket.drain()
            self._buckets.move_to_end(key)
            if len(self._buckets) > KNOWN:
                self._buckets.popitem(last=False)


def digest(*texts: str) -> bytes:
    """16 bytes by which texts are known again, whatever JSON can spell in them."""
    return hashlib.blake2b(ascii(texts).encode(), digest_size=16).digest()


def address(request: Request) -> str:
    """Where a request comes from: the `network` of the connection's other end.

    Not of a header, for anybody can write one: behind a proxy all are one.
    """
    return network(request.client.host) if request.client else ""


def network(host: str) -> str:
    """An IPv4 address as it is, or the network that an IPv6 host has."""
    try:
        found = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if found.version == 4:
        return host
    return str(ipaddress.ip_network((int(found) >> 64 << 64, 64)))
