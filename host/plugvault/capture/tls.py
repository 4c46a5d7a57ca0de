"""TLS in a capture [RFC 5246]: the handshake, and the application data if the keys are known.

Decrypted is TLS 1.2 with the ECDHE suites of AES in CBC with SHA-256, and in GCM. The keys come
from a key log, line "CLIENT_RANDOM": the master secret. Every record is authenticated; the first
one that is not authentic ends its direction.
"""

import hashlib
import hmac
import re
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from plugvault.capture.streams import Chunk

_RECORD = 16_384 + 2048  # bytes of a record, encrypted
_HANDSHAKE_LIMIT = 1 << 18
_CHANGE_CIPHER_SPEC, _ALERT, _HANDSHAKE, _DATA = 20, 21, 22, 23
_CLIENT_HELLO, _SERVER_HELLO, _CERTIFICATE, _REQUEST, _STATUS = 1, 2, 11, 13, 22
_STATUS_REQUEST, _TRUSTED_CA_KEYS, _ENCRYPT_THEN_MAC, _VERSIONS = 5, 3, 22, 43
_TLS_1_2 = 0x0303
VERSIONS = {0x0301: "TLS 1.0", 0x0302: "TLS 1.1", _TLS_1_2: "TLS 1.2", 0x0304: "TLS 1.3"}
ALERTS = {
    0: "close_notify",
    10: "unexpected_message",
    20: "bad_record_mac",
    40: "handshake_failure",
    42: "bad_certificate",
    43: "unsupported_certificate",
    44: "certificate_revoked",
    45: "certificate_expired",
    46: "certificate_unknown",
    47: "illegal_parameter",
    48: "unknown_ca",
    49: "access_denied",
    50: "decode_error",
    51: "decrypt_error",
    70: "protocol_version",
    71: "insufficient_security",
    80: "internal_error",
    90: "user_canceled",
    109: "missing_extension",
    112: "unrecognized_name",
    113: "bad_certificate_status_response",
    116: "certificate_required",
}
_KEY_LINE = re.compile(rb"CLIENT_RANDOM ([0-9a-fA-F]{64}) ([0-9a-fA-F]{96})")


class Suite(NamedTuple):
    """A cipher suite. hash: of the key derivation. key: bytes of the key. mac: bytes of the MAC
    key; 0 for GCM."""

    name: str
    hash: str
    key: int
    mac: int


SUITES = {
    0xC023: Suite("ECDHE-ECDSA-AES128-SHA256", "sha256", 16, 32),
    0xC025: Suite("ECDH-ECDSA-AES128-SHA256", "sha256", 16, 32),
    0xC027: Suite("ECDHE-RSA-AES128-SHA256", "sha256", 16, 32),
    0xC02B: Suite("ECDHE-ECDSA-AES128-GCM-SHA256", "sha256", 16, 0),
    0xC02C: Suite("ECDHE-ECDSA-AES256-GCM-SHA384", "sha384", 32, 0),
    0xC02F: Suite("ECDHE-RSA-AES128-GCM-SHA256", "sha256", 16, 0),
    0xC030: Suite("ECDHE-RSA-AES256-GCM-SHA384", "sha384", 32, 0),
}


class RecordError(Exception):
    """Bytes that are no TLS record, or a record that cannot be decrypted. The text has the
    reason."""


@dataclass
class Handshake:
    """The unencrypted values of a handshake. Numbers are those of the protocol; 0: not seen.

    chain: the server's certificates, DER. ocsp: the stapled answer, DER, or b"". alerts: (by the
    client?, number), in their order. problems: what could not be read, and why. completed:
    nanoseconds since 1970, when both ends have switched to encryption.
    """

    version: int = 0
    suite: int = 0
    random: bytes = b""
    server_random: bytes = b""
    asks_ocsp: bool = False
    names_roots: bool = False
    encrypt_then_mac: bool = False
    chain: list[bytes] = field(default_factory=list)
    ocsp: bytes = b""
    wants_certificate: bool = False
    has_client_certificate: bool = False
    completed: int = 0  # nanoseconds since 1970, when both ends have switched to encryption
    alerts: list[tuple[bool, int]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def key_log(*texts: bytes) -> dict[bytes, bytes]:
    """{client random: master secret} of key logs."""
    return {
        bytes.fromhex(line[1].decode()): bytes.fromhex(line[2].decode())
        for text in texts
        for line in _KEY_LINE.finditer(text)
    }


def is_tls(data: bytes) -> bool:
    """Whether the first bytes of a connection are those of a TLS handshake."""
    return len(data) > 5 and data[0] == _HANDSHAKE and data[1] == 3 and data[5] == _CLIENT_HELLO


def read(chunks: Iterable[Chunk], keys: Mapping[bytes, bytes]) -> tuple[Handshake, list[Chunk]]:
    """The handshake of a connection, and its application data as far as the keys decrypt them."""
    reader = _Reader(keys)
    for chunk in chunks:
        reader.feed(chunk)
    return reader.handshake, reader.contents


class _Side:
    """The messages of one end, so far."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.buffer = bytearray()
        self.messages = bytearray()  # of the handshake, which records may cut
        self.is_encrypted = False
        self.open: Callable[[int, bytes], bytes] | None = None
        self.is_over = False  # nothing more can be read


class _Reader:
    def __init__(self, keys: Mapping[bytes, bytes]) -> None:
        self.handshake = Handshake()
        self.contents: list[Chunk] = []
        self._keys = keys
        self._sides = {True: _Side("the client"), False: _Side("the server")}

    def feed(self, chunk: Chunk) -> None:
        side = self._sides[chunk.by_client]
        if side.is_over:
            return
        try:
            if chunk.lost:
                raise RecordError(f"the capture has lost {chunk.lost} bytes")
            side.buffer += chunk.data
            while len(side.buffer) >= 5:
                kind, version, length = struct.unpack_from(">BHH", side.buffer)
                if not _CHANGE_CIPHER_SPEC <= kind <= _DATA or version >> 8 != 3:
                    raise RecordError(f"no record of TLS: {side.buffer[:5].hex()}")
                if length > _RECORD:
                    raise RecordError(f"a record of {length} bytes")
                if len(side.buffer) < 5 + length:
                    break
                body = bytes(side.buffer[5 : 5 + length])
                del side.buffer[: 5 + length]
                self._record(chunk, side, kind, body)
        except RecordError as error:
            side.is_over = True
            self.handshake.problems.append(f"{side.name}: {error}")

    def _record(self, chunk: Chunk, side: _Side, kind: int, body: bytes) -> None:
        if kind == _CHANGE_CIPHER_SPEC and self.handshake.version != 0x0304:
            side.is_encrypted = True
            self._switch(chunk, side)
            return
        if side.is_encrypted or kind == _DATA:
            if side.open is None:
                return
            body = side.open(kind, body)
        if kind == _DATA:
            self.contents.append(Chunk(chunk.time, chunk.by_client, body))
        elif kind == _ALERT and len(body) == 2:
            self.handshake.alerts.append((chunk.by_client, body[1]))
        elif kind == _HANDSHAKE and not side.is_encrypted:
            self._messages(side, body)

    def _switch(self, chunk: Chunk, side: _Side) -> None:
        """From here on this side encrypts."""
        handshake = self.handshake
        if all(other.is_encrypted for other in self._sides.values()):
            handshake.completed = chunk.time
        master = self._keys.get(handshake.random)
        suite = SUITES.get(handshake.suite)
        if handshake.version != _TLS_1_2 or suite is None:
            raise RecordError("encrypted in a way that is not read here")
        if master is None:
            raise RecordError("encrypted, and no key for it is given")
        side.open = _opener(handshake, suite, master, is_client=chunk.by_client)

    def _messages(self, side: _Side, body: bytes) -> None:
        side.messages += body
        if len(side.messages) > _HANDSHAKE_LIMIT:
            raise RecordError("a handshake message without an end")
        while len(side.messages) >= 4:
            length = int.from_bytes(side.messages[1:4], "big")
            if len(side.messages) < 4 + length:
                return
            kind, message = side.messages[0], bytes(side.messages[4 : 4 + length])
            del side.messages[: 4 + length]
            try:
                _read_message(self.handshake, kind, message, side.name == "the client")
            except (IndexError, struct.error) as error:
                raise RecordError(f"handshake message {kind} is too short") from error


# -- the handshake ------------------------------------------------------------------------------


def _read_message(handshake: Handshake, kind: int, body: bytes, by_client: bool) -> None:
    if kind == _CLIENT_HELLO:
        _client_hello(handshake, body)
    elif kind == _SERVER_HELLO:
        _server_hello(handshake, body)
    elif kind == _CERTIFICATE and by_client:
        handshake.has_client_certificate = len(body) > 3
    elif kind == _CERTIFICATE:
        handshake.chain = _certificates(body)
    elif kind == _REQUEST:
        handshake.wants_certificate = True
    elif kind == _STATUS and body[:1] == b"\x01":
        handshake.ocsp = body[4 : 4 + int.from_bytes(body[1:4], "big")]


def _client_hello(handshake: Handshake, body: bytes) -> None:
    handshake.random = body[2:34]
    at = 35 + body[34]
    at += 2 + int(struct.unpack_from(">H", body, at)[0])
    at += 1 + body[at]
    extensions = _extensions(body[at:])
    handshake.asks_ocsp = extensions.get(_STATUS_REQUEST, b"")[:1] == b"\x01"
    handshake.names_roots = _TRUSTED_CA_KEYS in extensions


def _server_hello(handshake: Handshake, body: bytes) -> None:
    handshake.server_random = body[2:34]
    at = 35 + body[34]
    version, handshake.suite = (
        struct.unpack_from(">H", body)[0],
        struct.unpack_from(">H", body, at)[0],
    )
    extensions = _extensions(body[at + 3 :])
    chosen = extensions.get(_VERSIONS, b"")
    handshake.version = int.from_bytes(chosen, "big") if len(chosen) == 2 else version
    handshake.encrypt_then_mac = _ENCRYPT_THEN_MAC in extensions


def _extensions(data: bytes) -> dict[int, bytes]:
    """{number: content} of the extensions of a hello; empty where it has none."""
    extensions, at = {}, 2
    while at + 4 <= len(data):
        number, length = struct.unpack_from(">HH", data, at)
        extensions[number] = data[at + 4 : at + 4 + length]
        at += 4 + length
    return extensions


def _certificates(body: bytes) -> list[bytes]:
    certificates, at = [], 3
    while at + 3 <= len(body):
        length = int.from_bytes(body[at : at + 3], "big")
        certificates.append(body[at + 3 : at + 3 + length])
        at += 3 + length
    return certificates


# -- decryption ---------------------------------------------------------------------------------


def _opener(
    handshake: Handshake, suite: Suite, master: bytes, *, is_client: bool
) -> Callable[[int, bytes], bytes]:
    """The decryption of one side's records, in their order."""
    iv = 0 if suite.mac else 4
    sizes = [suite.mac, suite.mac, suite.key, suite.key, iv, iv]
    seed = b"key expansion" + handshake.server_random + handshake.random
    block, parts = _prf(suite.hash, master, seed, sum(sizes)), []
    for size in sizes:
        parts.append(block[:size])
        block = block[size:]
    mac, key, salt = (parts[at + (not is_client)] for at in (0, 2, 4))
    number = 0

    def open_record(kind: int, body: bytes) -> bytes:
        nonlocal number
        head = struct.pack(">QBH", number, kind, _TLS_1_2)
        number += 1
        try:
            if not suite.mac:
                return _open_gcm(key, salt, head, body)
            opened = _open_mac_first if handshake.encrypt_then_mac else _open_mac_last
            return opened(key, mac, head, body)
        except (ValueError, IndexError, InvalidTag) as error:
            raise RecordError(f"encrypted record {number} does not verify: wrong key?") from error

    return open_record


def _prf(digest: str, secret: bytes, seed: bytes, size: int) -> bytes:
    """The PRF of TLS 1.2 [RFC 5246, 5]."""
    output, a = b"", seed
    while len(output) < size:
        a = hmac.digest(secret, a, digest)
        output += hmac.digest(secret, a + seed, digest)
    return output[:size]


def _open_gcm(key: bytes, salt: bytes, head: bytes, body: bytes) -> bytes:
    size = len(body) - 8 - 16
    if size < 0:
        raise ValueError("too short")
    return AESGCM(key).decrypt(salt + body[:8], body[8:], head + size.to_bytes(2, "big"))


def _open_mac_first(key: bytes, mac: bytes, head: bytes, body: bytes) -> bytes:
    """The MAC is over the encrypted bytes [RFC 7366]."""
    sealed, tag = body[:-32], body[-32:]
    _verify(mac, head + len(sealed).to_bytes(2, "big") + sealed, tag)
    return _unpadded(_decrypt(key, sealed))


def _open_mac_last(key: bytes, mac: bytes, head: bytes, body: bytes) -> bytes:
    opened = _unpadded(_decrypt(key, body))
    content, tag = opened[:-32], opened[-32:]
    _verify(mac, head + len(content).to_bytes(2, "big") + content, tag)
    return content


def _verify(mac: bytes, data: bytes, tag: bytes) -> None:
    if not hmac.compare_digest(hmac.digest(mac, data, hashlib.sha256), tag):
        raise ValueError("MAC")


def _decrypt(key: bytes, body: bytes) -> bytes:
    """AES in CBC, the initial vector first."""
    if len(body) < 32:
        raise ValueError("too short")
    decryptor = Cipher(algorithms.AES(key), modes.CBC(body[:16])).decryptor()
    return decryptor.update(body[16:]) + decryptor.finalize()


def _unpadded(data: bytes) -> bytes:
    if data[-1] >= len(data):
        raise ValueError("padding")
    return data[: -1 - data[-1]]
