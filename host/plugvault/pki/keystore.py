"""Java's own key stores (JKS), in which RISE-V2G and other Java stacks keep test PKIs.

The format is frozen since Java 9 writes PKCS#12: entries of private keys with their chains, and of
trusted certificates. A key is masked by a stream of SHA-1 over password and salt; that protects
nothing, and is read here for test keys only.
"""

import hashlib
import hmac
import struct
from collections.abc import Sequence
from typing import NamedTuple

from evcc import der
from evcc.errors import EvccError

MAGIC = b"\xfe\xed\xfe\xed"
_TRAILER = 20  # SHA-1 of password, a constant and the content
_CONSTANT = b"Mighty Aphrodite"
_KEY, _TRUSTED = 1, 2
_MOST = 1000  # entries, far above any real store


class KeystoreError(EvccError):
    """Bytes that are no JKS ("format"), or a wrong password ("password")."""

    REASONS = ("format", "password")


class Entry(NamedTuple):
    """One entry. key: PKCS#8 in DER, None for a trusted certificate; chain: DER, leaf first."""

    alias: str
    key: bytes | None
    chain: list[bytes]


def read(data: bytes, password: str, key_passwords: Sequence[str] = ()) -> list[Entry]:
    """The entries of a JKS. key_passwords: passwords of keys that differ from the store's.

    Raises KeystoreError: "password" when the digest of the file does not match, "format" for a
    damaged file.
    """
    secret = password.encode("utf-16-be")
    content, trailer = data[:-_TRAILER], data[-_TRAILER:]
    if not content.startswith(MAGIC):
        raise KeystoreError("format", "no JKS")
    if not hmac.compare_digest(_sha1(secret + _CONSTANT + content), trailer):
        raise KeystoreError("password", "the password is another one, or the file is damaged")
    try:
        secrets = [secret, *(other.encode("utf-16-be") for other in key_passwords)]
        return _Reader(content, secrets).entries()
    except KeystoreError:
        raise
    except (struct.error, EvccError, UnicodeDecodeError) as error:
        raise KeystoreError("format", f"a damaged JKS: {error}") from error


class _Reader:
    def __init__(self, content: bytes, secrets: Sequence[bytes]) -> None:
        self._content, self._secrets, self._at = content, secrets, len(MAGIC)

    def entries(self) -> list[Entry]:
        version, count = self._number(">I"), self._number(">I")
        if version not in (1, 2) or count > _MOST:
            raise KeystoreError("format", f"version {version} with {count} entries")
        return [self._entry(version) for _ in range(count)]

    def _entry(self, version: int) -> Entry:
        tag, alias = self._number(">I"), self._text()
        self._number(">Q")  # the time of its creation
        if tag == _TRUSTED:
            return Entry(alias, None, [self._certificate(version)])
        if tag != _KEY:
            raise KeystoreError("format", f"an entry of kind {tag}")
        key = _unmasked(self._bytes(">I"), self._secrets)
        length = self._number(">I")
        if length > _MOST:
            raise KeystoreError("format", f"a chain of {length} certificates")
        return Entry(alias, key, [self._certificate(version) for _ in range(length)])

    def _certificate(self, version: int) -> bytes:
        if version == 2:  # the type, always X.509
            self._text()
        return self._bytes(">I")

    def _text(self) -> str:
        return self._bytes(">H").decode()

    def _bytes(self, form: str) -> bytes:
        length = self._number(form)
        start, self._at = self._at, self._at + length
        if self._at > len(self._content):
            raise KeystoreError("format", "it is cut off")
        return self._content[start : self._at]

    def _number(self, form: str) -> int:
        (number,) = struct.unpack_from(form, self._content, self._at)
        self._at += struct.calcsize(form)
        return int(number)


def _unmasked(encrypted: bytes, secrets: Sequence[bytes]) -> bytes:
    """The PKCS#8 of an EncryptedPrivateKeyInfo: salt, masked key, digest."""
    at, end = der.whole(encrypted, der.SEQUENCE)
    _, at = der.expect(encrypted, at, end, der.SEQUENCE)
    start, stop = der.expect(encrypted, at, end, der.OCTET_STRING)
    octets = encrypted[start:stop]
    salt, masked, digest = octets[:20], octets[20:-20], octets[-20:]
    for secret in secrets:
        key = _with_stream(masked, salt, secret)
        if hmac.compare_digest(_sha1(secret + key), digest):
            return key
    raise KeystoreError("password", "a key in it has a password of its own")


def _with_stream(masked: bytes, salt: bytes, secret: bytes) -> bytes:
    stream, block = bytearray(), salt
    while len(stream) < len(masked):
        block = _sha1(secret + block)
        stream += block
    return bytes(a ^ b for a, b in zip(masked, stream, strict=False))


def _sha1(data: bytes) -> bytes:
    return hashlib.sha1(data, usedforsecurity=False).digest()
