"""Keys and bytes from a seed: the same for the same seed and name, on every machine.

For test cases only: every reader of a seed has its keys.
"""

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from evcc.p256_curve import N


class Seed:
    """A number (below 2^128) from which named keys and bytes are derived."""

    def __init__(self, number: int) -> None:
        self.number = number

    def bytes(self, name: str, length: int) -> bytes:
        """`length` bytes: HKDF with SHA-256 of the number (16 bytes) for this name."""
        secret = self.number.to_bytes(16, "big")
        return HKDF(hashes.SHA256(), length, None, name.encode()).derive(secret)

    def scalar(self, name: str) -> int:
        """A private scalar of P-256, 1 to n-1."""
        return int.from_bytes(self.bytes(name, 48), "big") % (N - 1) + 1

    def key(self, name: str) -> ec.EllipticCurvePrivateKey:
        """A key pair of P-256."""
        return ec.derive_private_key(self.scalar(name), ec.SECP256R1())
