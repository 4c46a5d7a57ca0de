"""Fuzz target: the V2GTP port of a station that runs, on any bytes from a vehicle.

The first byte says how many right requests come before, the second whether the rest gets a header.
"""

from collections.abc import Iterator
from functools import cache

from port_ends import HANGS, REQUESTS, check, connect, drain, play, request, station

from evcc import exi
from evcc.link import v2gtp

SLOW = HANGS  # seconds for one input
port = cache(station)


def seeds() -> Iterator[bytes]:
    for number in range(len(REQUESTS) + 1):
        payload = request(number, bytes(8))
        yield bytes([number, 1]) + payload
        yield bytes([number, 0]) + v2gtp.encode(payload)


def target(data: bytes) -> None:
    """Right requests are answered, any bytes get messages or the end, and the station goes on."""
    count, framed, rest = (*data[:2], 0, 0)[0], data[1:2] == b"\x01", data[2:]
    with connect(port()) as vehicle:
        play(vehicle.sendall, vehicle.recv, count % (len(REQUESTS) + 1))
        try:
            vehicle.sendall(v2gtp.encode(rest) if framed else rest)
            vehicle.shutdown(1)
        except OSError:
            pass  # the station has closed the connection
        for payload in v2gtp.PayloadReader().feed(drain(vehicle.recv)):
            exi.decode(payload, "iso2" if count % (len(REQUESTS) + 1) else "sap")
    check()
