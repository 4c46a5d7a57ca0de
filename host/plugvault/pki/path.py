"""The host's path policy: evcc's path validation, with the host's verification and its pools.

The rules themselves are `evcc.chain`'s, so that the vehicle and the ecosystem can never disagree
about a path. Revocation is not looked at here.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import sha256

from evcc import chain, x509
from evcc.x509 import Certificate
from plugvault.pki.names import serial_hex
from plugvault.pki.verify import verify_p256

_CUT_OUT = ("tbs_digest", "issuer", "subject", "names", "point", "signature", "ski", "aki")


@lru_cache(maxsize=4096)
def read(der: bytes) -> Certificate:
    """Parse a certificate strictly, once. Raises `evcc.x509.CertificateError`."""
    certificate = x509.parse(der)
    for name in _CUT_OUT:  # what a board cuts out of the DER each time, to save memory
        setattr(certificate, name, getattr(certificate, name))
    return certificate


# The same few sub-CAs are above every leaf, and what a signature says does not change.
_verify = lru_cache(maxsize=4096)(verify_p256)


def validate(
    leaf: bytes, subs: Sequence[bytes], anchors: Iterable[bytes], role: str, now: float
) -> Certificate:
    """The anchor under which `leaf` is good for `role` at `now`.

    `subs`: DER, Sub2 first; `anchors`: DER of roots from a pool or a store, never from the
    message; `role`: one of evcc.chain's. Raises `evcc.x509.CertificateError`.
    """
    anchor: Certificate | None = chain.validate(
        read(leaf),
        [read(sub) for sub in subs],
        [read(anchor) for anchor in anchors],
        role,
        int(now),
        _verify,
    )
    if anchor is None:  # only with transitive trust, which is the vehicle's to give
        raise x509.CertificateError("untrusted", "the path ends in no known root")
    return anchor


def check_root(der: bytes, now: float) -> Certificate:
    """A certificate that may be an anchor: self-signed, a CA, signed by its own key."""
    certificate = read(der)
    chain.is_anchor(certificate, int(now), verify_p256)
    return certificate


def identity(certificate: Certificate) -> tuple[str, str]:
    """What a certificate is known by when it is revoked: its issuer's key identifier (a digest of
    the issuer's name where it carries none) and its serial number, both in hexadecimal."""
    issuer: bytes = certificate.aki or sha256(certificate.issuer).digest()
    return issuer.hex(), serial_hex(certificate.serial)


def fingerprint(der: bytes) -> str:
    """SHA-256 of the DER, lower-case hexadecimal."""
    return x509.fingerprint(der).hex()
