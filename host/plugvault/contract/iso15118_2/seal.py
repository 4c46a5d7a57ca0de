"""Seal a contract's private key for one vehicle [V2G2-814..822].

One-pass Diffie-Hellman on P-256 with a fresh ephemeral key, the concatenation KDF of SP 800-56A
(counter, Z, OtherInfo: not the order of X9.63), AES-128-CBC without padding. CBC has no integrity
protection: the CPS signature and the vehicle's proof of possession provide it.
"""

import os
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash

from evcc.vault.schemes import SCHEMES
from plugvault.pki.issue import point

_SCHEME = SCHEMES["iso2"]
SCALAR = len(_SCHEME.order)
IV = _SCHEME.wrapped_length - SCALAR


@dataclass(frozen=True)
class Sealed:
    """A sealed key. `dh_point`: 65 bytes, the ephemeral public key; `wrapped`: 48 bytes,
    IV | ciphertext."""

    dh_point: bytes
    wrapped: bytes


def seal(scalar: bytes | bytearray, vehicle: ec.EllipticCurvePublicKey) -> Sealed:
    """Encrypt `scalar` (32 bytes, big-endian, with leading zeros) so that only `vehicle` opens it.

    `vehicle`: the key of the provisioning certificate. The ephemeral key and the IV are new at
    every call, and the private half is never stored. Raises ValueError for another length.
    """
    if len(scalar) != SCALAR:
        raise ValueError(f"a scalar of {SCALAR} bytes is needed, not {len(scalar)}")
    ephemeral = ec.generate_private_key(vehicle.curve)
    shared = ephemeral.exchange(ec.ECDH(), vehicle)
    key = ConcatKDFHash(SHA256(), _SCHEME.key_length, _SCHEME.other_info).derive(shared)
    iv = os.urandom(IV)
    encryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    return Sealed(point(ephemeral.public_key()), iv + encryptor.update(scalar))
