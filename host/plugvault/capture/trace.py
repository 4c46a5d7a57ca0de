"""The trace of a car's module as a capture: the lines that `evcc.ports.trace` has written."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from evcc.network import sdp
from plugvault import json_file
from plugvault.capture.packets import Address
from plugvault.capture.writer import Capture, CapturedConnection

_CAR_PORT = 49_152  # the trace has no port of the car; one of the range for such ports
_LINE = 1 << 20  # bytes; a record of TLS has 16,640


def convert(trace: Path, path: Path, car: str) -> str:
    """Write the trace as a capture into `path`, keys included. Returns the reason why the capture
    is not complete, or "".

    car: the address of the car's interface. Raises OSError. Broken lines are left out, because a
    killed module can end its trace at any byte.
    """
    now = [0]
    with Capture(path, clock=lambda: now[0]) as capture, trace.open("rb") as lines:
        converter = _Converter(capture, car)
        while line := lines.readline(_LINE):
            with suppress(ValueError, KeyError, TypeError, OverflowError):
                entry = json_file.parse(line)
                now[0] = max(now[0], int(entry["at"] * 1e9))
                converter.take(entry)
        converter.end()
    return capture.ended


class _Converter:
    def __init__(self, capture: Capture, car: str) -> None:
        self._capture = capture
        self._car = car
        self._asked: Address = (car, _CAR_PORT)
        self._connection: CapturedConnection | None = None
        self._connections = 0

    def take(self, entry: dict[str, Any]) -> None:
        """One line of the trace. Raises KeyError, TypeError, ValueError."""
        kind = entry["kind"]
        if kind == "keys":
            self._capture.keylog(entry["data"])
        elif kind == "ends":
            self.end()
            self._connections += 1
            port = _CAR_PORT + self._connections % 16_000
            station = (entry["address"], int(entry["port"]))
            self._connection = self._capture.connection((self._car, port), station)
        elif kind == "wire" and self._connection is not None:
            self._connection.wire("out" if entry["out"] else "in", bytes.fromhex(entry["data"]))
        elif kind == "datagram":
            data = bytes.fromhex(entry["data"])
            if entry["out"]:
                self._capture.datagram(self._asked, (sdp.GROUP, sdp.PORT), data)
            else:
                # The trace does not have the sender: a station answers from its own address.
                self._capture.datagram((_station(data, self._car), sdp.PORT), self._asked, data)

    def end(self) -> None:
        """The connection, if there is one, is over."""
        if self._connection is not None:
            self._connection.close("out")
        self._connection = None


def _station(datagram: bytes, otherwise: str) -> str:
    """The address in an answer of SDP, as text."""
    if len(datagram) < 24:
        return otherwise
    return ":".join(datagram[i : i + 2].hex() for i in range(8, 24, 2))
