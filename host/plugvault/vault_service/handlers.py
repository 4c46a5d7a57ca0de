"""The vault service's answers to requests: the vault's result, or the reason of its failure.

A repeated request (`AGAIN`) gets the outcome of the first one, if there was one, because the
process may have ended after the work and before the answer. A doubtful answer is not sent: SoftHSM
whose folder was missing for a moment reports no keys until it is initialised again. So when an
answer contradicts what this process has seen, the process ends instead.
"""

import json
import time
from collections.abc import Callable
from typing import Any

from evcc.vault import PROVISIONING, VaultError
from evcc.vault.pkcs11 import check_envelope, for_owner, is_working
from evcc.vault.possession import proves_possession
from evcc.vault.service import AGAIN, MAX_ANSWER, OPERATIONS, SEAL, pack, unpack
from plugvault.vault_service.callers import VaultCaller

# The right that an operation needs. The others use no private key and change nothing.
_RIGHTS = {
    "generate_provisioning_key": "make",
    "sign": "sign",
    "open_contract_key": "open",
    "delete": "delete",
}
_OF_A_KEY = {"public", "sign", "delete", "custody"}
_OF_AN_OWNER = {*_RIGHTS, *_OF_A_KEY, "keys", "status"}
_OWNERS = 64  # of one caller, in memory at once
_STATUS_OWNERS = 32  # in a status
_KEY_ID = 16
_ROOM = MAX_ANSWER - SEAL - 4  # bytes of an answer's fields: some 96 keys
_FRESH_AFTER = 1000  # contract keys opened: a library leaks one to ten KiB for each
_Operation = Callable[["OwnerState", list[bytes], bool], list[bytes]]  # last: a repeated request
_HOUR = 3600.0
_CODES = {reason: code for code, reason in enumerate(VaultError.REASONS, 1)}


class TokenLost(Exception):
    """The library's state is doubtful, or it has leaked too much memory: this process must end.
    `answer`: a frame to send before, or b""."""

    def __init__(self, answer: bytes = b"") -> None:
        super().__init__()
        self.answer = answer


class OwnerState:
    """The state of one owner of keys: the vault for them, the keys seen, the record of envelopes,
    and when a contract key was last opened."""

    def __init__(self, vault: Any, caller: VaultCaller, record: Any) -> None:
        self.vault, self.caller, self.record = vault, caller, record
        self.seen: set[bytes] = set()
        self.is_bound = False  # of an adopted key: to this caller
        self.opened_at = 0.0

    def is_idle(self) -> bool:
        """Whether the owner has opened nothing in the last hour, or may open any number."""
        is_limited = self.opened_at and self.caller.openings_per_hour is not None
        return not is_limited or time.monotonic() - self.opened_at > _HOUR


class RequestHandler:
    """Answers the requests to one vault. records: `EnvelopeRecords` of its token."""

    def __init__(self, vault: Any, records: Any) -> None:
        self._vault, self._records = vault, records
        self._without_owner = OwnerState(vault, VaultCaller(), records.of(b""))
        self._opened = 0
        # By code: number of fields, right, whether of a key, whether of an owner, method.
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

    def answer(self, caller: VaultCaller, body: bytes, patience: float = 0.0) -> bytes:
        """The frame that answers the body of a request's frame. The body may be any bytes: a
        failure of the vault is a frame, too. `patience`: seconds that a request over the rate may
        wait.

        Raises: OverRate before anything is done; TokenLost.
        """
        tag = body[0] if body else 0
        key, again, owner = PROVISIONING, False, self._without_owner
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
                owner = caller.owned.get(fields[0]) or self._new_owner(caller, fields[0])
                del fields[0]
            if is_of_a_key:
                key = fields[0]
            if right:
                caller.admit(right, patience)
                if not owner.is_bound:
                    self._records.bind(caller.name)
                    owner.is_bound = True
            answer = pack(tag, 0, perform(owner, fields, again))
        except VaultError as error:
            answer = refusal(tag, error)
            if self._is_doubtful(owner, error, key):
                raise TokenLost(answer if again else b"") from None
            return answer
        if self._opened >= _FRESH_AFTER:
            raise TokenLost(answer)
        return answer

    def _new_owner(self, caller: VaultCaller, claimed: bytes) -> OwnerState:
        name = caller.owner(claimed)
        if len(caller.owned) >= _OWNERS:
            # Owners with recent openings stay: a caller cannot open more keys as many owners.
            caller.owned = {
                claim: owner for claim, owner in caller.owned.items() if not owner.is_idle()
            }
            if len(caller.owned) >= _OWNERS:
                raise VaultError("limited", f"{_OWNERS} owners have opened keys in the last hour")
        if caller.name:
            self._records.bind(caller.name, uses=False)
        vault = for_owner(self._vault, name) if name else self._vault
        owner = caller.owned[claimed] = OwnerState(vault, caller, self._records.of(name))
        return owner

    # The operations: a method of that name each, which returns the fields of the answer.

    def _sign(self, owner: OwnerState, fields: list[bytes], again: bool) -> list[bytes]:
        key, digest = fields
        signature = owner.vault.sign(key, digest)
        owner.seen.add(key)
        return [signature]

    def _public(self, owner: OwnerState, fields: list[bytes], again: bool) -> list[bytes]:
        (key,) = fields
        point = owner.vault.public(key)
        owner.seen.add(key)
        return [point]

    def _custody(self, owner: OwnerState, fields: list[bytes], again: bool) -> list[bytes]:
        (key,) = fields
        level = owner.vault.custody(key)
        owner.seen.add(key)
        return [level.encode()]

    def _verify(self, owner: OwnerState, fields: list[bytes], again: bool) -> list[bytes]:
        return [b"\x01" if owner.vault.verify(*fields) else b"\x00"]

    def _random(self, owner: OwnerState, fields: list[bytes], again: bool) -> list[bytes]:
        return [owner.vault.random(int.from_bytes(fields[0], "big"))]

    def _keys(self, owner: OwnerState, fields: list[bytes], again: bool) -> list[bytes]:
        keys: list[tuple[bytes, bytes]] = owner.vault.keys()
        ids = {key for key, _ in keys}
        if not owner.seen <= ids:
            raise TokenLost
        owner.seen = ids
        parts = [part for pair in keys for part in pair]
        if sum(2 + len(part) for part in parts) > _ROOM:
            raise VaultError("full", f"{len(keys)} keys are more than an answer holds")
        return parts

    def _generate_provisioning_key(
        self, owner: OwnerState, fields: list[bytes], again: bool
    ) -> list[bytes]:
        vault = owner.vault
        owner.seen.discard(PROVISIONING)
        if not _has_provisioning_key(vault):
            owner.caller.count_provisioning_key()
        try:
            point = vault.generate_provisioning_key()
        except VaultError as error:
            if not again or error.reason != "exists":
                raise
            # A client asks for a key only where it has none: the first request made this one, or
            # half of it. A private half alone is another's, because a token makes it last.
            point = vault.public(PROVISIONING)
            if not self._signs(owner, PROVISIONING, point):
                if not is_working(vault):  # the key may be whole: it is not destroyed on doubt
                    raise TokenLost from None
                vault.delete(PROVISIONING)
                point = vault.generate_provisioning_key()
        owner.seen.add(PROVISIONING)
        return [point]

    def _open_contract_key(
        self, owner: OwnerState, fields: list[bytes], again: bool
    ) -> list[bytes]:
        *arguments, key = fields
        if len(key) != _KEY_ID:
            raise VaultError("protocol", "a key's id has 16 bytes")
        if not (again and self._is_made(owner, key, arguments[-1])):
            self._open_once(owner, arguments, key)
        owner.seen.add(key)
        return [key]

    def _open_once(self, owner: OwnerState, arguments: list[bytes], key: bytes) -> None:
        """Open an envelope, and record it before the token is asked."""
        name, dh_point, wrapped, aad, leaf = arguments
        scheme = name.decode("ascii", "replace")
        provisioning = owner.vault.public(PROVISIONING)
        check_envelope(owner.vault, scheme, dh_point, wrapped, aad, leaf)
        hourly = owner.caller.openings_per_hour
        owner.record.ask(provisioning, dh_point, wrapped, leaf, hourly)
        owner.opened_at = time.monotonic()
        self._opened += 1
        try:
            owner.vault.open_contract_key(scheme, dh_point, wrapped, aad, leaf, key=key)
        except VaultError as error:
            if error.reason != "key-mismatch":
                raise
            owner.record.mismatched(dh_point)
            raise VaultError("key-mismatch") from None

    def _is_made(self, owner: OwnerState, key: bytes, point: bytes) -> bool:
        """Whether the first request made this key. A part of the key is removed."""
        try:
            public = owner.vault.public(key)
        except VaultError:  # the key is missing or incomplete
            public = b""
        if public and public != point:
            raise VaultError("exists", "another key has this id")
        if public and self._signs(owner, key, point):
            return True
        self._remove(owner, key, again=True)
        return False

    def _signs(self, owner: OwnerState, key: bytes, point: bytes) -> bool:
        """Whether the key works: an incomplete key can be listed, and fails in use."""
        try:
            return bool(proves_possession(owner.vault, key, point))
        except VaultError:
            return False

    def _delete(self, owner: OwnerState, fields: list[bytes], again: bool) -> list[bytes]:
        (key,) = fields
        if key == PROVISIONING:
            raise VaultError("refused", "a client deletes contract keys only")
        self._remove(owner, key, again)
        return []

    def _remove(self, owner: OwnerState, key: bytes, again: bool) -> None:
        try:
            owner.vault.delete(key)
        except VaultError as error:
            if error.reason != "not-found" or not again:
                raise
        owner.seen.discard(key)

    def _status(self, owner: OwnerState, fields: list[bytes], again: bool) -> list[bytes]:
        """JSON. The service's own user gets all owners, another client its own record."""
        caller = owner.caller
        status: dict[str, Any] = {
            "client": caller.name.decode(),
            "rights": sorted(caller.rights),
            "rate": caller.rate,
            "openings_per_hour": caller.openings_per_hour,
            "provisioning_keys_left": caller.provisioning_keys_left(),
        }
        if caller.name:
            status |= owner.record.status()
        else:
            owners = self._records.owners()
            status["state"] = str(self._records.folder)
            status["owners"] = {name.hex(): self._record(name) for name in owners[:_STATUS_OWNERS]}
            status["more"] = len(owners[_STATUS_OWNERS:])
        return [json.dumps(status).encode()]

    def _record(self, owner: bytes) -> Any:
        """The status of an owner's record, or its error."""
        try:
            return self._records.named(owner).status()
        except VaultError as error:
            return {"error": str(error)}

    def _is_doubtful(self, owner: OwnerState, error: VaultError, key: bytes) -> bool:
        """Whether the library itself failed, and not the requested key."""
        if error.reason == "not-found":
            return key in owner.seen
        if error.reason != "unavailable":
            return False
        try:
            keys: list[tuple[bytes, bytes]] = owner.vault.keys()
        except VaultError:
            return True
        return not owner.seen <= {key for key, _ in keys}


def _has_provisioning_key(vault: Any) -> bool:
    try:
        return bool(vault.public(PROVISIONING))
    except VaultError:
        return False


def refusal(tag: int, error: VaultError) -> bytes:
    """The frame of an error. tag: of the request; 0 for an answer to any request."""
    return pack(tag, _CODES[error.reason], [error.detail[:100].encode()])
