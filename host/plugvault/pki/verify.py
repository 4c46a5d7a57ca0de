"""ECDSA P-256 verification by `cryptography`: the `verify` argument of `evcc` on the host.

Takes the raw forms of the vehicle's module (point, digest, r‖s), so that path validation and EXI
signatures of `evcc` use a fast, reviewed implementation on the host. Public data only.
"""

from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256

_CURVE = ec.SECP256R1()
_ECDSA = ec.ECDSA(utils.Prehashed(SHA256()))


@lru_cache(maxsize=256)
def _key(point: bytes) -> ec.EllipticCurvePublicKey:
    """The key of a point. CAs and the CPS sign often; a vehicle's key soon leaves the cache."""
    return ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, point)


def verify_p256(point: bytes, digest: bytes, signature: bytes) -> bool:
    """True when `signature` is over `digest` and made with the private key of `point`.

    point: 65 bytes, 0x04‖X‖Y. digest: 32 bytes. signature: 64 bytes, r‖s.
    Anything malformed (lengths, compressed or off-curve point, r or s out of range) is False.
    """
    if len(point) != 65 or point[0] != 4 or len(digest) != 32 or len(signature) != 64:
        return False
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    try:
        _key(point).verify(utils.encode_dss_signature(r, s), digest, _ECDSA)
    except (InvalidSignature, ValueError):
        return False
    return True
