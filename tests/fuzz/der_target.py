"""Fuzz target: evcc.der on any bytes."""

from collections.abc import Iterator

from evcc import der


def seeds() -> Iterator[bytes]:
    yield der.tlv(der.SEQUENCE, der.unsigned(b"\x80"), der.tlv(der.OCTET_STRING, bytes(300)))
    yield der.signature_value(b"\x80" + bytes(62) + b"\x01")


def target(data: bytes) -> None:
    """Only DerError may come out, and what is accepted is in its one form."""
    try:
        rs = der.raw_signature(data, 0, len(data))
        if der.signature_value(rs) != data:
            raise AssertionError("two forms of one signature")
    except der.DerError:
        pass
    try:
        at = 0
        while at < len(data):
            tag, start, stop = der.header(data, at, len(data))
            if der.tlv(tag, data[start:stop]) != data[at:stop]:
                raise AssertionError("two forms of one element")
            at = stop
    except der.DerError:
        pass
