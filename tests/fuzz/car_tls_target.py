"""Fuzz target: a car at the TLS port of a hostile station, over real sockets.

The first byte says when the rest is sent: in place of the station's first flight, as records after
a handshake, or inside TLS; or the handshake is made with a chain of another root.
"""

import contextlib
from collections.abc import Iterator
from functools import cache
from socket import socket

from port_ends import HANGS, HostileStation, car_at, drain, flights, station_context

from scripted import OFFERED, answer

SLOW = HANGS
FLIGHT, RECORD, INSIDE, STRANGER = range(4)
hostile = cache(HostileStation)
context = cache(station_context)


def seeds() -> Iterator[bytes]:
    yield bytes([FLIGHT]) + flights()[0]
    yield bytes([RECORD]) + b"\x17\x03\x03\x00\x10" + bytes(16)
    yield bytes([INSIDE]) + answer("supportedAppProtocol", OFFERED["supportedAppProtocol"])
    yield bytes([STRANGER])


def target(data: bytes) -> None:
    """The car comes to an end that it names; a stranger's chain never opens a connection."""
    place, rest = (data[0] % 4 if data else FLIGHT), data[1:]

    def behave(car: socket) -> None:
        if place == FLIGHT:
            car.recv(4096)
            car.sendall(rest)
            return
        secured = context(good=place != STRANGER).wrap_socket(car, server_side=True)
        with secured:
            if secured.recv(4096) and place == INSIDE:
                secured.sendall(rest)
                return
            with socket(fileno=secured.detach()) as raw, contextlib.suppress(OSError):
                raw.sendall(rest)
                raw.shutdown(1)
                raw.settimeout(HANGS)
                drain(raw.recv)

    thread = hostile().serve_one(behave)
    reports = car_at(hostile().port, tls=True)
    thread.join(HANGS)
    events = [name for name, _ in reports]
    if events[-1] not in ("failed", "closed"):
        raise AssertionError(events)
    if ("open" in events) != (place in (RECORD, INSIDE)):
        raise AssertionError(reports)
