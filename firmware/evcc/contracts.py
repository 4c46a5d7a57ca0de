"""The contracts in the car: which there are, which is active, and their chains.

One index file is the truth, replaced atomically: writing it is the commit point of an
installation. For each contract it names the key's id in the vault and the hash of its public half.
Chains lie in files of their own, written before the index names them.

The index also holds who the car is to a token (`owner`), the envelopes that were opened
(`envelopes`), and the journal: the ids of keys that are to go, a new one until its contract is
committed, an old one from then on. `recover` destroys what the journal names and no contract. Any
other key that no contract names stays and is told: the index may be an older copy. That is known
by its generation, one more at every write, with which the id of each new key begins. A contract
whose key does not prove itself is kept and named, never repaired silently.
"""

import hashlib
import struct

from .chain import MAX_SUBS
from .envelopes import ROOM, Envelopes
from .errors import EvccError
from .record import RecordError, pack, text, unpack
from .vault import OWNER, PROVISIONING, VaultError, levels, proves_possession

SLOTS = 5
INDEX = "contracts"
_VERSION = 1
_JOURNAL = 16  # keys at most that a failing token may owe us
_KEY = 16  # bytes of a key's id
_GENERATION = 4  # bytes of it
_FIRST = 4  # of the index's fields is a contract's
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
    """files: a `ports.files.Files`. slots: how many contracts fit.

    `owner`: what the car's keys are claimed with; b"" until `recover` has drawn it. `envelopes`:
    see `evcc.envelopes`. `unnamed`: keys of ours that `recover` found and no contract names.
    Raises: ContractError("damaged"); StoreError.
    """

    def __init__(self, files, slots: int = SLOTS) -> None:
        self._files = files
        self._slots = slots
        self._contracts: list = []
        self._journal: list = []
        self._generation = 0
        self.owner = b""
        self.envelopes = Envelopes()
        self.unnamed: list = []
        stored = files.read(INDEX)
        self._indexed = stored is not None
        if stored is not None:
            try:
                self._load(unpack(stored))
            except (EvccError, ValueError) as e:
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
            ders = unpack(stored)
            if not 0 < len(ders) <= 1 + MAX_SUBS:
                raise RecordError("damaged", "%d certificates" % len(ders))
            return ders
        except RecordError as e:
            raise ContractError("damaged", "the chain of " + emaid + ": " + str(e))

    def admit(self, emaid: str, fingerprint: bytes, not_before: int) -> None:
        """Whether such a contract may come in now; asked before a private key is touched.

        Raises ContractError("full" | "replayed" | "older").
        """
        current = self.get(emaid)
        has_been = self.envelopes.opened(fingerprint)
        if current is not None and current.fingerprint == fingerprint:
            has_been = not current.lost  # what is damaged may come once more: so it is mended
        if has_been:
            raise ContractError("replayed", emaid)
        if current is None and len(self._contracts) >= self._slots:
            raise ContractError("full", "%d of %d slots in use" % (self._slots, self._slots))
        if current is not None and not_before < current.not_before:
            raise ContractError("older", emaid)

    def begin(self, vault, dh_point: bytes, wrapped: bytes, fingerprint: bytes) -> bytes:
        """The vault is going to be asked to open an envelope; the id of the key it will make.

        dh_point, wrapped: the envelope. fingerprint: of its contract. What is needed to know both
        again is durable on return. Raises EnvelopeError, StoreError or VaultError, with everything
        as before.
        """
        before = self.envelopes.packed()
        self.envelopes.add(vault.public(PROVISIONING), dh_point, wrapped, fingerprint)
        generation = (self._generation + 1) & 0xFFFFFFFF
        try:
            key = generation.to_bytes(_GENERATION, "big") + vault.random(_KEY - _GENERATION)
            self._store(self._contracts, self._journal + [key])
        except Exception:
            self.envelopes = Envelopes(ROOM, before)
            raise
        return key

    def mismatched(self, dh_point: bytes) -> None:
        """The envelope that was begun holds another key than its certificate's."""
        self.envelopes.settle(dh_point, False)
        try:
            self._store(self._contracts, self._journal)
        except EvccError:
            pass  # that it was asked is stored, and the next write stores this

    def unlock(self) -> None:
        """Open envelopes again after too many that did not match. Raises StoreError."""
        mismatches = self.envelopes.mismatches
        self.envelopes.unlock()
        try:
            self._store(self._contracts, self._journal)
        except Exception:
            self.envelopes.mismatches = mismatches
            raise

    def commit(self, contract: Contract, chain: list, dh_point: bytes = b""):
        """Make a contract part of the car: THE commit point.

        dh_point: of the envelope its key was in, as begun. Replaces the one with the same EMAID,
        and is active if that was, or if it is the first.
        Returns the key of the replaced contract, for its owner to delete, or None.
        Raises StoreError from the files (nothing changed then).
        """
        old = self.get(contract.emaid)
        contract.active = old.active if old else not self._contracts
        kept = [contract if c is old else c for c in self._contracts]
        if old is None:
            kept.append(contract)
        journal = [key for key in self._journal if key != contract.key]
        name = _chain_file(contract.key)
        before = self.envelopes.packed()
        try:
            self._files.write(name, pack(chain))
            self.envelopes.settle(dh_point, True)
            self._store(kept, journal + [old.key] if old else journal)
        except Exception:
            self.envelopes = Envelopes(ROOM, before)
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
            self._store(self._contracts, self._journal)
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
        kept = [c for c in self._contracts if c is not gone]
        self._store(kept, self._journal + [gone.key])
        self._discard(_chain_file(gone.key))
        return gone.key

    def recover(self, vault) -> list:
        """After a start: claim the car's keys, prove every contract, remove what is to go, name
        what is missing and what is too much. Returns sentences for the log.

        Raises VaultError when it is the vault that fails, and not one key; StoreError where a new
        car cannot write down who it is.
        """
        if not self._indexed:
            return self._begin_anew(vault)
        vault.claim(self.owner)
        held = dict(_patiently(vault.keys))
        found = []
        for contract in self._contracts:
            missing = self._missing(contract, held.get(contract.key), vault)
            contract.lost = bool(missing)
            if missing:
                found.append(missing)
            else:
                contract.custody = _lower_custody(contract, vault)
        ours = [contract.key for contract in self._contracts]
        spare = [key for key in held if key not in ours and key != PROVISIONING]
        found += [
            _removed("key", _hex(key) or "without a name", vault.delete, key)
            for key in spare
            if key in self._journal or not key
        ]
        self.unnamed = [key for key in spare if key and key not in self._journal]
        found += self._told_of_unnamed()
        names = [_chain_file(key) for key in ours + self.unnamed]
        found += [
            _removed("chain", name, self._files.delete, name)
            for name in self._files.names()
            if name.startswith("chain-") and name not in names
        ]
        return found

    def discard_unnamed(self, vault) -> None:
        """Destroy the keys that no contract names: somebody who may has said that they are not
        wanted. Raises VaultError."""
        while self.unnamed:
            try:
                vault.delete(self.unnamed[-1])
            except VaultError as e:
                if e.reason != "not-found":
                    raise
            self.unnamed.pop()

    def _begin_anew(self, vault) -> list:
        """A new car, or one whose folder is another: nothing in the token is its own."""
        held = [key for key, _ in _patiently(vault.keys)]
        self.owner = vault.random(OWNER)
        self._store([], [])
        vault.claim(self.owner)
        return ["no contract index: %d keys left alone" % len(held)] if held else []

    def _told_of_unnamed(self) -> list:
        found = ["a key that no contract names stays: " + _hex(key) for key in self.unnamed]
        generations = [int.from_bytes(key[:_GENERATION], "big") for key in self.unnamed]
        newest = max(generations) if generations else 0
        if newest > self._generation:
            text = "the contract index is older than the token: %d, where a key is of %d"
            found.insert(0, text % (self._generation, newest))
            self._generation = newest  # what comes now is newer than both
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
            if _patiently(lambda: proves_possession(vault, contract.key, point)):
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

    def _store(self, contracts: list, journal: list) -> None:
        journal = journal[-_JOURNAL:]
        head = bytes([_VERSION]) + (self._generation + 1).to_bytes(8, "big")
        fields = [head, self.owner, b"".join(journal), self.envelopes.packed()]
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
        self._generation += 1
        self._contracts = contracts
        self._journal = journal
        self._indexed = True

    def _load(self, fields: list) -> None:
        """Raises: RecordError, EnvelopeError, ValueError for what `_store` does not write."""
        if len(fields) < _FIRST or (len(fields) - _FIRST) % _FIELDS:
            raise RecordError("damaged", "%d fields" % len(fields))
        head, self.owner, journal, envelopes = fields[:_FIRST]
        if len(head) != 9 or head[0] != _VERSION:
            raise RecordError("damaged", "of another version")
        if len(self.owner) not in (0, OWNER) or len(journal) % _KEY:
            raise RecordError("damaged", "owner or journal")
        self._generation = int.from_bytes(head[1:], "big")
        self._journal = [journal[i : i + _KEY] for i in range(0, len(journal), _KEY)]
        self.envelopes = Envelopes(ROOM, envelopes)
        for i in range(_FIRST, len(fields), _FIELDS):
            self._contracts.append(_contract(fields[i : i + _FIELDS]))
        emaids = [contract.emaid for contract in self._contracts]
        if len(set(emaids)) < len(emaids) or sum(c.active for c in self._contracts) > 1:
            raise RecordError("damaged", "a contract twice")


def _contract(fields: list) -> Contract:
    """Raises: RecordError."""
    emaid, key, public, custody, operator, numbers, fingerprint = fields
    sizes = [len(field) for field in (key, public, numbers, fingerprint)]
    if sizes != [_KEY, 32, 17, 16] or numbers[16] > 1:
        raise RecordError("damaged", "a contract")
    not_before, not_after, active = struct.unpack(">QQB", numbers)
    contract = Contract(
        text(emaid),
        key,
        public,
        text(custody),
        text(operator),
        not_before,
        not_after,
        fingerprint,
    )
    contract.active = active == 1
    return contract


def _lower_custody(contract: Contract, vault) -> str:
    """Of what the token says and what the index says: either may have been altered."""
    try:
        return levels.lower(vault.custody(contract.key), contract.custody)
    except VaultError:  # for a moment: the next start asks again
        return contract.custody


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
