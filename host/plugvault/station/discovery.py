"""SDP at the station: the answer to the vehicles' search, on one interface [ISO 15118-2, 7.10.1].

A request names no sender that could be trusted, so the answers are limited: only to addresses of
the link, at most `BURST` at once and `RATE` a second, fewer to one address. Other datagrams get no
answer.
"""

import asyncio
import ipaddress
import logging
import socket
import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from evcc.network import sdp
from plugvault.capture import Capture
from plugvault.interfaces import LinkLocal
from plugvault.seldom import Seldom
from plugvault.token_bucket import TokenBucket

RATE, BURST = 50.0, 100.0  # answers to all addresses
ADDRESS_RATE, ADDRESS_BURST = 8.0, 20.0  # answers to one; a vehicle asks four times a second
ADDRESSES = 64  # that are remembered

_log = logging.getLogger(__name__)

Searched = Callable[[str, bool, bool], object]
"""(address of the vehicle, it asks for TLS, it is told TLS)."""


def listen(local: LinkLocal) -> socket.socket:
    """The socket of the vehicles' searches. Raises OSError when another program has it."""
    listener = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    try:
        # Bound to the group, the socket gets no datagram of another interface or address.
        listener.bind((sdp.GROUP, sdp.PORT, 0, local.index))
        group = socket.inet_pton(socket.AF_INET6, sdp.GROUP)
        member = group + struct.pack("@I", local.index)
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, member)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        text = f"SDP at {local.interface}: {error.strerror}; another station there must end first"
        raise OSError(error.errno, text) from error
    return listener


class Answers:
    """The answers of a station, sans-I/O.

    ports: TCP ports of the station by their security, `sdp.TLS`, `sdp.NO_TLS` or both. A request
    for the other one is answered with the one there is: the vehicle decides.
    """

    def __init__(self, local: LinkLocal, ports: Mapping[int, int], searched: Searched) -> None:
        if not ports:
            raise ValueError("a station without a port")
        self._local, self._ports, self._searched = local, dict(ports), searched
        self._all = TokenBucket(RATE, BURST)
        self._unanswered = Seldom(_log, "SDP: too many searches, no answer to {}")
        self._addresses: OrderedDict[str, TokenBucket] = OrderedDict()

    def answer(self, datagram: bytes, source: tuple[Any, ...]) -> bytes | None:
        """The answer to a datagram from a socket's address; None for no answer."""
        try:
            requested = sdp.read_request(datagram)
        except sdp.SdpError as error:
            _log.debug("SDP: %s from %s", error, source[0])
            return None
        address = str(source[0]).partition("%")[0]
        if not self._is_on_link(address, source):
            return None
        if not self._may_answer(address):
            self._unanswered("%s", address)
            return None
        security = requested if requested in self._ports else next(iter(self._ports))
        self._searched(address, requested == sdp.TLS, security == sdp.TLS)
        return sdp.response(self._local.address, self._ports[security], security)

    def _is_on_link(self, address: str, source: tuple[Any, ...]) -> bool:
        ip = ipaddress.IPv6Address(address)
        if ip.is_loopback:
            return ipaddress.IPv6Address(self._local.address).is_loopback
        return ip.is_link_local and source[3] == self._local.index

    def _may_answer(self, address: str) -> bool:
        bucket = self._addresses.pop(address, None) or TokenBucket(ADDRESS_RATE, ADDRESS_BURST)
        self._addresses[address] = bucket  # the latest address is last
        while len(self._addresses) > ADDRESSES:
            self._addresses.popitem(last=False)
        return bucket.take() and self._all.take()


class Discovery(asyncio.DatagramProtocol):
    """The SDP server. capture: gets the datagrams of requests that are answered."""

    def __init__(
        self,
        local: LinkLocal,
        ports: Mapping[int, int],
        searched: Searched = lambda address, asks, told: None,
        capture: Capture | None = None,
    ) -> None:
        self._local = local
        self._answers = Answers(local, ports, searched)
        self._capture = capture
        self._transport: asyncio.DatagramTransport | None = None

    async def start(self) -> None:
        """Answer from now on. Raises OSError when another program answers on this interface."""
        loop, listener = asyncio.get_running_loop(), listen(self._local)
        try:
            self._transport, _ = await loop.create_datagram_endpoint(lambda: self, sock=listener)
        except BaseException:
            listener.close()
            raise

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        answer = self._answers.answer(data, addr)
        if answer is None or self._transport is None:
            return
        self._transport.sendto(answer, addr)
        if self._capture is not None:
            host = str(ipaddress.IPv6Address(self._local.address))
            self._capture.datagram(addr, (sdp.GROUP, sdp.PORT), data)
            self._capture.datagram((host, sdp.PORT), addr, answer)

    def error_received(self, exc: Exception) -> None:
        _log.info("SDP: an answer could not be sent: %s", exc)
