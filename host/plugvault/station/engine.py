"""The engine of the station's half of a charging session (SECC), common to the editions.

An edition's `Secc` is a subclass with its messages, the bodies of its refusals and two tables:
`allowed` says which requests each state accepts and which handler answers them, `transitions` what
follows. A request at the wrong time, of another session or not to be granted gets its FAILED
ResponseCode and ends the session; bytes that are no request get no answer. Sans-I/O: bytes and a
clock in, frames and events out.
"""

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from evcc import exi
from evcc.link import v2gtp
from plugvault.station.events import Closed, Event, Fetch, Message, Step

SEQUENCE_TIMEOUT_MS = 60_000  # V2G_SECC_Sequence_Timeout: how long the vehicle may be silent
MAX_REQUEST = 8192  # bytes of EXI; the longest real request has under 3,000

APP_PROTOCOL = "app protocol"
SESSION_SETUP = "session setup"
FETCHING = "fetching a contract"
CLOSED = "closed"

Body = dict[str, Any]
Signature = dict[str, Any] | None
Handler = Callable[[Any, Body, Signature], tuple[Body | None, str]]
"""(the `Secc`, body, Signature) -> (body of the response, outcome). Without a response the request
becomes a `Fetch`. Raises Refusal."""


class Refusal(Exception):
    """A request that is not granted. code: the ResponseCode for the vehicle. The text is for the
    station's own log."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code


class SeccEngine:
    """Feed `receive` and `timeout`; each returns (frames to send, events)."""

    def __init__(
        self,
        messages: ModuleType,
        refusal: Callable[[str, str], Body | None],
        allowed: Mapping[str, Mapping[str, Handler]],
        transitions: Mapping[tuple[str, str], str],
        now_ms: int,
        timeout_ms: int = SEQUENCE_TIMEOUT_MS,
    ) -> None:
        """messages: the edition's module of `evcc`, with `SCHEMA`, `NO_SESSION`, `envelope` and
        `opened`. refusal: (pair, ResponseCode) -> body, None for an unknown pair. allowed: {state:
        {request: Handler}}. transitions: {(state, outcome): next state}. now_ms: steady
        milliseconds."""
        self.state = APP_PROTOCOL
        self.session_id: bytes = messages.NO_SESSION
        self._messages = messages
        self._refusal = refusal
        self._allowed = allowed
        self._transitions = transitions
        self._frames = v2gtp.PayloadReader(MAX_REQUEST)
        self._timeout_ms = timeout_ms
        self._deadline = now_ms + timeout_ms
        self._events: list[Event] = []

    @property
    def deadline(self) -> int | None:
        """When to call `timeout`, in milliseconds; None while the station works on a request.

        It does not move while a message arrives in pieces: a slow sender is silent too.
        """
        return None if self.state in (CLOSED, FETCHING) else self._deadline

    def timeout(self, now_ms: int) -> Step:
        """Time has passed; does nothing before `deadline`."""
        deadline = self.deadline
        if deadline is not None and now_ms >= deadline:
            self.close("sequence timeout")
        return self.step([])

    def receive(self, data: bytes, now_ms: int) -> Step:
        """Bytes from the vehicle, in pieces of any size."""
        if self.state == CLOSED:
            return [], []
        if self.deadline is not None and now_ms >= self.deadline:
            return self.timeout(now_ms)
        try:
            requests = self._frames.feed(data)
        except v2gtp.V2gtpError as error:
            self.close(str(error))
            return self.step([])
        if data and self.state == FETCHING:
            self.close("a request before the last one is answered")
        elif len(requests) > 1 or (requests and self._frames.pending):
            self.close("more than one request at a time")
        elif requests:
            return self.step(self._answer(requests[0], now_ms))
        return self.step([])

    def emit(self, event: Event) -> None:
        """Add an event to this step."""
        self._events.append(event)

    def step(self, frames: list[bytes]) -> Step:
        """The result of one step: its frames and the events so far."""
        events, self._events = self._events, []
        return frames, events

    def close(self, reason: str) -> None:
        """End the session. reason: "" for a regular end."""
        self.state = CLOSED
        self.emit(Closed(reason))

    def send(self, name: str, payload: bytes, now_ms: int) -> list[bytes]:
        """The frame of one response, EXI; the vehicle's time for its next request starts."""
        self._deadline = now_ms + self._timeout_ms
        self._report("out", name, payload)
        return [v2gtp.encode(payload)]

    def refuse(self, pair: str, refusal: Refusal, now_ms: int) -> list[bytes]:
        """The frame of a negative response, if the edition has one; the session ends."""
        body = self._refusal(pair, refusal.code)
        frames = [] if body is None else self._respond(pair, body, now_ms)
        self.close(str(refusal))
        return frames

    def _answer(self, request: bytes, now_ms: int) -> list[bytes]:
        try:
            name, body, session_id, signature = self._decode(request)
        except exi.ExiError as error:
            self._report("in", "?", request)
            self.close(str(error))
            return []
        self._report("in", name, request)
        pair = name.removesuffix("Req")
        try:
            handler = self._handler(name, session_id)
            response, outcome = handler(self, body, signature)
        except Refusal as refusal:
            return self.refuse(pair, refusal, now_ms)
        self.state = self._transitions[self.state, outcome]
        if response is None:
            self.emit(Fetch(request))
            return []
        frames = self._respond(pair, response, now_ms)
        if self.state == CLOSED:
            self.close("" if outcome == "stop" else outcome)
        return frames

    def _decode(self, request: bytes) -> tuple[str, Body, bytes, Signature]:
        """(name, body, session id, Signature) of a request. Raises ExiError."""
        if self.state == APP_PROTOCOL:  # a message without a session
            ((name, body),) = exi.decode(request, "sap").items()
            return name, body, self.session_id, None
        message = exi.decode(request, self._messages.SCHEMA)
        session_id, name, body, signature = self._messages.opened(message)
        return name, body, session_id, signature

    def _handler(self, name: str, session_id: bytes) -> Handler:
        """The handler of a request that this state and this session allow. Raises Refusal."""
        handler = self._allowed[self.state].get(name)
        if handler is None:
            raise Refusal("FAILED_SequenceError", f"{name} in {self.state}")
        if self.state not in (APP_PROTOCOL, SESSION_SETUP) and session_id != self.session_id:
            raise Refusal("FAILED_UnknownSession", session_id.hex())
        return handler

    def _respond(self, pair: str, body: Body, now_ms: int) -> list[bytes]:
        name = pair + "Res"
        if pair == "supportedAppProtocol":
            return self.send(name, exi.encode({name: body}, "sap"), now_ms)
        message = self._messages.envelope(self.session_id, name, body)
        return self.send(name, exi.encode(message, self._messages.SCHEMA), now_ms)

    def _report(self, direction: str, name: str, payload: bytes) -> None:
        self.emit(Message(direction, name, v2gtp.HEADER_BYTES + len(payload)))
