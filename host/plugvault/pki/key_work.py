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
# Identifiers without their header, whose length can have several forms in BER.
_SCRYPT = bytes.fromhex("2b06010401da47040b")  # RFC 7914
_PKCS5 = bytes.fromhex("2a864886f70d0105")  # RFC 8018, one more byte names PBKDF2 or the cipher
_PKCS12 = bytes.fromhex("2a864886f70d010c01")  # RFC 7292, one more byte names the cipher
_PFX = b"\x02\x01\x03\x30"  # its version, then its content [RFC 7292, 4]
_PARTS = 0x20 | der.OCTET_STRING


class KeyWorkError(EvccError):
    """A file that demands more work than any file of a known tool."""

    REASONS = ("iterations",)


def check(data: bytes) -> None:
    """Check the iterations that PKCS#8 or PKCS#12 demands. Other bytes pass.

    Raises KeyWorkError("iterations") for more than `MOST` at one place, or `MOST_IN_ALL` times as
    many in all, and for a PKCS#12 file whose count cannot be read.
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
    for oid, more in ((_PKCS5, 1), (_PKCS12, 1), (_SCRYPT, 0)):
        at = data.find(oid)
        while at >= 0:
            after = at + len(oid) + more
            yield from _after_salt(data, after, is_scrypt=oid == _SCRYPT)
            at = data.find(oid, after)
    if _PFX in data[:12]:
        yield from _of_mac(data)


def _after_salt(data: bytes, at: int, is_scrypt: bool) -> Iterator[int]:
    """The count in SEQUENCE { salt, count, … }; of scrypt, SEQUENCE { salt, N, r, p, … }, one that
    takes as long."""
    try:
        tag, at, _ = _header(data, at)
        if tag != der.SEQUENCE:
            return
        if is_scrypt:
            yield math.prod(_behind_salt(data, at, 3)) // _BLOCKS
        else:
            yield from _behind_salt(data, at, 1)
    except IndexError:
        return


def _of_mac(data: bytes) -> Iterator[int]:
    """The count in the MacData of a PKCS#12 file; none for a file without a MAC, or without a
    count. Raises KeyWorkError."""
    try:
        _, at, _ = _header(data, 0)
        for _ in ("version", "authSafe"):
            at = _behind(data, at)
        if data[at : at + 2] in (b"", b"\0\0"):
            return
        _, start, size = _header(data, at)
        at = _behind(data, start)
        if _behind(data, at) == start + size:
            return
        counts = _behind_salt(data, at, 1)
    except IndexError:
        counts = []
    if not counts:
        raise KeyWorkError("iterations", "the count of its MAC cannot be read")
    yield from counts


def _behind_salt(data: bytes, at: int, number: int) -> list[int]:
    """So many INTEGERs behind an OCTET STRING; none behind another element. Raises IndexError,
    KeyWorkError."""
    tag, _, size = _header(data, at)
    if tag == _PARTS:
        raise KeyWorkError("iterations", "its salt is in several parts")
    if tag != der.OCTET_STRING or size < 0:
        return []
    at = _behind(data, at)
    values = []
    for _ in range(number):
        tag, start, size = _header(data, at)
        if tag != der.INTEGER or size < 0:
            return []
        at = start + size
        values.append(int.from_bytes(data[start:at], "big"))
    return values


# -- BER, which OpenSSL takes for PKCS#12 and `evcc.der` does not -------------------------------


def _header(data: bytes, at: int) -> tuple[int, int, int]:
    """(tag, start of the content, its size; -1: up to an end mark). Raises IndexError."""
    tag, size, start = data[at], data[at + 1], at + 2
    if size == 0x80:
        return tag, start, -1
    if size > 0x80:
        end = start + (size & 0x7F)
        size, start = int.from_bytes(data[start:end], "big"), end
    if start + size > len(data):
        raise IndexError("truncated")
    return tag, start, size


def _behind(data: bytes, at: int) -> int:
    """The offset behind an element. Raises IndexError."""
    depth = 0
    while True:
        tag, start, size = _header(data, at)
        if size < 0:
            depth, at = depth + 1, start
        else:
            depth, at = depth - (tag == size == 0), start + size
        if depth <= 0:
            return at
