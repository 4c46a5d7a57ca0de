"""TCP connections put together from their segments, which may be reordered, retransmitted or lost.

A segment counts once, at the time when all bytes before it were there. Bytes that the capture lost
leave a gap, which the next `Chunk` of that direction names.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from plugvault.capture.layers import Segment
from plugvault.capture.packets import ACK, FIN, RST, SYN, Endpoint

CONNECTIONS = 10_000  # followed at most; further ones are counted
_EARLY = 256  # segments of a direction that wait for an earlier one
_WRAP = 1 << 32


class Chunk(NamedTuple):
    """Bytes of one direction, in order. time: nanoseconds since 1970. lost: the number of bytes
    missing before them."""

    time: int
    by_client: bool
    data: bytes
    lost: int = 0


@dataclass
class _Direction:
    """Places count from the first byte of the direction; sequence numbers wrap around."""

    sequence: int | None = None  # of the byte at `place`
    place: int = 0  # of the next byte
    time: int = 0  # of the last byte
    early: list[tuple[int, int, Segment]] = field(default_factory=list)  # a heap, by place

    def start(self, sequence: int) -> None:
        self.sequence = sequence % _WRAP

    def ahead(self, segment: Segment) -> int:
        """Bytes between the next expected one and the segment; negative: it begins before."""
        distance = (segment.sequence - (self.sequence or 0)) % _WRAP
        return distance - _WRAP if distance >= _WRAP // 2 else distance


@dataclass
class Connection:
    """A TCP connection. client: the end that opened it, or, if the capture began later, the end
    that sent first. began: nanoseconds since 1970. end: "" or how it ended: "closed by" or "reset
    by" and "client" or "server"."""

    client: Endpoint
    server: Endpoint
    began: int
    has_start: bool
    end: str = ""
    repeated: int = 0  # segments that were sent again
    chunks: list[Chunk] = field(default_factory=list)
    _directions: dict[bool, _Direction] = field(
        default_factory=lambda: {True: _Direction(), False: _Direction()}
    )

    @property
    def lost(self) -> int:
        """The number of bytes that the capture lost."""
        return sum(chunk.lost for chunk in self.chunks)

    def feed(self, segment: Segment) -> None:
        """Add a segment of this connection."""
        by_client = segment.source == self.client
        direction = self._directions[by_client]
        if segment.flags & SYN:
            if direction.sequence is None:
                direction.start(segment.sequence + 1)
            return
        if direction.sequence is None:
            direction.start(segment.sequence)
        if segment.data or segment.lost:
            self._take(by_client, direction, segment)
        if not self.end and segment.flags & (FIN | RST):
            verb = "reset" if segment.flags & RST else "closed"
            self.end = f"{verb} by {'client' if by_client else 'server'}"

    def finish(self) -> None:
        """End the connection: segments that wait for lost ones are added with a gap before
        them."""
        for by_client, direction in self._directions.items():
            while direction.early:
                self._skip(by_client, direction)
        self.chunks.sort(key=lambda chunk: chunk.time)

    def _take(self, by_client: bool, direction: _Direction, segment: Segment) -> None:
        place = direction.place + direction.ahead(segment)
        if place > direction.place:
            heapq.heappush(direction.early, (place, len(direction.early), segment))
            if len(direction.early) > _EARLY:
                self._skip(by_client, direction)
            return
        self._append(by_client, direction, segment, place)
        self._drain(by_client, direction)

    def _append(
        self, by_client: bool, direction: _Direction, segment: Segment, place: int, lost: int = 0
    ) -> None:
        """Add the bytes of a segment that begins at `place`, less the known ones."""
        end = place + len(segment.data) + segment.lost
        if end <= direction.place:
            self.repeated += 1
            return
        direction.time = max(direction.time, segment.time)
        data = segment.data[direction.place - place :]
        if data or lost:
            self.chunks.append(Chunk(direction.time, by_client, data, lost))
        cut = min(segment.lost, end - direction.place)
        if cut:
            self.chunks.append(Chunk(direction.time, by_client, b"", cut))
        direction.place = end
        direction.start(segment.sequence + len(segment.data) + segment.lost)

    def _drain(self, by_client: bool, direction: _Direction) -> None:
        """Take what waited and is no longer early."""
        while direction.early and direction.early[0][0] <= direction.place:
            place, _, segment = heapq.heappop(direction.early)
            self._append(by_client, direction, segment, place)

    def _skip(self, by_client: bool, direction: _Direction) -> None:
        """Go on behind a gap, with the nearest segment that waits."""
        place, _, segment = heapq.heappop(direction.early)
        lost = place - direction.place
        direction.place = place
        self._append(by_client, direction, segment, place, lost)
        self._drain(by_client, direction)


class Connections:
    """All TCP connections of a capture, in the order of their beginnings."""

    def __init__(self) -> None:
        self.unfollowed = 0  # segments of connections above the limit
        self._open: dict[tuple[Endpoint, Endpoint], Connection] = {}
        self._all: list[Connection] = []

    def feed(self, segment: Segment) -> None:
        """Add a segment to its connection, which begins with its first segment. Above CONNECTIONS,
        further connections are only counted."""
        key = _key(segment)
        connection = self._open.get(key)
        is_start = segment.flags & (SYN | ACK) == SYN
        if is_start and connection is not None and (connection.chunks or connection.end):
            connection = None  # the ports are used again
        if connection is None:
            if segment.flags & RST or not (segment.data or segment.lost or segment.flags & SYN):
                return  # the end of a connection that began before the capture
            if len(self._all) >= CONNECTIONS:
                self.unfollowed += 1
                return
            connection = self._begin(segment)
            self._open[key] = connection
            self._all.append(connection)
        connection.feed(segment)

    def finished(self) -> Iterator[Connection]:
        """All connections, each with its remaining segments."""
        for connection in self._all:
            connection.finish()
            yield connection

    def _begin(self, segment: Segment) -> Connection:
        answers = segment.flags & (SYN | ACK) == SYN | ACK
        ends = segment.source, segment.destination
        client, server = reversed(ends) if answers else ends
        return Connection(client, server, segment.time, bool(segment.flags & SYN))


def _key(segment: Segment) -> tuple[Endpoint, Endpoint]:
    first, second = sorted((segment.source, segment.destination))
    return first, second
