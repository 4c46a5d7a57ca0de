"""Fuzz target: evcc.record on any bytes, and on any bytes with a right checksum."""

import binascii
from collections.abc import Iterator

from evcc.record import MAGIC, RecordError, pack, unpack


def seeds() -> Iterator[bytes]:
    yield pack([b"", b"one", bytes(300)])[2:-4]
    yield pack([])


def target(data: bytes) -> None:
    """Only RecordError may come out, and what is accepted is in its one form."""
    checked = MAGIC + data
    for record in (data, checked + binascii.crc32(checked).to_bytes(4, "big")):
        try:
            if pack(unpack(record)) != record:
                raise AssertionError("two forms of one record")
        except RecordError:
            pass
