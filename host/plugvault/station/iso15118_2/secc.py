"""The station's half of a charging session: sans-I/O, one `Secc` per connection.

ISO 15118-2:2014, 8.8.3 seen from the SECC. `ALLOWED` says what may come in each state and who
answers it, `NEXT` what follows. A request at the wrong time, of another session or not to be
granted gets its FAILED ResponseCode and the session is over; bytes that are not even a request get
no answer at all. The one thing that takes time, fetching a contract, is an event: whoever runs
this hands the answer to `fetched`.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from evcc import exi, ids
from evcc.iso15118_2 import messages
from evcc.link import v2gtp
from evcc.x509 import Certificate
from plugvault.contract.iso15118_2.response import ResponseError, with_session_id
from plugvault.station.iso15118_2 import answers, payment
from plugvault.station.iso15118_2.answers import Body, Offer
from plugvault.station.iso15118_2.payment import Refusal

SEQUENCE_TIMEOUT_MS = 60_000  # V2G_SECC_Sequence_Timeout: how long the vehicle may be silent
MAX_REQUEST = 8192  # bytes of EXI; the longest real request has under 3,000


@dataclass(frozen=True)
class Message:
    """A message went past. direction: "in" or "out"; size: bytes on the wire, header included."""

    direction: str
    name: str
    size: int


@dataclass(frozen=True)
class Fetch:
    """A contract is wanted: give `request`, the EXI as it came, to the operator; see `fetched`."""

    request: bytes


@dataclass(frozen=True)
class Authorized:
    """Who pays for this session: the record that is billed."""

    emaid: str
    session_id: bytes
    evseid: str
    time: int
    contract_serial: int


@dataclass(frozen=True)
class Closed:
    """The session is over; close the connection. reason: "" when it ended as it should."""

    reason: str = ""


Event = Message | Fetch | Authorized | Closed
Step = tuple[list[bytes], list[Event]]


class Secc:
    """Feed `receive`, `fetched` and `timeout`; each returns (frames to send, events)."""

    def __init__(
        self,
        offer: Offer,
        anchors: Iterable[bytes],
        clock: Callable[[], float],
        now_ms: int,
        random: Callable[[int], bytes] = os.urandom,
        sequence_timeout_ms: int = SEQUENCE_TIMEOUT_MS,
    ) -> None:
        """anchors: DER of the MO and V2G roots that contracts may lead to. clock: unix seconds.
        now_ms: steady milliseconds, as in every call. random: n -> n unpredictable bytes."""
        self.offer = offer
        self.anchors = tuple(anchors)
        self.clock = clock
        self.random = random
        self.state = APP_PROTOCOL
        self.session_id = messages.NO_SESSION
        self.services: list[int] = []  # that the vehicle selected
        self.contract: Certificate  # of the last good PaymentDetailsReq
        self.challenge = b""
        self._frames = v2gtp.Reader(MAX_REQUEST)
        self._timeout_ms = sequence_timeout_ms
        self._deadline = now_ms + sequence_timeout_ms
        self._events: list[Event] = []

    @property
    def deadline(self) -> int | None:
        """When to call `timeout`, in milliseconds; None while it is not the vehicle's turn.

        It does not move while a message trickles in: a byte now and then is silence too.
        """
        return None if self.state in (CLOSED, FETCHING) else self._deadline

    def timeout(self, now_ms: int) -> Step:
        deadline = self.deadline
        if deadline is not None and now_ms >= deadline:
            self._close("sequence timeout")
        return self._step([])

    def receive(self, data: bytes, now_ms: int) -> Step:
        """Bytes from the vehicle, in pieces of any size."""
        if self.state == CLOSED:
            return [], []
        if self.deadline is not None and now_ms >= self.deadline:
            return self.timeout(now_ms)
        try:
            requests = self._frames.feed(data)
        except v2gtp.V2gtpError as error:
            self._close(str(error))
            return self._step([])
        if data and self.state == FETCHING:
            self._close("not the vehicle's turn")
            return self._step([])
        if not requests:
            return self._step([])
        if len(requests) > 1 or self._frames.pending:
            self._close("more than one request at a time")
            return self._step([])
        return self._step(self._answer(requests[0], now_ms))

    def fetched(self, response: bytes | None, now_ms: int) -> Step:
        """The operator's answer to `Fetch`, EXI; None when there was none in time.

        It goes to the vehicle as it is but for the SessionID, which no signature covers.
        """
        if self.state != FETCHING:
            return [], []
        self.state = CONTRACT
        try:
            if response is None:
                raise Refusal("FAILED", "no answer from the operator")
            code, relayed = _relay(response, self.session_id)
        except Refusal as refusal:
            return self._step(self._refuse("CertificateInstallation", refusal, now_ms))
        self.state = NEXT[CONTRACT, "installed"]
        frames = self._send("CertificateInstallationRes", relayed, now_ms)
        if code != "OK":
            self._close("the operator said " + code)
        return self._step(frames)

    def _answer(self, request: bytes, now_ms: int) -> list[bytes]:
        schema = "sap" if self.state == APP_PROTOCOL else "iso2"
        try:
            message = exi.decode(request, schema)
        except exi.ExiError as error:
            self._note("in", "?", request)
            self._close(str(error))
            return []
        if schema == "sap":
            session_id, (name, body), signed = self.session_id, next(iter(message.items())), None
        else:
            session_id, name, body, signed = messages.opened(message)
        self._note("in", name, request)
        pair = name.removesuffix("Req")
        try:
            handler = ALLOWED[self.state].get(name)
            if handler is None:
                raise Refusal("FAILED_SequenceError", f"{name} in {self.state}")
            if self.state not in (APP_PROTOCOL, SESSION_SETUP) and session_id != self.session_id:
                raise Refusal("FAILED_UnknownSession", session_id.hex())
            response, outcome = handler(self, body, signed)
        except Refusal as refusal:
            return self._refuse(pair, refusal, now_ms)
        self.state = NEXT[self.state, outcome]
        if response is None:
            self._events.append(Fetch(request))
            return []
        frames = self._respond(pair, response, now_ms)
        if self.state == CLOSED:
            self._close("" if outcome == "stop" else outcome)
        return frames

    def _respond(self, pair: str, body: Body, now_ms: int) -> list[bytes]:
        name = pair + "Res"
        if pair == "supportedAppProtocol":
            return self._send(name, exi.encode({name: body}, "sap"), now_ms)
        message = messages.envelope(self.session_id, name, body)
        return self._send(name, exi.encode(message), now_ms)

    def _send(self, name: str, payload: bytes, now_ms: int) -> list[bytes]:
        self._deadline = now_ms + self._timeout_ms
        self._note("out", name, payload)
        return [v2gtp.encode(payload)]

    def _refuse(self, pair: str, refusal: Refusal, now_ms: int) -> list[bytes]:
        body = answers.refusal(pair, refusal.code)
        frames = [] if body is None else self._respond(pair, body, now_ms)
        self._close(str(refusal))
        return frames

    def _note(self, direction: str, name: str, payload: bytes) -> None:
        self._events.append(Message(direction, name, v2gtp.HEADER_BYTES + len(payload)))

    def _close(self, reason: str) -> None:
        self.state = CLOSED
        self._events.append(Closed(reason))

    def _step(self, frames: list[bytes]) -> Step:
        events, self._events = self._events, []
        return frames, events


def _relay(response: bytes, session_id: bytes) -> tuple[str, bytes]:
    """(ResponseCode, EXI) of the operator's answer in this session. Raises Refusal."""
    try:
        relayed = with_session_id(response, session_id)
        _, name, body, _ = messages.opened(exi.decode(relayed))
    except (exi.ExiError, ResponseError) as error:
        raise Refusal("FAILED", f"the operator's answer: {error}") from error
    if name != "CertificateInstallationRes":
        raise Refusal("FAILED", f"the operator answered with {name or 'nothing'}")
    return body["ResponseCode"], relayed


Answer = tuple[Body | None, str]
Signed = dict[str, Any] | None


def _negotiate(secc: Secc, body: Body, _: Signed) -> Answer:
    response = answers.supported_app_protocol(body)
    agreed = "SchemaID" in response
    return response, "agreed" if agreed else "no common protocol"


def _set_up(secc: Secc, body: Body, _: Signed) -> Answer:
    """Always a new session: this station has nothing to resume a paused one for."""
    secc.session_id = secc.random(8)
    return answers.session_setup(secc.offer, int(secc.clock())), "set up"


def _discover(secc: Secc, body: Body, _: Signed) -> Answer:
    return answers.service_discovery(secc.offer), "discovered"


def _detail(secc: Secc, body: Body, _: Signed) -> Answer:
    if not secc.offer.certificate_service or body["ServiceID"] != messages.CERTIFICATE_SERVICE:
        raise Refusal("FAILED_ServiceIDInvalid", f"service {body['ServiceID']}")
    return answers.service_detail(), "detailed"


def _select(secc: Secc, body: Body, _: Signed) -> Answer:
    if body["SelectedPaymentOption"] not in secc.offer.payment:
        raise Refusal("FAILED_PaymentSelectionInvalid", body["SelectedPaymentOption"])
    chosen = [service["ServiceID"] for service in body["SelectedServiceList"]["SelectedService"]]
    if answers.CHARGE_SERVICE not in chosen:
        raise Refusal("FAILED_NoChargeServiceSelected", str(chosen))
    offered = {answers.CHARGE_SERVICE}
    if secc.offer.certificate_service:
        offered.add(messages.CERTIFICATE_SERVICE)
    if not offered.issuperset(chosen):
        raise Refusal("FAILED_ServiceSelectionInvalid", str(chosen))
    secc.services = chosen
    return answers.ok(), body["SelectedPaymentOption"]


def _install(secc: Secc, body: Body, _: Signed) -> Answer:
    if messages.CERTIFICATE_SERVICE not in secc.services:
        raise Refusal("FAILED_SequenceError", "the certificate service was not selected")
    return None, "fetch"


def _details(secc: Secc, body: Body, _: Signed) -> Answer:
    secc.contract = payment.check_contract(body, secc.anchors, secc.clock())
    secc.challenge = secc.random(16)
    return answers.payment_details(secc.challenge, int(secc.clock())), "challenged"


def _authorize(secc: Secc, body: Body, signed: Signed) -> Answer:
    challenge, secc.challenge = secc.challenge, b""
    payment.check_authorization(body, signed, challenge, secc.contract.point)
    record = Authorized(
        ids.parse_emaid(secc.contract.names["CN"]),
        secc.session_id,
        secc.offer.evseid,
        int(secc.clock()),
        secc.contract.serial,
    )
    secc._events.append(record)
    return answers.authorization(), "authorized"


def _authorize_external(secc: Secc, body: Body, _: Signed) -> Answer:
    """Paid at the terminal: nothing to check here, and nobody to bill by EMAID."""
    return answers.authorization(), "authorized"


def _stop(secc: Secc, body: Body, _: Signed) -> Answer:
    return answers.ok(), "stop"


APP_PROTOCOL = "app protocol"
SESSION_SETUP = "session setup"
DISCOVERY = "service discovery"
SELECTION = "payment selection"
CONTRACT = "contract"
FETCHING = "fetching a contract"
DETAILS = "payment details"
AUTHORIZATION = "authorization"
EXTERNAL = "external authorization"
AUTHORIZED = "authorized"
CLOSED = "closed"

Handler = Callable[[Secc, Body, Signed], Answer]

ALLOWED: dict[str, dict[str, Handler]] = {
    APP_PROTOCOL: {"supportedAppProtocolReq": _negotiate},
    SESSION_SETUP: {"SessionSetupReq": _set_up},
    DISCOVERY: {"ServiceDiscoveryReq": _discover, "SessionStopReq": _stop},
    SELECTION: {
        "ServiceDetailReq": _detail,
        "PaymentServiceSelectionReq": _select,
        "SessionStopReq": _stop,
    },
    CONTRACT: {
        "CertificateInstallationReq": _install,
        "PaymentDetailsReq": _details,
        "SessionStopReq": _stop,
    },
    DETAILS: {"PaymentDetailsReq": _details, "SessionStopReq": _stop},
    AUTHORIZATION: {"AuthorizationReq": _authorize, "SessionStopReq": _stop},
    EXTERNAL: {"AuthorizationReq": _authorize_external, "SessionStopReq": _stop},
    AUTHORIZED: {"SessionStopReq": _stop},  # and, one day, ChargeParameterDiscoveryReq
}

# (state, what came of the request) -> what is waited for next
NEXT: dict[tuple[str, str], str] = {
    (APP_PROTOCOL, "agreed"): SESSION_SETUP,
    (APP_PROTOCOL, "no common protocol"): CLOSED,
    (SESSION_SETUP, "set up"): DISCOVERY,
    (DISCOVERY, "discovered"): SELECTION,
    (SELECTION, "detailed"): SELECTION,
    (SELECTION, answers.CONTRACT): CONTRACT,
    (SELECTION, answers.EXTERNAL): EXTERNAL,
    (CONTRACT, "fetch"): FETCHING,
    (CONTRACT, "installed"): DETAILS,
    (CONTRACT, "challenged"): AUTHORIZATION,
    (DETAILS, "challenged"): AUTHORIZATION,
    (AUTHORIZATION, "authorized"): AUTHORIZED,
    (EXTERNAL, "authorized"): AUTHORIZED,
    **{
        (state, "stop"): CLOSED
        for state, allowed in ALLOWED.items()
        if "SessionStopReq" in allowed
    },
}
