"""The engine of a charging session in the car (EVCC): one request, one response, in a fixed order.

It is common to the editions of ISO 15118. An edition's `Session` is a subclass with its messages
and two tables: `pairs` says for each message pair how long the response may take, which response
codes are good, how the request is built and how the response is read; `transitions` holds every
step from one pair to the next. Sans-I/O: bytes and a clock in, bytes and events out, so that a
UART, a socket or a test can carry them.

A complete message is not handled while it is received: the owner calls `carry_out` for it, from
the top of its loop, because a decoded installation takes most of a small board's stack.

A violation by the station ends the session at once. A failure of the car's own ends it with a
SessionStopReq, where the tables have one. Finding the station (SDP), TLS, and the 20 s limit for
all of that up to SessionSetupRes belong to the owner of the connection.
"""

from collections import namedtuple

from . import exi
from .errors import EvccError
from .link import v2gtp
from .vault import VaultError

MAX_MESSAGE = 8192  # bytes of one EXI document; a real CertificateInstallationRes has 4,416
ONGOING_MS = 60000  # V2G_EVCC_Ongoing_Timeout: how long a station may keep saying "Ongoing"
REPEAT_MS = 250  # between an "Ongoing" and the repeated request

START = "START"
CLOSED = "CLOSED"
APP_PROTOCOL = "supportedAppProtocol"
SESSION_SETUP = "SessionSetup"

# name: "unavailable", text: why: a contract was requested and this station provides none;
# "installed", EMAID; "rejected", reason of the installer's error; "authorized", EMAID;
# "resumed", ""; "charging", the EnergyTransferMode; "charged", the number of exchanges;
# "paused", ""; "failed", reason of a SessionError; "closed", "": always the last one.
Event = namedtuple("Event", ("name", "text"))


class SessionError(EvccError):
    """The cause of a session's early end."""

    # the car's own failure: it sends a SessionStopReq
    UNABLE = (
        "no-contract",  # none to pay with, and none to be installed here
        "no-contract-payment",  # this station takes other payment only
        "not-provisioned",  # without a provisioning certificate no contract can be requested
        "no-anchor",  # no V2G root that an answer could lead to
        "contract",  # the stored chain cannot be read
        "vault",
        "clock",  # a contract is wanted, and the time is not known
        "charge",  # the station's modes, limits or isolation do not allow the wanted charge
        "insecure",  # the connection is not TLS, and the owner allows no contract without it
    )
    # the station's violation: the car closes the connection
    REASONS = UNABLE + (
        "timeout",
        "ongoing-timeout",
        "frame",  # not V2GTP with EXI in it, or longer than MAX_MESSAGE
        "message",  # not an EXI document of the schema
        "unsolicited",  # more than the response, or data without a request
        "unexpected-message",  # not the response to the request
        "session-id",
        "response-code",
        "challenge",
    )


class UsageError(EvccError):
    """A call of the owner in the wrong order, or with a value that no session accepts."""

    REASONS = ("started", "not-started", "charge", "resume", "update", "time_factor")


def _read_nothing(session, body: dict, message: dict) -> str:
    return "done"


class Pair:
    """One request and its response.

    timeout_ms: for the response. build: session -> (body, Signature or None). read: (session,
    body, message) -> outcome, a key of the transitions; or "ongoing", which repeats the pair for
    at most `ongoing_ms`, or "again", which repeats it. codes: the good response codes.
    """

    def __init__(
        self, timeout_ms, build, read=_read_nothing, codes=("OK",), ongoing_ms=ONGOING_MS
    ) -> None:
        self.timeout_ms = timeout_ms
        self.ongoing_ms = ongoing_ms
        self.build = build
        self.read = read
        self.codes = codes


class SessionEngine:
    """One session: `start` it, then feed `take`, `carry_out` and `timeout` until the event
    "closed".

    Upon "closed" the owner closes the connection. `error`: the cause of a failure or rejection.
    `due`: whether a message waits for `carry_out`. `time_factor`: the station gets as many times
    the standard's time, for slow peers; set it before `start`. `now_ms`: the time of this step.
    """

    time_factor = 1

    def __init__(self, messages, pairs: dict, transitions: dict) -> None:
        """messages: the edition's module, with `SCHEMA`, `NO_SESSION`, `envelope` and `opened`.
        pairs: {state: `Pair`}. transitions: {(state, outcome): next state}, from START on; a
        failure without a row ends in CLOSED."""
        self.state = START
        self.session_id = messages.NO_SESSION
        self.error = None
        self._messages = messages
        self._pairs = pairs
        self._transitions = transitions
        self._events: list = []
        self._frames = v2gtp.PayloadReader(MAX_MESSAGE)
        self._deadline = None
        self._repeat_at = None
        self._ongoing_until = None
        self.now_ms = 0
        self.due = False
        self._data = self._payload = b""

    def add_rows(self, pairs: dict, transitions: dict) -> None:
        """More rows for this session's tables."""
        self._pairs = dict(self._pairs)
        self._pairs.update(pairs)
        self._transitions = dict(self._transitions)
        self._transitions.update(transitions)

    def start(self, now_ms: int) -> list:
        """The frames to send first, each as bytes. now_ms: milliseconds of a clock that never goes
        back. Raises: UsageError("started")."""
        if self.state != START:
            raise UsageError("started", self.state)
        return self._request(self._transitions[START, "start"], now_ms)

    def receive(self, data: bytes, now_ms: int) -> tuple:
        """`take`, and `carry_out` at once: for an owner with a large stack."""
        frames, events = self.take(data, now_ms)
        while self.due:
            frames, more = self.carry_out(now_ms)
            events = events + more
        return frames, events

    def take(self, data: bytes, now_ms: int) -> tuple:
        """Accept bytes from the station, in pieces of any size. Returns (frames to send, [Event]).

        Raises: UsageError("not-started")."""
        if self.state == START:
            raise UsageError("not-started")
        if self.state == CLOSED:
            return [], []
        if self._deadline is not None and now_ms >= self._deadline:
            return self.timeout(now_ms)
        self._data = data
        return self._step(self._take, now_ms)

    def carry_out(self, now_ms: int) -> tuple:
        """Handle the message that is due. Returns (frames to send, [Event])."""
        if not self.due:
            return [], []
        return self._step(self._handle, now_ms)

    def deadline(self):
        """The time to call `timeout` at, in ms on the clock of `now_ms`; None: no timer runs."""
        return self._deadline if self._repeat_at is None else self._repeat_at

    def timeout(self, now_ms: int) -> tuple:
        """Handle an expired timer. Returns (frames to send, [Event]); none before `deadline`."""
        deadline = self.deadline()
        if deadline is None or now_ms < deadline:
            return [], []
        return self._step(self._expire, now_ms)

    def emit(self, name: str, text: str = "") -> None:
        """Add an event for the owner; `Event` lists the names."""
        self._events.append(Event(name, text))

    def _step(self, step, now_ms: int) -> tuple:
        """Run one step; a SessionError or a VaultError ends the session."""
        self.now_ms = now_ms
        try:
            frames = step(now_ms)
        except (SessionError, VaultError) as e:
            reason = "vault" if isinstance(e, VaultError) else e.reason
            self.error = self.error or e
            self.emit("failed", reason)
            outcome = "unable" if reason in SessionError.UNABLE else "violation"
            frames = self._request(self._transitions.get((self.state, outcome), CLOSED), now_ms)
        events, self._events = self._events, []
        return frames, events

    def _expire(self, now_ms: int) -> list:
        if self._repeat_at is None:
            raise SessionError("timeout", "no " + self.state + "Res")
        return self._request(self.state, now_ms)

    def _take(self, now_ms: int) -> list:
        data, self._data = self._data, b""
        try:
            payloads = self._frames.feed(data)
        except v2gtp.V2gtpError as e:
            raise SessionError("frame", str(e))
        if data and (self.due or self._repeat_at is not None):
            raise SessionError("unsolicited", "no request is open")
        if not payloads:
            return []
        if len(payloads) > 1 or self._frames.pending:
            raise SessionError("unsolicited", "more than the response")
        self._payload = payloads.pop()
        self._deadline = None
        self.due = True
        return []

    def _handle(self, now_ms: int) -> list:
        payload, self._payload = self._payload, b""
        self.due = False
        pair = self._pairs[self.state]
        try:
            message = exi.decode(payload, self._schema())
        except exi.ExiError as e:
            raise SessionError("message", str(e))
        return self._proceed(pair.read(self, self._open(message, pair), message), now_ms)

    def _proceed(self, outcome: str, now_ms: int) -> list:
        """The frames after a response that was read. "due": `carry_out` continues with it."""
        if outcome == "due":
            self.due = True
            return []
        if outcome in ("ongoing", "again"):
            if outcome == "ongoing":
                self._limit(now_ms)
            self._deadline = None
            self._repeat_at = now_ms + REPEAT_MS
            return []
        return self._request(self._transitions[self.state, outcome], now_ms)

    def _schema(self) -> str:
        """The EXI schema of this state: the first pair has one for all editions."""
        return "sap" if self.state == APP_PROTOCOL else self._messages.SCHEMA

    def _open(self, message: dict, pair) -> dict:
        """The body of the expected response: its name, session and response code are checked."""
        expected = self.state + "Res"
        if self.state == APP_PROTOCOL:  # a message without a session
            session_id, (name, body) = self.session_id, next(iter(message.items()))
        else:
            session_id, name, body, _ = self._messages.opened(message)
        if name != expected:
            raise SessionError("unexpected-message", name + " instead of " + expected)
        if self.state == SESSION_SETUP:
            if len(session_id) > 8 or not any(session_id):
                raise SessionError("session-id", "%d bytes, or only zeros" % len(session_id))
            self.session_id = session_id
        elif session_id != self.session_id:
            raise SessionError("session-id", "of another session")
        if body["ResponseCode"] not in pair.codes:
            raise SessionError("response-code", body["ResponseCode"])
        return body

    def _request(self, state: str, now_ms: int) -> list:
        """Enter a state: build its request and start its timer."""
        self._deadline = self._repeat_at = None
        self.due = False
        if state == CLOSED:
            self.state = CLOSED
            self.emit("closed")
            return []
        pair = self._pairs[state]
        body, signature = pair.build(self)  # a failure leaves the session in the old state
        if state != self.state:
            self._ongoing_until = None
        self.state = state
        message = {state + "Req": body}
        if state != APP_PROTOCOL:
            message = self._messages.envelope(self.session_id, state + "Req", body, signature)
        self._deadline = now_ms + pair.timeout_ms * self.time_factor
        return [v2gtp.encode(exi.encode(message, self._schema()))]

    def _limit(self, now_ms: int) -> None:
        """Limit the time for which a station may answer "Ongoing"."""
        if self._ongoing_until is None:
            self._ongoing_until = now_ms + self._pairs[self.state].ongoing_ms * self.time_factor
        if now_ms >= self._ongoing_until:
            raise SessionError("ongoing-timeout", self.state)
