"""Who asks the vault service: what he may have done, how often, and whose keys are his.

Processes of the service's user are one caller, who comes by the Unix socket and has no name:
however many they are, they share what he may do in a second. Every name with a key is another one.
"""

import hashlib
import math
import time
from collections.abc import Callable, Collection
from typing import Any

from evcc.vault import OWNER, VaultError

RATE = 100.0  # private operations a second for each caller; twice as many at once
OPENINGS = 12.0  # contract keys an hour for each owner of a caller's; as many at once
RIGHTS = frozenset(("make", "sign", "open", "delete"))
_HOUR = 3600.0


class Limiter:
    """A token bucket: `rate` a second; `most` at once, else twice the rate. `clock`: seconds."""

    def __init__(
        self, rate: float, most: float = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate, self._clock = rate, clock
        self._left = self._most = most or max(1.0, 2 * rate)
        self._at = clock()

    def take(self) -> bool:
        """Whether one more operation may be done now."""
        now = self._clock()
        left = self._left + (now - self._at) * self._rate
        if left > self._most:
            left = self._most
        may = left >= 1
        self._left, self._at = left - may, now
        return may

    def wait(self) -> float:
        """Seconds until the next one may be done, after one that was refused."""
        return max(0.0, (1 - self._left) / self._rate)

    def is_full(self) -> bool:
        """Whether this one says no more than a new one."""
        return self._left + (self._clock() - self._at) * self._rate >= self._most


class Caller:
    """name: of his key; b"" for the service's own user. rights: of `RIGHTS`. rate: private
    operations a second. openings: contract keys an hour for each owner, None for any number.

    `owned`: what `answers` keeps of the owners he has named, by what he calls them."""

    def __init__(
        self,
        name: bytes = b"",
        rights: Collection[str] = RIGHTS,
        rate: float = RATE,
        openings: float | None = OPENINGS,
    ) -> None:
        self.name, self.rights = name, frozenset(rights)
        self.rate, self.openings_per_hour = rate, openings
        self.owned: dict[bytes, Any] = {}
        self._limiter = Limiter(rate)

    def admit(self, right: str) -> None:
        """One private operation, now. Raises: VaultError("refused" | "limited")."""
        if right not in self.rights:
            raise VaultError("refused", f"this client has no right to {right}")
        if not self._limiter.take():
            raise VaultError("limited", f"too many operations: {_again(self._limiter)}")

    def openings(self) -> Limiter | None:
        """The limit of one more owner of his; None: there is none."""
        hourly = self.openings_per_hour
        return None if hourly is None else Limiter(hourly / _HOUR, max(1.0, hourly))

    def owner(self, claimed: bytes) -> bytes:
        """Whose keys he means. Two names never mean the same, whatever they claim.

        Raises: VaultError("refused").
        """
        if len(claimed) not in (0, OWNER):
            raise VaultError("refused", f"an owner has {OWNER} bytes, or none")
        if not self.name:
            return claimed
        length = len(self.name).to_bytes(2, "big")
        said = b"plugvault owner\0" + length + self.name + claimed
        return hashlib.sha256(said).digest()[:OWNER]


def admit_opening(limiter: Limiter | None) -> None:
    """One contract key more. Raises: VaultError("limited")."""
    if limiter and not limiter.take():
        raise VaultError("limited", f"too many contract keys: {_again(limiter)}")


def _again(limiter: Limiter) -> str:
    return f"ask again in {math.ceil(10 * limiter.wait()) / 10} s"
