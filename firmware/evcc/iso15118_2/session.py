"""A charging session of ISO 15118-2 from the car's side.

ISO 15118-2:2014, 8.8.3: `PAIRS` and `NEXT` are the tables of `session_engine.SessionEngine`, up to
the authorization and from the end of the charge. The rows of the charge itself are in `charging`.

The reason of a rejected installation stays in the car: on the wire every rejection is the same
SessionStopReq.
"""

from collections import namedtuple

from evcc import signature
from evcc.errors import EvccError, reason_of
from evcc.session_engine import (
    APP_PROTOCOL,
    CLOSED,
    SESSION_SETUP,
    START,
    Pair,
    SessionEngine,
    SessionError,
    UsageError,
)
from evcc.vault import PROVISIONING

from . import messages

INSTALLATION = "Installation"
SIGNED_ID = "id1"  # Id of the one signed element of a request

# The values of a paused session with which a later session resumes it.
Paused = namedtuple("Paused", ("session_id", "evccid", "emaid", "mode"))


class Session(SessionEngine):
    """One session: see `SessionEngine`."""

    def __init__(
        self,
        car,
        want_contract: bool = False,
        emaid=None,
        installer=None,
        evccid=None,
        secure: bool = False,
        insecure_contract: bool = False,
        charge=None,
    ) -> None:
        """car: `evcc.car.CarContext`.

        want_contract: request a contract even if there is one. emaid: the contract to pay with;
        None: the installed one, else the active one.
        installer: (CertificateInstallationRes, decoded, session id) -> Contract, raises EvccError;
        None: never request one. evccid: 6 bytes; None: random, so that the car cannot be tracked.
        secure: the connection is TLS. insecure_contract: use a contract without TLS too; an
        attacker on the line can then read it and change the messages. charge: the wishes of
        `charging.Charge`; None: the session stops after authorization. `paused`: a `Paused` after
        the event "paused".

        Raises: UsageError("charge").
        """
        SessionEngine.__init__(self, messages, PAIRS, NEXT)
        self.charge = None
        if charge is not None:
            from . import charging

            self.charge = charging.Charge(charge)
            self.add_rows(charging.PAIRS, charging.NEXT)
        self.paused = None
        self._resumes = None  # the id of the session to be resumed
        self.car = car
        self.installer = installer
        self.evccid = evccid
        self.emaid = emaid
        self.allows_contract = secure or insecure_contract
        self.response = None  # the CertificateInstallationRes that is due
        self.knows_time = bool(car.time.source())
        try:
            self.contract = car.contracts.usable(car.time.now(), emaid, self.knows_time)
        except EvccError:
            self.contract = None
        self.wants_contract = want_contract or (self.contract is None and emaid is None)
        self.service = INSTALLATION  # of the certificate services the one that is wanted
        self.services: list = []  # selected at this station: [(ServiceID, ParameterSetID or None)]
        self.challenge = b""
        self.authorization_sent = False  # the challenge of this session is answered

    def resume(self, paused) -> None:
        """Go on with a `Paused` session: with its id, EVCCID, contract and energy transfer mode.

        The station may begin a new session instead. Call it before `start`.
        Raises: UsageError("resume") if this session cannot be the same.
        """
        if self.state != START or self.charge is None or paused is None:
            raise UsageError("resume", "a paused session, before the start of a charge")
        if self.contract is None or self.contract.emaid != paused.emaid:
            raise UsageError("resume", paused.emaid + " is not the contract")
        self.session_id = self._resumes = paused.session_id
        self.evccid = paused.evccid
        self.charge.wishes["mode"] = paused.mode
        self.wants_contract = False

    def carry_out(self, now_ms: int) -> tuple:
        """As `SessionEngine.carry_out`; the installation is a step of its own, because it takes
        the most stack."""
        if self.response is None:
            return self._step(self._handle, now_ms) if self.due else ([], [])
        response, self.response = self.response, None
        contract = None
        try:
            contract = self.installer(response, self.session_id)  # pyright: ignore[reportOptionalCall]
        except Exception as e:
            if reason_of(e) == "internal":
                raise
            self.error = e
        self._outcome = _installed(self, contract)
        return self._step(self._continue, now_ms)

    def _continue(self, now_ms: int) -> list:
        return self._proceed(self._outcome, now_ms)


def _build_app_protocol(session) -> tuple:
    return messages.supported_app_protocol_req(), None


def _build_session_setup(session) -> tuple:
    if session.evccid is None:
        address = session.car.vault.random(6)
        session.evccid = bytes([address[0] & 0xFC | 2]) + address[1:]  # a local one, IEEE 802
    return messages.session_setup_req(session.evccid), None


def _read_session_setup(session, body: dict, message: dict) -> str:
    is_old = session.session_id == session._resumes
    if is_old != (body["ResponseCode"] == OLD_SESSION):
        raise SessionError("session-id", body["ResponseCode"])
    if is_old:
        session.emit("resumed")
    return "done"


def _build_service_discovery(session) -> tuple:
    return messages.service_discovery_req(), None


def _read_service_discovery(session, body: dict, message: dict) -> str:
    if not session.allows_contract:
        raise SessionError("insecure", "a contract is used over TLS only")
    if "Contract" not in body["PaymentOptionList"]["PaymentOption"]:
        raise SessionError("no-contract-payment")
    service = body["ChargeService"]
    if session.charge is not None:
        session.charge.agree(service["SupportedEnergyTransferMode"]["EnergyTransferMode"])
    session.services = [(service["ServiceID"], None)]
    offered = messages.CERTIFICATE_SERVICE in messages.services(body)
    if session.wants_contract and session.installer is not None and offered:
        if session.knows_time:
            return "install"
        return _pay_with_stored_contract(session, "clock")
    return _pay_with_stored_contract(session)


def _build_service_detail(session) -> tuple:
    return messages.service_detail_req(messages.CERTIFICATE_SERVICE), None


def _read_service_detail(session, body: dict, message: dict) -> str:
    parameter_set = messages.parameter_set(body, session.service)
    if parameter_set is None:
        return _pay_with_stored_contract(session)
    session.services.append((messages.CERTIFICATE_SERVICE, parameter_set))
    return "install"


def _pay_with_stored_contract(session, why: str = "") -> str:
    """No contract is installed here: the outcome with the one that is stored. why: "clock", or ""
    where the station installs none."""
    if session.contract is None:
        raise SessionError(why or "no-contract")
    if session.wants_contract:
        session.emit("unavailable", why or "no certificate service: " + session.service)
        session.wants_contract = False
    return "pay"


def _build_payment_selection(session) -> tuple:
    return messages.payment_service_selection_req("Contract", session.services), None


def _read_payment_selection(session, body: dict, message: dict) -> str:
    return session.service if session.wants_contract else "pay"


def _build_installation(session) -> tuple:
    certificate = session.car.identity.certificate
    if certificate is None:
        raise SessionError("not-provisioned")
    roots = session.car.trust.anchors("V2G")
    if not roots:
        raise SessionError("no-anchor")
    session.car.contracts.envelopes.reserve()  # before the answer takes a board's heap
    body = messages.certificate_installation_req(SIGNED_ID, certificate, roots)
    return body, sign(session, CERTIFICATE_INSTALLATION + "Req", body, PROVISIONING)


def _read_installation(session, body: dict, message: dict) -> str:
    session.response = message
    return "due"


def _installed(session, contract) -> str:
    """The outcome of an installation. contract: None after a rejection."""
    if contract is None:
        error = session.error
        session.emit("rejected", error.reason if isinstance(error, EvccError) else "resources")
        return "rejected"
    session.emit("installed", contract.emaid)
    if session.emaid in (None, contract.emaid) or session.contract is None:
        session.contract = contract
    return "pay"


def build_payment_details(session) -> tuple:
    """The PaymentDetailsReq with the session's contract: (body, None).

    Raises: SessionError("contract") where the contract is gone or its chain is damaged.
    """
    contracts, emaid = session.car.contracts, session.contract.emaid
    try:
        session.contract = contracts.hold(emaid)  # the maker may have renewed it since
        chain = contracts.chain(emaid)
    except EvccError as e:
        session.error = e
        raise SessionError("contract", str(e))
    return messages.payment_details_req(emaid, chain), None


def _read_payment_details(session, body: dict, message: dict) -> str:
    session.challenge = body["GenChallenge"]
    if len(session.challenge) != 16:
        raise SessionError("challenge", "%d bytes" % len(session.challenge))
    return "pay"


def _build_authorization(session) -> tuple:
    if session.authorization_sent:  # only the first request carries challenge and signature
        return {}, None
    body = messages.authorization_req(SIGNED_ID, session.challenge)
    signed = sign(session, AUTHORIZATION + "Req", body, session.contract.key)
    session.authorization_sent = True
    return body, signed


def _read_authorization(session, body: dict, message: dict) -> str:
    if body["EVSEProcessing"] != "Finished":
        return "ongoing"
    session.emit("authorized", session.contract.emaid)
    return "authorized" if session.charge is None else "charge"


def _pauses(session) -> bool:
    """Whether the session ends with a pause: only after a charge without an error."""
    charge = session.charge
    return session.error is None and charge is not None and charge.wishes["pause"]


def _build_session_stop(session) -> tuple:
    return messages.session_stop_req(_pauses(session)), None


def _read_session_stop(session, body: dict, message: dict) -> str:
    if _pauses(session):
        emaid = session.contract.emaid
        session.paused = Paused(session.session_id, session.evccid, emaid, session.charge.mode)
        session.emit("paused")
    return "done"


def sign(session, name: str, body: dict, key: bytes) -> dict:
    """The `Signature` over the body element `name`, made in the vault with `key`.

    body: has an "Id". Raises: VaultError.
    """
    parts = [(body["Id"], name, body)]
    vault = session.car.vault
    return signature.sign(parts, lambda digest: vault.sign(key, digest))


SERVICE_DISCOVERY = "ServiceDiscovery"
SERVICE_DETAIL = "ServiceDetail"
PAYMENT_SERVICE_SELECTION = "PaymentServiceSelection"
CERTIFICATE_INSTALLATION = "CertificateInstallation"
PAYMENT_DETAILS = "PaymentDetails"
AUTHORIZATION = "Authorization"
SESSION_STOP = "SessionStop"

NEGOTIATED = ("OK_SuccessfulNegotiation", "OK_SuccessfulNegotiationWithMinorDeviation")
OLD_SESSION = "OK_OldSessionJoined"
DETAILS_OK = ("OK", "OK_CertificateExpiresSoon")

# V2G_EVCC_Msg_Timeout of ISO 15118-2:2014, 8.7.3 table 109
PAIRS = {
    APP_PROTOCOL: Pair(2000, _build_app_protocol, codes=NEGOTIATED),
    SESSION_SETUP: Pair(
        2000, _build_session_setup, _read_session_setup, ("OK_NewSessionEstablished", OLD_SESSION)
    ),
    SERVICE_DISCOVERY: Pair(2000, _build_service_discovery, _read_service_discovery),
    SERVICE_DETAIL: Pair(5000, _build_service_detail, _read_service_detail),
    PAYMENT_SERVICE_SELECTION: Pair(2000, _build_payment_selection, _read_payment_selection),
    CERTIFICATE_INSTALLATION: Pair(5000, _build_installation, _read_installation),
    PAYMENT_DETAILS: Pair(5000, build_payment_details, _read_payment_details, DETAILS_OK),
    AUTHORIZATION: Pair(2000, _build_authorization, _read_authorization),
    SESSION_STOP: Pair(2000, _build_session_stop, _read_session_stop),
}

# (pair just answered, outcome) -> the next pair. A failure without a row ends in CLOSED.
NEXT = {
    (START, "start"): APP_PROTOCOL,
    (APP_PROTOCOL, "done"): SESSION_SETUP,
    (SESSION_SETUP, "done"): SERVICE_DISCOVERY,
    (SERVICE_DISCOVERY, "install"): SERVICE_DETAIL,
    (SERVICE_DISCOVERY, "pay"): PAYMENT_SERVICE_SELECTION,
    (SERVICE_DISCOVERY, "unable"): SESSION_STOP,
    (SERVICE_DETAIL, "install"): PAYMENT_SERVICE_SELECTION,
    (SERVICE_DETAIL, "pay"): PAYMENT_SERVICE_SELECTION,
    (SERVICE_DETAIL, "unable"): SESSION_STOP,
    (PAYMENT_SERVICE_SELECTION, INSTALLATION): CERTIFICATE_INSTALLATION,
    (PAYMENT_SERVICE_SELECTION, "pay"): PAYMENT_DETAILS,
    (PAYMENT_SERVICE_SELECTION, "unable"): SESSION_STOP,
    (CERTIFICATE_INSTALLATION, "pay"): PAYMENT_DETAILS,
    (CERTIFICATE_INSTALLATION, "rejected"): SESSION_STOP,
    (CERTIFICATE_INSTALLATION, "unable"): SESSION_STOP,
    (PAYMENT_DETAILS, "pay"): AUTHORIZATION,
    (PAYMENT_DETAILS, "unable"): SESSION_STOP,
    (AUTHORIZATION, "authorized"): SESSION_STOP,
    (SESSION_STOP, "done"): CLOSED,
}
