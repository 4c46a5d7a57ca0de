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
from evcc.vault.pkcs11 import of
from evcc.vault.service import AGAIN, MAX_ANSWER, OPERATIONS, SEAL, pack, unpack

_PRIVATE = {"generate_provisioning_key", "sign", "open_contract_key", "delete"}
_OF_A_KEY = {"public", "sign", "delete", "custody"}
_OF_AN_OWNER = _PRIVATE | _OF_A_KEY | {"keys"}
_OWNERS = 64  # whose state is kept at once
_KEY_ID = 16
_ROOM = MAX_ANSWER - SEAL - 4  # bytes of an answer's fields: some 96 keys
_FRESH_AFTER = 1000  # contract keys opened: libraries keep one or ten KiB of each for ever
_Operation = Callable[["Owned", list[bytes], bool], list[bytes]]  # last: whether asked again
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
        self._left = self._most = 2 * rate
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

    def is_full(self) -> bool:
        """Whether this one says no more than a new one."""
        return self._left + (self._clock() - self._at) * self._rate >= self._most


class Owned:
    """The keys of one owner in the token: their vault, and which of them were there."""

    def __init__(self, vault: Any) -> None:
        self.vault = vault
        self.seen: set[bytes] = set()


class Answers:
    """Of one vault, in one process."""

    def __init__(self, vault: Any) -> None:
        self._owned = {b"": Owned(vault)}
        self._opened = 0
        # By code: number of fields, private, of a key, of an owner, what does it. Looked up once.
        self._operations: list[tuple[int, bool, bool, bool, _Operation]] = [
            (
                fields,
                name in _PRIVATE,
                name in _OF_A_KEY,
                name in _OF_AN_OWNER,
                getattr(self, "_" + name),
            )
            for name, fields in OPERATIONS
        ]

    def answer(self, limiter: Limiter, body: bytes) -> bytes:
        """The frame that answers a request's (without its length), whatever its bytes are.

        Raises: TokenLost.
        """
        tag = body[0] if body else 0
        key, again, owned = PROVISIONING, False, self._owned[b""]
        try:
            tag, code, fields = unpack(body)
            if code >= AGAIN:
                again, code = True, code - AGAIN
            if code >= len(self._operations):
                raise VaultError("protocol", "no such operation")
            count, is_private, is_of_a_key, is_of_an_owner, perform = self._operations[code]
            if len(fields) != count:
                raise VaultError("protocol", "fields too few or too many")
            if is_of_an_owner:
                owned = self._owned.get(fields[0]) or self._new_owner(fields[0])
                del fields[0]
            if is_of_a_key:
                key = fields[0]
            if is_private and not limiter.take():
                raise VaultError("refused", "too many operations a second")
            said = pack(tag, 0, perform(owned, fields, again))
        except VaultError as error:
            said = refusal(tag, error)
            if self._is_doubtful(owned, error, key):
                raise TokenLost(said if again else b"") from None
            return said
        if self._opened >= _FRESH_AFTER:
            raise TokenLost(said)
        return said

    def _new_owner(self, owner: bytes) -> Owned:
        if len(self._owned) > _OWNERS:
            self._owned = {b"": self._owned[b""]}
        owned = self._owned[owner] = Owned(of(self._owned[b""].vault, owner))
        return owned

    # The operations: a method for each, by its name; what it says.

    def _sign(self, owned: Owned, fields: list[bytes], again: bool) -> list[bytes]:
        key, digest = fields
        signature = owned.vault.sign(key, digest)
        owned.seen.add(key)
        return [signature]

    def _public(self, owned: Owned, fields: list[bytes], again: bool) -> list[bytes]:
        (key,) = fields
        point = owned.vault.public(key)
        owned.seen.add(key)
        return [point]

    def _custody(self, owned: Owned, fields: list[bytes], again: bool) -> list[bytes]:
        (key,) = fields
        level = owned.vault.custody(key)
        owned.seen.add(key)
        return [level.encode()]

    def _verify(self, owned: Owned, fields: list[bytes], again: bool) -> list[bytes]:
        return [b"\x01" if owned.vault.verify(*fields) else b"\x00"]

    def _random(self, owned: Owned, fields: list[bytes], again: bool) -> list[bytes]:
        return [owned.vault.random(int.from_bytes(fields[0], "big"))]

    def _keys(self, owned: Owned, fields: list[bytes], again: bool) -> list[bytes]:
        found: list[tuple[bytes, bytes]] = owned.vault.keys()
        held = {key for key, _ in found}
        if not owned.seen <= held:
            raise TokenLost
        owned.seen = held
        parts = [part for pair in found for part in pair]
        if sum(2 + len(part) for part in parts) > _ROOM:
            raise VaultError("full", f"{len(found)} keys are more than an answer holds")
        return parts

    def _generate_provisioning_key(
        self, owned: Owned, fields: list[bytes], again: bool
    ) -> list[bytes]:
        vault = owned.vault
        owned.seen.discard(PROVISIONING)
        try:
            point = vault.generate_provisioning_key()
        except VaultError as error:
            if not again or error.reason != "exists":
                raise
            # The client asked whether there was one: this was made for it, or half made. A private
            # half alone was not, for a token makes it last; that one is not ours to remove.
            point = vault.public(PROVISIONING)
            if not self._signs(owned, PROVISIONING, point):
                vault.delete(PROVISIONING)
                point = vault.generate_provisioning_key()
        owned.seen.add(PROVISIONING)
        return [point]

    def _open_contract_key(self, owned: Owned, fields: list[bytes], again: bool) -> list[bytes]:
        *arguments, key = fields
        if len(key) != _KEY_ID:
            raise VaultError("protocol", "a key's id has 16 bytes")
        self._opened += 1
        if not (again and self._is_made(owned, key, arguments[-1])):
            scheme = arguments[0].decode("ascii", "replace")
            owned.vault.open_contract_key(scheme, *arguments[1:], key=key)
        owned.seen.add(key)
        return [key]

    def _is_made(self, owned: Owned, key: bytes, point: bytes) -> bool:
        """Whether the first time made this key; what it left of one is removed."""
        try:
            found = owned.vault.public(key)
        except VaultError:  # there is none, or nothing whole
            found = b""
        if found and found != point:
            raise VaultError("exists", "another key has this id")
        if found and self._signs(owned, key, point):
            return True
        self._delete(owned, [key], again=True)
        return False

    def _signs(self, owned: Owned, key: bytes, point: bytes) -> bool:
        """A torn key can be listed, and fails when it is used."""
        digest = hashlib.sha256(b"plugvault proof of possession" + os.urandom(32)).digest()
        try:
            return bool(owned.vault.verify(point, digest, owned.vault.sign(key, digest)))
        except VaultError:
            return False

    def _delete(self, owned: Owned, fields: list[bytes], again: bool) -> list[bytes]:
        (key,) = fields
        try:
            owned.vault.delete(key)
        except VaultError as error:
            if error.reason != "not-found" or not again:
                raise
        owned.seen.discard(key)
        return []

    def _is_doubtful(self, owned: Owned, error: VaultError, key: bytes) -> bool:
        """Whether the library, and not the key that was asked for, is the reason."""
        if error.reason == "not-found":
            return key in owned.seen
        if error.reason != "unavailable":
            return False
        try:
            found: list[tuple[bytes, bytes]] = owned.vault.keys()
        except VaultError:
            return True
        return not owned.seen <= {key for key, _ in found}


def refusal(tag: int, error: VaultError) -> bytes:
    """The frame that says `error`; tag 0: whatever was asked."""
    return pack(tag, _CODES[error.reason], [error.detail[:100].encode()])
