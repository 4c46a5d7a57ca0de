"""The EV module: one loop that joins the link, the charging session and the maker's channel.

The computer at the other end of the link is the bench. On CONTROL it sends JSON, one object a
message. A request has an "id", a whole number or a text of 32 characters at most, which the answer
repeats:

    {"id": 1, "do": "plug", "want_contract": true, "emaid": "..."}   start a charging session
        "secure": true              the bench's connection to the station is TLS
        "insecure_contract": true   it is not; use a contract all the same (as the configuration)
        "charge": {"mode": "DC", "loops": 3, ...}   the wishes of `iso15118_2.charging`; without
                                    them the session stops after authorization
        "update": true              ask for an update of the contract (`iso15118_2.update`)
        "time_factor": 3            give the station as many times the standard's time
        "resume": true              go on with the session that ended "paused"
    {"id": 2, "do": "unplug"}                                        end it
    {"id": 3, "do": "status"}

The module sends events without a request: {"event": name, "text": ..., "session": number}.

    "installed", "rejected", "authorized", "failed", "unavailable", "resumed", "charging",
    "charged", "paused", "closed"
                  of the charging session; its number is in the answer to "plug"
    "provisioned", "trusted", "installed", "rejected"
                  of the maker's channel, without a number
    "check"       one check of an installation has passed
    "locked"      no contract is installed any more until the maker unlocks the car
    "unable"      something of the car's own has failed: "vault", "storage", "resources" (heap,
                  stack or flash ran out), "clock", "internal"; the log says more
    "stranger"    a message on TELEMATICS was not the maker's

SESSION carries V2GTP bytes to and from the station, and an empty message when the station has
closed its connection ("failed", "lost"); TELEMATICS the maker's messages; LOG lines of text. No
channel carries a secret. The bench needs no key: it may start sessions and read the car's
identity. The car's stores change only by the maker, which authenticates, and by a message that a
CPS has signed.

A handler takes a message and returns. The loop then carries out what is due, so that an
installation starts from the top of the stack: on a small board it needs most of that.

An error in one session or one message is reported and does not end the loop. Memory stays bounded
when the bench reads nothing: a request on CONTROL or TELEMATICS is not carried out without room
for its answer; a session ends ("failed", "stalled") when its frames find no room, or when its
bytes arrive faster than they are read. Lost answers and events are counted in "missed" of the next
one, lost lines of LOG in front of the next one.
"""

import json
import sys

from evcc import exi, utf8
from evcc.car import CarContext
from evcc.contracts import Contracts
from evcc.errors import EvccError, reason_of, text_of
from evcc.identity import Identity
from evcc.ids import parse_emaid
from evcc.iso15118_2 import installation
from evcc.iso15118_2.session import Session
from evcc.link.line import Line
from evcc.link.mux import CONTROL, LIMITS, LOG, NAMES, SESSION, TELEMATICS, LinkError
from evcc.session_engine import UsageError
from evcc.telematics import Vehicle, unable
from evcc.timekeeper import Timekeeper
from evcc.trust import Trust

const = int  # MicroPython's compiler replaces the name of a `const` by its number
_IDLE_MS = const(1000)
_DAY = const(86400)
_PATIENCE = const(60)  # the largest time_factor
_IDENT = const(32)  # characters of a request's "id"
_TEXT = const(300)  # characters of an error: escaped, each takes up to 12 bytes of an answer
_PAUSE_MS = const(8)  # between two looks at the link while the vault computes


class Module:
    """The module at its end of the link.

    maker: the 65-byte point of the maker's telematics key. vault: see `evcc.vault`. files:
    `evcc.ports.files.Files`. now: () -> unix seconds. settings: of `evcc.config`; the module reads
    "legacy_emaid", "insecure_contract" and "renew_days". set_clock: (unix seconds) -> None, sets
    the board's clock. kind: the kind of the vault, for the status.
    Raises: the errors of the stores and the vault, for stored data that cannot be used.
    """

    def __init__(
        self,
        line: Line,
        maker: bytes,
        vault,
        files,
        now,
        settings=None,
        set_clock=None,
        kind: str = "",
    ) -> None:
        self._line = line
        self._settings = settings or {}
        self._paused_ms = 0
        vault.pause = self.pause
        self._kind = kind
        self._session = None
        self._paused = None  # the session that can be resumed
        self._updates: dict = {}  # of `iso15118_2.update`
        self._renewal_at = 0  # unix seconds: the last session that wanted a contract
        self._number = 0  # of the latest session
        self._missed = {CONTROL: 0, LOG: 0}  # lost messages since the last one that was sent
        time = Timekeeper(files, now, line.ticks_ms, set_clock, self._unable)
        contracts = Contracts(files)
        removed = contracts.recover(vault)  # claims the car's keys: no use of the vault before it
        trust = Trust(files, vault.verify)
        self._car = CarContext(vault, Identity(files, vault), trust, contracts, time)
        self._vehicle = Vehicle(maker, self._car, self._install, self._log, self._event)
        for sentence in removed:
            self._log(sentence)
        if not time.source():
            self._log("no date is judged until the maker sends the time")

    def run(self) -> None:
        """Repeat `step` until the line is gone. Raises: PortError."""
        while True:
            self.step()

    def step(self) -> None:
        """Wait for a message or a deadline, at most a second, and handle it. Raises: PortError."""
        line = self._line
        line.pump(0 if line.inbox else self._until_deadline())
        while line.inbox:
            channel, data = line.inbox.pop(0)
            if channel in _HANDLERS:
                self._guarded(channel, data)
                self._carry_out_due(channel)
        self._handle_dropped()
        if self._session is not None and self._until_deadline() == 0:
            self._guarded(_DEADLINE, b"")

    def _guarded(self, channel: int, data: bytes) -> None:
        """Handle one message; an error is reported and does not end the loop."""
        try:
            _HANDLERS[channel](self, data)
        except Exception as e:  # noqa: BLE001 - a bug in one handler must not end the loop
            self._failed(channel, e)

    def _carry_out_due(self, channel: int) -> None:
        """Carry out what the message has left to do."""
        self.pause()
        try:
            if channel == TELEMATICS:
                for answer in self._vehicle.carry_out():
                    self._line.send(TELEMATICS, answer)
            while self._session is not None and self._session.due:
                self._report(*self._session.carry_out(self._line.ticks_ms()))
        except Exception as e:  # noqa: BLE001
            self._failed(channel, e)

    def _failed(self, channel: int, error: Exception) -> None:
        """Report an error that no handler expects: log, event, and an answer on its channel."""
        text = str(error) if isinstance(error, EvccError) else ""
        self._log("internal: " + type(error).__name__ + " " + text)
        reason = reason_of(error)
        if channel in (SESSION, _DEADLINE):
            self._end_session("resources" if reason == "resources" else "internal")
        elif channel == TELEMATICS and self._has_room(TELEMATICS):
            self._line.send(TELEMATICS, unable(error))
        self._event("unable", reason)

    def _unable(self, error: EvccError) -> None:
        self._log("storage: " + str(error))
        self._event("unable", "storage")

    def pause(self) -> None:
        """Serve the link within a long computation: messages are received, and handled later."""
        if self._line.ticks_ms() - self._paused_ms >= _PAUSE_MS:
            self._line.pump(0)
            self._paused_ms = self._line.ticks_ms()

    def _handle_dropped(self) -> None:
        """Log the messages the line had no room for; a session that lost bytes ends."""
        dropped, self._line.dropped = self._line.dropped, {}
        for channel in dropped:
            self._log("%s: %d messages found no room" % (NAMES[channel], dropped[channel]))
        if SESSION in dropped and self._session is not None:
            self._end_session("stalled")

    def _has_room(self, channel: int) -> bool:
        """Whether there is room for the longest answer."""
        return self._line.mux.room(channel) >= LIMITS[channel]

    # -- requests on CONTROL --

    def _control(self, data: bytes) -> None:
        if not self._has_room(CONTROL):
            self._missed[CONTROL] += 1
            self._log("control: ignored, the bench reads no answers")
            return
        try:
            request = json.loads(utf8.decode(data))
        except (ValueError, RuntimeError):  # nested too deep
            request = None
        if not isinstance(request, dict) or not _is_ident(request.get("id")):
            request = {}
        action = _ACTIONS.get(_text(request.get("do")))
        answer: dict
        try:
            answer = getattr(self, action)(request) if action else {"error": "not a request"}
        except Exception as e:  # noqa: BLE001 - every request gets its answer
            answer = {"error": text_of(e)[:_TEXT]}
            if not isinstance(e, EvccError):
                self._failed(CONTROL, e)
        answer["id"] = request.get("id")
        self._send_control(answer)

    def _status(self, request: dict) -> dict:
        """The car's identity and contracts, and its runtime."""
        _, identity, trust, contracts, time = self._car
        return {
            "runtime": sys.implementation.name
            + " %d.%d.%d" % tuple(sys.implementation.version[:3]),
            "pcid": identity.pcid,
            "certified": identity.certificate is not None,
            "custody": identity.custody(),
            "region": trust.region(),
            "anchors": len(trust.anchors("V2G", "MO", "OEM")),
            "contracts": [_contract_status(contract) for contract in contracts.all()],
            "charging": self._session is not None,
            "locked": contracts.envelopes.locked,
            "unnamed_keys": len(contracts.unnamed),
            "time": time.now(),
            "clock": time.source() or "unknown",
            "vault": self._kind,
            "revocation": _revocation_status(trust.revocation, time.now()),
        }

    def _plug(self, request: dict) -> dict:
        if self._session is not None:
            return {"error": "a session is running"}
        if not self._begin(self._new_session(request, request.get("secure") is True)):
            return {"error": "the bench reads no frames of the session"}
        self._number += 1
        return {"session": self._number}

    def _new_session(self, request: dict, secure: bool) -> Session:
        """The session that a "plug" asks for, not yet started. Raises: EvccError."""
        emaid = request.get("emaid")
        session = Session(
            self._car,
            want_contract=bool(request.get("want_contract")) or self._renews(emaid),
            emaid=None if emaid is None else parse_emaid(_text(emaid)),
            installer=self._install_at_station if self._car.identity.certificate else None,
            secure=secure,
            insecure_contract=self._allows_insecure(request),
            charge=request.get("charge"),
        )
        if request.get("update"):
            from evcc.iso15118_2 import update  # not on a board

            update.prepare(session, self._updates)
        session.time_factor = time_factor(request)
        if request.get("resume"):
            session.resume(self._paused)
        return session

    def _begin(self, session: Session) -> bool:
        """Start a session; False: its first frame found no room."""
        exi.forget()  # the states of an installation
        frames = session.start(self._line.ticks_ms())
        self._session = session  # a connection that breaks as the frames are sent ends it
        if not self._send_frames(frames):
            self._session = None
            return False
        if session.wants_contract:
            self._renewal_at = self._car.time.now()
        return True

    def _renews(self, emaid) -> bool:
        """Whether the contract ends within "renew_days"; true once a day at most, because the
        refusal of a request costs a session."""
        contract, now = self._car.contracts.active(), self._car.time.now()
        near = self._settings.get("renew_days", 0) * _DAY
        if emaid is not None or contract is None or not self._car.time.source():
            return False
        return contract.not_after - now < near and now - self._renewal_at >= _DAY

    def _allows_insecure(self, request: dict) -> bool:
        name = "insecure_contract"
        return request.get(name) is True or self._settings.get(name, False)

    def _unplug(self, request: dict) -> dict:
        self._close_session()
        return {}

    def _close_session(self) -> None:
        self._session = None
        self._car.contracts.release(self._car.vault)
        exi.forget()

    # -- the station --

    def _session_receive(self, data: bytes) -> None:
        if self._session is None:
            return
        if data:
            self._report(*self._session.take(data, self._line.ticks_ms()))
        else:
            self._end_session("lost")

    def _session_timeout(self, data: bytes) -> None:
        if self._session is not None:
            self._report(*self._session.timeout(self._line.ticks_ms()))

    def _end_session(self, reason: str) -> None:
        self._close_session()
        self._event("failed", reason, self._number)
        self._event("closed", "", self._number)

    def _report(self, frames: list, events: list) -> None:
        """Send the frames of one step of the session, and report its events."""
        sent = self._send_frames(frames)
        for event in events:
            if event.name in ("failed", "rejected") and self._session is not None:
                self._log("session: " + event.name + ": " + text_of(self._session.error))
            if event.name == "authorized":
                exi.forget()  # the charge has other messages
            if event.name == "closed":
                self._paused = self._session and self._session.paused
                self._close_session()
            self._event(event.name, event.text, self._number)
        if not sent and self._session is not None:
            self._end_session("stalled")

    def _send_frames(self, frames: list) -> bool:
        """Whether every frame found room."""
        try:
            for frame in frames:
                self._line.send(SESSION, frame)
        except LinkError as e:
            self._log("session: " + str(e))
            return False
        return True

    def _until_deadline(self) -> int:
        deadline = None if self._session is None else self._session.deadline()
        if deadline is None:
            return _IDLE_MS
        return min(max(deadline - self._line.ticks_ms(), 0), _IDLE_MS)

    # -- contracts --

    def _install_at_station(self, response: dict, session_id: bytes):
        return self._install(response, None, session_id, self._number)

    def _install(self, response, emaid, session_id, session=None):
        """Install an answer to the open request, if there is one. session: of the station."""
        request = None
        if session_id is not None:
            request = installation.InstallationRequest(session_id, emaid)
        envelopes = self._car.contracts.envelopes
        was_locked = envelopes.locked
        try:
            return installation.install(
                response,
                request,
                self._car.trust,
                self._car.contracts,
                self._car.vault,
                self._car.time.trusted(),
                self._settings.get("legacy_emaid", False),
                lambda name: self._checked(name, session),
            )
        finally:
            if envelopes.locked and not was_locked:
                self._log("installation is locked: too many wrong keys")
                self._event("locked", "", session)

    def _checked(self, name: str, session) -> None:
        self._event("check", name, session)
        self.pause()  # the checks take seconds on a board

    # -- the maker --

    def _telematics(self, data: bytes) -> None:
        if not self._has_room(TELEMATICS):
            self._log("telematics: ignored, the bench reads no answers")
            return
        for answer in self._vehicle.take(data):
            self._line.send(TELEMATICS, answer)

    # -- reports --

    def _event(self, name: str, text: str, session=None) -> None:
        self._send_control({"event": name, "text": text, "session": session})

    def _send_control(self, message: dict) -> None:
        if self._missed[CONTROL]:
            message["missed"] = self._missed[CONTROL]
        try:
            self._line.send(CONTROL, json.dumps(message).encode())
        except LinkError as e:
            self._missed[CONTROL] += 1
            if e.reason != "full":
                self._log("control: " + str(e))
        else:
            self._missed[CONTROL] = 0

    def _log(self, text: str) -> None:
        if self._missed[LOG]:
            text = "(%d lines before this one are missing) " % self._missed[LOG] + text
        try:
            self._line.send(LOG, text.encode()[: LIMITS[LOG]])
        except LinkError:
            self._missed[LOG] += 1
        else:
            self._missed[LOG] = 0


def _contract_status(contract) -> dict:
    return {
        "emaid": contract.emaid,
        "operator": contract.operator,
        "not_before": contract.not_before,
        "not_after": contract.not_after,
        "custody": contract.custody,
        "active": contract.active,
        "lost": contract.lost,
    }


def _revocation_status(revocation, now: int) -> str:
    if not revocation.issued:
        return "not checked"
    return "stale" if revocation.is_stale(now) else "checked"


def _text(value) -> str:
    """A text in a request; "" for anything else, which may be nested too deep for `str`."""
    return value if isinstance(value, str) else ""


def _is_ident(ident) -> bool:
    """Whether it fits into every answer: nothing, a whole number or a text."""
    return ident is None or (type(ident) in (int, str) and len(str(ident)) <= _IDENT)


def time_factor(request: dict) -> int:
    """The "time_factor" of a request, 1 to `_PATIENCE`. Raises UsageError("time_factor")."""
    factor = request.get("time_factor", 1)
    if type(factor) is not int:
        raise UsageError("time_factor", "a whole number")
    return min(max(factor, 1), _PATIENCE)


# By name, so that a subclass can replace a method.
_ACTIONS = {"status": "_status", "plug": "_plug", "unplug": "_unplug"}
_DEADLINE = -1  # of the session, beside the channels
_HANDLERS = {
    CONTROL: Module._control,
    SESSION: Module._session_receive,
    TELEMATICS: Module._telematics,
    _DEADLINE: Module._session_timeout,
}
