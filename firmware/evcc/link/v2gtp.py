"""V2GTP, the header in front of every message between EV and station.

ISO 15118-2 section 7.8.3: version 01, its complement FE, a payload type of two bytes, a length
of four. Carries only EXI messages of ISO 15118-2 (payload type 8001); SDP, which has payload types
of its own, is in `evcc.network.sdp`. Sans-I/O.
"""

from evcc.errors import EvccError

EXI = 0x8001
HEADER_BYTES = 8
LIMIT = 8192  # bytes of payload: real installation responses have 4416
_VERSION = b"\x01\xfe"
_EDITION_20 = (b"\x80\x02", b"\x80\x03", b"\x80\x04")  # its common messages, AC and DC


class V2gtpError(EvccError):
    """Bytes that are not V2GTP, or a payload over the limit. The stream cannot be read on."""

    REASONS = ("version", "payload-type", "too-long")


def encode(payload: bytes, payload_type: int = EXI) -> bytes:
    """One message: a header of 8 bytes, and the payload."""
    header = _VERSION + payload_type.to_bytes(2, "big") + len(payload).to_bytes(4, "big")
    return header + payload


class PayloadReader:
    """Splits a byte stream into payloads of at most `limit` bytes."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._header = b""
        self._payload = bytearray()
        self._filled = 0

    @property
    def pending(self) -> int:
        """Bytes of an unfinished message."""
        return len(self._header) + self._filled

    def feed(self, data: bytes) -> "list[bytes]":
        """The payloads completed by `data`, in pieces of any size.

        Raises: V2gtpError for a wrong header, before its payload is collected.
        """
        payloads = []
        at = 0
        while at < len(data):
            missing = HEADER_BYTES - len(self._header)
            if missing:
                self._header += data[at : at + missing]
                at += missing
                if len(self._header) < HEADER_BYTES:
                    break
                self._payload = bytearray(self._length(self._header))
            piece = data[at : at + len(self._payload) - self._filled]
            self._payload[self._filled : self._filled + len(piece)] = piece
            self._filled += len(piece)
            at += len(piece)
            if self._filled == len(self._payload):
                payloads.append(bytes(self._payload))
                self._header, self._payload, self._filled = b"", bytearray(), 0
        return payloads

    def _length(self, header: bytes) -> int:
        if header[:2] != _VERSION:
            raise V2gtpError("version", header[:2].hex())
        if header[2:4] != b"\x80\x01":
            edition = ", ISO 15118-20: not supported (yet)" if header[2:4] in _EDITION_20 else ""
            raise V2gtpError("payload-type", header[2:4].hex() + edition)
        length = int.from_bytes(header[4:], "big")
        if length > self._limit:
            raise V2gtpError("too-long", str(length) + " bytes")
        return length
