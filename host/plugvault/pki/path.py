"""The host's path policy: evcc's path validation, with the host's verification and its pools.

The rules themselves are `evcc.chain`'s, so that the vehicle and the ecosystem can never disagree
about a path: of ISO 15118-2 as a vehicle reads it, and of ISO 15118-20 (`plugvault.pki.iso20`)
where only the host looks. Revocation is not looked at here.
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


@lru_cache(maxsize=512)
def read(der: bytes) -> Certificate:
    """`evcc.x509.parse`, in the limits of ISO 15118-2. Raises `evcc.x509.CertificateError`."""
    return x509.parse(der)


@lru_cache(maxsize=512)
def read_any(der: bytes) -> Certificate:
    """A certificate of either edition. Raises `evcc.x509.CertificateError`."""
    try:
        return read(der)
    except CertificateError as error:
        if error.reason not in ("algorithm", "curve", "size"):
            raise
        try:
            return iso20.read(der)
        except CertificateError as other:
            raise (error if other.reason == "curve" else other) from None


def curve(certificate: Certificate) -> str:
    """ "secp256r1", "secp521r1" or "ed448": of its key."""
    return certificate.curve if isinstance(certificate, iso20.Certificate) else "secp256r1"


def verify(point: bytes, digest: bytes, signature: bytes) -> bool:
    """`evcc`'s argument of this name, for both editions."""
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
    anchor = chain.validate(
        read_any(leaf),
        [read_any(der) for der in subs],
        [read_any(der) for der in anchors],
        role,
        int(now),
        _verify,
    )
    if anchor is None:  # only with transitive trust, which is the vehicle's to give
        raise CertificateError("untrusted", "the path ends in no known root")
    return anchor


def check_root(der: bytes, now: float) -> Certificate:
    """A certificate that may be an anchor: self-signed, a CA, signed by its own key. Of either
    edition."""
    certificate = read_any(der)
    chain.is_anchor(certificate, int(now), verify)
    return certificate


@lru_cache(maxsize=512)
def identity(certificate: Certificate) -> tuple[str, str]:
    """What a certificate is known by when it is revoked: its issuer's key identifier (a digest of
    the issuer's name where it carries none) and its serial number, both in hexadecimal."""
    issuer: bytes = certificate.aki or sha256(certificate.issuer).digest()
    return issuer.hex(), serial_hex(certificate.serial)


def is_named_by_its_key(certificate: Certificate) -> bool:
    """Whether a CA's key identifier is a digest of its key, as CAs of the field make it: over the
    key or the whole SubjectPublicKeyInfo, whole or cut [RFC 5280, 4.2.1.2; RFC 7093]. Any other
    may have been chosen to be another CA's, and `identity` says no more than that."""
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
    marked = [bytes([0x40 | one[-8] & 0x0F]) + one[-7:] for one in digests]
    ways = (*digests, *(one[:20] for one in digests), *(one[-8:] for one in digests), *marked)
    return certificate.ski in ways


def fingerprint(der: bytes) -> str:
    """SHA-256 of the DER, lower-case hexadecimal."""
    return x509.fingerprint(der).hex()
