"""The layers of a frame: link, IPv6 or IPv4, TCP or UDP. Another frame gives None.

Checksums are not verified, because network cards fill them in after the capture. IP fragments
other than the first are left out; the messages of ISO 15118 never need them.
"""

import ipaddress
import struct
from typing import NamedTuple

from plugvault.capture.files import Frame
from plugvault.capture.packets import TCP, UDP, Endpoint

_NULL, _ETHERNET, _RAW, _LOOP, _SLL, _IPV4, _IPV6, _SLL2 = 0, 1, 101, 108, 113, 228, 229, 276
_OLD_RAW = (12, 14)
LINKS = (_NULL, _ETHERNET, _RAW, _LOOP, _SLL, _IPV4, _IPV6, _SLL2, *_OLD_RAW)
# EtherTypes: IPv4, IPv6, and the tags that stand before another EtherType.
_ETHERTYPES = (0x0800, 0x86DD)
_TAGS = (0x8100, 0x88A8, 0x9100)
_EXTENSIONS = (0, 43, 60, 135, 139, 140)  # IPv6 headers that give their length in units of 8
_FRAGMENT = 44


class Segment(NamedTuple):
    """A TCP segment. time: nanoseconds since 1970. lost: the number of bytes that the capture cut
    off."""

    time: int
    source: Endpoint
    destination: Endpoint
    sequence: int
    flags: int
    data: bytes
    lost: int = 0


class Datagram(NamedTuple):
    """A UDP datagram. time: nanoseconds since 1970."""

    time: int
    source: Endpoint
    destination: Endpoint
    data: bytes


def shown(end: Endpoint) -> str:
    """An address with its port as text: [address]:port."""
    name = host(end)
    return f"[{name}]:{end[1]}" if ":" in name else f"{name}:{end[1]}"


def host(end: Endpoint) -> str:
    """The address of an endpoint as text, without its port."""
    return str(ipaddress.ip_address(end[0]))


def packet(frame: Frame) -> Segment | Datagram | None:
    """The TCP segment or UDP datagram of a frame; None for any other frame."""
    try:
        packet = _network(frame.link, frame.data)
        if not packet:
            return None
        version = packet[0] >> 4
        if version == 6:
            return _ipv6(frame.time, packet)
        return _ipv4(frame.time, packet) if version == 4 else None
    except (struct.error, IndexError):  # the frame is too short for its own headers
        return None


def _network(link: int, data: bytes) -> bytes:
    """The IP packet of a frame, or b""."""
    if link == _ETHERNET:
        at = 12
        while int.from_bytes(data[at : at + 2], "big") in _TAGS:
            at += 4
        return data[at + 2 :] if int.from_bytes(data[at : at + 2], "big") in _ETHERTYPES else b""
    if link == _SLL:
        return data[16:] if int.from_bytes(data[14:16], "big") in _ETHERTYPES else b""
    if link == _SLL2:
        return data[20:] if int.from_bytes(data[:2], "big") in _ETHERTYPES else b""
    if link in (_NULL, _LOOP):
        return data[4:]
    return data if link in LINKS else b""


def _ipv6(time: int, packet: bytes) -> Segment | Datagram | None:
    length, protocol = struct.unpack_from(">HB", packet, 4)
    source, destination, at = packet[8:24], packet[24:40], 40
    end = 40 + length if length else len(packet)  # 0: a network card cuts the packet up later
    while protocol in _EXTENSIONS or protocol == _FRAGMENT:
        if protocol == _FRAGMENT:
            if struct.unpack_from(">H", packet, at + 2)[0] >> 3:
                return None
            size = 8
        else:
            size = 8 + 8 * packet[at + 1]
        protocol = packet[at]
        at += size
    return _transport(time, source, destination, protocol, packet, at, end)


def _ipv4(time: int, packet: bytes) -> Segment | Datagram | None:
    at = (packet[0] & 15) * 4
    total, fragment, protocol = struct.unpack_from(">H2xHxB", packet, 2)
    if fragment & 0x1FFF or at < 20:
        return None
    end = total or len(packet)  # 0: a network card cuts the packet up later
    return _transport(time, packet[12:16], packet[16:20], protocol, packet, at, end)


def _transport(
    time: int, source: bytes, destination: bytes, protocol: int, packet: bytes, at: int, end: int
) -> Segment | Datagram | None:
    """at, end: where the segment begins and ends, by the IP header."""
    segment = packet[at:end]
    if protocol == UDP:
        source_port, port, size = struct.unpack_from(">HHH", segment)
        return Datagram(time, (source, source_port), (destination, port), segment[8:size])
    if protocol != TCP:
        return None
    source_port, port, sequence, _, offset, flags = struct.unpack_from(">HHIIBB", segment)
    head = (offset >> 4) * 4
    if head < 20:
        return None
    data = segment[head:]
    lost = max(end - at - head - len(data), 0)
    return Segment(time, (source, source_port), (destination, port), sequence, flags, data, lost)
