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
import struct

from .errors import EvccError

ROOM = 128  # envelopes in the life of a car, 37 bytes each
MISMATCHES = 5
ASKED, OPENED, MISMATCHED = 0, 1, 2  # states of an envelope
_HASH = 12  # bytes
_ENTRY = 3 * _HASH + 1
_HEAD = _HASH + 1


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

    `mismatches`: the number of envelopes with another certificate's key, in the life of the
    provisioning key or since the lock was lifted; one byte of `packed`.
    Raises EnvelopeError("damaged").
    """

    def __init__(self, room: int = ROOM, stored: bytes = b"") -> None:
        self._room = room
        self._key = bytes(_HASH)  # of the provisioning key they were sealed to
        self._entries: list = []
        self.mismatches = 0
        if stored:
            self._load(stored)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def locked(self) -> bool:
        """Whether `MISMATCHES` is reached: no envelope is opened until `unlock`."""
        return self.mismatches >= MISMATCHES

    def unlock(self) -> None:
        """Lift the lock. The entries stay."""
        self.mismatches = 0

    def opened(self, leaf: bytes) -> bool:
        """Whether the contract key of this certificate was opened before. leaf: as in `add`."""
        return any(entry[2] == _hash(leaf) and entry[3] == OPENED for entry in self._entries)

    def check(self, provisioning: bytes, dh_point: bytes, wrapped: bytes, leaf: bytes) -> None:
        """Check that this envelope may be opened. The arguments are those of `add`.

        Raises EnvelopeError("seen" | "mismatched" | "locked" | "full").
        """
        if _hash(provisioning) != self._key:
            return  # another provisioning key: it opens none of the former envelopes
        entry = self._find(dh_point)
        if entry and entry[1:3] != [_hash(wrapped), _hash(leaf)]:
            raise EnvelopeError("seen", "the ephemeral key came with another envelope")
        if entry and entry[3] == MISMATCHED:
            raise EnvelopeError("mismatched", "not the key of its certificate, as before")
        if self.locked:
            raise EnvelopeError("locked", "%d keys were not their certificates'" % self.mismatches)
        if not entry and len(self._entries) >= self._room:
            raise EnvelopeError("full", "%d envelopes" % len(self._entries))

    def add(self, provisioning: bytes, dh_point: bytes, wrapped: bytes, leaf: bytes) -> None:
        """Enter an envelope; store the table before the token is asked.

        provisioning: the point of the provisioning key. dh_point: 0x04 | X | Y. wrapped: IV |
        ciphertext. leaf: the contract certificate, or bytes that are unique to it. Raises as
        `check`.
        """
        self.check(provisioning, dh_point, wrapped, leaf)
        if _hash(provisioning) != self._key:
            self._key = _hash(provisioning)
            self._entries = []
            self.mismatches = 0
        if not self._find(dh_point):
            self._entries.append([_x(dh_point), _hash(wrapped), _hash(leaf), ASKED])

    def settle(self, dh_point: bytes, is_match: bool) -> None:
        """Note the outcome of an envelope that was added; another DH point changes nothing.

        is_match: whether the opened key was its certificate's."""
        entry = self._find(dh_point)
        if not entry:
            return
        if not is_match:
            self.mismatches += 1
        entry[3] = OPENED if is_match else MISMATCHED

    def packed(self) -> bytes:
        """For `stored`: 13 bytes, and 37 for each envelope."""
        out = bytearray(self._key)
        out.append(self.mismatches)
        for x, wrapped, leaf, state in self._entries:
            out += x + wrapped + leaf
            out.append(state)
        return bytes(out)

    def _find(self, dh_point: bytes):
        x = _x(dh_point)
        for entry in self._entries:
            if entry[0] == x:
                return entry
        return None

    def _load(self, stored: bytes) -> None:
        count, remainder = divmod(len(stored) - _HEAD, _ENTRY)
        if count < 0 or remainder or count > self._room:
            raise EnvelopeError("damaged", "%d bytes of envelopes" % len(stored))
        self._key, self.mismatches = struct.unpack("%dsB" % _HASH, stored[:_HEAD])
        row = "%ds%ds%dsB" % (_HASH, _HASH, _HASH)
        for at in range(_HEAD, len(stored), _ENTRY):
            entry = list(struct.unpack(row, stored[at : at + _ENTRY]))
            if entry[3] > MISMATCHED:
                raise EnvelopeError("damaged", "state %d" % entry[3])
            self._entries.append(entry)


def _x(point: bytes) -> bytes:
    """The hash of the X coordinate alone."""
    return _hash(point[1 : 1 + len(point) // 2])


def _hash(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:_HASH]
