"""Envelopes of contract keys that must open, and those that must be refused, by their fault.

Made with `cryptography`, so that the sender and the vault are two implementations.
"""

from __future__ import annotations

import itertools
import os
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

import world

N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF

# A known answer for ISO 15118-2 key transport: the receiver's static key, the sender's point, the
# envelope and the key in it. Computed once with cryptography's ConcatKDFHash; the KDF alone is
# also OpenSSL's SSKDF with digest SHA256 and info 015556.
KNOWN_STATIC = 0x0EB42BF9607EF43F89A62733F850710E239908A96D7734A431A055F8F5DC32FC
KNOWN_DH = bytes.fromhex(
    "04d06dcab5d8f3e721696536b832af880393cfe5a873a0e5ec37c1b978d6aa8235"
    "51dc1677241d9e279bb8820edd7f9928fdf17dbb7d183fd9514324c8bd8e3bae"
)
KNOWN_WRAPPED = bytes.fromhex(
    "62c83a98f8522fa1b17b42eab66204673f3ecfc239133c4392cb2ee16a8dc4f3"
    "81293250d71f92663200677ec8b375a8"
)
KNOWN_KEY = 0x3C7CB44ACD6791307A1CBE33A7DD51BB861900A697BF5E97E0E248A9C997DBE7


def private_key(scalar: int) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(scalar, ec.SECP256R1())


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def envelope(
    recipient: bytes,
    scalar: int | bytes,
    public: bytes | None = None,
    ephemeral: ec.EllipticCurvePrivateKey | None = None,
) -> dict[str, Any]:
    """The arguments of `open_contract_key` for the contract key `scalar`."""
    ephemeral = ephemeral or new_key()
    raw = scalar if isinstance(scalar, bytes) else scalar.to_bytes(32, "big")
    return {
        "scheme": "iso2",
        "dh": world.point(ephemeral),
        "wrapped": world.seal(raw, ephemeral, recipient),
        "aad": b"",
        "public": public or world.point(private_key(int.from_bytes(raw, "big"))),
    }


def opening(recipient: bytes) -> dict[str, dict[str, Any]]:
    """Envelopes that must open, by their special property."""
    top_bit = next(k for k in _scalars() if k >> 255)
    small = next(k >> 9 for k in _scalars())
    return {
        "random": envelope(recipient, next(_scalars())),
        "another": envelope(recipient, next(_scalars())),
        "scalar with its top bit set": envelope(recipient, top_bit),
        "scalar with a leading zero octet": envelope(recipient, small),
        "Z with a leading zero octet": envelope(
            recipient, next(_scalars()), ephemeral=_short_z(recipient)
        ),
        "scalar one": envelope(recipient, 1),
        "scalar n-1": envelope(recipient, N - 1),
    }


def known(recipient: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
    """The known answer for this static key: the arguments of `open_contract_key`."""
    return {
        "scheme": "iso2",
        "dh": KNOWN_DH,
        "wrapped": KNOWN_WRAPPED,
        "aad": b"",
        "public": world.point(private_key(KNOWN_KEY)),
    }


def refused(recipient: bytes) -> dict[str, tuple[str, dict[str, Any]]]:
    """Envelopes that must not open: name -> (the reason, the arguments)."""
    good = envelope(recipient, next(_scalars()))
    other = envelope(recipient, next(_scalars()))
    dh, wrapped, public = good["dh"], good["wrapped"], good["public"]

    def flipped(at: int) -> dict[str, Any]:
        fresh = envelope(recipient, next(_scalars()))
        changed = bytearray(fresh["wrapped"])
        changed[at] ^= 1
        return {**fresh, "wrapped": bytes(changed)}

    compressed = bytes([2 + (dh[-1] & 1)]) + dh[1:33]
    coordinate_over_p = b"\x04" + P.to_bytes(32, "big") + bytes(32)
    points = {
        "compressed": compressed,
        "compressed, padded to length": compressed + bytes(32),
        "hybrid": bytes([6 + (dh[-1] & 1)]) + dh[1:],
        "off the curve": dh[:-1] + bytes([dh[-1] ^ 1]),
        "infinity": b"\x00",
        "infinity, padded to length": bytes(65),
        "zero coordinates": b"\x04" + bytes(64),
        "coordinate not reduced": coordinate_over_p,
        "DER octet string": b"\x04\x41" + dh,
        "without its first byte": dh[1:],
        "one byte more": dh + b"\x00",
        "empty": b"",
        "our own provisioning key": recipient,
    }
    cases = {f"dh point: {name}": ("point", {**good, "dh": p}) for name, p in points.items()}
    for length in (0, 16, 32, 47, 49, 64):
        short = (wrapped + wrapped)[:length]
        cases[f"wrapped: {length} bytes"] = ("wrapped-length", {**good, "wrapped": short})
    for name, scalar in {"0": 0, "n": N, "n+1": N + 1, "2^256-1": 2**256 - 1}.items():
        cases[f"scalar {name}"] = (
            "key-mismatch",
            envelope(recipient, scalar.to_bytes(32, "big"), public),
        )
    # Each with a new ephemeral key: a service that remembers one gives another reason.
    fresh = [envelope(recipient, next(_scalars())) for _ in range(4)]
    mismatch = {
        "another certificate": {**fresh[0], "public": public},
        "another vehicle's envelope": {**fresh[1], "wrapped": other["wrapped"]},
        "another ephemeral point": {**fresh[2], "dh": other["dh"]},
        "negated certificate key": {**fresh[3], "public": negated(fresh[3]["public"])},
        "IV altered": flipped(15),
        "first block altered": flipped(16),
        "last byte altered": flipped(47),
        "big-endian and little-endian confused": envelope(
            recipient, next(_scalars()).to_bytes(32, "little"), public
        ),
    }
    cases |= {name: ("key-mismatch", arguments) for name, arguments in mismatch.items()}
    return cases | {
        "certificate key off the curve": (
            "point",
            {**good, "public": public[:-1] + bytes([public[-1] ^ 1])},
        ),
        "certificate key compressed": ("point", {**good, "public": compressed}),
        "unknown scheme": ("scheme", {**good, "scheme": "iso20"}),
        "no scheme": ("scheme", {**good, "scheme": ""}),
        "associated data where there is none": ("scheme", {**good, "aad": b"x"}),
    }


def congruent(recipient: bytes) -> dict[str, Any]:
    """An envelope with the scalar n + 5, for the certificate of 5: a token that reduces the scalar
    modulo n even signs for it."""
    over = (N + 5).to_bytes(32, "big")
    return envelope(recipient, over, world.point(private_key(5)))


def _scalars():
    while True:
        if 0 < (k := int.from_bytes(os.urandom(32), "big")) < N:
            yield k


def _short_z(recipient: bytes) -> ec.EllipticCurvePrivateKey:
    """An ephemeral key whose ECDH secret begins with a zero octet: one in 256."""
    peer = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), recipient)
    for _ in itertools.count():
        key = new_key()
        if key.exchange(ec.ECDH(), peer)[0] == 0:
            return key
    raise AssertionError


def negated(point: bytes) -> bytes:
    """The negation of a point, which has the same X coordinate. 65 bytes."""
    return point[:33] + (P - int.from_bytes(point[33:], "big")).to_bytes(32, "big")
