"""The engine of the station's half of a charging session (SECC), common to the editions.

An edition's `Secc` is a subclass with its messages, the bodies of its refusals and two tables:
`allowed` says which requests each state accepts and which handler answers them, `transitions` what
follows. Every request gets the response of its own type: one at the wrong time, of another session
or not to be granted gets a FAILED ResponseCode, which ends the session. Bytes that are no request
get the response to the request that is due, with FAILED; before there is a session they get none.
Sans-I/O: bytes and a clock in, frames and events out.
"""

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from evcc import exi, protocols
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
    """A request that is not granted. code: the ResponseCode for the vehicle; elements: further
    elements of the response. The text is for the station's own log."""

    def __init__(self, code: str, reason: str, elements: Body | None = None) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.elements = elements or {}


class SeccEngine:
    """A session, as the subclass of an edition completes it. `receive` and `timeout` return
    (frames to send, events)."""

    def __init__(
        self,
        messages: ModuleType,
        allowed: Mapping[str, Mapping[str, Handler]],
        transitions: Mapping[tuple[str, str], str],
        now_ms: int,
        timeout_ms: int = SEQUENCE_TIMEOUT_MS,
    ) -> None:
        """messages: the edition's module of `evcc`, with `SCHEMA`, `NO_SESSION`, `envelope` and
        `opened`. allowed: {state: {request: Handler}}, the request that is due first. transitions:
        {(state, outcome): next state}. now_ms: milliseconds of a monotonic clock. timeout_ms: the
        longest time without a request."""
        self.state = APP_PROTOCOL
        self.session_id: bytes = messages.NO_SESSION
        self.asked_id: bytes = messages.NO_SESSION  # the SessionID of the latest request
        self.detail = ""  # of an end that a handler has chosen
        self.fetching = ""  # the message pair that waits for the operator
        self._messages = messages
        self._allowed = allowed
        self._transitions = transitions
        self._frames = v2gtp.PayloadReader(MAX_REQUEST)
        self._timeout_ms = timeout_ms
        self._deadline = now_ms + timeout_ms
        self._events: list[Event] = []

    def add_rows(
        self,
        allowed: Mapping[str, Mapping[str, Handler]],
        transitions: Mapping[tuple[str, str], str],
    ) -> None:
        """Replace rows of this session's tables, and add new ones."""
        self._allowed = {**self._allowed, **allowed}
        self._transitions = {**self._transitions, **transitions}

    def negative(self, pair: str, code: str, request: Body) -> Body | None:
        """The body of the edition's negative response; None if `pair` is no message pair.

        request: the body of the request, {} where there is none."""
        raise NotImplementedError

    @property
    def deadline(self) -> int | None:
        """When to call `timeout`, in milliseconds; None while the station works on a request.

        It does not move while a message arrives in pieces: a slow sender is silent too.
        """
        return None if self.state in (CLOSED, FETCHING) else self._deadline

    def timeout(self, now_ms: int) -> Step:
        """End the session when `deadline` has passed. Does nothing before it."""
        deadline = self.deadline
        if deadline is not None and now_ms >= deadline:
            self.close("sequence timeout")
        return self.step([])

    def receive(self, data: bytes, now_ms: int) -> Step:
        """Process bytes from the vehicle, in pieces of any size. Raises nothing for wrong bytes:
        the result is a refusal."""
        if self.state == CLOSED:
            return [], []
        if self.deadline is not None and now_ms >= self.deadline:
            return self.timeout(now_ms)
        try:
            requests = self._frames.feed(data)
        except v2gtp.V2gtpError as error:
            return self.step(self._fail(str(error), now_ms))
        if data and self.state == FETCHING:
            refusal = Refusal("FAILED_SequenceError", "a request before the last one is answered")
            return self.step(self.refuse(self.fetching, refusal, {}, now_ms))
        if len(requests) > 1 or (requests and self._frames.pending):
            return self.step(self._refuse_first(requests[0], now_ms))
        if requests:
            return self.step(self._answer(requests[0], now_ms))
        return self.step([])

    def emit(self, event: Event) -> None:
        """Add an event to this step."""
        self._events.append(event)

    def step(self, frames: list[bytes]) -> Step:
        """The result of one step: its frames and the events since the last step."""
        events, self._events = self._events, []
        return frames, events

    def close(self, reason: str) -> None:
        """End the session with the event `Closed`. reason: "" for a regular end."""
        self.state = CLOSED
        self.emit(Closed(reason))

    def send(self, name: str, payload: bytes, now_ms: int) -> list[bytes]:
        """The frame of one response. payload: EXI. The vehicle's time for its next request starts
        now."""
        self._deadline = now_ms + self._timeout_ms
        self._report("out", name, payload)
        return [v2gtp.encode(payload)]

    def refuse(self, pair: str, refusal: Refusal, request: Body, now_ms: int) -> list[bytes]:
        """The frame of a negative response, if the edition has one; the session ends."""
        body = self.negative(pair, refusal.code, request)
        frames = []
        if body is not None:
            frames = self._respond(pair, {**body, **refusal.elements}, now_ms)
        self.close(str(refusal))
        return frames

    def _fail(self, reason: str, now_ms: int) -> list[bytes]:
        """End the session after bytes that are no request: FAILED to the request that is due."""
        if self.state in (APP_PROTOCOL, SESSION_SETUP):
            self.close(reason)
            return []
        due = self.fetching
        if self.state != FETCHING:
            due = next(iter(self._allowed[self.state])).removesuffix("Req")
        return self.refuse(due, Refusal("FAILED", reason), {}, now_ms)

    def _refuse_first(self, request: bytes, now_ms: int) -> list[bytes]:
        """End the session of a vehicle that does not wait for the response."""
        reason = "more than one request at a time"
        if self.state == APP_PROTOCOL:
            self.close(reason)
            return []
        try:
            name, body, _, _ = self._decode(request)
        except exi.ExiError:
            return self._fail(reason, now_ms)
        refusal = Refusal("FAILED_SequenceError", reason)
        return self.refuse(name.removesuffix("Req"), refusal, body, now_ms)

    def _answer(self, request: bytes, now_ms: int) -> list[bytes]:
        try:
            name, body, self.asked_id, signature = self._decode(request)
        except exi.ExiError as error:
            self._report("in", "?", request)
            is_din = self.state != APP_PROTOCOL and protocols.is_din(request)
            text = f"{protocols.DIN}: {protocols.LATER}" if is_din else str(error)
            return self._fail(text, now_ms)
        self._report("in", name, request)
        pair = name.removesuffix("Req")
        if self.state != APP_PROTOCOL and self.negative(pair, "FAILED", body) is None:
            return self._fail(f"{name or 'an empty body'} is no request", now_ms)
        try:
            handler = self._handler(name)
            response, outcome = handler(self, body, signature)
        except Refusal as refusal:
            return self.refuse(pair, refusal, body, now_ms)
        self.state = self._transitions[self.state, outcome]
        if response is None:
            self.fetching = pair
            self.emit(Fetch(request))
            return []
        frames = self._respond(pair, response, now_ms)
        if self.state == CLOSED:
            end = f"{outcome}: {self.detail}" if self.detail else outcome
            self.close("" if outcome == "stop" else end)
        return frames

    def _decode(self, request: bytes) -> tuple[str, Body, bytes, Signature]:
        """(name, body, session id, Signature) of a request. Raises ExiError."""
        if self.state == APP_PROTOCOL:  # a message without a session
            ((name, body),) = exi.decode(request, "sap").items()
            return name, body, self.session_id, None
        message = exi.decode(request, self._messages.SCHEMA)
        session_id, name, body, signature = self._messages.opened(message)
        return name, body, session_id, signature

    def _handler(self, name: str) -> Handler:
        """The handler of a request that this state and this session allow. Raises Refusal."""
        handler = self._allowed[self.state].get(name)
        if handler is None:
            raise Refusal("FAILED_SequenceError", f"{name} in {self.state}")
        in_session = self.state not in (APP_PROTOCOL, SESSION_SETUP)
        if in_session and self.asked_id != self.session_id:
            raise Refusal("FAILED_UnknownSession", self.asked_id.hex())
        return handler

    def _respond(self, pair: str, body: Body, now_ms: int) -> list[bytes]:
        name = pair + "Res"
        if pair == "supportedAppProtocol":
            return self.send(name, exi.encode({name: body}, "sap"), now_ms)
        message = self._messages.envelope(self.session_id, name, body)
        return self.send(name, exi.encode(message, self._messages.SCHEMA), now_ms)

    def _report(self, direction: str, name: str, payload: bytes) -> None:
        self.emit(Message(direction, name, v2gtp.HEADER_BYTES + len(payload)))
