"""The contract store: the contracts in the car, which of them is active, and their chains.

One index file is authoritative and replaced atomically: its write is the commit point of an
installation. For each contract it names the key's id in the vault and the hash of its public key.
Chains lie in files of their own, written before the index names them.

The index also holds the owner (`owner`: the car's identifier in a shared token), the opened
envelopes (`envelopes`), and the journal: the ids of keys to destroy. A new key is in the journal
until its contract is committed, a replaced key from then on. `recover` destroys the keys that the
journal names and no contract does. Any other key without a contract stays and is reported, because
the index may be an older copy. The generation shows that: it grows by one with every write, and
the id of each new key begins with it. The key of the last write stays too, if its chain is stored:
the next write may have been the commit. A contract whose key does not sign stays and is reported.
"""

import hashlib
import struct

from .chain import MAX_SUBS
from .envelopes import MISMATCHED, OPENED, ROOM, Envelopes
from .errors import EvccError
from .ids import INSTANCE_END, is_same_emaid
from .pause import pause
from .record import RecordError, parts, text, unpack
from .vault import OWNER, PROVISIONING, VaultError, levels
from .vault.possession import proves_possession

SLOTS = 5
INDEX = "contracts"
const = int  # MicroPython's compiler replaces the name of a `const` by its number
_VERSION = const(1)
_JOURNAL = const(16)  # keys at most: a failing token leaves some that cannot be destroyed yet
_KEY = const(16)  # bytes of a key's id
_GENERATION = const(4)  # bytes of the generation, at the beginning of a key's id
_FIRST = const(4)  # fields of the index before the first contract's
_FIELDS = const(7)  # fields of a contract in the index
_OPERATOR = const(40)  # characters of the longest name: a status has room for five contracts
_ATTEMPTS = const(3)  # for a request whose vault process another client's request may have ended


class ContractError(EvccError):
    """A request the contract store refuses."""

    REASONS = (
        "full",  # every slot holds a contract
        "not-found",
        "expired",
        "replayed",  # the contract was installed before
        "older",  # its validity begins before that of the installed contract
        "damaged",  # the stored index or chain
        "key-lost",  # its key or its chain is gone
    )


class Contract:
    """One contract. emaid: 14..15 characters; key: id in the vault, 16 bytes; public: SHA-256 of
    the key's point, 32 bytes; custody: e.g. "L1+"; operator: O of the certificate, cut after 40
    characters; not_before, not_after: unix seconds; fingerprint: the first 16 bytes of the leaf's
    SHA-256; active: whether the car pays with it; lost: whether its key or its chain is gone."""

    def __init__(
        self, emaid, key, public, custody, operator, not_before, not_after, fingerprint
    ) -> None:
        self.emaid = emaid
        self.key = key
        self.public = public
        self.custody = custody
        self.operator = operator[:_OPERATOR]
        self.not_before = not_before
        self.not_after = not_after
        self.fingerprint = fingerprint
        self.active = False
        self.lost = False

    def valid(self, now: int) -> bool:
        """Whether `now`, in unix seconds, is within the certificate's dates, both included."""
        return self.not_before <= now <= self.not_after


class Contracts:
    """files: a `ports.files.Files`. slots: how many contracts fit.

    `owner`: 8 random bytes that are in the labels of the car's keys in the vault; b"" until
    `recover` has drawn them. `envelopes`: see `evcc.envelopes`. `unnamed`: the ids of the car's
    keys that no contract names, as `recover` found them.
    Raises: ContractError("damaged"); StoreError.
    """

    def __init__(self, files, slots: int = SLOTS) -> None:
        self._files = files
        self._slots = slots
        self._contracts: list = []
        self._journal: list = []
        self._generation = 0
        self._held = b""
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
        """The contract of this EMAID (normalised, with or without check digit), or None."""
        for contract in self._contracts:
            if is_same_emaid(contract.emaid, emaid):
                return contract
        return None

    def active(self):
        """The contract the car pays with, or None."""
        for contract in self._contracts:
            if contract.active:
                return contract
        return None

    def usable(self, now: int, emaid=None, is_known: bool = True):
        """The contract to charge with: the one named, else the active one.

        now: unix seconds; while the time is not known (`is_known`), the lowest possible time,
        which can show that a contract has expired and not that it is not valid yet.
        Raises ContractError("not-found" | "expired" | "key-lost").
        """
        contract = self.active() if emaid is None else self.get(emaid)
        if not contract:
            raise ContractError("not-found", emaid or "no contract is active")
        if not contract.valid(now if is_known else max(now, contract.not_before)):
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

    def admit(self, emaid: str, fingerprint: bytes, not_before: int, offered=None) -> None:
        """Check that such a contract may be installed now, before a private key is used.

        offered: the EMAID that the maker has announced, else None. The maker may bring back a
        contract that is not in the car any more; a message from a station may not.
        Raises ContractError("full" | "replayed" | "older").
        """
        current = self.get(emaid)
        is_replay = self.envelopes.opened(fingerprint)
        if current and current.fingerprint == fingerprint:
            is_replay = not current.lost  # the same contract again repairs a lost one
        if is_replay and (current or not offered):
            raise ContractError("replayed", emaid)
        if not current and len(self._contracts) >= self._slots:
            raise ContractError("full", "all %d slots in use" % self._slots)
        if current and not_before < current.not_before:
            raise ContractError("older", emaid)

    def begin(self, vault, dh_point: bytes, wrapped: bytes, fingerprint: bytes) -> bytes:
        """Note an envelope before the vault is asked to open it; returns the id of its key.

        dh_point, wrapped: the envelope. fingerprint: of its contract. On return both can be
        recognised after a restart. The envelope is stored as a mismatch, which `failed` and
        `commit` take back, so that a power cut does not evade the lock. Raises EnvelopeError,
        StoreError or VaultError, and changes nothing then.
        """
        envelopes = self.envelopes
        envelopes.add(vault.public(PROVISIONING), dh_point, wrapped, fingerprint)
        envelopes.mismatches += 1
        try:
            key = _prefix(self._generation + 1) + vault.random(_KEY - _GENERATION)
            self._store(self._contracts, self._journal + [key])
        except Exception:
            envelopes.mismatches -= 1
            envelopes.undo()
            raise
        envelopes.mismatches -= 1
        return key

    def failed(self, dh_point: bytes, is_mismatch: bool) -> None:
        """Note the failure of an installation that was begun. dh_point: as in `begin`.
        is_mismatch: whether the envelope held another key than its certificate's. An index that
        cannot be written is no error here."""
        if is_mismatch:
            self.envelopes.settle(dh_point, MISMATCHED)
        try:
            self._store(self._contracts, self._journal)
        except EvccError:
            pass  # `begin` has stored the envelope, and the next write stores this

    def unlock(self) -> None:
        """Accept envelopes again after too many mismatches. Raises StoreError."""
        mismatches = self.envelopes.mismatches
        self.envelopes.mismatches = 0
        try:
            self._store(self._contracts, self._journal)
        except Exception:
            self.envelopes.mismatches = mismatches
            raise

    def commit(self, contract: Contract, chain: list, dh_point: bytes = b""):
        """Add a contract: the commit point of an installation.

        chain: DER, leaf first. dh_point: of the envelope that held its key, as in `begin`. The
        contract replaces the one with the same EMAID, and is active if that was, or if it is the
        first. Returns the key of the replaced contract, for the caller to delete; None: there is
        none, or a session holds it.
        Raises StoreError, and changes nothing then.
        """
        old = self.get(contract.emaid)
        contract.active = old.active if old else not self._contracts
        contracts = [contract if c is old else c for c in self._contracts]
        if not old:
            contracts.append(contract)
        journal = [key for key in self._journal if key != contract.key]
        name, old_name = _chain_file(contract.key), _chain_file(old.key) if old else ""
        self.envelopes.settle(dh_point, OPENED)
        try:
            pause()
            self._files.write(name, *parts(chain))
            pause()  # none after this one: a link error after the commit point would undo half
            self._store(contracts, journal + [old.key] if old else journal)
        except Exception:
            self.envelopes.undo()
            self._discard(name)
            raise
        if not old:
            return None
        self._discard(old_name)
        return None if old.key == self._held else old.key

    def hold(self, emaid: str):
        """The contract of this EMAID, whose key a replacement leaves until `release`.

        For a session that pays with it. Raises ContractError("not-found").
        """
        contract = self._named(emaid)
        self._held = contract.key
        return contract

    def release(self, vault) -> None:
        """After a session: destroy the key that was held, if its contract was replaced."""
        key, self._held = self._held, b""
        if key and key not in [contract.key for contract in self._contracts]:
            try:
                vault.delete(key)
            except VaultError:
                pass  # `recover` deletes it at the next start

    def choose(self, emaid: str) -> None:
        """Make this contract the active one; "": none.

        Raises ContractError("not-found"); StoreError, and changes nothing then.
        """
        chosen = self._named(emaid) if emaid else None
        before = self.active()
        try:
            self._activate(chosen)
            self._store(self._contracts, self._journal)
        except Exception:
            self._activate(before)
            raise

    def _activate(self, chosen) -> None:
        for contract in self._contracts:
            contract.active = contract is chosen

    def delete(self, emaid: str) -> bytes:
        """Remove a contract. No other becomes active: the car's owner chooses the one to pay with.

        Returns its key, for the caller to delete. Raises ContractError("not-found"); StoreError,
        and changes nothing then.
        """
        contract = self._named(emaid)
        contracts = [c for c in self._contracts if c is not contract]
        self._store(contracts, self._journal + [contract.key])
        self._discard(_chain_file(contract.key))
        return contract.key

    def recover(self, vault) -> list:
        """After a start: claim the car's keys, have every contract's key sign, destroy the keys in
        the journal, report missing and surplus keys. Returns sentences for the log.

        Raises VaultError where the vault fails rather than one key; StoreError where a new car
        cannot store its owner.
        """
        if not self._indexed:
            return self._begin_anew(vault)
        vault.claim(self.owner)
        points = dict(_retry(vault.keys))
        log = []
        for contract in self._contracts:
            fault = self._fault(contract, points.get(contract.key), vault)
            contract.lost = bool(fault)
            if fault:
                log.append(fault)
            else:
                contract.custody = _lower_custody(contract, vault)
        keys = [contract.key for contract in self._contracts]
        files = self._files.names()
        last = _prefix(self._generation)
        self._journal = [
            key
            for key in self._journal
            if key[:_GENERATION] != last or _chain_file(key) not in files
        ]
        surplus = [key for key in points if key not in keys and key != PROVISIONING]
        log += [
            _remove("key", _hex(key) or "without a name", vault.delete, key)
            for key in surplus
            if key in self._journal or not key
        ]
        self.unnamed = [key for key in surplus if key and key not in self._journal]
        log += self._report_unnamed()
        names = [_chain_file(key) for key in keys + self.unnamed]
        log += [
            _remove("chain", name, self._files.delete, name)
            for name in files
            if name.startswith("chain-") and name not in names
        ]
        return log

    def discard_unnamed(self, vault) -> None:
        """Destroy the keys that no contract names, on an authorized request. Raises VaultError."""
        while self.unnamed:
            try:
                vault.delete(self.unnamed[-1])
            except VaultError as e:
                if e.reason != "not-found":
                    raise
            self.unnamed.pop()

    def _begin_anew(self, vault) -> list:
        """For a new car, or one with a new folder: no key in the token is its own."""
        count = len(_retry(vault.keys))
        self.owner = vault.random(OWNER)
        self._store([], [])
        vault.claim(self.owner)
        return ["no contract index: %d keys left alone" % count] if count else []

    def _report_unnamed(self) -> list:
        log = ["a key that no contract names stays: " + _hex(key) for key in self.unnamed]
        generations = [int.from_bytes(key[:_GENERATION], "big") for key in self.unnamed]
        newest = max(generations) if generations else 0
        if newest > self._generation:
            text = "the index is older than the token: %d, a key is of %d"
            log.insert(0, text % (self._generation, newest))
            self._generation = newest  # the next write is newer than both
        return log

    def _fault(self, contract: Contract, point, vault) -> str:
        """The difference between a contract and what was committed; "" for none.

        A token may list a torn or damaged key like any other: a signature proves that it works.
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
            if _retry(lambda: proves_possession(vault, contract.key, point)):
                return ""
        except VaultError:
            vault.random(1)  # raises where the vault fails rather than the key
        return name + " does not sign: it is damaged in the token"

    def _discard(self, name: str) -> None:
        """Delete a file that the index does not name; if that fails, `recover` repeats it.

        An error here, also of the heap, would tell the caller that nothing was committed.
        """
        try:
            self._files.delete(name)
        except Exception:  # noqa: BLE001, S110 - see above
            pass

    def _named(self, emaid: str) -> Contract:
        contract = self.get(emaid)
        if not contract:
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
        self._files.write(INDEX, *parts(fields))
        self._generation += 1
        self._contracts = contracts
        self._journal = journal
        self._indexed = True

    def _load(self, fields: list) -> None:
        """Raises: RecordError, EnvelopeError, ValueError for what `_store` never writes."""
        if len(fields) < _FIRST or (len(fields) - _FIRST) % _FIELDS:
            raise RecordError("damaged", "%d fields" % len(fields))
        head, self.owner, journal, envelopes = fields[:_FIRST]
        if len(head) != 9 or head[0] != _VERSION or head[1] > 127:  # no car writes 2**63 times
            raise RecordError("damaged", "of another version")
        if len(self.owner) not in (0, OWNER) or len(journal) % _KEY:
            raise RecordError("damaged", "owner or journal")
        self._generation = int.from_bytes(head[1:], "big")
        self._journal = [journal[i : i + _KEY] for i in range(0, len(journal), _KEY)]
        self.envelopes = Envelopes(ROOM, envelopes)
        for i in range(_FIRST, len(fields), _FIELDS):
            self._contracts.append(_contract(fields[i : i + _FIELDS]))
        emaids = [contract.emaid[:INSTANCE_END] for contract in self._contracts]
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
    """The lower of the levels in the token and in the index: either may have been altered."""
    try:
        return levels.lower(vault.custody(contract.key), contract.custody)
    except VaultError:  # the next start asks again
        return contract.custody


def _retry(operation):
    """The operation's result. A vault service has several clients: a request of another client may
    have ended the service's process before it answered this one."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return operation()
        except VaultError as e:
            if e.reason != "unavailable":
                raise
    return operation()


def _remove(kind: str, name: str, delete, item) -> str:
    """Remove a key or a chain without a contract; a failure must not prevent the start. Returns a
    sentence for the log."""
    try:
        delete(item)
    except EvccError as e:
        return "a " + kind + " without a contract stays: " + name + ": " + str(e)
    return "removed a " + kind + " without a contract: " + name


def _prefix(generation: int) -> bytes:
    """The first bytes of a key's id."""
    return (generation & 0xFFFFFFFF).to_bytes(_GENERATION, "big")


def _chain_file(key: bytes) -> str:
    return "chain-" + _hex(key)


def _hex(data: bytes) -> str:
    return "".join("%02x" % b for b in data)
