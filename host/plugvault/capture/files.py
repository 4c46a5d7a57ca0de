"""Capture files of any program: pcap and pcapng, of either byte order, as a stream of records.

Lengths in a file are checked before they are used: a record has at most `RECORD` bytes, and an
incomplete file gives its complete records. Compressed captures are not read.
"""

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

RECORD = 1 << 20  # bytes of one packet or block: above any that a capture of ours or tcpdump has

_PCAP = {
    b"\xd4\xc3\xb2\xa1": ("<", 1000),
    b"\xa1\xb2\xc3\xd4": (">", 1000),
    b"\x4d\x3c\xb2\xa1": ("<", 1),  # nanoseconds
    b"\xa1\xb2\x3c\x4d": (">", 1),
}
_SECTION, _INTERFACE, _OLD_PACKET, _SIMPLE, _PACKET, _SECRETS = 0x0A0D0D0A, 1, 2, 3, 6, 10
_SECTION_BYTES = b"\x0a\x0d\x0d\x0a"
_ORDERS = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
_TLS_KEY_LOG = 0x544C534B
_RESOLUTION = 9  # option of an interface: the unit of its times
_SECOND = 1_000_000_000


class CaptureError(Exception):
    """A file that is no capture, or that cannot be read to its end. The text names the place."""


class Frame(NamedTuple):
    """A packet. time: nanoseconds since 1970; link: the LINKTYPE of its interface."""

    time: int
    link: int
    data: bytes


class Keys(NamedTuple):
    """A TLS key log inside the file. text: lines as in `SSLKEYLOGFILE`."""

    text: bytes


class Broken(NamedTuple):
    """The last record of a file that cannot be read further. why: the reason in a few words."""

    why: str


Record = Frame | Keys | Broken


class Interface(NamedTuple):
    """An interface of a capture. link: LINKTYPE; units: time units per second; snap: the greatest
    number of captured bytes of a packet."""

    link: int
    units: int
    snap: int


def is_capture(head: bytes) -> bool:
    """Whether a file with these first four bytes is a pcap or a pcapng."""
    return head[:4] in _PCAP or head[:4] == _SECTION_BYTES


def records(stream: BinaryIO) -> Iterator[Record]:
    """The records of a capture, in the file's order. Raises CaptureError for another format."""
    magic = stream.read(4)
    if magic in _PCAP:
        return _pcap(stream, *_PCAP[magic])
    if magic == _SECTION_BYTES:
        return _pcapng(stream)
    raise CaptureError("neither pcap nor pcapng")


def _pcap(stream: BinaryIO, order: str, unit: int) -> Iterator[Record]:
    head = stream.read(20)
    if len(head) < 20:
        yield Broken("its header breaks off")
        return
    link = struct.unpack(order + "I", head[16:])[0] & 0xFFFF  # the rest is the length of the FCS
    while record := stream.read(16):
        if len(record) < 16:
            yield Broken("it breaks off inside a packet's header")
            return
        seconds, fraction, size, _ = struct.unpack(order + "IIII", record)
        if size > RECORD:
            yield Broken(f"a packet of {size} bytes")
            return
        data = stream.read(size)
        if len(data) < size:
            yield Broken("it breaks off inside a packet")
            return
        yield Frame(seconds * _SECOND + fraction * unit, link, data)


def _pcapng(stream: BinaryIO) -> Iterator[Record]:
    order, interfaces = "<", list[Interface]()
    kind_bytes = _SECTION_BYTES
    while kind_bytes:
        head = stream.read(4)
        if kind_bytes == _SECTION_BYTES:  # a new section, with its own byte order
            mark = stream.read(4)
            if mark not in _ORDERS:
                yield Broken("a section without its byte order")
                return
            order, interfaces, extra = _ORDERS[mark], [], 4
        else:
            extra = 0
        body = _body(stream, order, head, extra)
        if isinstance(body, Broken) or len(kind_bytes) < 4:
            yield body if isinstance(body, Broken) else Broken("it breaks off between two blocks")
            return
        kind = struct.unpack(order + "I", kind_bytes)[0]
        try:
            record = _record(kind, body, order, interfaces)
        except (struct.error, IndexError) as error:
            yield Broken(f"a block of type {kind:x} is wrong ({error})")
            return
        if record is not None:
            yield record
        kind_bytes = stream.read(4)


def _body(stream: BinaryIO, order: str, head: bytes, extra: int) -> bytes | Broken:
    """The rest of a block. extra: bytes of its body that are read already."""
    if len(head) < 4:
        return Broken("it breaks off in a block's header")
    length = struct.unpack(order + "I", head)[0]
    if length % 4 or not 12 + extra <= length <= RECORD:
        return Broken(f"a block of {length} bytes")
    body = stream.read(length - 8 - extra)
    if len(body) < length - 8 - extra:
        return Broken("it breaks off inside a block")
    return body[:-4]  # without the second length


def _record(kind: int, body: bytes, order: str, interfaces: list[Interface]) -> Record | None:
    if kind == _INTERFACE:
        link, _, snap = struct.unpack_from(order + "HHI", body)
        interfaces.append(Interface(link, _units(body[8:], order), snap))
    elif kind == _PACKET:
        number, high, low, size = struct.unpack_from(order + "IIII", body)
        return _frame(interfaces[number], high, low, body[20 : 20 + size])
    elif kind == _OLD_PACKET:
        number, _, high, low, size = struct.unpack_from(order + "HHIII", body)
        return _frame(interfaces[number], high, low, body[20 : 20 + size])
    elif kind == _SIMPLE:  # without a time
        size = struct.unpack_from(order + "I", body)[0]
        snap = interfaces[0].snap or size
        return Frame(0, interfaces[0].link, body[4 : 4 + min(size, snap)])
    elif kind == _SECRETS:
        secret, size = struct.unpack_from(order + "II", body)
        if secret == _TLS_KEY_LOG:
            return Keys(body[8 : 8 + size])
    return None


def _frame(interface: Interface, high: int, low: int, data: bytes) -> Frame:
    return Frame((high << 32 | low) * _SECOND // interface.units, interface.link, data)


def _units(options: bytes, order: str) -> int:
    """Units of an interface's times in a second: 10 or 2 to a power; microseconds by default."""
    while len(options) >= 4:
        code, size = struct.unpack_from(order + "HH", options)
        if code == _RESOLUTION and size == 1 and len(options) > 4:
            power = options[4] & 0x7F
            return 1 << power if options[4] & 0x80 else int(10**power)
        if code == 0:
            break
        options = options[4 + size + -size % 4 :]
    return 1_000_000
