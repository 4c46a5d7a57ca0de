"""What the vault service says to a request: the vault's answer, or the reason why there is none.

A request that is asked again (`AGAIN`) has the outcome of the first time, if there was one: its
process may have died after the work and before the answer. And nobody is told what only a broken
library says: SoftHSM whose folder was away for a moment knows no key any more, until it is
initialised afresh. So what contradicts what this process has seen is not answered at all.
"""

import json
from collections.abc import Callable
from typing import Any

from evcc.vault import PROVISIONING, VaultError
from evcc.vault.pkcs11 import check_envelope, for_owner, is_working
from evcc.vault.possession import proves_possession
from evcc.vault.service import AGAIN, MAX_ANSWER, OPERATIONS, SEAL, pack, unpack
from plugvault.vault_service.callers import Caller, admit_opening

# By operation: the right that it takes. The others use no private key and change nothing.
_RIGHTS = {
    "generate_provisioning_key": "make",
    "sign": "sign",
    "open_contract_key": "open",
    "delete": "delete",
}
_OF_A_KEY = {"public", "sign", "delete", "custody"}
_OF_AN_OWNER = {*_RIGHTS, *_OF_A_KEY, "keys", "status"}
_OWNERS = 64  # of one caller, whose state is kept at once
_TOLD = 32  # owners in a status
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


class Owned:
    """The keys of one owner in the token: their vault, which of them were there, which envelopes
    were opened, and how many more may be."""

    def __init__(self, vault: Any, caller: Caller, record: Any) -> None:
        self.vault, self.caller, self.record = vault, caller, record
        self.seen: set[bytes] = set()
        self.openings = caller.openings()

    def may_go(self) -> bool:
        """Whether one made anew would be the same."""
        return self.openings is None or self.openings.is_full()


class RequestHandler:
    """Of one vault, in one process. records: `envelopes.Records` of its token."""

    def __init__(self, vault: Any, records: Any) -> None:
        self._vault, self._records = vault, records
        self._nobodys = Owned(vault, Caller(), records.of(b""))  # where no owner is named
        self._opened = 0
        # By code: number of fields, right, of a key, of an owner, what does it. Looked up once.
        self._operations: list[tuple[int, str, bool, bool, _Operation]] = [
            (
                fields,
                _RIGHTS.get(name, ""),
                name in _OF_A_KEY,
                name in _OF_AN_OWNER,
                getattr(self, "_" + name),
            )
            for name, fields in OPERATIONS
        ]

    def answer(self, caller: Caller, body: bytes) -> bytes:
        """The frame that answers a request's (without its length), whatever its bytes are.

        Raises: TokenLost.
        """
        tag = body[0] if body else 0
        key, again, owned = PROVISIONING, False, self._nobodys
        try:
            tag, code, fields = unpack(body)
            if code >= AGAIN:
                again, code = True, code - AGAIN
            if code >= len(self._operations):
                raise VaultError("protocol", "no such operation")
            count, right, is_of_a_key, is_of_an_owner, perform = self._operations[code]
            if len(fields) != count:
                raise VaultError("protocol", "fields too few or too many")
            if is_of_an_owner:
                owned = caller.owned.get(fields[0]) or self._new_owner(caller, fields[0])
                del fields[0]
            if is_of_a_key:
                key = fields[0]
            if right:
                caller.admit(right)
            said = pack(tag, 0, perform(owned, fields, again))
        except VaultError as error:
            said = refusal(tag, error)
            if self._is_doubtful(owned, error, key):
                raise TokenLost(said if again else b"") from None
            return said
        if self._opened >= _FRESH_AFTER:
            raise TokenLost(said)
        return said

    def _new_owner(self, caller: Caller, claimed: bytes) -> Owned:
        owner = caller.owner(claimed)
        if len(caller.owned) >= _OWNERS:
            # Who has opened something of late stays: to name others is no way to open more.
            kept = {c: one for c, one in caller.owned.items() if not one.may_go()}
            caller.owned = kept
            if len(kept) >= _OWNERS:
                raise VaultError("limited", f"{_OWNERS} owners have opened keys in the last hour")
        vault = for_owner(self._vault, owner) if owner else self._vault
        owned = caller.owned[claimed] = Owned(vault, caller, self._records.of(owner))
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
                if not is_working(vault):  # it may be whole: nobody's word makes that key go
                    raise TokenLost from None
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
            admit_opening(owned.openings)
            self._open_once(owned, arguments, key)
        owned.seen.add(key)
        return [key]

    def _open_once(self, owned: Owned, arguments: list[bytes], key: bytes) -> None:
        """What tells something about an envelope is written down before the token is asked."""
        name, dh_point, wrapped, aad, leaf = arguments
        scheme = name.decode("ascii", "replace")
        provisioning = owned.vault.public(PROVISIONING)
        check_envelope(owned.vault, scheme, dh_point, wrapped, aad, leaf)
        owned.record.ask(provisioning, dh_point, wrapped, leaf)
        try:
            owned.vault.open_contract_key(scheme, dh_point, wrapped, aad, leaf, key=key)
        except VaultError as error:
            if error.reason != "key-mismatch":
                raise
            owned.record.mismatched(dh_point)
            raise VaultError("key-mismatch") from None

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
        self._remove(owned, key, again=True)
        return False

    def _signs(self, owned: Owned, key: bytes, point: bytes) -> bool:
        """A torn key can be listed, and fails when it is used."""
        try:
            return bool(proves_possession(owned.vault, key, point))
        except VaultError:
            return False

    def _delete(self, owned: Owned, fields: list[bytes], again: bool) -> list[bytes]:
        (key,) = fields
        if key == PROVISIONING:
            raise VaultError("refused", "a client deletes contract keys only")
        self._remove(owned, key, again)
        return []

    def _remove(self, owned: Owned, key: bytes, again: bool) -> None:
        try:
            owned.vault.delete(key)
        except VaultError as error:
            if error.reason != "not-found" or not again:
                raise
        owned.seen.discard(key)

    def _status(self, owned: Owned, fields: list[bytes], again: bool) -> list[bytes]:
        """JSON. The service's own user is told of all owners, another client of its own."""
        caller = owned.caller
        said: dict[str, Any] = {
            "client": caller.name.decode(),
            "rights": sorted(caller.rights),
            "rate": caller.rate,
            "openings_per_hour": caller.openings_per_hour,
        }
        if caller.name:
            said |= owned.record.status()  # raises what is wrong with it
        else:
            owners = self._records.owners()
            said["state"] = str(self._records.folder)
            said["owners"] = {owner.hex(): self._record(owner) for owner in owners[:_TOLD]}
            said["more"] = len(owners[_TOLD:])
        return [json.dumps(said).encode()]

    def _record(self, owner: bytes) -> Any:
        """Its status, or what is wrong with it."""
        try:
            return self._records.of(owner).status()
        except VaultError as error:
            return {"error": str(error)}

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
