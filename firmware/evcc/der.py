"""Strict DER (ITU-T X.690): a reader that works with offsets, and a writer for requests.

Reads only the DER of certificates and signatures: one-byte tags, and definite lengths below 64 KiB
in their shortest form. All other input is an error. Reading copies nothing.
"""

from evcc.errors import EvccError

SEQUENCE = 0x30
SET = 0x31
BOOLEAN = 0x01
INTEGER = 0x02
BIT_STRING = 0x03
OCTET_STRING = 0x04
OID = 0x06
UTF8_STRING = 0x0C
PRINTABLE_STRING = 0x13
IA5_STRING = 0x16
UTC_TIME = 0x17
GENERALIZED_TIME = 0x18


class DerError(EvccError):
    """Bytes that are not the expected DER."""

    REASONS = ("truncated", "tag", "length", "trailing", "value")


def header(data: bytes, at: int, end: int) -> tuple[int, int, int]:
    """(tag, start, stop) of the element at `at`; its content is data[start:stop].

    `end`: the offset behind the enclosing element, at most len(data).
    Raises: DerError("truncated" | "tag" | "length").
    """
    if end - at < 2:
        raise DerError("truncated")
    tag = data[at]
    if tag & 0x1F == 0x1F:
        raise DerError("tag", "longer than one byte")
    size = data[at + 1]
    start = at + 2
    if size > 0x7F:
        count = size & 0x7F
        if not 0 < count < 3:
            raise DerError("length", "indefinite or too long")
        if end - start < count:
            raise DerError("truncated")
        size = data[start]
        if count == 2:
            size = size << 8 | data[start + 1]
        if size < 0x80 or (count == 2 and size < 0x100):
            raise DerError("length", "not in its shortest form")
        start += count
    stop = start + size
    if stop > end:
        raise DerError("truncated")
    return tag, start, stop


def expect(data: bytes, at: int, end: int, tag: int) -> tuple[int, int]:
    """(start, stop) of the element at `at`, which must have this tag. Raises: DerError, as
    `header`."""
    actual, start, stop = header(data, at, end)
    if actual != tag:
        raise DerError("tag", "%02x where %02x belongs" % (actual, tag))
    return start, stop


def whole(data: bytes, tag: int) -> tuple[int, int]:
    """(start, stop) of the one element that fills all of `data`. Raises: DerError: "trailing" for
    bytes behind it."""
    start, stop = expect(data, 0, len(data), tag)
    if stop != len(data):
        raise DerError("trailing")
    return start, stop


def check_integer(data: bytes, start: int, stop: int) -> None:
    """Check that data[start:stop] is a non-negative INTEGER in its shortest form.

    Raises: DerError("value").
    """
    if start == stop or data[start] > 0x7F:
        raise DerError("value", "empty or negative integer")
    if data[start] == 0 and stop - start > 1 and data[start + 1] < 0x80:
        raise DerError("value", "integer not in its shortest form")


def raw_signature(data: bytes, start: int, stop: int) -> bytes:
    """ECDSA-Sig-Value (RFC 3279) in data[start:stop] as r‖s, 64 bytes.

    Raises: DerError; "value" also for an r or s of more than 32 bytes. Their range is not checked.
    """
    out = bytearray(64)
    at, end = expect(data, start, stop, SEQUENCE)
    if end != stop:
        raise DerError("trailing")
    for half_end in (32, 64):
        first, at = expect(data, at, end, INTEGER)
        check_integer(data, first, at)
        if data[first] == 0:
            first += 1
        if at - first > 32:
            raise DerError("value", "r or s too long")
        out[half_end - (at - first) : half_end] = data[first:at]
    if at != end:
        raise DerError("trailing")
    return bytes(out)


def tlv(tag: int, *contents: bytes) -> bytes:
    """One element with the joined `contents`. Raises: DerError("length") above 65,535 bytes."""
    content = b"".join(contents)
    size = len(content)
    if size < 0x80:
        head = bytes((tag, size))
    elif size < 0x100:
        head = bytes((tag, 0x81, size))
    elif size < 0x10000:
        head = bytes((tag, 0x82, size >> 8, size & 0xFF))
    else:
        raise DerError("length", "too long to write")
    return head + content


def unsigned(number: bytes) -> bytes:
    """INTEGER from a big-endian non-negative number of any width."""
    at = 0
    while at < len(number) - 1 and number[at] == 0:
        at += 1
    number = number[at:]
    return tlv(INTEGER, b"\0" if not number or number[0] > 0x7F else b"", number)


def signature_value(rs: bytes) -> bytes:
    """ECDSA-Sig-Value (RFC 3279) of r‖s, 64 bytes."""
    return tlv(SEQUENCE, unsigned(rs[:32]), unsigned(rs[32:]))
