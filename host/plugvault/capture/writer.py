"""A capture file that a program writes about its own connections.

pcapng with IP packets (LINKTYPE_RAW). The TLS keys stand in a Decryption Secrets Block before the
first packet, where Wireshark needs them, and in `FILE.keys`, a key log as `SSLKEYLOGFILE` has it.
Each packet is written at once: memory stays constant, and a killed program leaves a complete file.
Only their owner can read both files.
"""

import errno
import fcntl
import itertools
import logging
import os
import re
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from plugvault.capture import packets
from plugvault.capture.packets import Address, Endpoint

LIMIT = 1 << 30  # bytes of a capture file
KEY_ROOM = 1 << 16  # bytes of keys before the first packet: 372 sessions of TLS 1.2
KEY_LINE = re.compile(rb"[A-Z0-9_]{1,40} [0-9a-fA-F]{64} [0-9a-fA-F]{64,128}")

_MSS = 1440  # bytes of payload in one segment: an Ethernet's 1500, less both headers
_SECTION, _INTERFACE, _PACKET, _SECRETS = 0x0A0D0D0A, 1, 6, 10
_LINKTYPE_RAW = 101
_TLS_KEY_LOG = 0x544C534B
_KEYS_READ = 1 << 16

_log = logging.getLogger(__name__)


class Capture:
    """One capture file, for any number of connections; any thread may write to it.

    path: pcapng, written anew; `path` + ".keys" likewise, unless has_keys is False: then there are
    no keys anywhere. limit: bytes of the file. clock: nanoseconds since 1970. Raises OSError when
    a file cannot be written at the start.

    Later no method raises: a full disk and the limit end the capture, never the session, and
    `ended` then says why.

        with Capture("session.pcapng") as capture:
            capture.datagram(car_address, ("ff02::1", 15118), sdp_request)
            context.keylog_filename = capture.keys          # an `ssl.SSLContext`
            connection = capture.connection(sock.getsockname(), sock.getpeername())
            connection.wire("in", received)                 # bytes of the wire, before `ssl`
            connection.wire("out", sent)                    # ... and after it
            connection.close("in")                          # the peer closed first
    """

    def __init__(
        self,
        path: str | Path,
        *,
        has_keys: bool = True,
        limit: int = LIMIT,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.path = Path(path)
        self.keys = Path(f"{path}.keys")
        self.ended = ""
        self.packets = 0
        self._limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._keys_read = self._keys_written = self._keys_at = 0
        self._has_keys = has_keys
        self._file: int | None = _new_file(self.path)
        self._size = 0
        try:
            if has_keys:
                os.close(_new_file(self.keys))
            self._begin(self._file)
        except OSError:
            self._close()
            raise

    def __enter__(self) -> "Capture":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def connection(self, local: Address, peer: Address) -> "CapturedConnection":
        """A TCP connection between this program (local) and its peer; addresses as of a socket.

        The end that sends first is the one that opened the connection: in ISO 15118 the car.
        """
        return CapturedConnection(self, packets.endpoint(local), packets.endpoint(peer))

    def datagram(self, source: Address, destination: Address, data: bytes) -> None:
        """A UDP datagram, sent or received: SDP."""
        with self._lock:
            self._write(packets.udp(packets.endpoint(source), packets.endpoint(destination), data))

    def keylog(self, line: str) -> None:
        """Add a line of a TLS key log: "CLIENT_RANDOM …". For TLS stacks that write to no file; an
        `ssl.SSLContext` writes to `keys` itself."""
        if not self._has_keys:
            return
        with self._lock:
            try:
                with self.keys.open("ab") as stream:
                    stream.write(line.strip().encode() + b"\n")
            except OSError as error:
                self._end(error)
            self._collect_keys()

    def close(self) -> None:
        """Add the last keys, and close the file."""
        with self._lock:
            self._collect_keys()
            self._close()

    # -- for a connection --------------------------------------------------------------------

    def segments(self, segments: list[bytes]) -> None:
        """Write TCP segments of one connection as IP packets."""
        with self._lock:
            self._collect_keys()
            for segment in segments:
                self._write(segment)

    def first_sequence(self) -> int:
        """The sequence number of a connection's first byte; another one for each connection."""
        return next(self._numbers) * 10_000_019

    # -- the file ------------------------------------------------------------------------------

    def _begin(self, file: int) -> None:
        byte_order, version, unknown_length = 0x1A2B3C4D, (1, 0), -1
        self._append(
            file, _block(_SECTION, struct.pack("<IHHq", byte_order, *version, unknown_length))
        )
        nanoseconds = struct.pack("<HHB3xHH", 9, 1, 9, 0, 0)
        self._append(
            file, _block(_INTERFACE, struct.pack("<HHI", _LINKTYPE_RAW, 0, 0) + nanoseconds)
        )
        if not self._has_keys:
            return
        self._keys_at = self._size + 16
        room = b"#\n" * (KEY_ROOM // 2)  # comments, until keys are written over them
        self._append(file, _block(_SECRETS, struct.pack("<II", _TLS_KEY_LOG, KEY_ROOM) + room))

    def _write(self, packet: bytes) -> None:
        """Add a packet with the time of now."""
        if self._file is None:
            return
        stamp = self._clock()
        head = struct.pack("<IIIII", 0, stamp >> 32, stamp & 0xFFFFFFFF, len(packet), len(packet))
        try:
            self._append(self._file, _block(_PACKET, head + packet))
            self.packets += 1
        except OSError as error:
            self._end(error)

    def _append(self, file: int, block: bytes) -> None:
        """Write a whole block, or nothing of it. Raises OSError."""
        if self._size + len(block) > self._limit:
            raise OSError(f"the capture has reached its limit of {self._limit} bytes")
        written = 0
        try:
            while written < len(block):
                written += os.pwrite(file, block[written:], self._size + written)
        except OSError:
            with suppress(OSError):
                os.ftruncate(file, self._size)
            raise
        self._size += len(block)

    def _end(self, error: OSError) -> None:
        """End the capture, and keep the reason of the first failure."""
        if self._file is not None:
            self.ended = f"{error.strerror or error}, after {self.packets} packets"
            _log.warning("%s: the capture ends here: %s", self.path, self.ended)
            self._close()

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                os.close(file)

    # -- the keys ------------------------------------------------------------------------------

    def _collect_keys(self) -> None:
        """Copy new lines of the key log into the capture."""
        file = self._file
        if file is None or not self._has_keys:
            return
        try:
            if self.keys.stat().st_size <= self._keys_read:
                return
            with self.keys.open("rb") as stream:
                stream.seek(self._keys_read)
                data = stream.read(_KEYS_READ)
            end = data.rfind(b"\n") + 1
            if not end and len(data) == _KEYS_READ:
                end = len(data)  # no key has such a line
            self._keys_read += end
            for line in data[:end].splitlines():
                if KEY_LINE.fullmatch(line):
                    self._add_key(file, line + b"\n")
        except OSError as error:
            self._end(error)

    def _add_key(self, file: int, line: bytes) -> None:
        if self._keys_written + len(line) <= KEY_ROOM:
            os.pwrite(file, line, self._keys_at + self._keys_written)
            self._keys_written += len(line)
        else:  # the room is full: Wireshark knows this key only from here on
            secret = struct.pack("<II", _TLS_KEY_LOG, len(line)) + line
            self._append(file, _block(_SECRETS, secret))


class CapturedConnection:
    """One TCP connection of a `Capture`. Directions: "in" for received bytes, "out" for sent."""

    def __init__(self, capture: Capture, local: Endpoint, peer: Endpoint) -> None:
        self._capture = capture
        self._ends = {"out": (local, peer), "in": (peer, local)}
        self._first_end = ""
        self._next: dict[str, int] = {}  # sequence number of each direction's next byte

    def wire(self, direction: str, data: bytes) -> None:
        """Write bytes of TCP as they were on the wire: TLS records, or V2GTP where there is no
        TLS.

        b"": this direction has ended, as `recv` reports it.
        """
        if not data:
            self._first_end = self._first_end or direction
            return
        segments = [] if self._next else self._open(direction)
        for at in range(0, len(data), _MSS):
            piece = data[at : at + _MSS]
            segments.append(self._segment(direction, packets.PSH | packets.ACK, piece))
        self._capture.segments(segments)

    def keylog(self, line: str) -> None:
        """A line of a TLS key log; see `Capture.keylog`."""
        self._capture.keylog(line)

    def close(self, direction: str = "") -> None:
        """Write the end of the connection. direction: "in" when the peer closed it first, "out"
        when this end did; by default the direction that `wire` reported, else "out"."""
        if not self._next:
            return
        direction = direction or self._first_end or "out"
        fin = packets.FIN | packets.ACK
        segments = [self._segment(direction, fin), self._segment(_back(direction), fin)]
        segments.append(self._segment(direction, packets.ACK))
        self._next = {}
        self._capture.segments(segments)

    def _open(self, direction: str) -> list[bytes]:
        """The three packets before the first byte."""
        first = self._capture.first_sequence()
        self._next = {direction: first, _back(direction): first + 5_000_011}
        return [
            self._segment(direction, packets.SYN),
            self._segment(_back(direction), packets.SYN | packets.ACK),
            self._segment(direction, packets.ACK),
        ]

    def _segment(self, direction: str, flags: int, data: bytes = b"") -> bytes:
        source, destination = self._ends[direction]
        acknowledged = self._next[_back(direction)] if flags & packets.ACK else 0
        sequence = self._next[direction]
        self._next[direction] += len(data) + bool(flags & (packets.SYN | packets.FIN))
        return packets.tcp(source, destination, sequence, acknowledged, flags, data)


def _back(direction: str) -> str:
    return "in" if direction == "out" else "out"


def _block(kind: int, body: bytes) -> bytes:
    """A pcapng block: type, length, body in multiples of four bytes, length again."""
    body += bytes(-len(body) % 4)
    length = struct.pack("<I", 12 + len(body))
    return struct.pack("<I", kind) + length + body + length


def _new_file(path: str | Path) -> int:
    """An empty file, which no other program captures to. Raises OSError."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise OSError(errno.EBUSY, "another program captures to it", str(path)) from None
    except OSError:  # a file system without locks
        pass
    with suppress(OSError):  # devices such as /dev/full have neither mode nor length
        os.fchmod(file, 0o600)
        os.ftruncate(file, 0)
    return file
