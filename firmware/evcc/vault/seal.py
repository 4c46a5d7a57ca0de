"""Authenticated frames for a vault service over TCP, or over a bench's line.

Both ends hold 32 random bytes. Each connection begins with a nonce from either side. From the
nonces and the client's name two keys are made, one for each direction: HMAC-SHA256 [RFC 2104] with
the shared key. Each frame then ends in one more field: HMAC of a counter and the frame, cut to 16
bytes. So the first frame authenticates its sender, and no frame can be changed, left out,
repeated, reflected or taken from another connection.

Frames are not encrypted: no request or answer of the vault holds a secret, and a nonce from its
`random` may be public. An attacker in the middle can only cut the line.
"""

import hashlib

from . import VaultError

NONCE = 16
_KEY = 32
_MAC = 16
_FIELD = b"\x00\x10"  # the length of a field that is a MAC


class Seal:
    """One end of one connection. key: the shared key, 32 bytes, else VaultError("refused"); name:
    the client's; nonces: the client's and the service's of this connection, 16 bytes each."""

    def __init__(self, key: bytes, name: bytes, nonces: bytes, is_client: bool) -> None:
        if len(key) != _KEY:
            raise VaultError("refused", "a shared key has 32 bytes")
        keys = [
            _pads(_hmac(_pads(key), b"plugvault vault 1 " + side + nonces + name))
            for side in (b"client ", b"service")
        ]
        self._out, self._in = keys if is_client else (keys[1], keys[0])
        self._sent = self._received = 0

    def seal(self, frame: bytes) -> bytes:
        """The frame, its length included, with its MAC as the last field: 18 bytes more."""
        body = frame[2:]
        size = (len(body) + len(_FIELD) + _MAC).to_bytes(2, "big")
        self._sent += 1
        return size + body + _FIELD + _mac(self._out, self._sent, body)

    def unseal(self, body: bytes) -> bytes:
        """The body of a sealed frame without its MAC. body: the frame without its length.

        Raises: VaultError("refused").
        """
        end = len(body) - len(_FIELD) - _MAC
        self._received += 1
        right = _mac(self._in, self._received, body[: max(end, 0)])
        differs = int(body[max(end, 0) : end + len(_FIELD)] != _FIELD)
        for a, b in zip(right, body[-_MAC:]):  # every byte, so that the time tells nothing
            differs |= a ^ b
        if end < 2 or differs:
            raise VaultError("refused", "not sealed with the key of this connection")
        return body[:end]


def _pads(key: bytes) -> tuple:
    return tuple(bytes(b ^ pad for b in key) + bytes((pad,)) * (64 - len(key)) for pad in (54, 92))


def _hmac(pads: tuple, message: bytes) -> bytes:
    inner = hashlib.sha256(pads[0] + message).digest()
    return hashlib.sha256(pads[1] + inner).digest()


def _mac(pads: tuple, count: int, body: bytes) -> bytes:
    return _hmac(pads, count.to_bytes(8, "big") + body)[:_MAC]
