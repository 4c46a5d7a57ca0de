"""The EV module: one loop that joins the link, the charging session and the maker's channel.

On CONTROL the bench talks JSON, one object a message. Requests carry an "id", which the answer
repeats:

    {"id": 1, "do": "plug", "want_contract": true, "emaid": "..."}   start a charging session
    {"id": 2, "do": "unplug"}                                        end it
    {"id": 3, "do": "status"}

and the module tells {"event": name, "text": ..., "session": number} by itself: "installed",
"rejected", "authorized", "failed", "unavailable", "closed" of the session with the number that
"plug" answered; "provisioned", "trusted", "installed", "rejected" of the maker's channel, without
a number; "check" for each step an installation passed; "locked" when nothing more is installed
until the maker says so.
SESSION carries V2GTP bytes to and from the station, and an empty message when the station has
closed its connection ("failed", "lost"); TELEMATICS the maker's messages, LOG lines of text. None
ever carries a secret. Whoever holds the line is the bench: it may plug in, and read who the car
is. What the car holds changes only by the maker, who authenticates, and by what a CPS has signed.

Whatever goes wrong in one session or one message, the loop goes on. Nothing grows when the other
end takes nothing: a request that could not be answered is not carried out, on CONTROL and on
TELEMATICS; a session whose frames nobody takes, or whose bytes came faster than they could be
read, ends: "failed", "stalled". The answers and events that were not told are counted in "missed"
of the next one, the lines of LOG in front of the next one.
"""

import json
import sys

from evcc import utf8
from evcc.contracts import Contracts
from evcc.errors import EvccError
from evcc.identity import Identity
from evcc.ids import parse_emaid
from evcc.iso15118_2 import installation
from evcc.iso15118_2.session import Session
from evcc.link.line import Line
from evcc.link.mux import CONTROL, LIMITS, LOG, SESSION, TELEMATICS, VAULT, LinkError
from evcc.telematics import Vehicle
from evcc.timekeeper import Timekeeper
from evcc.trust import Trust

_IDLE_MS = 1000
_NAMES = {
    CONTROL: "control",
    SESSION: "session",
    TELEMATICS: "telematics",
    VAULT: "vault",
    LOG: "log",
}


class Module:
    """The module on its line.

    maker: the 65-byte point of the maker's telematics key. vault: see `evcc.vault`. files:
    `evcc.ports.files.Files`. now: () -> unix seconds. legacy_emaid: accept the peers' other coding
    of the signed eMAID (reported when used).
    Raises: the stores' and the vault's errors, when what is stored cannot be used.
    """

    def __init__(self, line: Line, maker: bytes, vault, files, now, legacy_emaid=False) -> None:
        self._line = line
        self._vault = vault
        self._time = Timekeeper(files, now, line.ticks_ms)
        self._legacy_emaid = legacy_emaid
        self._session = None
        self._number = 0  # of the latest session
        self._missed = {CONTROL: 0, LOG: 0}  # what could not be told, since something was
        self._contracts = Contracts(files)
        recovered = self._contracts.recover(vault)  # first of all: whose keys the vault's are
        self._trust = Trust(files, vault.verify)
        self._identity = Identity(files, vault)
        self._vehicle = Vehicle(
            maker,
            self._identity,
            vault,
            self._trust,
            self._contracts,
            self._install_over_the_air,
            self._time,
            self._log,
            self._event,
        )
        for sentence in recovered:
            self._log(sentence)

    def run(self) -> None:
        """For ever. Raises: PortError, when the line is gone."""
        while True:
            self.step()

    def step(self) -> None:
        """One turn: wait for what comes first, and see to it. Raises: PortError."""
        line = self._line
        line.pump(0 if line.inbox else self._until_deadline())
        while line.inbox:
            channel, data = line.inbox.pop(0)
            handle = _HANDLERS.get(channel)
            if handle is not None:
                self._guarded(handle, data)
        self._see_to_dropped()
        if self._session is not None and self._until_deadline() == 0:
            self._guarded(Module._session_timeout, b"")

    def _guarded(self, handle, data: bytes) -> None:
        """Nothing that one message does may end the loop."""
        try:
            handle(self, data)
        except Exception as e:  # noqa: BLE001 - the last line of defence
            text = str(e) if isinstance(e, EvccError) else ""
            self._log("internal: " + type(e).__name__ + " " + text)
            if handle in (Module._session_receive, Module._session_timeout):
                self._end_session("internal")

    def _see_to_dropped(self) -> None:
        """What came in faster than it could be read: a session misses bytes of its stream."""
        dropped, self._line.dropped = self._line.dropped, {}
        for channel in dropped:
            self._log("%s: %d messages found no room" % (_NAMES[channel], dropped[channel]))
        if SESSION in dropped and self._session is not None:
            self._end_session("stalled")

    def _answers_are_taken(self, channel: int) -> bool:
        """Whether there is room for one more answer, whatever it will be."""
        return self._line.mux.room(channel) >= LIMITS[channel]

    # -- the bench --

    def _control(self, data: bytes) -> None:
        if not self._answers_are_taken(CONTROL):
            self._missed[CONTROL] += 1
            self._log("control: a request is not carried out, nobody takes the answers")
            return
        try:
            request = json.loads(utf8.decode(data))
        except ValueError:
            request = None
        if not isinstance(request, dict):
            request = {}
        action = _ACTIONS.get(str(request.get("do")))
        answer: dict
        try:
            answer = action(self, request) if action else {"error": "not a request"}
        except EvccError as e:
            answer = {"error": str(e)}
        answer["id"] = request.get("id")
        self._tell(answer)

    def _status(self, request: dict) -> dict:
        """Who the car is, what it holds, what it runs on."""
        return {
            "runtime": sys.implementation.name
            + " %d.%d.%d" % tuple(sys.implementation.version[:3]),
            "pcid": self._identity.pcid,
            "certified": self._identity.certificate is not None,
            "custody": self._identity.custody(),
            "region": self._trust.region(),
            "anchors": len(self._trust.anchors("V2G", "MO", "OEM")),
            "contracts": [
                {
                    "emaid": c.emaid,
                    "operator": c.operator,
                    "not_before": c.not_before,
                    "not_after": c.not_after,
                    "custody": c.custody,
                    "active": c.active,
                    "lost": c.lost,
                }
                for c in self._contracts.all()
            ],
            "charging": self._session is not None,
            "locked": self._contracts.envelopes.locked,
            "unnamed_keys": len(self._contracts.unnamed),
            "time": self._time.now(),
            "revocation": self._revocation(),
        }

    def _revocation(self) -> str:
        revocation = self._trust.revocation
        if not revocation.issued:
            return "not checked"
        return "stale" if revocation.is_stale(self._time.now()) else "checked"

    def _plug(self, request: dict) -> dict:
        if self._session is not None:
            return {"error": "a session is running"}
        emaid = request.get("emaid")
        session = Session(
            self._identity,
            self._vault,
            self._trust,
            self._contracts,
            self._time.now(),
            want_contract=bool(request.get("want_contract")),
            emaid=None if emaid is None else parse_emaid(str(emaid)),
            installer=self._install_at_station if self._identity.certificate else None,
        )
        if not self._frames_are_taken(session.start(self._line.ticks_ms())):
            return {"error": "nobody takes the session's frames"}
        self._session = session
        self._number += 1
        return {"session": self._number}

    def _unplug(self, request: dict) -> dict:
        self._session = None
        return {}

    # -- the station --

    def _session_receive(self, data: bytes) -> None:
        if self._session is None:
            return
        if data:
            self._out(*self._session.receive(data, self._line.ticks_ms()))
        else:
            self._end_session("lost")

    def _session_timeout(self, data: bytes) -> None:
        if self._session is not None:
            self._out(*self._session.timeout(self._line.ticks_ms()))

    def _end_session(self, reason: str) -> None:
        self._session = None
        self._event("failed", reason, self._number)
        self._event("closed", "", self._number)

    def _out(self, frames: list, events: list) -> None:
        taken = self._frames_are_taken(frames)
        for name, text in events:
            if name in ("failed", "rejected") and self._session is not None:
                self._log("session: " + name + ": " + str(self._session.error))
            if name == "closed":
                self._session = None
            self._event(name, text, self._number)
        if not taken and self._session is not None:
            self._end_session("stalled")

    def _frames_are_taken(self, frames: list) -> bool:
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
        request = installation.Request.at_station(session_id)
        return self._install(response, request, self._number)

    def _install_over_the_air(self, response: bytes, emaid, session_id):
        request = installation.Request.over_the_air(emaid, session_id) if emaid else None
        return self._install(response, request, None)

    def _install(self, response, request, session):
        was_locked = self._contracts.envelopes.locked
        try:
            return installation.install(
                response,
                request,
                self._trust,
                self._contracts,
                self._vault,
                self._time.now(),
                self._legacy_emaid,
                lambda name: self._event("check", name, session),
            )
        finally:
            if self._contracts.envelopes.locked and not was_locked:
                self._log("installation is locked: too many keys were not their certificates'")
                self._event("locked", "", session)

    # -- the maker --

    def _telematics(self, data: bytes) -> None:
        if not self._answers_are_taken(TELEMATICS):
            self._log("telematics: a message is not looked at, nobody takes the answers")
            return
        for answer in self._vehicle.receive(data):
            self._line.send(TELEMATICS, answer)

    # -- telling --

    def _event(self, name: str, text: str, session=None) -> None:
        self._tell({"event": name, "text": text, "session": session})

    def _tell(self, message: dict) -> None:
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


_ACTIONS = {"status": Module._status, "plug": Module._plug, "unplug": Module._unplug}
_HANDLERS = {
    CONTROL: Module._control,
    SESSION: Module._session_receive,
    TELEMATICS: Module._telematics,
}
