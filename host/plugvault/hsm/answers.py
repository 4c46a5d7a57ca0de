"""What the vault service says to a request: the vault's answer, or the reason why there is none.

A request that is asked again (`AGAIN`) has the outcome of the first time, if there was one: its
process may have died after the work and before the answer. And nobody is told what only a broken
library says: SoftHSM whose folder was away for a moment knows no key any more, until it is
initialised afresh. So what contradicts what this process has seen is not answered at all.
"""

import hashlib
import os
import time
from collections.abc import Callable
from typing import Any

from evcc.vault import PROVISIONING, VaultError
from evcc.vault.service import AGAIN, OPERATIONS, pack, unpack

_PRIVATE = {"generate_provisioning_key", "sign", "open_contract_key", "delete"}
_OF_A_KEY = {"public", "sign", "delete", "custody"}
_KEY_ID = 16
_FRESH_AFTER = 1000  # contract keys opened: libraries keep one or ten KiB of each for ever
_CODES = {reason: code for code, reason in enumerate(VaultError.REASONS, 1)}


class TokenLost(Exception):
    """The library is in doubt, or worn: this process must end. `answer`: sent before, or b""."""

    def __init__(self, answer: bytes = b"") -> None:
        super().__init__()
        self.answer = answer


class Limiter:
    """A token bucket: `rate` a second, and twice that at once. `clock`: seconds."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock = rate, clock
        self._left, self._at = 2 * rate, clock()

    def take(self) -> bool:
        """Whether one more operation may be done now."""
        self._refill()
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def is_full(self) -> bool:
        """Whether this one says no more than a new one."""
        self._refill()
        return self._left >= 2 * self._rate

    def _refill(self) -> None:
        now = self._clock()
        self._left = min(2 * self._rate, self._left + (now - self._at) * self._rate)
        self._at = now


class Answers:
    """Of one vault, in one process."""

    def __init__(self, vault: Any) -> None:
        self._vault = vault
        self._seen: set[bytes] = set()  # keys that were there
        self._opened = 0

    def answer(self, limiter: Limiter, body: bytes) -> bytes:
        """The frame that answers a request's (without its length), whatever its bytes are.

        Raises: TokenLost.
        """
        tag = body[0] if body else 0
        key, again = PROVISIONING, False
        try:
            tag, code, fields = unpack(body)
            again, code = bool(code & AGAIN), code & ~AGAIN
            if code >= len(OPERATIONS) or len(fields) != OPERATIONS[code][1]:
                raise VaultError("protocol", "no such operation")
            name = OPERATIONS[code][0]
            if name in _OF_A_KEY:
                key = fields[0]
            if name in _PRIVATE and not limiter.take():
                raise VaultError("refused", "too many operations a second")
            said = pack(tag, 0, self._perform(name, fields, again))
            if name == "open_contract_key" and self._opened >= _FRESH_AFTER:
                raise TokenLost(said)
            return said
        except VaultError as error:
            said = refusal(tag, error)
            if self._is_doubtful(error, key):
                raise TokenLost(said if again else b"") from None
            return said

    def _perform(self, name: str, fields: list[bytes], again: bool) -> list[bytes]:
        vault = self._vault
        if name == "generate_provisioning_key":
            self._seen.discard(PROVISIONING)
            return [self._generate(again)]
        if name == "open_contract_key":
            return [self._open(fields, again)]
        if name == "delete":
            self._delete(fields[0], again)
            return []
        if name == "random":
            return [vault.random(int.from_bytes(fields[0], "big"))]
        if name == "keys":
            return [part for pair in self._keys() for part in pair]
        result = getattr(vault, name)(*fields)
        if name == "verify":
            return [b"\x01" if result else b"\x00"]
        self._seen.add(fields[0])
        return [result.encode() if isinstance(result, str) else result]

    def _generate(self, again: bool) -> bytes:
        vault = self._vault
        try:
            point = vault.generate_provisioning_key()
        except VaultError as error:
            if not again or error.reason != "exists":
                raise
            # The client asked whether there was one: this was made for it, or half made. A private
            # half alone was not, for a token makes it last; that one is not ours to remove.
            point = vault.public(PROVISIONING)
            if not self._signs(PROVISIONING, point):
                vault.delete(PROVISIONING)
                point = vault.generate_provisioning_key()
        self._seen.add(PROVISIONING)
        return bytes(point)

    def _open(self, fields: list[bytes], again: bool) -> bytes:
        *arguments, key = fields
        if len(key) != _KEY_ID:
            raise VaultError("protocol", "a key's id has 16 bytes")
        self._opened += 1
        if not (again and self._is_made(key, arguments[-1])):
            scheme = arguments[0].decode("ascii", "replace")
            self._vault.open_contract_key(scheme, *arguments[1:], key=key)
        self._seen.add(key)
        return key

    def _is_made(self, key: bytes, point: bytes) -> bool:
        """Whether the first time made this key; what it left of one is removed."""
        try:
            found = self._vault.public(key)
        except VaultError:  # there is none, or nothing whole
            found = b""
        if found and found != point:
            raise VaultError("exists", "another key has this id")
        if found and self._signs(key, point):
            return True
        self._delete(key, again=True)
        return False

    def _signs(self, key: bytes, point: bytes) -> bool:
        """A torn key can be listed, and fails when it is used."""
        digest = hashlib.sha256(b"plugvault proof of possession" + os.urandom(32)).digest()
        try:
            return bool(self._vault.verify(point, digest, self._vault.sign(key, digest)))
        except VaultError:
            return False

    def _delete(self, key: bytes, again: bool) -> None:
        try:
            self._vault.delete(key)
        except VaultError as error:
            if error.reason != "not-found" or not again:
                raise
        self._seen.discard(key)

    def _keys(self) -> list[tuple[bytes, bytes]]:
        found: list[tuple[bytes, bytes]] = self._vault.keys()
        held = {key for key, _ in found}
        if not self._seen <= held:
            raise TokenLost
        self._seen = held
        return found

    def _is_doubtful(self, error: VaultError, key: bytes) -> bool:
        """Whether the library, and not the key that was asked for, is the reason."""
        if error.reason == "not-found":
            return key in self._seen
        if error.reason != "unavailable":
            return False
        try:
            found: list[tuple[bytes, bytes]] = self._vault.keys()
        except VaultError:
            return True
        return not self._seen <= {key for key, _ in found}


def refusal(tag: int, error: VaultError) -> bytes:
    """The frame that says `error`; tag 0: whatever was asked."""
    return pack(tag, _CODES[error.reason], [error.detail[:100].encode()])
