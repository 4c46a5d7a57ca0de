"""Key derivations that stacks in the field use by mistake, in place of the standard's.

Each row: the mistake in words, and Z (32 bytes) -> AES key (16 bytes). The correct one is
`scene.derived`: SHA-256(00000001 | Z | 01 55 56), the first 16 bytes [V2G2-818].
"""

import hashlib
from collections.abc import Callable

OTHER_INFO = b"\x01\x55\x56"  # AlgorithmID, PartyUInfo 'U', PartyVInfo 'V'
_COUNTER = b"\0\0\0\1"


def _sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def _sha1(z: bytes) -> bytes:
    return hashlib.sha1(_COUNTER + z + OTHER_INFO, usedforsecurity=False).digest()[:16]


WRONG: tuple[tuple[str, Callable[[bytes], bytes]], ...] = (
    ("the order of X9.63: Z before the counter", lambda z: _sha256(z, _COUNTER, OTHER_INFO)[:16]),
    ("no counter", lambda z: _sha256(z, OTHER_INFO)[:16]),
    ("the counter 0", lambda z: _sha256(bytes(4), z, OTHER_INFO)[:16]),
    ("OtherInfo reversed", lambda z: _sha256(_COUNTER, z, OTHER_INFO[::-1])[:16]),
    ("OtherInfo as text", lambda z: _sha256(_COUNTER, z, b"01UV")[:16]),
    ("no OtherInfo", lambda z: _sha256(_COUNTER, z)[:16]),
    ("the last 16 bytes of the hash", lambda z: _sha256(_COUNTER, z, OTHER_INFO)[16:]),
    ("Z itself as the key", lambda z: z[:16]),
    ("SHA-1", _sha1),
)
