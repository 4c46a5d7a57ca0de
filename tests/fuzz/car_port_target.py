"""Fuzz target: a car at the V2GTP port of a hostile station, over real sockets.

The first byte says how many right answers come before, the second whether the rest gets a header.
"""

import contextlib
from collections.abc import Iterator
from functools import cache
from socket import socket

from port_ends import HANGS, PAIRS, HostileStation, answer_rightly, car_at

from evcc.link import v2gtp
from scripted import OFFERED, answer

SLOW = HANGS
hostile = cache(HostileStation)


def seeds() -> Iterator[bytes]:
    for number, name in enumerate(PAIRS):
        frame = answer(name, OFFERED[name])
        yield bytes([number, 0]) + frame
        yield bytes([number, 1]) + frame[v2gtp.HEADER_BYTES :]


def target(data: bytes) -> None:
    """The car comes to an end that it names, and never with more than the station has said."""
    count, framed, rest = (data[0] if data else 0) % len(PAIRS), data[1:2] == b"\x01", data[2:]

    def behave(car: socket) -> None:
        answer_rightly(car.sendall, car.recv, count)
        with contextlib.suppress(OSError):
            car.sendall(v2gtp.encode(rest) if framed else rest)

    thread = hostile().serve_one(behave)
    events = [name for name, _ in car_at(hostile().port, tls=False)]
    thread.join(HANGS)
    if events[-1] not in ("failed", "closed"):
        raise AssertionError(events)
    if "authorized" in events and count < 7:  # the answer to AuthorizationReq is the eighth
        raise AssertionError("authorized too early")
