"""Frames on a noisy byte line: COBS, a CRC-32, and a zero byte between frames.

COBS (Cheshire and Baker, 1999) leaves no zero in a frame, so after any noise the next zero starts
a new one. Damaged frames are dropped here; `evcc.link.mux` sends them again. A CRC does not
protect against an attacker.
"""

import binascii

_CRC_BYTES = 4


def encode(body: bytes, seed: int = 0) -> bytes:
    """The frame of `body`, with its closing zero: 6 bytes longer than a body of at most 249 bytes.

    `seed`: as for `unseal`."""
    crc = binascii.crc32(body, seed)
    data = body + crc.to_bytes(_CRC_BYTES, "big")
    out = bytearray()
    start = 0
    while True:
        zero = data.find(b"\x00", start)
        stop = zero if zero >= 0 else len(data)
        while stop - start >= 254:
            out.append(255)
            out.extend(data[start : start + 254])
            start += 254
        out.append(stop - start + 1)
        out.extend(data[start:stop])
        if zero < 0:
            out.append(0)
            return bytes(out)
        start = zero + 1


def unseal(raw: bytes, seed: int = 0) -> "bytes | None":
    """The body of one frame from `FrameReader`, or None when it is damaged.

    `seed`: start value of the CRC. Both ends derive it from their connection, so that a frame of
    another connection counts as damaged.
    """
    data = bytearray(raw)
    extra = [0]  # places of length bytes that stand for no zero
    i = 0
    while i < len(raw):
        length = raw[i]
        data[i] = 0
        i += length
        if i > len(raw) or not length:
            return None
        if length == 255:
            extra.append(i)
    for place in reversed(extra):
        data = data[:place] + data[place + 1 :]
    body = bytes(data[:-_CRC_BYTES])
    crc = int.from_bytes(data[-_CRC_BYTES:], "big")
    if len(data) <= _CRC_BYTES or binascii.crc32(body, seed) != crc:
        return None
    return body


class FrameReader:
    """Splits a byte stream at its zeros. `limit`: bytes of the longest body.

    Longer frames are dropped as they arrive, never collected; `dropped` counts them.
    """

    def __init__(self, limit: int) -> None:
        data = limit + _CRC_BYTES
        self._limit = data + data // 254 + 1
        self._buffer = bytearray()
        self._skipping = False
        self.dropped = 0

    def feed(self, data: bytes) -> "list[bytes]":
        """The frames completed by `data`, without their zeros, each for `unseal`."""
        frames = []
        start = 0
        while True:
            zero = data.find(b"\x00", start)
            stop = zero if zero >= 0 else len(data)
            if len(self._buffer) + stop - start > self._limit:
                self._buffer = bytearray()
                self._skipping = True
            elif not self._skipping:
                self._buffer.extend(data[start:stop])
            if zero < 0:
                return frames
            if self._skipping:
                self.dropped += 1
            elif self._buffer:
                frames.append(bytes(self._buffer))
            self._buffer = bytearray()
            self._skipping = False
            start = zero + 1
