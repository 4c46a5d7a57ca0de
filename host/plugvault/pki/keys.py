"""Signatures in the form of ISO 15118, r | s, by any key that can sign."""

from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

_DIGEST = ec.ECDSA(Prehashed(SHA256()))


def raw_signer(key: ec.EllipticCurvePrivateKey) -> Callable[[bytes], bytes]:
    """A function sign(digest: 32 bytes) -> r | s, 64 bytes, with a P-256 key. The key may live in
    a token."""

    def sign(digest: bytes) -> bytes:
        r, s = decode_dss_signature(key.sign(digest, _DIGEST))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    return sign
