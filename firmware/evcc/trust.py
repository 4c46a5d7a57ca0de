"""The trust anchors the car was sold with: V2G, mobility operator and OEM roots, by sales region.

The maker replaces the set as a whole, over the authenticated channel; no certificate in a message
ever becomes an anchor. Each anchor must be a root: self-signed, a CA, and valid now. The store is
bounded, because a board's flash is.
"""

from . import chain, x509
from .errors import EvccError
from .record import RecordError, pack, text, unpack
from .revocation import Revocation
from .verified import Verified

KINDS = ("V2G", "MO", "OEM")
MAX_ANCHORS = 16
MAX_REGION = 16  # characters
FILE = "trust"


class TrustError(EvccError):
    """A set of anchors that cannot be installed, or a stored one that cannot be read."""

    REASONS = ("kind", "region", "too-many", "not-an-anchor", "damaged")


class Trust:
    """files: a `ports.files.Files`; verify: (point, digest, r‖s) -> bool.

    `revocation`: the revoked certificates below the anchors. `verify`: the same function for
    certificates; `verified` remembers the valid signatures.
    Raises: TrustError("damaged"); StoreError.
    """

    def __init__(self, files, verify) -> None:
        self._files = files
        self.verified = Verified(verify)
        self.verify = self.verified.check
        self.revocation = Revocation(files)
        self._region = ""
        self._anchors: list = []  # [(kind, Certificate)]
        stored = files.read(FILE)
        if stored is not None:
            try:
                self._load(unpack(stored))
            except (RecordError, TrustError) as e:
                raise TrustError("damaged", "the trust anchors: " + str(e))

    def _load(self, fields: list) -> None:
        if len(fields) % 2 == 0:
            raise RecordError("damaged", "number of fields")
        anchors = [(text(fields[i]), fields[i + 1]) for i in range(1, len(fields), 2)]
        region = text(fields[0])
        self._anchors = _parsed(region, anchors)
        self._region = region

    def region(self) -> str:
        """The sales region of the installed set, e.g. "EU"; "" before the first one."""
        return self._region

    def anchors(self, *kinds) -> list:
        """The installed roots of these kinds, as Certificates."""
        return [certificate for kind, certificate in self._anchors if kind in kinds]

    def install(self, region: str, anchors: list, now: int) -> None:
        """Replace the whole set, or change nothing.

        region: 1..16 characters. anchors: [(kind, DER)], at most `MAX_ANCHORS`. now: unix seconds.
        Raises TrustError, with the cause in its `detail`; StoreError; the errors of `verify`.
        """
        parsed = _parsed(region, anchors)
        fields = [region.encode()]
        for kind, certificate in parsed:
            try:
                chain.is_anchor(certificate, now, self.verify)
            except x509.CertificateError as e:
                raise TrustError("not-an-anchor", str(e))
            fields += [kind.encode(), certificate.der]
        self._files.write(FILE, pack(fields))
        self._region = region
        self._anchors = parsed


def _parsed(region: str, anchors: list) -> list:
    """[(kind, Certificate)] of a set. Checks its form, no dates or signatures."""
    if not 0 < len(region) <= MAX_REGION:
        raise TrustError("region", "1 to %d characters" % MAX_REGION)
    if len(anchors) > MAX_ANCHORS:
        raise TrustError("too-many", "%d, room for %d" % (len(anchors), MAX_ANCHORS))
    parsed = []
    for kind, der in anchors:
        if kind not in KINDS:
            raise TrustError("kind", str(kind))
        try:
            parsed.append((kind, x509.parse(der)))
        except x509.CertificateError as e:
            raise TrustError("not-an-anchor", str(e))
    return parsed
