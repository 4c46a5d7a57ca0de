"""Fuzz target: `plugvault inspect` on captures of any content, and the picture of them.

The first byte says what follows: a file, or messages (two bytes of length before each) which both
ends say in turn, so that the fuzzer need not keep lengths and checksums right.
"""

import json
import sys
import tempfile
from collections.abc import Iterable, Iterator
from functools import cache
from io import StringIO
from pathlib import Path
from unittest import mock

from defusedxml import ElementTree
from rich.console import Console

from plugvault.capture import Capture, writer
from plugvault.inspection import inspect
from plugvault.inspection.report import Scope, UnreadableError
from plugvault.inspection.sequence import draw
from plugvault.inspection.story import tell

sys.path.append(str(Path(__file__).parents[1]))
from captured import CAR, STATION, TlsPair, session, steady_clock
from evcc.network import sdp
from world import NOW, World

FILE, MESSAGES = b"F", b"M"


@cache
def seeds() -> list[bytes]:
    spoken = session(World())
    with mock.patch.object(writer, "KEY_ROOM", 512):  # the mutations are to meet more than it
        files = [
            FILE + _capture(messages, has_tls=has_tls)
            for messages in (spoken[:4], spoken[10:])
            for has_tls in (False, True)
        ]
    parts = [spoken[:10], spoken[10:], spoken]
    return files + [
        MESSAGES + b"".join(len(data).to_bytes(2, "big") + data for _, data in part)
        for part in parts
    ]


def _capture(messages: Iterable[tuple[bool, bytes]], *, has_tls: bool) -> bytes:
    address = bytes.fromhex("fe800000000000000000000000000001")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c"
        with Capture(path, clock=steady_clock(NOW)) as capture:
            capture.datagram(CAR, (sdp.GROUP, sdp.PORT), sdp.request(sdp.TLS))
            answer = sdp.response(address, STATION[1], sdp.TLS)
            capture.datagram((STATION[0], sdp.PORT), CAR, answer)
            pair = TlsPair(capture) if has_tls else None
            connection = capture.connection(STATION, CAR)
            for by_car, data in messages:
                if pair:
                    pair.send(data, by_car=by_car)
                else:
                    connection.wire("in" if by_car else "out", data)
        return path.read_bytes()


def _messages(data: bytes) -> Iterator[tuple[bool, bytes]]:
    by_car = True
    while data:
        size = int.from_bytes(data[:2], "big")
        yield by_car, data[2 : 2 + size]
        data, by_car = data[2 + size :], not by_car


def target(data: bytes) -> None:
    """A report that can be printed, shown and drawn, or UnreadableError."""
    if data[:1] == MESSAGES:
        data = FILE + _capture(_messages(data[1:]), has_tls=False)
    try:
        report = inspect(data[1:], Scope(NOW, is_now=True))
    except UnreadableError:
        return
    json.dumps(report.content)
    if report.kind == "capture":
        tell(Console(file=StringIO()), report.content)
        ElementTree.fromstring(draw("c", report.content))
