"""Proof of possession of a private key: a signature over a nonce."""

import hashlib


def proves_possession(vault, key: bytes, point: bytes) -> bool:
    """Whether the vault's `key` signs a nonce that verifies under `point`. Raises: VaultError."""
    digest = possession_digest(vault.random(32))
    return vault.verify(point, digest, vault.sign(key, digest))


def possession_digest(nonce: bytes) -> bytes:
    """The SHA-256 that a proof of possession signs. The prefix separates it from every other
    message. nonce: 32 bytes."""
    return hashlib.sha256(b"plugvault proof of possession" + nonce).digest()
