"""The table of envelopes that a provisioning key was asked to open, against a decryption oracle.

ISO 15118-2 seals a contract key with AES-CBC, which has no integrity. An attacker can change a
recorded envelope and send it again with a certificate of their choice. The answer, "opened" or
"key-mismatch", reveals one bit of the contract key; 256 such requests reveal all of it. Each of
them needs the ephemeral point of the recording. So a point is accepted once: with another envelope
or another certificate it is refused before a private key is used. The same point, envelope and
certificate may be repeated, after a lost answer. Only the X coordinate counts, since a point and
its negation give the same secret.

An honest sender never seals a key of another certificate. `MISMATCHES` such envelopes in the life
of a provisioning key lock the table: no envelope is opened until the lock is lifted.

An entry stays as long as the provisioning key does. A full table takes no new envelope, so that no
sender can push an entry out.

The table is pure data. Its owner stores `packed()` before the token is asked.
"""

import hashlib

from .errors import EvccError

ROOM = 128  # envelopes in the life of a car, 37 bytes each
MISMATCHES = 5
ASKED, OPENED, MISMATCHED = 0, 1, 2  # states of an envelope
const = int  # MicroPython's compiler replaces the name of a `const` by its number
_HASH = const(12)  # bytes
# The hash of the provisioning key and the number of mismatches; then for each envelope the hashes
# of its point, of its bytes and of its certificate, and its state.
_HEAD = const(_HASH + 1)
_LEAF = const(2 * _HASH)
_STATE = const(3 * _HASH)
_ENTRY = const(_STATE + 1)
_STEP = const(16)  # entries by which the table grows


class EnvelopeError(EvccError):
    """An envelope that is not to be opened."""

    REASONS = (
        "seen",  # its point came before, with another envelope or certificate
        "mismatched",  # it was tried before: its key is not its certificate's
        "locked",
        "full",
        "damaged",  # the stored table
    )


class Envelopes:
    """room: the number of entries. stored: of `packed`, or b"" for none.

    Raises EnvelopeError("damaged").
    """

    def __init__(self, room: int = ROOM, stored: bytes = b"") -> None:
        self._room = room
        self._table = bytearray(stored or bytes(_HEAD))
        self._end = len(self._table)
        self._former = (self._table, self._end, 0, self._table[0])  # for `undo`
        if len(self) > room or (self._end - _HEAD) % _ENTRY:
            raise EnvelopeError("damaged", "the length")
        for at in range(_HEAD + _STATE, self._end, _ENTRY):
            if self._table[at] > MISMATCHED:
                raise EnvelopeError("damaged", "a state")

    def __len__(self) -> int:
        return self._end // _ENTRY  # the head is shorter than an entry

    def reserve(self) -> None:
        """Make the room of the next entries, before a message takes a board's heap."""
        if self._end == len(self._table) and len(self) < self._room:
            # In a new table: a view of the former one may be left.
            self._table = self._table + bytes(min(_STEP, self._room - len(self)) * _ENTRY)

    def packed(self) -> memoryview:
        """For `stored`, 13 bytes and 37 for each envelope: a view, until the table changes."""
        return memoryview(self._table)[: self._end]

    @property
    def mismatches(self) -> int:
        """The number of envelopes with another certificate's key, in the life of the provisioning
        key or since the lock was lifted: 0 to 255."""
        return self._table[_HASH]

    @mismatches.setter
    def mismatches(self, count: int) -> None:
        self._table[_HASH] = count

    @property
    def locked(self) -> bool:
        """Whether `MISMATCHES` is reached: no envelope is opened until `mismatches` is 0 again."""
        return self.mismatches >= MISMATCHES

    def opened(self, leaf: bytes) -> bool:
        """Whether the contract key of this certificate was opened before. leaf: as in `add`."""
        return self._find(_hash(leaf) + bytes([OPENED]), _LEAF) > 0

    def check(self, provisioning: bytes, dh_point: bytes, wrapped: bytes, leaf: bytes) -> None:
        """Check that this envelope may be opened. The arguments are those of `add`.

        Raises EnvelopeError("seen" | "mismatched" | "locked" | "full").
        """
        if _hash(provisioning) != self._table[:_HASH]:
            return  # another provisioning key: it opens none of the former envelopes
        at = self._find(_x(dh_point))
        if at and self._table[at + _HASH : at + _STATE] != _hash(wrapped) + _hash(leaf):
            raise EnvelopeError("seen", "its point came before")
        if at and self._table[at + _STATE] == MISMATCHED:
            raise EnvelopeError("mismatched", "its key was another, as before")
        if self.locked:
            raise EnvelopeError("locked", "%d keys were not their certificates'" % self.mismatches)
        if not at and len(self) >= self._room:
            raise EnvelopeError("full", "%d envelopes" % len(self))

    def add(self, provisioning: bytes, dh_point: bytes, wrapped: bytes, leaf: bytes) -> None:
        """Enter an envelope; store the table before the token is asked.

        provisioning: the point of the provisioning key. dh_point: 0x04 | X | Y. wrapped: IV |
        ciphertext. leaf: the contract certificate, or bytes that are unique to it. Raises as
        `check`.
        """
        self.check(provisioning, dh_point, wrapped, leaf)
        point, owner = _x(dh_point), _hash(provisioning)
        entry = point + _hash(wrapped) + _hash(leaf) + bytes([ASKED])
        self._former = (self._table, self._end, 0, self._table[0])
        if owner != self._table[:_HASH]:
            table, end = bytearray(_HEAD + _STEP * _ENTRY), _HEAD
            table[:_HASH] = owner
        elif self._find(point):
            return
        else:
            self.reserve()
            table, end = self._table, self._end
        # Up to the last line a failure, also of the heap, leaves the table as it was.
        table[end : end + _ENTRY] = entry
        self._table, self._end = table, end + _ENTRY

    def settle(self, dh_point: bytes, state: int) -> None:
        """Note the outcome of an envelope that was added: `OPENED`, or `MISMATCHED`, which counts.
        Another DH point changes nothing."""
        entry = self._find(_x(dh_point))
        at = entry + _STATE if entry else 0
        self._former = (self._table, self._end, at, self._table[at])
        if entry:
            self._table[at] = state
            if state == MISMATCHED:
                self.mismatches += 1

    def undo(self) -> None:
        """Take back the last `add`, or state of `settle`, that was not stored. It takes no heap,
        for one that has run out."""
        self._table, self._end, at, former = self._former
        self._table[at] = former

    def _find(self, value: bytes, offset: int = 0) -> int:
        """The place of the entry with `value` at `offset`; 0: there is none."""
        for at in range(_HEAD, self._end, _ENTRY):
            if self._table[at + offset : at + offset + len(value)] == value:
                return at
        return 0


def _x(point: bytes) -> bytes:
    """The hash of the X coordinate alone."""
    return _hash(point[1 : 1 + len(point) // 2])


def _hash(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:_HASH]
