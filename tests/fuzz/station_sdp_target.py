"""Fuzz target: a station's SDP server on a real socket, on any datagrams (a length byte before
each)."""

import asyncio
import logging
from collections.abc import Iterator
from socket import AF_INET6, SOCK_DGRAM, socket

from port_ends import HANGS, HOST, check

from evcc.network import sdp
from plugvault.interfaces import link_local
from plugvault.station.discovery import Discovery

SLOW = HANGS
PORT = 50_000
logging.getLogger("plugvault.station.discovery").setLevel(logging.DEBUG)  # its formats, too


def seeds() -> Iterator[bytes]:
    for security in (sdp.TLS, sdp.NO_TLS):
        datagram = sdp.request(security)
        yield bytes([len(datagram)]) + datagram
        yield (bytes([len(datagram)]) + datagram) * 30
    yield b"\x00\x1c" + sdp.response(bytes(15) + b"\x01", PORT, sdp.TLS)


def target(data: bytes) -> None:
    """Only a right request gets an answer, each one answer, and not more than the limit."""
    asyncio.run(_converse(list(_split(data))))
    check()


def _split(data: bytes) -> Iterator[bytes]:
    while data:
        yield data[1 : 1 + data[0]]
        data = data[1 + data[0] :]


async def _converse(datagrams: list[bytes]) -> None:
    loop = asyncio.get_running_loop()
    server = Discovery(link_local("lo"), {sdp.TLS: PORT})
    transport, _ = await loop.create_datagram_endpoint(lambda: server, local_addr=(HOST, 0))
    server._transport = transport
    address = transport.get_extra_info("sockname")
    with socket(AF_INET6, SOCK_DGRAM) as car:
        car.setblocking(False)
        car.bind((HOST, 0))
        right = 0
        for datagram in datagrams[:50]:
            right += datagram in (sdp.request(sdp.TLS), sdp.request(sdp.NO_TLS))
            car.sendto(datagram, address)
        car.sendto(sdp.request(sdp.TLS), address)
        for _ in range(min(right + 1, 20)):  # the limit for one address
            answer = await asyncio.wait_for(loop.sock_recv(car, 1500), HANGS)
            sdp.read_response(answer, sdp.TLS)
    server.close()
