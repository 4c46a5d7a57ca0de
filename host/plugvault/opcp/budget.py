"""Rate limits for expensive requests: a token bucket for each caller.

The buckets are in the memory of one process, so each process of a server allows the full rate. A
caller is stored as a digest, because the names that callers give may have any length.
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
    """A token bucket for each caller, safe for several threads.

    `at_once`: the capacity of a bucket, in requests; `per_second`: the requests by which a bucket
    fills each second; `clock()`: seconds of a monotonic clock.
    """

    def __init__(
        self, at_once: int, per_second: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._capacity, self._rate, self._clock = at_once, per_second, clock
        self._buckets: OrderedDict[bytes, TokenBucket] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, *caller: str) -> float:
        """The seconds until the caller's bucket allows a request; 0.0 when it allows one now. The
        bucket does not change."""
        with self._lock:
            bucket = self._buckets.get(digest(*caller))
            return bucket.wait() if bucket else 0.0

    def spend(self, *caller: str) -> None:
        """Take one request out of the caller's bucket, or the part of one that is left. `wait`
        tells before whether the bucket has one."""
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
    """A digest of 16 bytes (BLAKE2b) by which texts are known again. The texts may contain any
    character that JSON can spell, half of a surrogate pair included."""
    return hashlib.blake2b(ascii(texts).encode(), digest_size=16).digest()


def address(request: Request) -> str:
    """The address that a request is counted under: `network` of the connection's other end, or "".

    A header is not read, because every client can write one: all clients behind a proxy share one
    address.
    """
    return network(request.client.host) if request.client else ""


def network(host: str) -> str:
    """An IPv4 address unchanged; for an IPv6 address its /64 network, because one host can use
    every address of a /64. A text that is no address is returned unchanged."""
    try:
        found = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if found.version == 4:
        return host
    return str(ipaddress.ip_network((int(found) >> 64 << 64, 64)))
