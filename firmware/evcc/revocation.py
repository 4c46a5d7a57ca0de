"""The revocation list: the certificates that the maker has told the car not to trust any more.

A car asks no OCSP responder: at a charging station it has no connection to one, and the answer
that a station staples in TLS is about the station alone. So the maker, which can ask, sends the
list over the authenticated channel: CPS, sub-CA and contract certificates, by issuer and serial
number; a station's are looked up in it too. A list says when it is out of date; after that no
contract is installed before a new list arrives. Without a list no certificate is looked up, and
the status says so.

A list replaces an older one, or one of the same second. A list with a date in the future, of a
maker whose clock was ahead, would refuse every right one until that date. So it gives way to any
list once the maker's authenticated time shows that its date is in the future; the car's own clock
shows nothing.
"""

import hashlib

from .errors import EvccError
from .record import RecordError, pack, unpack

FILE = "revoked"
ROOM = 256  # certificates
NAME = 16  # bytes of a certificate's name
NEVER = 0xFFFFFFFF  # `until` of a list that is not renewed


class RevocationError(EvccError):
    """A list that is refused; the former one stays."""

    REASONS = (
        "list",  # malformed or too long
        "older",  # than the car's list
        "damaged",  # the stored one
    )


def name(issuer: bytes, serial: int) -> bytes:
    """The 16 bytes that name a certificate in a list: the first of the SHA-256 over `issuer`, its
    DER Name, and `serial`, 20 bytes big-endian."""
    return hashlib.sha256(issuer + serial.to_bytes(20, "big")).digest()[:NAME]


class Revocation:
    """The car's list. files: a `ports.files.Files`.

    Raises: RevocationError("damaged"); StoreError.
    """

    def __init__(self, files) -> None:
        self._files = files
        self.issued = self.until = 0  # unix seconds; 0: there is no list
        self._names: list = []
        stored = files.read(FILE)
        if stored is not None:
            try:
                self._take(unpack(stored))
            except (RecordError, RevocationError, ValueError) as e:
                raise RevocationError("damaged", "the revoked certificates: " + str(e))

    def __len__(self) -> int:
        return len(self._names)

    def includes(self, certificate) -> bool:
        """Whether a certificate (`evcc.x509`) is revoked."""
        return name(certificate.issuer, certificate.serial) in self._names

    def is_stale(self, now: int) -> bool:
        """Whether there is a list that is out of date. now: unix seconds."""
        return 0 < self.until < now

    def install(self, issued: int, until: int, names: list, now: int = NEVER) -> None:
        """Replace the list. issued, until: unix seconds, 32 bits; until: `NEVER` for no end.
        names: as `name` makes them, at most `ROOM`. now: the maker's time, `NEVER` if unknown.

        Raises: RevocationError("list" | "older"); StoreError.
        """
        if issued < self.issued <= now:
            raise RevocationError("older", "%d after %d" % (issued, self.issued))
        fields = [issued.to_bytes(4, "big"), until.to_bytes(4, "big"), b"".join(names)]
        if not issued or until < issued or any(len(item) != NAME for item in names):
            raise RevocationError("list", "dates or names")
        if len(names) > ROOM:
            raise RevocationError("list", "%d, room for %d" % (len(names), ROOM))
        self._files.write(FILE, pack(fields))
        self._take(fields)

    def _take(self, fields: list) -> None:
        if [len(field) for field in fields[:2]] != [4, 4] or len(fields) != 3:
            raise RevocationError("list", "%d fields" % len(fields))
        flat = fields[2]
        if len(flat) % NAME or len(flat) > ROOM * NAME:
            raise RevocationError("list", "%d bytes of names" % len(flat))
        self.issued, self.until = (int.from_bytes(field, "big") for field in fields[:2])
        self._names = [flat[i : i + NAME] for i in range(0, len(flat), NAME)]
