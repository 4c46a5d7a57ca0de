"""Path validation on the host: the rules of `evcc.chain` with the host's ECDSA.

Vehicle and ecosystem use the same rules, so they cannot disagree about a path. Certificates of
ISO 15118-2 are read by `evcc.x509`, as in the vehicle; those of ISO 15118-20 by
`plugvault.pki.iso20`, on the host only. Revocation is not checked.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import new, sha256

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)

from evcc import chain, x509
from evcc.x509 import Certificate, CertificateError
from plugvault.pki import iso20
from plugvault.pki.names import serial_hex
from plugvault.pki.schemes import PublicKey, public_bits
from plugvault.pki.verify import verify_p256

# A board cuts these out of the DER at each use, to save memory.
_CUT_OUT = (
    *("serial", "issuer", "subject", "names", "point", "ski", "aki", "ocsp"),
    *("tbs_digest", "signature"),
)


@lru_cache(maxsize=512)
def read(der: bytes) -> Certificate:
    """A certificate of ISO 15118-2 (DER, P-256, at most 800 bytes), parsed by `evcc.x509.parse`.
    Raises `evcc.x509.CertificateError`."""
    certificate = x509.parse(der)
    for name in _CUT_OUT:
        setattr(certificate, name, getattr(certificate, name))
    return certificate


@lru_cache(maxsize=512)
def read_any(der: bytes) -> Certificate:
    """A certificate (DER) of either edition. Raises `evcc.x509.CertificateError`."""
    try:
        return read(der)
    except CertificateError as error:
        if error.reason not in ("algorithm", "curve", "size"):
            raise
        try:
            return iso20.read(der)
        except CertificateError as iso20_error:
            raise (error if iso20_error.reason == "curve" else iso20_error) from None


def curve(certificate: Certificate) -> str:
    """The curve of the certificate's key: "secp256r1", "secp521r1" or "ed448"."""
    return certificate.curve if isinstance(certificate, iso20.Iso20Certificate) else "secp256r1"


def verify(point: bytes, digest: bytes, signature: bytes) -> bool:
    """The `verify` argument of `evcc.chain`, for both editions: whether `signature` verifies."""
    check = verify_p256 if len(point) == 65 else iso20.verify
    return check(point, digest, signature)


# The same few sub-CAs are above every leaf, and a signature that holds once holds always.
_verify = lru_cache(maxsize=512)(verify)


def validate(
    leaf: bytes, subs: Sequence[bytes], anchors: Iterable[bytes], role: str, now: float
) -> Certificate:
    """The anchor under which `leaf` is good for `role` at `now`.

    `subs`: DER, Sub2 first; `anchors`: DER of roots from a pool or a store, never from the
    message; `role`: one of evcc.chain's. Raises `evcc.x509.CertificateError`.
    """
    return _validate(leaf, tuple(subs), tuple(anchors), role, int(now))


# The path of the CPS's own leaf is validated for each of its signatures.
@lru_cache(maxsize=64)
def _validate(
    leaf: bytes, subs: tuple[bytes, ...], anchors: tuple[bytes, ...], role: str, now: int
) -> Certificate:
    below, above = ([read_any(der) for der in ders] for ders in (subs, anchors))
    anchor = chain.validate(read_any(leaf), below, above, role, now, _verify)
    if anchor is None:  # only a vehicle may trust transitively
        raise CertificateError("untrusted", "the path ends in no known root")
    return anchor


def check_order(leaf: bytes, subs: Sequence[bytes]) -> None:
    """Check that each sub-CA stands behind the certificate that it issued, as the schema of
    ISO 15118-2 lists them: leaf, Sub2, Sub1. A vehicle may sort them; a pool passes them on.

    Raises CertificateError("untrusted").
    """
    below = read_any(leaf)
    for der in subs:
        above = read_any(der)
        if above.subject != below.issuer:
            names = [cert.names.get("CN", "") for cert in (above, below)]
            raise CertificateError("untrusted", "{} stands behind {}".format(*names) + _ORDER)
        below = above


_ORDER = ", which it did not issue: the order is leaf, Sub2, Sub1"


def check_root(der: bytes, now: float) -> Certificate:
    """A certificate (DER) of either edition that may be an anchor: a CA, valid at `now`, signed by
    its own key. Raises `evcc.x509.CertificateError`."""
    certificate = read_any(der)
    chain.is_anchor(certificate, int(now), verify)
    return certificate


@lru_cache(maxsize=512)
def identity(certificate: Certificate) -> tuple[str, str]:
    """The key of a certificate's revocation status: its issuer's key identifier (a digest of the
    issuer's name where it carries none) and its serial number, both in hexadecimal."""
    issuer: bytes = certificate.aki or sha256(certificate.issuer).digest()
    return issuer.hex(), serial_hex(certificate.serial)


def has_key_digest(certificate: Certificate) -> bool:
    """Whether a CA's key identifier is a digest of its key or of its SubjectPublicKeyInfo, whole
    or truncated [RFC 5280, 4.2.1.2; RFC 7093]. Any other value may be the key identifier of
    another CA, and `identity` would then name the certificates of that one."""
    point = certificate.point
    key = (
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        if len(point) == 65
        else load_der_public_key(point)
    )
    if not isinstance(key, PublicKey):
        return False
    info = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    digests = [
        new(name, data, usedforsecurity=False).digest()
        for data in (public_bits(key), info)
        for name in ("sha1", "sha256", "sha384", "sha512")
    ]
    first_20_bytes = [digest[:20] for digest in digests]
    last_8_bytes = [digest[-8:] for digest in digests]
    method_2 = [bytes([0x40 | end[0] & 0x0F]) + end[1:] for end in last_8_bytes]
    return certificate.ski in (*digests, *first_20_bytes, *last_8_bytes, *method_2)


def fingerprint(der: bytes) -> str:
    """SHA-256 of the DER, lower-case hexadecimal."""
    return x509.fingerprint(der).hex()
