"""The work that a file demands of a reader before a password can be tried.

A key file states how often its password is hashed. A malicious file can state two thousand million
times, and hold the reader for an hour at each password; a file with a thousand keys has a thousand
counts. Counts inside encrypted content cannot be seen before it is opened.
"""

import math
from collections.abc import Iterator

from evcc import der
from evcc.errors import EvccError

# Iterations: OpenSSL writes 2,048, keytool 10,000, the tool with the most 1,300,000.
MOST = 2_000_000
MOST_IN_ALL = 4  # times MOST, for all counts of a file
_BLOCKS = 4  # of scrypt, 128 bytes each, take as long as an iteration of PBKDF2, or longer
_SCRYPT = bytes.fromhex("06092b06010401da47040b")  # RFC 7914
_PBKDF2 = bytes.fromhex("06092a864886f70d01050c")  # RFC 8018
_PKCS12 = bytes.fromhex("060a2a864886f70d010c01")  # RFC 7292, one more byte names the cipher


class KeyWorkError(EvccError):
    """A file that demands more work than any file of a known tool."""

    REASONS = ("iterations",)


def check(data: bytes) -> None:
    """Check the iterations that PKCS#8 or PKCS#12 in DER demands. Other bytes pass.

    Raises KeyWorkError("iterations") for more than `MOST` at one place, or `MOST_IN_ALL` times as
    many in all.
    """
    total = 0
    for count in _counts(data):
        if count > MOST:
            text = f"its password is hashed {count:,} times; this tool takes {MOST:,}"
            raise KeyWorkError("iterations", text)
        total += count
    if total > MOST_IN_ALL * MOST:
        text = f"its passwords are hashed {total:,} times; this tool takes {MOST_IN_ALL * MOST:,}"
        raise KeyWorkError("iterations", text)


def _counts(data: bytes) -> Iterator[int]:
    for oid, more in ((_PBKDF2, 0), (_PKCS12, 1), (_SCRYPT, 0)):
        at = data.find(oid)
        while at >= 0:
            after = at + len(oid) + more
            yield from _after_salt(data, after, is_scrypt=oid == _SCRYPT)
            at = data.find(oid, after)
    yield from _of_mac(data)


def _after_salt(data: bytes, at: int, is_scrypt: bool) -> Iterator[int]:
    """The count in SEQUENCE { salt, count, … }; of scrypt, SEQUENCE { salt, N, r, p, … }, one that
    takes as long."""
    try:
        at, end = der.expect(data, at, len(data), der.SEQUENCE)
        if is_scrypt:
            yield math.prod(_behind_salt(data, at, end, 3)) // _BLOCKS
        else:
            yield from _behind_salt(data, at, end, 1)
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
        yield from _behind_salt(data, at, end, 1)
    except EvccError:
        return


def _behind_salt(data: bytes, at: int, end: int, number: int) -> list[int]:
    """So many INTEGERs behind an OCTET STRING."""
    _, at = der.expect(data, at, end, der.OCTET_STRING)
    values = []
    for _ in range(number):
        start, at = der.expect(data, at, end, der.INTEGER)
        values.append(int.from_bytes(data[start:at], "big"))
    return values
