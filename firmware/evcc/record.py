"""Records: lists of byte strings as the module stores them, with a checksum.

    magic (2 bytes) | count u16 | count x (length u16 | bytes) | CRC-32 of all before

The checksum detects torn and damaged files; it does not detect forgery, for which an attacker
needs the flash itself. `ports.files` makes the writing atomic.
"""

import binascii
import struct

from . import utf8
from .errors import EvccError

MAGIC = b"PV"


class RecordError(EvccError):
    """A damaged file."""

    REASONS = ("damaged",)


def pack(fields: list) -> bytes:
    """The record with these fields: byte strings of up to 65,535 bytes each. Raises ValueError for
    a longer one."""
    out = bytearray()
    for part in parts(fields):
        out += part
    return bytes(out)


def parts(fields: list) -> list:
    """The same as byte strings that follow one another: a board has no room for long fields twice.
    Raises as `pack`."""
    out = [MAGIC + struct.pack(">H", len(fields))]
    for field in fields:
        if len(field) > 0xFFFF:  # struct would cut it silently on MicroPython
            raise ValueError("field too long")
        out += [struct.pack(">H", len(field)), field]
    crc = 0
    for part in out:
        crc = binascii.crc32(part, crc)
    return out + [struct.pack(">I", crc)]


def unpack(data: bytes) -> list:
    """The fields of a record. Raises RecordError("damaged")."""
    end = len(data) - 4
    view = memoryview(data)  # its slices copy nothing: a field may be half of a board's memory
    if (
        end < 4
        or data[:2] != MAGIC
        or struct.unpack(">I", data[end:])[0] != binascii.crc32(view[:end])
    ):
        raise RecordError("damaged", "checksum")
    (count,) = struct.unpack(">H", data[2:4])
    fields = []
    at = 4
    for _ in range(count):
        if at + 2 > end:
            raise RecordError("damaged", "count")
        (length,) = struct.unpack(">H", data[at : at + 2])
        at += 2 + length
        fields.append(bytes(view[at - length : at]))
    if at != end:
        raise RecordError("damaged", "size")
    return fields


def text(field: bytes) -> str:
    """The text of a field in UTF-8. Raises RecordError("damaged")."""
    try:
        return utf8.decode(field)
    except UnicodeError:
        raise RecordError("damaged", "not UTF-8")


def numbers(layout: str, field: bytes) -> tuple:
    """The values in a field of exactly this `struct` layout. Raises RecordError("damaged").

    `struct` alone raises another error on each runtime, and MicroPython's accepts a longer field.
    """
    if len(field) != struct.calcsize(layout):
        raise RecordError("damaged", "%d bytes where %s belongs" % (len(field), layout))
    return struct.unpack(layout, field)
