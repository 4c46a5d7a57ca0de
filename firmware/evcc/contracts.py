"""The contracts in the car: which there are, which is active, and their chains.

One index file is the truth, replaced atomically: writing it is the commit point of an
installation. For each contract it names the key's id in the vault and the hash of its public half.
Chains lie in files of their own, written before the index names them. What the index does not name
(a chain, a key of ours in the token) is what an interrupted installation left, and `recover`
removes it; a contract whose key does not prove itself is kept and named, never repaired silently.

The index also remembers certificates that were replaced or removed, so that an old message cannot
bring one back.
"""

import hashlib
import struct

from .errors import EvccError
from .record import RecordError, pack, unpack
from .vault import VaultError

SLOTS = 5
RETIRED = 32  # fingerprints kept; 16 bytes each
INDEX = "contracts"
_FIELDS = 7  # of a contract, in the index
_TRIES = 3  # of what a vault that dies of something else may owe us


class ContractError(EvccError):
    """A request the contract store refuses."""

    REASONS = ("full", "not-found", "expired", "replayed", "older", "damaged", "key-lost")


class Contract:
    """One contract. emaid: 14..15 characters; key: id in the vault; public: SHA-256 of its point;
    custody: e.g. "L1+"; operator: O of the certificate; not_before, not_after: unix seconds;
    fingerprint: the first 16 bytes of the leaf's SHA-256; active: whether the car pays with it;
    lost: its key or its chain is gone."""

    def __init__(
        self, emaid, key, public, custody, operator, not_before, not_after, fingerprint
    ) -> None:
        self.emaid = emaid
        self.key = key
        self.public = public
        self.custody = custody
        self.operator = operator
        self.not_before = not_before
        self.not_after = not_after
        self.fingerprint = fingerprint
        self.active = False
        self.lost = False

    def valid(self, now: int) -> bool:
        return self.not_before <= now <= self.not_after


class Contracts:
    """files: a `ports.files.Files`. slots: how many contracts fit."""

    def __init__(self, files, slots: int = SLOTS) -> None:
        self._files = files
        self._slots = slots
        self._contracts: list = []
        self._retired: list = []
        stored = files.read(INDEX)
        self._indexed = stored is not None
        if stored is not None:
            try:
                self._load(unpack(stored))
            except (RecordError, ValueError, IndexError) as e:
                raise ContractError("damaged", "the contract index: " + str(e))

    def all(self) -> list:
        """Every contract, oldest installation first."""
        return list(self._contracts)

    def get(self, emaid: str):
        """The contract of this EMAID (normalised), or None."""
        for contract in self._contracts:
            if contract.emaid == emaid:
                return contract
        return None

    def active(self):
        """The contract the car pays with, or None."""
        for contract in self._contracts:
            if contract.active:
                return contract
        return None

    def usable(self, now: int, emaid=None):
        """The contract to charge with: the one named, else the active one.

        Raises ContractError("not-found" | "expired" | "key-lost").
        """
        contract = self.active() if emaid is None else self.get(emaid)
        if contract is None:
            raise ContractError("not-found", emaid or "no contract is active")
        if not contract.valid(now):
            raise ContractError("expired", contract.emaid)
        if contract.lost:
            raise ContractError("key-lost", contract.emaid)
        return contract

    def chain(self, emaid: str) -> list:
        """[leaf, sub-CA 2, sub-CA 1], DER. Raises ContractError("not-found" | "damaged")."""
        contract = self._named(emaid)
        stored = self._files.read(_chain_file(contract.key))
        try:
            if stored is None:
                raise RecordError("damaged", "missing")
            return unpack(stored)
        except RecordError as e:
            raise ContractError("damaged", "the chain of " + emaid + ": " + str(e))

    def admit(self, emaid: str, fingerprint: bytes, not_before: int) -> None:
        """Whether such a contract may come in now; asked before a private key is touched.

        Raises ContractError("full" | "replayed" | "older").
        """
        current = self.get(emaid)
        # What is there, but damaged, may come once more: that is how it is mended.
        there = current is not None and not current.lost and current.fingerprint == fingerprint
        if there or fingerprint in self._retired:
            raise ContractError("replayed", emaid)
        if current is None and len(self._contracts) >= self._slots:
            raise ContractError("full", "%d of %d slots in use" % (self._slots, self._slots))
        if current is not None and not_before < current.not_before:
            raise ContractError("older", emaid)

    def commit(self, contract: Contract, chain: list):
        """Make a contract part of the car: THE commit point.

        Replaces the one with the same EMAID, and is active if that was, or if it is the first.
        Returns the key of the replaced contract, for its owner to delete, or None.
        Raises StoreError from the files (nothing changed then).
        """
        old = self.get(contract.emaid)
        contract.active = old.active if old else not self._contracts
        kept = [contract if c is old else c for c in self._contracts]
        if old is None:
            kept.append(contract)
        name = _chain_file(contract.key)
        try:
            self._files.write(name, pack(chain))
            self._store(kept, [old.fingerprint] if old and not old.lost else [])
        except Exception:
            self._discard(name)
            raise
        if old is None:
            return None
        self._discard(_chain_file(old.key))
        return old.key

    def choose(self, emaid: str) -> None:
        """Pay with this one from now on. Raises ContractError("not-found")."""
        chosen = self._named(emaid)
        before = self.active()
        for contract in self._contracts:
            contract.active = contract is chosen
        try:
            self._store(self._contracts, [])
        except Exception:
            chosen.active = False
            if before is not None:
                before.active = True
            raise

    def delete(self, emaid: str) -> bytes:
        """Remove a contract; no other becomes active by itself: who pays is the owner's choice.

        Returns its key, for its owner to delete. Raises ContractError("not-found").
        """
        gone = self._named(emaid)
        self._store([c for c in self._contracts if c is not gone], [gone.fingerprint])
        self._discard(_chain_file(gone.key))
        return gone.key

    def recover(self, vault) -> list:
        """After a start: prove every contract, remove what none owns, name what is missing.

        vault: its `keys()` lists only keys this module made. Returns sentences for the log.
        Raises VaultError when it is the vault that fails, and not one key.
        """
        held = dict(_patiently(vault.keys))
        if not self._indexed:  # a wrong folder must not cost anybody a key
            return ["no contract index: %d keys left alone" % len(held)] if held else []
        found = []
        for contract in self._contracts:
            missing = self._missing(contract, held.get(contract.key), vault)
            contract.lost = bool(missing)
            if missing:
                found.append(missing)
        ours = [contract.key for contract in self._contracts]
        names = [_chain_file(key) for key in ours]
        found += [
            _removed("key", _hex(key) or "without a name", vault.delete, key)
            for key in held
            if key not in ours and len(key) in (0, 16)
        ]
        found += [
            _removed("chain", name, self._files.delete, name)
            for name in self._files.names()
            if name.startswith("chain-") and name not in names
        ]
        return found

    def _missing(self, contract: Contract, point, vault) -> str:
        """What of a contract is not as it was committed; "" when all of it is.

        A torn or damaged key may be listed like any other: only one that signs is there.
        """
        try:
            leaf = self.chain(contract.emaid)[0]
            if hashlib.sha256(leaf).digest()[:16] != contract.fingerprint:
                return "the chain of " + contract.emaid + " is another one"
        except ContractError as e:
            return e.detail
        name = "the key of " + contract.emaid
        if not point:  # b"": only half of it is there
            return name + " is not whole in the token"
        if hashlib.sha256(point).digest() != contract.public:
            return name + " is another one in the token"
        try:
            if _patiently(lambda: _signs(vault, contract.key, point)):
                return ""
        except VaultError:
            vault.random(1)  # raises when it is the vault that is gone, and not the key
        return name + " does not sign: it is damaged in the token"

    def _discard(self, name: str) -> None:
        """What the index does not name; if it cannot be removed now, `recover` will.

        An error here would tell the owner that nothing was committed, when all was.
        """
        try:
            self._files.delete(name)
        except EvccError:
            pass

    def _named(self, emaid: str) -> Contract:
        contract = self.get(emaid)
        if contract is None:
            raise ContractError("not-found", emaid)
        return contract

    def _store(self, contracts: list, retired: list) -> None:
        retired = (self._retired + retired)[-RETIRED:]
        fields = [b"".join(retired)]
        for c in contracts:
            fields += [
                c.emaid.encode(),
                c.key,
                c.public,
                c.custody.encode(),
                c.operator.encode(),
                # a 9999 date does not fit 32 bits
                struct.pack(">QQB", max(c.not_before, 0), c.not_after, int(c.active)),
                c.fingerprint,
            ]
        self._files.write(INDEX, pack(fields))
        self._contracts = contracts
        self._retired = retired
        self._indexed = True

    def _load(self, fields: list) -> None:
        retired = fields[0]
        self._retired = [retired[i : i + 16] for i in range(0, len(retired), 16)]
        for i in range(1, len(fields), _FIELDS):
            emaid, key, public, custody, operator, numbers, fingerprint = fields[i : i + _FIELDS]
            not_before, not_after, active = struct.unpack(">QQB", numbers)
            contract = Contract(
                emaid.decode(),
                key,
                public,
                custody.decode(),
                operator.decode(),
                not_before,
                not_after,
                fingerprint,
            )
            contract.active = active == 1
            self._contracts.append(contract)


def _patiently(operation):
    """The operation's result. One vault serves many: what somebody else asked may have ended its
    process, and this answer with it."""
    for _ in range(_TRIES - 1):
        try:
            return operation()
        except VaultError as e:
            if e.reason != "unavailable":
                raise
    return operation()


def _signs(vault, key: bytes, point: bytes) -> bool:
    digest = hashlib.sha256(b"plugvault proof of possession" + vault.random(32)).digest()
    return vault.verify(point, digest, vault.sign(key, digest))


def _removed(kind: str, name: str, delete, what) -> str:
    """Remove a left-over; one that stays is no reason not to start."""
    try:
        delete(what)
    except EvccError as e:
        return "a " + kind + " without a contract stays: " + name + ": " + str(e)
    return "removed a " + kind + " without a contract: " + name


def _chain_file(key: bytes) -> str:
    return "chain-" + _hex(key)


def _hex(data: bytes) -> str:
    return "".join("%02x" % b for b in data)
