"""The trust anchors the car was sold with: V2G, mobility operator and OEM roots, by sales region.

The set is replaced as a whole, by the maker, over the authenticated channel; nothing that arrives
in a message ever becomes an anchor. Each one must be a root: self-signed, a CA, and valid now.
The store is bounded, because a board's flash is.
"""

from . import chain, x509
from .errors import EvccError
from .record import pack, unpack
from .revocation import Revocation

KINDS = ("V2G", "MO", "OEM")
MAX_ANCHORS = 16
FILE = "trust"


class TrustError(EvccError):
    """A set of anchors that cannot be installed."""

    REASONS = ("kind", "region", "too-many", "not-an-anchor")


class Trust:
    """files: a `ports.files.Files`; verify: (point, digest, r‖s) -> bool.

    `revocation`: which certificates below the anchors are not to be trusted.
    """

    def __init__(self, files, verify) -> None:
        self._files = files
        self._verify = verify
        self.revocation = Revocation(files)
        self._region = ""
        self._anchors: list = []  # [(kind, Certificate)]
        stored = files.read(FILE)
        if stored is not None:
            fields = unpack(stored)
            self._region = fields[0].decode()
            for i in range(1, len(fields), 2):
                self._anchors.append((fields[i].decode(), x509.parse(fields[i + 1])))

    def region(self) -> str:
        """The sales region of the installed set, e.g. "EU"; "" before the factory."""
        return self._region

    def anchors(self, *kinds) -> list:
        """The installed roots of these kinds, as Certificates."""
        return [certificate for kind, certificate in self._anchors if kind in kinds]

    def install(self, region: str, anchors: list, now: int) -> None:
        """Replace the whole set, or change nothing.

        region: 1..16 characters. anchors: [(kind, DER)]. now: unix seconds.
        Raises TrustError(reason); the cause is in its `detail`.
        """
        if not 0 < len(region) <= 16:
            raise TrustError("region", "1 to 16 characters")
        if len(anchors) > MAX_ANCHORS:
            raise TrustError("too-many", "%d, room for %d" % (len(anchors), MAX_ANCHORS))
        parsed = []
        fields = [region.encode()]
        for kind, der in anchors:
            if kind not in KINDS:
                raise TrustError("kind", str(kind))
            try:
                certificate = x509.parse(der)
                chain.is_anchor(certificate, now, self._verify)
            except x509.CertificateError as e:
                raise TrustError("not-an-anchor", str(e))
            parsed.append((kind, certificate))
            fields.append(kind.encode())
            fields.append(der)
        self._files.write(FILE, pack(fields))
        self._region = region
        self._anchors = parsed
