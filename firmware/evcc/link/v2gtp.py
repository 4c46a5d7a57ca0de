"""V2GTP, the header in front of every message between EV and station.

ISO 15118-2 section 7.8.3: version 01, its complement FE, a payload type of two bytes, a length
of four. Only EXI messages of ISO 15118-2 (payload type 8001) are carried here; SDP, which has
types of its own, is not. Sans-I/O.
"""

from evcc.errors import EvccError

EXI = 0x8001
HEADER_BYTES = 8
LIMIT = 8192  # bytes of payload: real installation responses have 4416
_VERSION = b"\x01\xfe"


class V2gtpError(EvccError):
    """The peer does not speak V2GTP, or says more than we take. The stream is lost after it."""

    REASONS = ("version", "payload-type", "too-long")


def encode(payload: bytes, payload_type: int = EXI) -> bytes:
    """Header and payload, one message."""
    header = _VERSION + payload_type.to_bytes(2, "big") + len(payload).to_bytes(4, "big")
    return header + payload


class Reader:
    """Cuts a byte stream into payloads of at most `limit` bytes."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._buffer = b""

    @property
    def pending(self) -> int:
        """Bytes of a message that has begun and not ended."""
        return len(self._buffer)

    def feed(self, data: bytes) -> "list[bytes]":
        """The payloads completed by `data`.

        Raises: V2gtpError, as soon as the header is there and before the payload is collected.
        """
        buffer = self._buffer + data
        payloads = []
        start = 0
        while len(buffer) - start >= HEADER_BYTES:
            length = self._length(buffer[start : start + HEADER_BYTES])
            stop = start + HEADER_BYTES + length
            if stop > len(buffer):
                break
            payloads.append(buffer[start + HEADER_BYTES : stop])
            start = stop
        self._buffer = buffer[start:]
        return payloads

    def _length(self, header: bytes) -> int:
        if header[:2] != _VERSION:
            raise V2gtpError("version", header[:2].hex())
        if header[2:4] != b"\x80\x01":
            raise V2gtpError("payload-type", header[2:4].hex())
        length = int.from_bytes(header[4:], "big")
        if length > self._limit:
            raise V2gtpError("too-long", str(length) + " bytes")
        return length
