"""The connections of a capture in which a car and a station speak V2GTP, and what they say.

A connection is one of these when its bytes are V2GTP, or when it is TLS and SDP has announced the
station's end, the port is 15118, or the certificate is a station's. The others are counted.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

from evcc import chain, x509
from evcc.errors import EvccError
from evcc.link.v2gtp import HEADER_BYTES
from evcc.network import sdp
from plugvault.capture import tls
from plugvault.capture.files import Broken, Frame, Keys, records
from plugvault.capture.layers import LINKS, Datagram, Segment, packet
from plugvault.capture.packets import Endpoint
from plugvault.capture.streams import Chunk, Connection, Connections
from plugvault.pki.layout import role_of

SPOKEN = 100_000  # messages of one direction that are kept
LONGEST = 1 << 20  # bytes of one V2GTP message; a longer length is no header
DATAGRAMS = 10_000
_VERSION = b"\x01\xfe"
_EARLY = 64  # segments in which a V2GTP message has to begin
_KEY_DATAGRAM = b"CLIENT_RANDOM "  # some tools send the keys of TLS over UDP


class Spoken(NamedTuple):
    """One V2GTP message. time: of its last byte, nanoseconds since 1970."""

    time: int
    by_client: bool
    payload_type: int
    payload: bytes


class Search(NamedTuple):
    """A datagram of SDP. time: nanoseconds since 1970."""

    time: int
    source: Endpoint
    destination: Endpoint
    data: bytes


@dataclass
class Conversation:
    """A connection with V2GTP. handshake: of TLS; None without it. problems: what is missing or
    cannot be read."""

    connection: Connection
    handshake: tls.Handshake | None
    spoken: list[Spoken]
    problems: list[str]


@dataclass
class Contents:
    """The content of a capture that concerns ISO 15118. problems: of the file."""

    packets: int = 0
    keys: int = 0
    unread: int = 0  # packets of a link type that is not read
    others: int = 0  # connections of other protocols
    searches: list[Search] = field(default_factory=list)
    conversations: list[Conversation] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def read(stream: BinaryIO, keylog: bytes = b"") -> Contents:
    """The contents of a capture. keylog: the text of a TLS key log. Raises CaptureError."""
    contents, connections, key_logs = Contents(), Connections(), [keylog]
    for record in records(stream):
        if isinstance(record, Broken):
            contents.problems.append(f"the file cannot be read further: {record.why}")
        elif isinstance(record, Keys):
            key_logs.append(record.text)
        else:
            _take(record, contents, connections, key_logs)
    keys = tls.key_log(*key_logs)
    contents.keys = len(keys)
    if connections.unfollowed:
        contents.problems.append(f"{connections.unfollowed} segments of further connections")
    announced = set(_announced(contents.searches))
    for connection in connections.finished():
        conversation = _conversation(connection, keys, announced)
        if conversation is None:
            contents.others += 1
        else:
            contents.conversations.append(conversation)
    return contents


def _take(
    frame: Frame, contents: Contents, connections: Connections, key_logs: list[bytes]
) -> None:
    contents.packets += 1
    contents.unread += frame.link not in LINKS
    layer = packet(frame)
    if isinstance(layer, Segment):
        connections.feed(layer)
    elif isinstance(layer, Datagram):
        if layer.data.startswith(_KEY_DATAGRAM):
            key_logs.append(layer.data)
        elif layer.data[:3] == _VERSION + b"\x90" and len(contents.searches) < DATAGRAMS:
            contents.searches.append(Search(*layer))


def _announced(searches: Iterable[Search]) -> Iterator[Endpoint]:
    """The addresses that stations have given."""
    for search in searches:
        end = announced_end(search.data)
        if end is not None:
            yield end


def announced_end(datagram: bytes) -> Endpoint | None:
    """The address in a station's answer, also in an answer with other faults; None for other
    datagrams."""
    if datagram[2:4] != b"\x90\x01" or len(datagram) < HEADER_BYTES + 18:
        return None
    body = datagram[HEADER_BYTES:]
    return body[:16], int.from_bytes(body[16:18], "big")


def _conversation(
    connection: Connection, keys: Mapping[bytes, bytes], announced: set[Endpoint]
) -> Conversation | None:
    """None: the connection is of another protocol."""
    chunks, handshake = connection.chunks, None
    first = next((chunk.data for chunk in chunks if chunk.by_client and chunk.data), b"")
    if tls.is_tls(first):
        handshake, chunks = tls.read(chunks, keys)
        if not (_is_v2gtp(chunks) or _is_station(connection, handshake, announced)):
            return None
    elif not _is_v2gtp(chunks) and (chunks or connection.server not in announced):
        return None
    problems = list(handshake.problems) if handshake else []
    spoken = [message for side in (True, False) for message in _messages(chunks, side, problems)]
    spoken.sort(key=lambda message: message.time)
    return Conversation(connection, handshake, spoken, problems)


def _is_v2gtp(chunks: list[Chunk]) -> bool:
    """Whether a message begins early, though the capture may begin inside another one."""
    return any(chunk.data[:2] == _VERSION for chunk in chunks[:_EARLY])


def _is_station(
    connection: Connection, handshake: tls.Handshake, announced: set[Endpoint]
) -> bool:
    if connection.server in announced or connection.server[1] == sdp.PORT:
        return True
    try:
        return bool(handshake.chain) and role_of(x509.parse(handshake.chain[0])) == chain.CPO
    except EvccError:
        return False


def _messages(chunks: list[Chunk], by_client: bool, problems: list[str]) -> Iterator[Spoken]:
    """The V2GTP messages of one direction."""
    side = _Side(by_client)
    for chunk in chunks:
        if chunk.by_client == by_client:
            yield from side.feed(chunk)
    problems += side.problems()


class _Side:
    """The messages of one end. Behind bytes that are no V2GTP it looks for the next message."""

    def __init__(self, by_client: bool) -> None:
        self._by_client = by_client
        self._buffer = bytearray()
        self._count = self._skipped = 0
        self._lost: list[int] = []  # bytes, of each gap

    def feed(self, chunk: Chunk) -> Iterator[Spoken]:
        """The messages that are complete now."""
        if chunk.lost:
            self._lost.append(chunk.lost)
            self._buffer.clear()
        self._buffer += chunk.data
        while len(self._buffer) >= HEADER_BYTES and self._count < SPOKEN:
            end = HEADER_BYTES + int.from_bytes(self._buffer[4:8], "big")
            if self._buffer[:2] != _VERSION or end > LONGEST:
                self._skip()
                continue
            if len(self._buffer) < end:
                return
            self._count += 1
            payload_type = int.from_bytes(self._buffer[2:4], "big")
            payload = bytes(self._buffer[HEADER_BYTES:end])
            yield Spoken(chunk.time, self._by_client, payload_type, payload)
            del self._buffer[:end]
        if self._count >= SPOKEN:
            self._buffer.clear()

    def problems(self) -> Iterator[str]:
        """The fault at the end, when nothing follows."""
        name = "the client" if self._by_client else "the server"
        yield from (f"{name}: the capture has lost {size} bytes" for size in self._lost)
        if self._count >= SPOKEN:
            yield f"{name}: messages after the first {SPOKEN:,}"
        if self._skipped:
            yield f"{name}: {self._skipped} bytes that are no V2GTP"
        if self._buffer:
            yield f"{name}: its last message is not complete"

    def _skip(self) -> None:
        """Go on at the next bytes that begin like a message."""
        at = self._buffer.find(_VERSION, 1)
        at = len(self._buffer) - 1 if at < 0 else at
        self._skipped += at
        del self._buffer[:at]
