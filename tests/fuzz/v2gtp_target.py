"""Fuzz target: V2GTP messages out of any bytes, in any pieces."""

from collections.abc import Iterator

from evcc.link import v2gtp

LIMIT = 100


def seeds() -> Iterator[bytes]:
    yield v2gtp.encode(b"") + v2gtp.encode(bytes(100))
    yield v2gtp.encode(bytes(101))


def _read(data: bytes, size: int) -> tuple[list[bytes], str]:
    reader = v2gtp.PayloadReader(LIMIT)
    got: list[bytes] = []
    try:
        for start in range(0, len(data), size):
            got += reader.feed(data[start : start + size])
            if reader.pending > LIMIT + v2gtp.HEADER_BYTES + size:
                raise AssertionError("kept more than a message")
    except v2gtp.V2gtpError as error:
        return got, error.reason
    return got, ""


def target(data: bytes) -> None:
    """Only V2gtpError may come out; pieces change nothing; no payload passes the limit."""
    one_by_one, reason = _read(data, 1)
    if any(len(payload) > LIMIT for payload in one_by_one):
        raise AssertionError("over the limit")
    whole, whole_reason = _read(data, len(data) or 1)
    # A whole piece that ends in an error gives nothing of itself: the stream is lost anyway.
    if reason != whole_reason or (not reason and whole != one_by_one):
        raise AssertionError("pieces matter")
