"""The module at a network: it finds a station and carries the session itself, without a bench.

On CONTROL, `{"do": "plug", "network": true, …}` starts it; the answer has the session's number,
and events report its progress. They are those of `evcc.module`, and

    "station"     the station that was found
    "secured"     TLS: the station's name, and what was and was not checked
    "failed"      also "station-not-found", "unreachable", "tls", "setup-timeout"

The link is served meanwhile: one loop waits for both. A computer's: no board's list has this file.
"""

from evcc.errors import EvccError, text_of
from evcc.link.mux import SESSION
from evcc.module import Module, time_factor
from evcc.network import station
from evcc.session_engine import APP_PROTOCOL, SESSION_SETUP, START
from evcc.tls.peer import Peer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SETUP_MS = 20000  # V2G_EVCC_CommunicationSetup_Timeout: from the plug to SessionSetupRes
_SETTING_UP = (START, APP_PROTOCOL, SESSION_SETUP)


class NetworkedModule(Module):
    """As `Module`. ports: see `connect_by`."""

    _ports: "Any" = None
    _trace: "Any" = None
    _station: "Any" = None
    _wishes: dict = {}
    _setup_until = 0
    _is_from_station = False

    def connect_by(self, ports, trace=None) -> None:
        """ports: with `Udp`, `Dialled` and `wait` of `evcc.ports`. trace: a `ports.trace.Trace`.
        Call it once, before the first `step`."""
        self._ports = ports
        self._trace = trace

    def step(self) -> None:
        """As `Module.step`, for the station's connection too. Raises: PortError of the link."""
        connection = self._station
        if connection is not None:
            self._wait(connection)
        Module.step(self)
        if self._station is not None:
            self._serve_station()

    def _wait(self, connection) -> None:
        line, now = self._line, self._line.ticks_ms()
        line.flush()
        wait_ms = min(
            Module._until_deadline(self),
            line.mux.wait_ms(now),
            connection.wait_ms(now),
            max(self._setup_until - now, 0) if self._is_setting_up() else 60000,
        )
        if not line.inbox:
            self._ports.wait(connection.sources() + [(line.stream.source, False)], wait_ms)

    def _until_deadline(self) -> int:
        """0 while a station is connected: `_wait` has waited."""
        return Module._until_deadline(self) if self._station is None else 0

    def _is_setting_up(self) -> bool:
        return self._session is None or self._session.state in _SETTING_UP

    def _serve_station(self) -> None:
        """Carry out what the connection reports."""
        now = self._line.ticks_ms()
        self._is_from_station = True
        try:
            for name, value in self._station.step(now):
                _REPORTS[name](self, value)
        except Exception as e:  # noqa: BLE001 - as every error of the loop
            self._failed(SESSION, e)
        finally:
            self._is_from_station = False
        if self._station is not None and self._is_setting_up() and now >= self._setup_until:
            self._end_session("setup-timeout")

    def _guarded(self, channel: int, data: bytes) -> None:
        """The bench's bytes are not the station's while the module has its own connection."""
        if channel != SESSION or self._station is None or self._is_from_station:
            Module._guarded(self, channel, data)

    def _status(self, request: dict) -> dict:
        answer = Module._status(self, request)
        answer["charging"] = answer["charging"] or self._station is not None
        return answer

    def _plug(self, request: dict) -> dict:
        if self._station is not None:
            return {"error": "a session is running"}
        if request.get("network") is not True or self._session is not None:
            return Module._plug(self, request)
        self._new_session(request, False)  # wrong values are refused now, not at the station
        settings = self._settings["network"]
        car = self._car
        now = car.time.now() if car.time.source() else None
        peer = Peer(
            car.trust.anchors("V2G"),
            car.trust.verify,
            now,
            car.trust.revocation,
            settings.get("ocsp", False),
        )
        self._station = station.Station(self._ports, settings, peer, "", self._trace)
        self._wishes = request
        self._setup_until = self._line.ticks_ms() + SETUP_MS * time_factor(request)
        self._number += 1
        return {"session": self._number}

    def _unplug(self, request: dict) -> dict:
        self._drop_station()
        return Module._unplug(self, request)

    def _send_frames(self, frames: list) -> bool:
        if self._station is None:
            return Module._send_frames(self, frames)
        try:
            for frame in frames:
                self._station.send(frame)
        except EvccError as error:
            self._lost(("lost", text_of(error)))
        return True

    def _end_session(self, reason: str) -> None:
        self._drop_station()
        Module._end_session(self, reason)

    def _report(self, frames: list, events: list) -> None:
        Module._report(self, frames, events)
        if self._session is None:
            self._drop_station()

    def _drop_station(self) -> None:
        connection, self._station = self._station, None
        if connection is not None:
            connection.close()

    # -- what the connection reports --

    def _found(self, text: str) -> None:
        self._event("station", text, self._number)

    def _secured(self, text: str) -> None:
        self._log("tls: " + text)
        self._event("secured", text, self._number)

    def _opened(self, secure: bool) -> None:
        self._begin(self._new_session(self._wishes, secure))

    def _arrived(self, data: bytes) -> None:
        self._guarded(SESSION, data)
        self._carry_out_due(SESSION)

    def _lost(self, failure: tuple) -> None:
        reason, detail = failure
        self._log("station: " + reason + ": " + detail)
        self._end_session(reason)


_REPORTS = {
    station.FOUND: NetworkedModule._found,
    station.SECURED: NetworkedModule._secured,
    station.OPEN: NetworkedModule._opened,
    station.DATA: NetworkedModule._arrived,
    station.FAILED: NetworkedModule._lost,
}
