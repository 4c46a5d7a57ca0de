"""The algorithms of ISO 15118's two editions, one row each.

ISO 15118-2: P-256 with SHA-256, certificates of at most 800 bytes. ISO 15118-20: P-521 with
SHA-512, or Ed448 [V2G20-2674, V2G20-2319], certificates of at most 1600. A CA issues within its
own edition only. What the car knows too comes from its table, `evcc.vault.schemes`.
"""

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec, ed448
from cryptography.hazmat.primitives.hashes import SHA256, SHA512
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from evcc.vault.schemes import SCHEMES as VEHICLE_SCHEMES

PublicKey = ec.EllipticCurvePublicKey | ed448.Ed448PublicKey
PrivateKey = ec.EllipticCurvePrivateKey | ed448.Ed448PrivateKey

_ISO2 = VEHICLE_SCHEMES["iso2"]
_ISO20 = "urn:iso:15118:20:2022:MsgDef"
EDITION2, EDITION20 = _ISO2.edition, "ISO15118-20"


@dataclass(frozen=True)
class Scheme:
    """The algorithms of one curve. `name`: the curve as OPCP names it; `edition`: as in OPCP's
    paths; `namespace`: as in OPCP's bodies; `limit`: bytes of a certificate's DER; `hash`: None
    for Ed448, which has its own."""

    name: str
    edition: str
    namespace: str
    limit: int
    hash: SHA256 | SHA512 | None


SCHEMES = {
    scheme.name: scheme
    for scheme in (
        Scheme(_ISO2.curve, EDITION2, _ISO2.namespace, _ISO2.certificate_limit, SHA256()),
        Scheme("secp521r1", EDITION20, _ISO20, 1600, SHA512()),
        Scheme("ed448", EDITION20, _ISO20, 1600, None),
    )
}
# Two namespaces of -20 are in use: parts of the OPCP specification have the earlier one.
EDITIONS = {
    _ISO2.namespace: EDITION2,
    _ISO20: EDITION20,
    "urn:iso:15118:20:2020:MsgDef": EDITION20,
}


def scheme_of(key: object) -> Scheme | None:
    """The scheme of a key, public or private; None for any other algorithm."""
    if isinstance(key, ed448.Ed448PublicKey | ed448.Ed448PrivateKey):
        return SCHEMES["ed448"]
    if isinstance(key, ec.EllipticCurvePublicKey | ec.EllipticCurvePrivateKey):
        return SCHEMES.get(key.curve.name)
    return None


def public_bits(key: PublicKey) -> bytes:
    """The bytes of a certificate's public key bit string: 0x04 | X | Y on a curve of NIST, or
    Ed448's 57 bytes."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return key.public_bytes_raw()
