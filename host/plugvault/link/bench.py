"""What a bench does with an EV module on the link: plug it in, ask it, be its maker, be its cable.

Over any stream: a module in a process here (`plugvault.car`), or a board on a serial port:

    with Bench(open_serial("/dev/ttyACM1")) as bench:
        print(bench.status())
"""

import contextlib
import json
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

from evcc.errors import EvccError
from evcc.link.mux import CONTROL, LOG, SESSION, TELEMATICS, VAULT, LinkError
from evcc.ports.stream import PortError, Stream
from plugvault.bounded import add, keep
from plugvault.link.endpoint import Endpoint, Receive
from plugvault.telematics import Maker
from plugvault.telematics.maker import Key

CHANNELS = {
    CONTROL: "control",
    SESSION: "session",
    TELEMATICS: "telematics",
    VAULT: "vault",
    LOG: "log",
}
_ANSWER_TIMEOUT = 30.0
_SESSION_TIMEOUT = 120.0
_SETTLE_TIMEOUT = 5.0
_REDIAL = 0.05  # seconds between attempts to reach a vault service that restarts
_PIECE = 1024  # what a board has to hold twice while it comes in
_AHEAD = 65_536  # bytes of a station that may be on their way to the module
_MOST = 10_000  # events and lines that are kept of what a module says
_SESSIONS = 16  # whose events are kept apart
_WAITING = 64  # telematics messages that no maker has read; the oldest are dropped


class Event(NamedTuple):
    """What the module tells by itself: see `evcc.module`."""

    name: str
    text: str


class BenchError(EvccError):
    """The module did not do what the bench asked."""

    REASONS = ("lost", "timeout", "refused", "station")


class Bench:
    """The link's host end and what runs over it, while the context lasts.

    vault: the Unix socket of a vault service, for a module that has its vault over the link.
    explain: what a lost line means to who owns the other end.
    observe: called with (channel name, text) for each event and log line as it comes.
    `events`: (name, text), see `evcc.module`; `log`: the module's own lines: of a module that says
    more than anybody can want to know, the latest.
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
        self._changed = threading.Condition()
        self._answers: dict[int, dict[str, Any]] = {}
        self._asked: set[int] = set()
        self._last_id = 0
        self._failure: EvccError | None = None
        self._telematics: queue.Queue[bytes] = queue.Queue(_WAITING)
        self._station: socket.socket | None = None
        self._stack = contextlib.ExitStack()
        self.events: list[Event] = []
        self._told: dict[int | None, list[Event]] = {}  # by session
        self.log: list[str] = []
        self._receivers: dict[int, Receive] = {
            CONTROL: self._control,
            LOG: self._logged,
            SESSION: self._to_station,
            TELEMATICS: self._to_maker,
        }
        self.endpoint = Endpoint(stream, self._receivers, self._lost)

    def __enter__(self) -> Self:
        if self._vault is not None:
            self._bridge_vault(self._vault)
        self._stack.enter_context(self.endpoint)
        return self

    def __exit__(self, *exc: object) -> None:
        self._unbridge()
        self._stack.close()

    def fail(self, error: EvccError) -> None:
        """Make everybody who waits raise `error`. The first failure stays."""
        with self._changed:
            self._failure = self._failure or error
            self._changed.notify_all()

    def _lost(self, error: PortError) -> None:
        self.fail(self._explain(error))

    # -- asking --

    def request(self, do: str, timeout: float = _ANSWER_TIMEOUT, **fields: Any) -> dict[str, Any]:
        """One request on CONTROL (see `evcc.module`) and its answer.

        Raises: BenchError("refused" | "timeout" | "lost").
        """
        with self._changed:
            self._last_id += 1
            ident = self._last_id
            self._asked.add(ident)
        try:
            self._send(CONTROL, json.dumps({"id": ident, "do": do, **fields}).encode())
            self._wait(lambda: ident in self._answers, timeout, f"no answer to {do!r}")
            answer = self._answers[ident]
        finally:
            with self._changed:
                self._asked.discard(ident)
                self._answers.pop(ident, None)
        if "error" in answer:
            raise BenchError("refused", str(answer["error"]))
        return answer

    def status(self, timeout: float = _ANSWER_TIMEOUT) -> dict[str, Any]:
        """Who the car is, its contracts, what it runs on."""
        return self.request("status", timeout)

    def maker(self, key: Key, car: bytes | None = None, timeout: float = 20.0) -> Maker:
        """The maker's end of the telematics channel, not yet connected. car: see `Maker`."""
        while not self._telematics.empty():
            self._telematics.get_nowait()

        def receive(seconds: float) -> bytes | None:
            deadline = time.monotonic() + seconds
            while self._failure is None:
                left = min(deadline - time.monotonic(), 0.2)
                try:
                    return self._telematics.get(timeout=max(left, 0.001))
                except queue.Empty:
                    if time.monotonic() >= deadline:
                        return None
            raise self._failure

        return Maker(key, lambda message: self._send(TELEMATICS, message), receive, car, timeout)

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
    ) -> list[tuple[str, str]]:
        """A whole charging session at the station `host`:`port`.

        want_contract: ask for one even if there is one. emaid: the contract to pay with.
        Returns its events, (name, text), "closed" left out.
        Raises: BenchError("station") when nobody listens there; "timeout"; "refused"; "lost".
        """
        with self.bridge_session(host, port):
            number = self.request("plug", want_contract=want_contract, emaid=emaid)["session"]
            with self._changed:
                told, closed = self._of_session(number), Event("closed", "")
            try:
                self._wait(lambda: closed in told, timeout, "the session goes on")
            except BenchError:
                with contextlib.suppress(EvccError):
                    self.request("unplug")
                raise
        return [(name, text) for name, text in told if (name, text) != closed]

    @contextlib.contextmanager
    def bridge_session(self, host: str, port: int) -> Iterator[None]:
        """Carry the session's bytes to a station's TCP port and back."""
        try:
            station = socket.create_connection((host, port), timeout=10)
        except OSError as error:
            raise BenchError("station", f"{host}:{port}: {error}") from error
        station.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        station.settimeout(None)
        self._station = station
        reader = threading.Thread(target=self._from_station, args=(station,), daemon=True)
        reader.start()
        try:
            yield
        finally:
            self._unbridge()
            reader.join(timeout=10)
            # "It hung up" must not be overtaken by a "plug": it would end the next session.
            self.endpoint.settle(_SETTLE_TIMEOUT)

    def _unbridge(self) -> None:
        station, self._station = self._station, None
        if station is not None:
            with contextlib.suppress(OSError):
                station.shutdown(socket.SHUT_RDWR)
            station.close()

    def _from_station(self, station: socket.socket) -> None:
        ahead = 0
        with contextlib.suppress(OSError, LinkError):  # or the module takes nothing
            while data := station.recv(_PIECE):
                self.endpoint.send(SESSION, data)
                ahead += len(data)
                if ahead >= _AHEAD:  # a station may talk faster than the line
                    if not self.endpoint.settle(_SETTLE_TIMEOUT):
                        break
                    ahead = 0
        if self._station is station:  # it hung up, not we
            with contextlib.suppress(LinkError):
                self.endpoint.send(SESSION, b"")

    def _to_station(self, data: bytes) -> None:
        station = self._station
        if station is not None:
            with contextlib.suppress(OSError):  # it hung up: `_from_station` tells the module
                station.sendall(data)

    # -- the vault over the link --

    def _bridge_vault(self, path: Path) -> None:
        """Give the module the vault service at the Unix socket `path`, restarted or not."""
        service = _dial(path)
        closing = threading.Event()

        def to_service(data: bytes) -> None:
            with contextlib.suppress(OSError):  # it restarts: the module will miss its answer
                service.sendall(data)

        def from_service() -> None:
            nonlocal service
            while True:
                with service, contextlib.suppress(OSError, LinkError):
                    while data := service.recv(_PIECE):
                        self.endpoint.send(VAULT, data)
                while not closing.wait(_REDIAL):
                    with contextlib.suppress(OSError):
                        service = _dial(path)
                        break
                else:
                    return

        def close() -> None:
            closing.set()
            with contextlib.suppress(OSError):
                service.shutdown(socket.SHUT_RDWR)

        self._receivers[VAULT] = to_service
        self._stack.callback(close)
        threading.Thread(target=from_service, name="vault", daemon=True).start()

    # -- listening --

    def wait_event(self, name: str, since: int = 0, timeout: float = _ANSWER_TIMEOUT) -> str:
        """The text of the first event of this name from index `since` of `events`."""

        def found() -> list[str]:
            return [text for event, text in self.events[since:] if event == name]

        self._wait(lambda: bool(found()), timeout, f"no event {name!r}")
        return found()[0]

    def traffic(self) -> dict[str, dict[str, int]]:
        """Message bytes by channel, "in" from the car and "out" to it; and the wire's own.

        "wire" counts framing and repetition too; "resent" the host's frames sent again.
        """
        endpoint = self.endpoint
        counts = {
            name: {"in": endpoint.bytes_in[channel], "out": endpoint.bytes_out[channel]}
            for channel, name in CHANNELS.items()
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
                event = Event(str(message["event"]), str(message["text"]))
            with self._changed:
                if event is not None:
                    add(self._of_session(message["session"]), _MOST, event)
                    add(self.events, _MOST, event)
                elif message["id"] in self._asked:
                    self._answers[message["id"]] = message
                self._changed.notify_all()
        except (ValueError, KeyError, TypeError, RecursionError):
            self._logged(b"the module says what nobody understands: " + data[:80])
            return
        if event is not None:
            self._observe("event", " ".join(event).strip())

    def _of_session(self, number: int | None) -> list[Event]:
        found = self._told.get(number)
        if found is None:
            found = []
            keep(self._told, _SESSIONS, number, found)
        return found

    def _logged(self, data: bytes) -> None:
        text = data.decode(errors="replace")
        add(self.log, _MOST, text)
        self._observe("log", text)

    def _wait(self, done: Callable[[], bool], timeout: float, what: str) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._failure is not None or done(), timeout)
            if done():
                return
            if self._failure is not None:
                raise self._failure
            raise BenchError("timeout", f"{what} within {timeout:.0f} s")


def _dial(path: Path) -> socket.socket:
    service = socket.socket(socket.AF_UNIX)
    try:
        service.connect(str(path))
    except OSError:
        service.close()
        raise
    return service
