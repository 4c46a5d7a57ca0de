"""A token bucket: a rate limit that allows bursts."""

import time
from collections.abc import Callable


class TokenBucket:
    """A bucket that is filled with `rate` tokens a second, up to `capacity`; full at first. Not
    safe for several threads.

    clock: seconds of a monotonic clock.
    """

    __slots__ = ("_at", "_capacity", "_clock", "_level", "_rate")

    def __init__(
        self, rate: float, capacity: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate, self._clock = rate, clock
        self._level = self._capacity = capacity
        self._at = clock()

    def take(self) -> bool:
        """Take one token. False, and none is taken, when less than one is left."""
        self._refill()
        if self._level < 1:
            return False
        self._level -= 1
        return True

    def drain(self) -> None:
        """Take one token, or the part of one that is left."""
        self._refill()
        self._level = max(0.0, self._level - 1)

    def wait(self) -> float:
        """The seconds until there is a token; 0.0 when there is one."""
        self._refill()
        return max(0.0, (1 - self._level) / self._rate)

    def level(self) -> float:
        """The tokens in the bucket, a part of one too."""
        self._refill()
        return self._level

    def is_full(self) -> bool:
        """Whether the bucket is full, as a new one is."""
        self._refill()
        return self._level >= self._capacity

    def _refill(self) -> None:
        now = self._clock()
        level = self._level + (now - self._at) * self._rate
        self._level, self._at = self._capacity if level > self._capacity else level, now
