"""The test bench: the host's use of an EV module on the link.

The stream leads to a module in a process here (`plugvault.car`), or to a board on a serial port:

    with Bench(open_serial("/dev/ttyACM1")) as bench:
        print(bench.status())
"""

import contextlib
import json
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from evcc.errors import EvccError
from evcc.link.mux import CONTROL, LOG, NAMES, SESSION, TELEMATICS, VAULT, LinkError
from evcc.network.settings import NONE, REQUIRED
from evcc.ports.stream import PortError, Stream
from plugvault import bounded
from plugvault.link.bridges import StationBridge, VaultBridge, no_vault
from plugvault.link.endpoint import LinkEndpoint, Receive
from plugvault.link.station_socket import StationSocket, Way, connect
from plugvault.telematics import Maker, TelematicsError
from plugvault.telematics.maker import Key

_ANSWER_TIMEOUT = 30.0
_SESSION_TIMEOUT = 120.0
_EVENTS = 10_000  # the latest events and log lines of a module
_SESSION_EVENTS = 1000  # the latest of each session; one has 4 KB at most
_SESSIONS = 16  # the latest sessions with a list of events of their own
_TELEMATICS = 64  # unread messages to the maker; the oldest are dropped


class CarEvent(NamedTuple):
    """An event of the module. `name`, `text`: see `evcc.module`."""

    name: str
    text: str


class BenchError(EvccError):
    """A request that the module did not carry out."""

    REASONS = ("lost", "timeout", "refused", "station", "vault")


class Bench:
    """The host's end of the link and its channels, while the context lasts.

    vault: the Unix socket of a vault service, for a module that has its vault over the link.
    explain: turns the loss of the line into the error that callers get. observe: called with
    (channel name, text) for each event and log line on arrival, and with "station" and a text
    about the station that this computer has found and checked for the module. `events`, `log`: the
    module's events and log lines, the latest 10,000 of each.

    The context raises BenchError("vault") when the service cannot be reached.
    """

    def __init__(
        self,
        stream: Stream,
        observe: Callable[[str, str], None] = lambda channel, text: None,
        vault: Path | None = None,
        explain: Callable[[PortError], EvccError] | None = None,
    ) -> None:
        self._observe = observe
        self._explain = explain or (lambda error: BenchError("lost", str(error)))
        self._vault = vault
        self._changed = threading.Condition()  # answers, events and the failure
        self._answers: dict[int, dict[str, Any]] = {}
        self._open_requests: set[int] = set()
        self._last_id = 0
        self._failure: EvccError | None = None
        self._stranger = ""  # why the module does not answer the maker's last message
        self._telematics: queue.Queue[bytes] = queue.Queue(_TELEMATICS)
        self._stack = contextlib.ExitStack()
        self.events: list[CarEvent] = []
        self.log: list[str] = []
        self._session_events: dict[int | None, list[CarEvent]] = {}
        self._receivers: dict[int, Receive] = {
            CONTROL: self._control,
            LOG: self._logged,
            TELEMATICS: self._to_maker,
            VAULT: self._no_vault,
        }
        self.endpoint = LinkEndpoint(stream, self._receivers, self._lost)
        self._station = StationBridge(self.endpoint)
        self._receivers[SESSION] = self._station.send

    def __enter__(self) -> Self:
        if self._vault is not None:
            try:
                bridge = VaultBridge(self.endpoint, self._vault, self._vault_trouble)
            except OSError as error:
                raise BenchError("vault", f"{self._vault}: {error.strerror}") from error
            self._receivers[VAULT] = self._stack.enter_context(bridge).send
        self._stack.enter_context(self.endpoint)
        return self

    def __exit__(self, *exc: object) -> None:
        self._station.close()
        self._stack.close()

    @property
    def failure(self) -> EvccError | None:
        """The error that every call raises; None while the line is there."""
        return self._failure

    def fail(self, error: EvccError) -> None:
        """Let every waiting and every later call raise `error`. A second error is ignored."""
        with self._changed:
            self._failure = self._failure or error
            self._changed.notify_all()

    def _lost(self, error: PortError) -> None:
        self.fail(self._explain(error))

    # -- requests --

    def request(self, do: str, timeout: float = _ANSWER_TIMEOUT, **fields: Any) -> dict[str, Any]:
        """One request on CONTROL (see `evcc.module`) and its answer. timeout: seconds.

        Raises: BenchError("refused" | "timeout" | "lost").
        """
        with self._changed:
            self._last_id += 1
            ident = self._last_id
            self._open_requests.add(ident)
        try:
            self._send(CONTROL, json.dumps({"id": ident, "do": do, **fields}).encode())
            self._wait(lambda: ident in self._answers, timeout, f"no answer to {do!r}")
            answer = self._answers[ident]
        finally:
            with self._changed:
                self._open_requests.discard(ident)
                self._answers.pop(ident, None)
        if "error" in answer:
            raise BenchError("refused", str(answer["error"]))
        return answer

    def status(self, timeout: float = _ANSWER_TIMEOUT) -> dict[str, Any]:
        """The module's identity, contracts and runtime, see `evcc.module`. Raises as `request`."""
        return self.request("status", timeout)

    def maker(self, key: Key, car: bytes | None = None, timeout: float = 20.0) -> Maker:
        """The maker's end of the telematics channel, not yet connected. car: see `Maker`. timeout:
        seconds for each answer."""
        while not self._telematics.empty():
            self._telematics.get_nowait()

        def send(message: bytes) -> None:
            self._stranger = ""
            self._send(TELEMATICS, message)

        def receive(seconds: float) -> bytes | None:
            deadline = time.monotonic() + seconds
            while self._failure is None:
                if self._stranger:
                    raise TelematicsError("unable", self._stranger)
                remaining = min(deadline - time.monotonic(), 0.2)
                try:
                    return self._telematics.get(timeout=max(remaining, 0.001))
                except queue.Empty:
                    if time.monotonic() >= deadline:
                        return None
            raise self._failure

        return Maker(key, send, receive, car, timeout)

    def _send(self, channel: int, data: bytes) -> None:
        try:
            self.endpoint.send(channel, data)
        except LinkError as error:
            if error.reason != "full":
                raise
            raise BenchError("timeout", str(error)) from error

    def _to_maker(self, data: bytes) -> None:
        if self._telematics.full():
            with contextlib.suppress(queue.Empty):
                self._telematics.get_nowait()
        self._telematics.put_nowait(data)

    # -- charging --

    def charge(
        self,
        host: str,
        port: int,
        want_contract: bool = False,
        emaid: str | None = None,
        timeout: float = _SESSION_TIMEOUT,
        insecure_contract: bool = False,
        roots: Sequence[bytes] = (),
        **wishes: Any,
    ) -> list[tuple[str, str]]:
        """A whole charging session at the station `host`:`port`.

        want_contract: request a contract even if there is one. emaid: the contract to pay with.
        timeout: seconds for the session. insecure_contract: the module uses a contract though the
        connection is not TLS. roots: V2G roots, DER: this computer does TLS for the module, with a
        station below one of them. wishes: `charge` and `resume` of `evcc.module`; without `charge`
        the session stops after authorization.

        Returns its events, (name, text), without the last one, "closed". Raises:
        BenchError("station") when no connection is made; "timeout"; "refused"; "lost".
        """
        way = Way(roots, address=(host, port), tls=REQUIRED if roots else NONE)
        return self.charge_by(way, want_contract, emaid, timeout, insecure_contract, **wishes)

    def charge_by(
        self,
        way: Way,
        want_contract: bool = False,
        emaid: str | None = None,
        timeout: float = _SESSION_TIMEOUT,
        insecure_contract: bool = False,
        **wishes: Any,
    ) -> list[tuple[str, str]]:
        """A whole charging session for which this computer finds the station, does TLS and relays.
        Parameters, result and errors as for `charge`."""
        with self._bridged(way) as station:
            return self._session(
                timeout,
                secure=station.secure,
                want_contract=want_contract,
                emaid=emaid,
                insecure_contract=insecure_contract,
                **wishes,
            )

    def find_and_charge(
        self,
        want_contract: bool = False,
        emaid: str | None = None,
        timeout: float = _SESSION_TIMEOUT,
        insecure_contract: bool = False,
        **wishes: Any,
    ) -> list[tuple[str, str]]:
        """A whole charging session at the station that the module finds by itself, in the network
        of its configuration. Parameters, result and errors as for `charge`."""
        return self._session(
            timeout,
            network=True,
            want_contract=want_contract,
            emaid=emaid,
            insecure_contract=insecure_contract,
            **wishes,
        )

    def _session(self, timeout: float, **wishes: Any) -> list[tuple[str, str]]:
        """The events of a session from its "plug" to its end."""
        number = self.request("plug", **wishes)["session"]
        with self._changed:
            events, closed = self._events_of(number), CarEvent("closed", "")
        try:
            self._wait(lambda: closed in events, timeout, "the session has not ended")
        except BenchError:
            with contextlib.suppress(EvccError):
                self.request("unplug")
            raise
        return [(name, text) for name, text in events if (name, text) != closed]

    @contextlib.contextmanager
    def bridge_session(self, host: str, port: int) -> Iterator[None]:
        """Carry the session's bytes to a station's TCP port and back, without TLS, while the
        context lasts. Raises BenchError("station")."""
        with self._bridged(Way(address=(host, port), tls=NONE)):
            yield

    @contextlib.contextmanager
    def _bridged(self, way: Way) -> Iterator[StationSocket]:
        try:
            station = connect(way)
        except EvccError as error:
            where = "{}:{}: ".format(*way.address) if way.address else ""
            raise BenchError("station", f"{where}{error}") from error
        for text in filter(None, (station.found, station.checked)):
            self._observe("station", text)
        with self._station.to(station):
            yield station

    # -- events, log, counters --

    def wait_event(self, name: str, since: int = 0, timeout: float = _ANSWER_TIMEOUT) -> str:
        """The text of the first event of this name from index `since` of `events`. timeout:
        seconds. Raises: BenchError("timeout" | "lost")."""

        def texts() -> list[str]:
            return [text for event, text in self.events[since:] if event == name]

        self._wait(lambda: bool(texts()), timeout, f"no event {name!r}")
        return texts()[0]

    def traffic(self) -> dict[str, dict[str, int]]:
        """The bytes of messages by channel, "in" from the module and "out" to it, and the bytes on
        the wire.

        "wire" counts framing and repetition too; "resent" the host's frames that were sent again.
        """
        endpoint = self.endpoint
        counts = {
            name: {"in": endpoint.bytes_in[channel], "out": endpoint.bytes_out[channel]}
            for channel, name in NAMES.items()
        }
        wire = {"in": endpoint.wire_in, "out": endpoint.wire_out, "resent": endpoint.resent}
        return {**counts, "wire": wire}

    def _control(self, data: bytes) -> None:
        try:
            message = json.loads(data)
            event = None
            if "missed" in message:
                self._logged(b"answers or events lost before this one: %d" % message["missed"])
            if "event" in message:
                event = CarEvent(str(message["event"]), str(message["text"]))
                if event.name == "stranger":
                    self._stranger = event.text
            with self._changed:
                if event is not None:
                    events = self._events_of(message["session"])
                    bounded.append(events, _SESSION_EVENTS, event)
                    bounded.append(self.events, _EVENTS, event)
                elif message["id"] in self._open_requests:
                    self._answers[message["id"]] = message
                self._changed.notify_all()
        except (ValueError, KeyError, TypeError, RecursionError):
            self._logged(b"not a message of the module: " + data[:80])
            return
        if event is not None:
            self._observe("event", " ".join(event).strip())

    def _vault_trouble(self, text: str) -> None:
        """Note an event and a line of the log of the bench's own end."""
        with self._changed:
            bounded.append(self.events, _EVENTS, CarEvent("unable", "vault"))
            self._changed.notify_all()
        self._observe("event", "unable vault")
        self._logged(f"bench: {text}".encode())

    def _no_vault(self, data: bytes) -> None:
        """Answer a module that has its vault over the link, so that it need not wait."""
        self._vault_trouble(
            "the module asks for its vault, and this bench has none: Bench(vault=…)"
        )
        with contextlib.suppress(LinkError):  # the module does not read the answer
            self.endpoint.send(VAULT, no_vault(), timeout=0)

    def _events_of(self, session: int | None) -> list[CarEvent]:
        events = self._session_events.get(session)
        if events is None:
            events = []
            bounded.put(self._session_events, _SESSIONS, session, events)
        return events

    def _logged(self, data: bytes) -> None:
        text = data.decode(errors="replace")
        bounded.append(self.log, _EVENTS, text)
        self._observe("log", text)

    def _wait(self, condition: Callable[[], bool], timeout: float, failure: str) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._failure is not None or condition(), timeout)
            if condition():
                return
            if self._failure is not None:
                raise self._failure
            raise BenchError("timeout", f"{failure} within {timeout:.0f} s")
