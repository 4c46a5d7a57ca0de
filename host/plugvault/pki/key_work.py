"""The work that a file demands of a reader before a password can be tried.

A key file says itself how often its password is hashed. A hostile one says two thousand million
times, and holds the reader for an hour at each password.
"""

from collections.abc import Iterator

from evcc import der
from evcc.errors import EvccError

MOST = (
    2_000_000  # iterations: OpenSSL writes 2,048, keytool 10,000, the most careful tools 1,300,000
)
_PBKDF2 = bytes.fromhex("06092a864886f70d01050c")  # RFC 8018
_PKCS12 = bytes.fromhex("060a2a864886f70d010c01")  # RFC 7292, one more byte names the cipher


class KeyWorkError(EvccError):
    """A file that demands more work than any real one."""

    REASONS = ("iterations",)


def check(data: bytes) -> None:
    """Raises KeyWorkError for a PKCS#8 or PKCS#12 file in DER with more than `MOST` iterations.
    Other bytes pass."""
    for count in _counts(data):
        if count > MOST:
            text = f"its password is hashed {count:,} times; this tool takes {MOST:,}"
            raise KeyWorkError("iterations", text)


def _counts(data: bytes) -> Iterator[int]:
    for oid, more in ((_PBKDF2, 0), (_PKCS12, 1)):
        at = data.find(oid)
        while at >= 0:
            after = at + len(oid) + more
            yield from _after_salt(data, after)
            at = data.find(oid, after)
    yield from _of_mac(data)


def _after_salt(data: bytes, at: int) -> Iterator[int]:
    """The count in SEQUENCE { salt, count, … }."""
    try:
        at, end = der.expect(data, at, len(data), der.SEQUENCE)
        yield _second(data, at, end)
    except EvccError:
        return


def _of_mac(data: bytes) -> Iterator[int]:
    """The count in the MacData of a PKCS#12 file."""
    try:
        at, end = der.expect(data, 0, len(data), der.SEQUENCE)
        _, at = der.expect(data, at, end, der.INTEGER)
        _, at = der.expect(data, at, end, der.SEQUENCE)
        at, end = der.expect(data, at, end, der.SEQUENCE)
        _, at = der.expect(data, at, end, der.SEQUENCE)
        yield _second(data, at, end)
    except EvccError:
        return


def _second(data: bytes, at: int, end: int) -> int:
    """The INTEGER behind an OCTET STRING."""
    _, at = der.expect(data, at, end, der.OCTET_STRING)
    start, stop = der.expect(data, at, end, der.INTEGER)
    return int.from_bytes(data[start:stop], "big")
