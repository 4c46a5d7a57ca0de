"""Fuzz target: one end of a link with a peer that sends any bytes, correctly framed or not.

The first byte says whether what follows is bytes of the line, or frame bodies (a length byte
before each) sealed as the peer would, so that the fuzzer need not find a CRC.
"""

from collections.abc import Iterator

from evcc.link import frame
from evcc.link.mux import CONTROL, LIMITS, Mux

_MARK = b"still here"


def seeds() -> Iterator[bytes]:
    peer = Mux(2)
    yield b"\x00" + peer.poll(0)
    yield b"\x01\x05\x02\x00\x00\x00\x00"
    yield b"\x01\x0b\xe0\x00\x01\x00\x00\x00\x00\x00\x00\x01x"
    first_piece = b"\xd0\xff\x01\x00\x00\x00\x00\x00\x05\x00\x00"
    yield b"\x01\x0b" + first_piece + b"\x0b\xf0\xff\x02\x00\x00\x00\x00\x02\x05\x01x"
    yield b"\x01\x0b\xc0\x00\x01\x00\x00\x00\x00\x00\x00\x02a\x08\xa0\x01\x02\x00\x00\x00\x00b"


def _bodies(data: bytes) -> Iterator[bytes]:
    while data:
        yield data[1 : 1 + data[0]]
        data = data[1 + data[0] :]


def target(data: bytes) -> None:
    """Nothing is raised, messages and memory keep to their limits, a new peer is served."""
    mux, peer = Mux(1), Mux(2)
    for _ in range(2):
        peer.feed(mux.poll(0), 0)
        mux.feed(peer.poll(0), 0)
    mux.send(CONTROL, bytes(3000))
    line = data[1:]
    if data[:1] == b"\x01":
        line = b"".join(frame.encode(body, mux._seal_in) for body in _bodies(line) if body)
    for now, start in enumerate(range(0, len(line), 50)):
        for channel, message in mux.feed(line[start : start + 50], now):
            if len(message) > LIMITS[channel]:
                raise AssertionError("over the limit")
        mux.poll(now)
        if max(len(mux._early), len(mux._flight), len(mux._parts)) > 32 or len(mux._pieces) > 510:
            raise AssertionError("keeps more than its window")
    new = Mux(3)
    new.send(CONTROL, _MARK)
    heard = []
    for now in range(1000, 4000, 100):
        heard += mux.feed(b"\x00" + new.poll(now), now)
        new.feed(mux.poll(now), now)
    if heard.count((CONTROL, _MARK)) != 1:
        raise AssertionError("a new peer is not served")
