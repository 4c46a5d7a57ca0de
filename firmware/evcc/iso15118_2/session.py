"""A charging session from the car's side (EVCC), from the first message to authorization.

ISO 15118-2:2014, 8.8.3: one request, one response, in the order of `NEXT`, which holds every
transition there is; `PAIRS` says for each message pair how long the answer may take, which codes
are good, how the request is made and how the response is read. Sans-I/O: bytes and a clock in,
bytes and events out, so that a UART, a socket or a test can carry it.

What a hostile station does wrong ends the session at once. Why an installation was rejected stays
in the car: on the wire every rejection is the same SessionStopReq. Finding the station (SDP), TLS
and the 20 s limit for all of that up to SessionSetupRes belong to whoever owns the connection;
charging itself would come between Authorization and SessionStop.
"""

from evcc import exi, signature
from evcc.errors import EvccError
from evcc.link import v2gtp
from evcc.vault import PROVISIONING, VaultError

from .messages import (
    CERTIFICATE_SERVICE,
    NO_SESSION,
    authorization_req,
    certificate_installation_req,
    envelope,
    installation_parameter_set,
    opened,
    payment_details_req,
    payment_service_selection_req,
    service_detail_req,
    service_discovery_req,
    services,
    session_setup_req,
    session_stop_req,
    supported_app_protocol_req,
)

MAX_MESSAGE = 8192  # bytes of one EXI document; a real CertificateInstallationRes has 4,416
ONGOING_MS = 60000  # V2G_EVCC_Ongoing_Timeout: how long a station may keep saying "Ongoing"
REPEAT_MS = 250  # between an "Ongoing" and the next question
IDENT = "id1"


class SessionError(EvccError):
    """Why a session ended before its time."""

    # the car's own inability: it takes leave of the station with a SessionStopReq
    UNABLE = (
        "no-contract",  # none to pay with, and none to be had here
        "no-contract-payment",  # this station takes other payment only
        "not-provisioned",  # without a provisioning certificate no contract can be asked for
        "no-anchor",  # no V2G root that an answer could lead to
        "contract",  # the stored chain cannot be read
        "vault",
    )
    # the station's doing: the car closes the connection
    REASONS = UNABLE + (
        "timeout",
        "ongoing-timeout",
        "frame",  # not V2GTP with EXI in it, or longer than MAX_MESSAGE
        "message",  # not an EXI document of the schema
        "unsolicited",  # more than was asked for
        "unexpected-message",  # not the answer to what was asked
        "session-id",
        "response-code",
        "challenge",
    )


class UsageError(EvccError):
    """The session was misused by its owner."""

    REASONS = ("started", "not-started")


class Session:
    """One session: `start` it, then feed `receive` and `timeout` until an event says "closed".

    Events are (name, text): ("unavailable", why) when a contract was wanted and this station does
    not provide any; ("installed", EMAID); ("rejected", reason of the installer's error);
    ("authorized", EMAID); ("failed", reason of SessionError); and always last ("closed", ""), upon
    which the owner closes the connection. `error` keeps the cause of a failure or rejection.
    """

    def __init__(
        self,
        identity,
        vault,
        trust,
        contracts,
        now: int,
        want_contract: bool = False,
        emaid=None,
        installer=None,
        evccid=None,
    ) -> None:
        """identity: `.certificate`, the provisioning leaf (DER) or None. now: unix seconds.

        want_contract: ask for a contract even if there is one. emaid: the contract to pay with;
        None: the installed one, else the active one.
        installer: (CertificateInstallationRes, decoded, session id) -> Contract, raises EvccError;
        None: never ask. evccid: 6 bytes; None: random, so that nobody can follow the car by it.
        """
        self.session_id = NO_SESSION
        self.error = None
        self.state = START
        self.identity = identity
        self.vault = vault
        self.trust = trust
        self.contracts = contracts
        self.installer = installer
        self.evccid = evccid
        self.emaid = emaid
        try:
            self.contract = contracts.usable(now, emaid)
        except EvccError:
            self.contract = None
        self.wants = want_contract or (self.contract is None and emaid is None)
        self.services: list = []  # chosen at this station: [(ServiceID, ParameterSetID or None)]
        self.challenge = b""
        self.asked = False  # whether this PaymentDetailsRes's challenge has been answered
        self._events: list = []
        self._frames = v2gtp.Reader(MAX_MESSAGE)
        self._deadline = None
        self._repeat_at = None
        self._ongoing_until = None

    def start(self, now_ms: int) -> list:
        """The frames to send first. now_ms: milliseconds of a clock that never goes back."""
        if self.state != START:
            raise UsageError("started", self.state)
        return self._request(NEXT[START, "start"], now_ms)

    def receive(self, data: bytes, now_ms: int) -> tuple:
        """Bytes from the station, in pieces of any size. Returns (frames to send, events)."""
        if self.state == START:
            raise UsageError("not-started")
        if self.state == CLOSED:
            return [], []
        if self._deadline is not None and now_ms >= self._deadline:
            return self.timeout(now_ms)
        return self._step(lambda: self._receive(data, now_ms), now_ms)

    def deadline(self):
        """When to call `timeout`, on the clock of `now_ms`; None when nothing is waited for."""
        return self._deadline if self._repeat_at is None else self._repeat_at

    def timeout(self, now_ms: int) -> tuple:
        """Time has passed. Returns (frames to send, events); does nothing before `deadline`."""
        deadline = self.deadline()
        if deadline is None or now_ms < deadline:
            return [], []
        return self._step(lambda: self._late(now_ms), now_ms)

    def tell(self, name: str, text: str = "") -> None:
        """Add an event."""
        self._events.append((name, text))

    def _step(self, step, now_ms: int) -> tuple:
        """Run one step; a SessionError ends the session, the way that fits whose doing it is."""
        try:
            frames = step()
        except SessionError as e:
            self.error = self.error or e
            self.tell("failed", e.reason)
            ending = "unable" if e.reason in e.UNABLE else "misled"
            frames = self._request(NEXT.get((self.state, ending), CLOSED), now_ms)
        events, self._events = self._events, []
        return frames, events

    def _late(self, now_ms: int) -> list:
        if self._repeat_at is None:
            raise SessionError("timeout", "no " + self.state + "Res")
        return self._request(NEXT[self.state, "ongoing"], now_ms)

    def _receive(self, data: bytes, now_ms: int) -> list:
        try:
            received = self._frames.feed(data)
        except v2gtp.V2gtpError as e:
            raise SessionError("frame", str(e))
        if self._repeat_at is not None and data:
            raise SessionError("unsolicited", "nothing was asked")
        if not received:
            return []
        if len(received) > 1 or self._frames.pending:
            raise SessionError("unsolicited", "more than the answer")
        pair = PAIRS[self.state]
        message = self._decoded(received.pop(), pair)
        outcome = pair.read(self, self._open(message, pair), message)
        if outcome == "ongoing":
            self._wait(now_ms)
            return []
        return self._request(NEXT[self.state, outcome], now_ms)

    def _decoded(self, payload: bytes, pair) -> dict:
        try:
            return exi.decode(payload, pair.schema)
        except exi.ExiError as e:
            raise SessionError("message", str(e))

    def _open(self, message: dict, pair) -> dict:
        """The body of the one response that may come now."""
        wanted = self.state + "Res"
        if pair.schema == "sap":
            session_id, (name, body) = NO_SESSION, next(iter(message.items()))
        else:
            session_id, name, body, _ = opened(message)
        if name != wanted:
            raise SessionError("unexpected-message", name + " instead of " + wanted)
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
        """Enter a state: make its request and start its clock."""
        self._deadline = self._repeat_at = None
        if state == CLOSED:
            self.state = CLOSED
            self.tell("closed")
            return []
        pair = PAIRS[state]
        body, signed = pair.build(self)  # still in the old state if this cannot be done
        message = {state + "Req": body}
        if pair.schema != "sap":
            message = envelope(self.session_id, state + "Req", body, signed)
        self.state = state
        self._deadline = now_ms + pair.timeout_ms
        return [v2gtp.encode(exi.encode(message, pair.schema))]

    def _wait(self, now_ms: int) -> None:
        """The station is not done: ask again in a while, but not for ever."""
        if self._ongoing_until is None:
            self._ongoing_until = now_ms + ONGOING_MS
        if now_ms >= self._ongoing_until:
            raise SessionError("ongoing-timeout", self.state)
        self._deadline = None
        self._repeat_at = now_ms + REPEAT_MS


def _app_protocol(s) -> tuple:
    return supported_app_protocol_req(), None


def _session_setup(s) -> tuple:
    if s.evccid is None:
        address = _in_vault(s, lambda: s.vault.random(6))
        s.evccid = bytes([address[0] & 0xFC | 2]) + address[1:]  # a local one, IEEE 802
    return session_setup_req(s.evccid), None


def _service_discovery(s) -> tuple:
    return service_discovery_req(), None


def _read_services(s, body: dict, message: dict) -> str:
    if "Contract" not in body["PaymentOptionList"]["PaymentOption"]:
        raise SessionError("no-contract-payment")
    s.services = [(body["ChargeService"]["ServiceID"], None)]
    if s.wants and s.installer is not None and CERTIFICATE_SERVICE in services(body):
        return "install"
    return _pay(s)


def _service_detail(s) -> tuple:
    return service_detail_req(CERTIFICATE_SERVICE), None


def _read_service_detail(s, body: dict, message: dict) -> str:
    parameter_set = installation_parameter_set(body)
    if parameter_set is None:
        return _pay(s)
    s.services.append((CERTIFICATE_SERVICE, parameter_set))
    return "install"


def _pay(s) -> str:
    """Go on with a contract the car already has."""
    if s.contract is None:
        raise SessionError("no-contract")
    if s.wants:
        s.tell("unavailable", "no contract certificate service")
        s.wants = False
    return "pay"


def _payment_service_selection(s) -> tuple:
    return payment_service_selection_req("Contract", s.services), None


def _read_payment_service_selection(s, body: dict, message: dict) -> str:
    return "install" if s.wants else "pay"


def _certificate_installation(s) -> tuple:
    if s.identity.certificate is None:
        raise SessionError("not-provisioned")
    roots = s.trust.anchors("V2G")
    if not roots:
        raise SessionError("no-anchor")
    body = certificate_installation_req(IDENT, s.identity.certificate, roots)
    return body, _signed(s, CERTIFICATE_INSTALLATION + "Req", body, PROVISIONING)


def _read_certificate_installation(s, body: dict, message: dict) -> str:
    try:
        installed = s.installer(message, s.session_id)
    except EvccError as e:
        s.error = e
        s.tell("rejected", e.reason)
        return "rejected"
    s.tell("installed", installed.emaid)
    if s.emaid is None or s.contract is None or s.emaid == installed.emaid:
        s.contract = installed
    return "pay"


def _payment_details(s) -> tuple:
    emaid = s.contract.emaid
    try:
        chain = s.contracts.chain(emaid)
    except EvccError as e:
        s.error = e
        raise SessionError("contract", str(e))
    return payment_details_req(emaid, chain), None


def _read_payment_details(s, body: dict, message: dict) -> str:
    s.challenge = body["GenChallenge"]
    if len(s.challenge) != 16:
        raise SessionError("challenge", "%d bytes" % len(s.challenge))
    return "pay"


def _authorization(s) -> tuple:
    if s.asked:  # only the first request carries challenge and signature
        return {}, None
    body = authorization_req(IDENT, s.challenge)
    signed = _signed(s, AUTHORIZATION + "Req", body, s.contract.key)
    s.asked = True
    return body, signed


def _read_authorization(s, body: dict, message: dict) -> str:
    if body["EVSEProcessing"] != "Finished":
        return "ongoing"
    s.tell("authorized", s.contract.emaid)
    return "authorized"


def _session_stop(s) -> tuple:
    return session_stop_req(), None


def _signed(s, name: str, body: dict, key: bytes) -> dict:
    """The `Signature` over the one element of the body, made in the token."""
    part = (body["Id"], name, body)
    return _in_vault(s, lambda: signature.sign([part], lambda digest: s.vault.sign(key, digest)))


def _in_vault(s, fn):
    try:
        return fn()
    except VaultError as e:
        s.error = e
        raise SessionError("vault", str(e))


def _go_on(s, body: dict, message: dict) -> str:
    return "go-on"


class Pair:
    """One request and its response. timeout_ms: for the response; codes: the good ones; build:
    session -> (body, Signature or None); read: (session, body, message) -> outcome."""

    def __init__(self, timeout_ms, build, read=_go_on, codes=("OK",), schema="iso2") -> None:
        self.timeout_ms = timeout_ms
        self.build = build
        self.read = read
        self.codes = codes
        self.schema = schema


START = "START"
CLOSED = "CLOSED"
APP_PROTOCOL = "supportedAppProtocol"
SESSION_SETUP = "SessionSetup"
SERVICE_DISCOVERY = "ServiceDiscovery"
SERVICE_DETAIL = "ServiceDetail"
PAYMENT_SERVICE_SELECTION = "PaymentServiceSelection"
CERTIFICATE_INSTALLATION = "CertificateInstallation"
PAYMENT_DETAILS = "PaymentDetails"
AUTHORIZATION = "Authorization"
SESSION_STOP = "SessionStop"

NEGOTIATED = ("OK_SuccessfulNegotiation", "OK_SuccessfulNegotiationWithMinorDeviation")
NEW_SESSION = ("OK_NewSessionEstablished",)  # we never ask to join an old one
DETAILS_OK = ("OK", "OK_CertificateExpiresSoon")

# V2G_EVCC_Msg_Timeout of ISO 15118-2:2014, 8.7.3 table 109
PAIRS = {
    APP_PROTOCOL: Pair(2000, _app_protocol, codes=NEGOTIATED, schema="sap"),
    SESSION_SETUP: Pair(2000, _session_setup, codes=NEW_SESSION),
    SERVICE_DISCOVERY: Pair(2000, _service_discovery, _read_services),
    SERVICE_DETAIL: Pair(5000, _service_detail, _read_service_detail),
    PAYMENT_SERVICE_SELECTION: Pair(
        2000, _payment_service_selection, _read_payment_service_selection
    ),
    CERTIFICATE_INSTALLATION: Pair(
        5000, _certificate_installation, _read_certificate_installation
    ),
    PAYMENT_DETAILS: Pair(5000, _payment_details, _read_payment_details, DETAILS_OK),
    AUTHORIZATION: Pair(2000, _authorization, _read_authorization),
    SESSION_STOP: Pair(2000, _session_stop),
}

# (pair just answered, what came of it) -> the next one. Every transition there is; what is not
# here ends in CLOSED.
NEXT = {
    (START, "start"): APP_PROTOCOL,
    (APP_PROTOCOL, "go-on"): SESSION_SETUP,
    (SESSION_SETUP, "go-on"): SERVICE_DISCOVERY,
    (SERVICE_DISCOVERY, "install"): SERVICE_DETAIL,
    (SERVICE_DISCOVERY, "pay"): PAYMENT_SERVICE_SELECTION,
    (SERVICE_DISCOVERY, "unable"): SESSION_STOP,
    (SERVICE_DETAIL, "install"): PAYMENT_SERVICE_SELECTION,
    (SERVICE_DETAIL, "pay"): PAYMENT_SERVICE_SELECTION,
    (SERVICE_DETAIL, "unable"): SESSION_STOP,
    (PAYMENT_SERVICE_SELECTION, "install"): CERTIFICATE_INSTALLATION,
    (PAYMENT_SERVICE_SELECTION, "pay"): PAYMENT_DETAILS,
    (PAYMENT_SERVICE_SELECTION, "unable"): SESSION_STOP,
    (CERTIFICATE_INSTALLATION, "pay"): PAYMENT_DETAILS,
    (CERTIFICATE_INSTALLATION, "rejected"): SESSION_STOP,
    (CERTIFICATE_INSTALLATION, "unable"): SESSION_STOP,
    (PAYMENT_DETAILS, "pay"): AUTHORIZATION,
    (PAYMENT_DETAILS, "unable"): SESSION_STOP,
    (AUTHORIZATION, "ongoing"): AUTHORIZATION,
    (AUTHORIZATION, "authorized"): SESSION_STOP,  # ChargeParameterDiscovery will go here
    (SESSION_STOP, "go-on"): CLOSED,
}
