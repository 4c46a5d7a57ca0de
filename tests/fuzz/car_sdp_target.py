"""Fuzz target: a car's search for a station, on any datagrams (a length byte before each) over a
real socket. The car opens no connection here: an answer may name any address."""

import time
from collections.abc import Iterator
from functools import cache
from socket import AF_INET6, SOCK_DGRAM, socket
from types import SimpleNamespace
from typing import Any

from port_ends import HANGS, HOST

from evcc.network import sdp
from evcc.network.station import FAILED, FOUND, Station
from evcc.ports import network
from evcc.ports.stream import PortError

SLOW = HANGS
ADDRESS = bytes.fromhex("fe80000000000000020000fffe000001")


def seeds() -> Iterator[bytes]:
    for security in (sdp.TLS, sdp.NO_TLS):
        datagram = sdp.response(ADDRESS, 50_000, security)
        yield bytes([len(datagram)]) + datagram
        yield b"\x0a" + sdp.request(security) + bytes([len(datagram)]) + datagram


@cache
def _hostile() -> socket:
    hostile = socket(AF_INET6, SOCK_DGRAM)
    hostile.bind((HOST, 0))
    hostile.settimeout(HANGS)
    return hostile


def _no_connection(host: str, port: int) -> Any:
    raise PortError("unavailable", "not here")


def target(data: bytes) -> None:
    """The search ends with a station over TLS, or with "station-not-found"."""
    hostile = _hostile()
    ports = SimpleNamespace(
        Udp=lambda host, port: network.Udp(HOST, hostile.getsockname()[1]),
        Dialled=_no_connection,
    )
    car = Station(ports, {"interface": "lo"}, None)
    car.step(0)
    _, source = hostile.recvfrom(1500)
    while data:
        hostile.sendto(data[1 : 1 + data[0]], source)
        data = data[1 + data[0] :]
    began, now, reports = time.monotonic(), 0, []
    while not reports and time.monotonic() - began < HANGS:
        reports = car.step(now)  # its own clock: the search takes no time here
        now += sdp.REPEAT_MS
    car.close()
    hostile.setblocking(False)
    try:
        while hostile.recv(1500):
            pass
    except BlockingIOError:
        hostile.settimeout(HANGS)
    ((name, value),) = reports
    if name != FAILED or value[0] not in ("station-not-found", "unreachable"):
        raise AssertionError(reports)
    if name == FOUND and not car.secure:
        raise AssertionError("a station without TLS is taken")
