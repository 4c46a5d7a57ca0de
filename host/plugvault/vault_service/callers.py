"""The callers of the vault service: the rights, the limits and the owners' names of each.

All processes of the service's user are one caller. They use the Unix socket, have no name and
share one limit. Every name with a key is another caller.
"""

import hashlib
import math
import struct
from collections.abc import Collection
from typing import Any

from evcc.vault import OWNER, VaultError
from plugvault.token_bucket import TokenBucket

RATE = 100.0  # private operations a second for each caller; twice as many at once
OPENINGS = 12.0  # keys an hour, as many at once: an owner's contract, a caller's provisioning keys
LIMIT = 16  # bytes of the state of `take_opening`
RIGHTS = frozenset(("make", "sign", "open", "delete"))
_HOUR = 3600.0


class OverRate(Exception):
    """An operation above the rate that will be admitted soon. `seconds`: the time until then."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds


class VaultCaller:
    """A caller and its limits.

    name: of the caller's key; b"" for the service's own user. rights: of `RIGHTS`. rate: private
    operations a second. openings: contract keys an hour for each owner, and provisioning keys an
    hour for all owners; None for any number.

    `owned`: the state that `handlers` keeps of this caller's owners, by the names it claims.
    """

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
        self._operations = TokenBucket(rate, max(1.0, 2 * rate))
        self._provisioning_keys = (
            None if openings is None else TokenBucket(openings / _HOUR, max(1.0, openings))
        )

    def admit(self, right: str, patience: float = 0.0) -> None:
        """Count one private operation. `patience`: seconds that the operation may wait.

        Raises: VaultError("refused": no right | "limited"); OverRate when it may wait.
        """
        if right not in self.rights:
            raise VaultError("refused", f"this client has no right to {right}")
        if not self._operations.take():
            seconds = self._operations.wait()
            if seconds <= patience:
                raise OverRate(seconds)
            raise _limited("operations", self._operations.wait())

    def count_provisioning_key(self) -> None:
        """Count a new provisioning key. The limit is the caller's and not an owner's, because a
        caller can claim any number of owners, and no client can delete these keys.

        Raises: VaultError("limited").
        """
        if self._provisioning_keys and not self._provisioning_keys.take():
            raise _limited("provisioning keys", self._provisioning_keys.wait())

    def provisioning_keys_left(self) -> int | None:
        """The provisioning keys that the caller may make now, None for any number."""
        return int(self._provisioning_keys.level()) if self._provisioning_keys else None

    def owner(self, claimed: bytes) -> bytes:
        """The owner of keys in the token for the owner that the caller claims, 8 bytes or none.
        Callers of different names never get the same owner, whatever they claim.

        Raises: VaultError("refused").
        """
        if len(claimed) not in (0, OWNER):
            raise VaultError("refused", f"an owner has {OWNER} bytes, or none")
        if not self.name:
            return claimed
        length = len(self.name).to_bytes(2, "big")
        data = b"plugvault owner\0" + length + self.name + claimed
        return hashlib.sha256(data).digest()[:OWNER]


def take_opening(stored: bytes, hourly: float, now: float) -> bytes:
    """Count one contract key with a token bucket whose state is stored.

    stored: the state, b"" for a full bucket. hourly: openings an hour. now: Unix seconds, because
    the state outlives the process; a clock that is set back adds nothing. Returns the next state,
    at most LIMIT bytes.

    Raises: VaultError("limited").
    """
    capacity = max(1.0, hourly)
    level, at = struct.unpack(">dd", stored) if stored else (capacity, now)
    level = min(capacity, level + max(0.0, now - at) * hourly / _HOUR)
    if level < 1:
        raise _limited("contract keys", (1 - level) * _HOUR / hourly)
    return struct.pack(">dd", level - 1, now)


def _limited(operations: str, seconds: float) -> VaultError:
    seconds = math.ceil(10 * seconds) / 10
    return VaultError("limited", f"too many {operations}: ask again in {seconds} s")
