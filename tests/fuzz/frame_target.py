"""Fuzz target: frames out of any bytes."""

from collections.abc import Iterator

from evcc.link import frame

LIMIT = 64


def seeds() -> Iterator[bytes]:
    yield frame.encode(b"\x00" * 20)
    yield frame.encode(bytes(range(64))) + frame.encode(b"next")
    yield b"\xff" * 300 + b"\x00" + frame.encode(b"after")


def target(data: bytes) -> None:
    """Nothing is raised, never more than a frame is kept, and the next zero starts afresh."""
    reader = frame.FrameReader(LIMIT)
    for start in range(0, len(data), 7):
        for raw in reader.feed(data[start : start + 7]):
            body = frame.unseal(raw)
            if body is not None and len(body) > LIMIT:
                raise AssertionError("over the limit")
        if len(reader._buffer) > LIMIT + 5:
            raise AssertionError("kept more than a frame")
    (raw,) = reader.feed(b"\x00" + frame.encode(b"afresh"))[-1:]
    if frame.unseal(raw) != b"afresh":
        raise AssertionError("lost its way")
