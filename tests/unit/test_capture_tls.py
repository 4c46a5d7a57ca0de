"""The records of TLS in a capture are read in time that grows with their bytes alone."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from plugvault.capture import tls
from plugvault.capture.streams import Chunk

EMPTY_ALERTS = 2000 * struct.pack(">BHH", 21, 0x0303, 0)
EMPTY_MESSAGES = struct.pack(">BHH", 22, 0x0303, 8000) + 2000 * bytes(4)


class Counted(bytearray):
    """copied: bytes of all the parts that were taken out of buffers."""

    copied = 0

    def __getitem__(self, key: Any) -> Any:
        part = super().__getitem__(key)
        if isinstance(part, int):
            return part
        Counted.copied += len(part)
        return Counted(part)


@pytest.mark.parametrize("data", [EMPTY_ALERTS, EMPTY_MESSAGES], ids=["records", "messages"])
def test_no_record_and_no_message_copies_those_behind_it(data: bytes) -> None:
    reader = tls._Reader({})
    side = reader._sides[True]
    side.buffer, side.messages, Counted.copied = Counted(), Counted(), 0
    reader.feed(Chunk(0, True, data))
    assert reader.handshake.problems == []
    assert not side.buffer
    assert not side.messages
    assert Counted.copied <= 2 * len(data)
