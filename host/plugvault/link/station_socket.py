"""A vehicle computer's connection to a charging station, for a module that has no network.

The computer finds the station by SDP or goes to an address, and does TLS with the module's own
code (`evcc.network`, `evcc.tls`); `bridges` then carries the session's bytes over the link.

    way = Way(roots=[v2g_root], interface="eth1")           # by SDP, TLS required
    with connect(way) as station: …                          # a `StationSocket`
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from evcc import x509
from evcc.errors import EvccError
from evcc.network import station
from evcc.network.settings import REQUIRED
from evcc.ports import network
from evcc.tls.peer import Peer
from plugvault.pki.verify import verify_p256

SETUP_SECONDS = 20.0  # V2G_EVCC_CommunicationSetup_Timeout
_TURN_MS = 100  # how soon a reader notices that its connection was closed


class StationSocketError(EvccError):
    """No connection to a station: a failure of `evcc.network.station`, or "setup-timeout"."""

    REASONS = (*station.FAILURES, "setup-timeout")


@dataclass(frozen=True)
class Way:
    """The way to a station.

    roots: V2G roots, DER, to which the station's certificate must lead. interface: where to search
    by SDP. address: (host, port) instead of a search. tls: "required", "optional" or "none".
    needs_ocsp: refuse a station without a good OCSP answer. now: Unix seconds. trace: gets all
    bytes on the network, as `evcc.ports.trace.Trace` does.
    """

    roots: Sequence[bytes] = ()
    interface: str = "lo"
    address: tuple[str, int] | None = None
    tls: str = REQUIRED
    needs_ocsp: bool = False
    now: Callable[[], float] = time.time
    trace: Any = field(default=None, repr=False)


class StationSocket:
    """A connected station, with the methods of a blocking socket; closed by the context.

    secure: whether the connection is TLS. found, checked: sentences about the station and about
    its checks, for a display.
    """

    def __init__(self, machine: station.Station, reports: Sequence[tuple[str, Any]]) -> None:
        self.secure: bool = machine.secure
        told = {name: str(value) for name, value in reports}
        self.found = told.get(station.FOUND, "")
        self.checked = told.get(station.SECURED, "")
        self._machine = machine
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def recv(self) -> bytes:
        """The next bytes of the station; b"" when the connection has ended."""
        while True:
            with self._lock:
                reports = self._machine.step(_now_ms())
                sources = self._machine.sources()
            for name, value in reports:
                if name == station.DATA:
                    return bytes(value)
            if not sources:
                return b""
            network.wait(sources, _TURN_MS)

    def sendall(self, data: bytes) -> None:
        """Send bytes; `recv` sends what the network does not take at once. Raises EvccError."""
        with self._lock:
            self._machine.send(data)

    def close(self) -> None:
        with self._lock:
            self._machine.close()


def connect(way: Way) -> StationSocket:
    """Find a station and connect to it, within SETUP_SECONDS. Raises: StationSocketError."""
    settings: dict[str, Any] = {"interface": way.interface, "tls": way.tls}
    if way.address is not None:
        settings["address"], settings["port"] = way.address
    roots = [x509.parse(root) for root in way.roots]
    peer = Peer(roots, verify_p256, int(way.now()), None, way.needs_ocsp)
    machine = station.Station(network, settings, peer, trace=way.trace)
    reports: list[tuple[str, Any]] = []
    end = time.monotonic() + SETUP_SECONDS
    while time.monotonic() < end:
        reports += machine.step(_now_ms())
        for name, value in reports:
            if name == station.FAILED:
                raise StationSocketError(*value)
            if name == station.OPEN:
                return StationSocket(machine, reports)
        network.wait(machine.sources(), min(machine.wait_ms(_now_ms()), _TURN_MS))
    machine.close()
    raise StationSocketError("setup-timeout", f"no connection within {SETUP_SECONDS:.0f} s")


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
