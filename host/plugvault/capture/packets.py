"""IP packets as a capture holds them: IPv6 or IPv4 with TCP or UDP, checksums included.

An address is (host, port), as `socket` gives it; the zone of a link-local address is left out.
"""

import ipaddress
import struct
from typing import Any

TCP, UDP = 6, 17
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
_WINDOW = 65_535
_HOPS = 64

Address = tuple[Any, ...]  # (host, port) or (host, port, flow info, scope id)
Endpoint = tuple[bytes, int]  # the address in 4 or 16 bytes, the port


def endpoint(address: Address) -> Endpoint:
    """(address in 4 or 16 bytes, port) of an address of `socket`. Raises ValueError for a host
    name."""
    host = str(address[0]).partition("%")[0]
    return ipaddress.ip_address(host).packed, int(address[1])


def tcp(
    source: Endpoint,
    destination: Endpoint,
    sequence: int,
    acknowledged: int,
    flags: int,
    data: bytes,
) -> bytes:
    """An IP packet with a TCP segment, whose header has 20 bytes."""
    head = struct.pack(
        ">HHIIBBHHH",
        source[1],
        destination[1],
        sequence & 0xFFFFFFFF,
        acknowledged & 0xFFFFFFFF,
        0x50,
        flags,
        _WINDOW,
        0,
        0,
    )
    return _packet(source[0], destination[0], TCP, head + data, 16)


def udp(source: Endpoint, destination: Endpoint, data: bytes) -> bytes:
    """An IP packet with a UDP datagram."""
    head = struct.pack(">HHHH", source[1], destination[1], 8 + len(data), 0)
    return _packet(source[0], destination[0], UDP, head + data, 6)


def _packet(source: bytes, destination: bytes, protocol: int, segment: bytes, at: int) -> bytes:
    """at: the place of the checksum in the segment."""
    if len(source) != len(destination):
        source, destination = _mapped(source), _mapped(destination)
    pseudo = source + destination + struct.pack(">II", len(segment), protocol)
    total = checksum(pseudo + segment) or 0xFFFF  # 0 would mean "no checksum" in UDP
    segment = segment[:at] + total.to_bytes(2, "big") + segment[at + 2 :]
    if len(source) == 16:
        head = struct.pack(">IHBB", 6 << 28, len(segment), protocol, _HOPS)
        return head + source + destination + segment
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(segment), 0, 0x4000, _HOPS, protocol, 0)
    head += source + destination
    return head[:10] + checksum(head).to_bytes(2, "big") + head[12:] + segment


def _mapped(address: bytes) -> bytes:
    """An address in 16 bytes; an IPv4 address is mapped [RFC 4291, 2.5.5.2], because both ends of
    a packet need the same family."""
    return bytes(10) + b"\xff\xff" + address if len(address) == 4 else address


def checksum(data: bytes) -> int:
    """The Internet checksum [RFC 1071]; 0 over data that holds its own checksum."""
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
