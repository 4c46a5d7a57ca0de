"""The station's half of an ISO 15118-2 session: handlers and tables; one `Secc` per connection.

ISO 15118-2:2014, 8.8.3 seen from the SECC. `ALLOWED` says which request each state accepts and
which handler answers it, `NEXT` what follows. Only fetching a contract takes time: it is an event,
and the owner of the session hands the operator's answer to `fetched`.
"""

import os
from collections.abc import Callable, Iterable

from evcc import exi, ids
from evcc.iso15118_2 import messages
from evcc.x509 import Certificate
from plugvault.contract.iso15118_2.response import ResponseError, with_session_id
from plugvault.station.engine import (
    APP_PROTOCOL,
    CLOSED,
    FETCHING,
    SEQUENCE_TIMEOUT_MS,
    SESSION_SETUP,
    Body,
    Handler,
    Refusal,
    SeccEngine,
    Signature,
)
from plugvault.station.events import Authorized, Step
from plugvault.station.iso15118_2 import answers, payment
from plugvault.station.iso15118_2.answers import Offer


class Secc(SeccEngine):
    """Feed `receive`, `fetched` and `timeout`; each returns (frames to send, events)."""

    def __init__(
        self,
        offer: Offer,
        anchors: Iterable[bytes],
        clock: Callable[[], float],
        now_ms: int,
        random: Callable[[int], bytes] = os.urandom,
        sequence_timeout_ms: int = SEQUENCE_TIMEOUT_MS,
        secure: bool = False,
        insecure_contract: bool = False,
    ) -> None:
        """anchors: DER of the MO and V2G roots that contracts may lead to. clock: unix seconds.
        now_ms: steady milliseconds, as in every call. random: n -> n unpredictable bytes.
        secure: the connection is TLS. insecure_contract: offer payment by contract and the
        certificate service without TLS too."""
        super().__init__(messages, answers.refusal, ALLOWED, NEXT, now_ms, sequence_timeout_ms)
        self.offer = offer if secure or insecure_contract else answers.without_contract(offer)
        self.anchors = tuple(anchors)
        self.clock = clock
        self.random = random
        self.services: list[int] = []  # that the vehicle selected
        self.contract: Certificate  # of the last good PaymentDetailsReq
        self.challenge = b""

    def fetched(self, response: bytes | None, now_ms: int) -> Step:
        """The operator's answer to `Fetch`, EXI; None when there was none in time.

        The vehicle gets it with another SessionID, which no signature covers.
        """
        if self.state != FETCHING:
            return [], []
        self.state = CONTRACT
        try:
            if response is None:
                raise Refusal("FAILED", "no answer from the operator")
            code, relayed = _relay(response, self.session_id)
        except Refusal as refusal:
            return self.step(self.refuse("CertificateInstallation", refusal, now_ms))
        self.state = NEXT[CONTRACT, "installed"]
        frames = self.send("CertificateInstallationRes", relayed, now_ms)
        if code != "OK":
            self.close("the operator answered " + code)
        return self.step(frames)


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


Answer = tuple[Body, str]


def _negotiate(secc: Secc, body: Body, _: Signature) -> Answer:
    response = answers.supported_app_protocol(body)
    agreed = "SchemaID" in response
    return response, "agreed" if agreed else "no common protocol"


def _set_up(secc: Secc, body: Body, _: Signature) -> Answer:
    """Always a new session: this station never pauses one."""
    secc.session_id = secc.random(8)
    return answers.session_setup(secc.offer, int(secc.clock())), "set up"


def _discover(secc: Secc, body: Body, _: Signature) -> Answer:
    return answers.service_discovery(secc.offer), "discovered"


def _detail(secc: Secc, body: Body, _: Signature) -> Answer:
    if not secc.offer.certificate_service or body["ServiceID"] != messages.CERTIFICATE_SERVICE:
        raise Refusal("FAILED_ServiceIDInvalid", f"service {body['ServiceID']}")
    return answers.service_detail(), "detailed"


def _select(secc: Secc, body: Body, _: Signature) -> Answer:
    option = body["SelectedPaymentOption"]
    if option not in secc.offer.payment:
        raise Refusal("FAILED_PaymentSelectionInvalid", option)
    selected = [service["ServiceID"] for service in body["SelectedServiceList"]["SelectedService"]]
    if answers.CHARGE_SERVICE not in selected:
        raise Refusal("FAILED_NoChargeServiceSelected", str(selected))
    offered = {answers.CHARGE_SERVICE}
    if secc.offer.certificate_service:
        offered.add(messages.CERTIFICATE_SERVICE)
    if not offered.issuperset(selected):
        raise Refusal("FAILED_ServiceSelectionInvalid", str(selected))
    secc.services = selected
    return answers.ok(), option


def _install(secc: Secc, body: Body, _: Signature) -> tuple[None, str]:
    if messages.CERTIFICATE_SERVICE not in secc.services:
        raise Refusal("FAILED_SequenceError", "the certificate service was not selected")
    return None, "fetch"


def _challenge(secc: Secc, body: Body, _: Signature) -> Answer:
    secc.contract = payment.check_contract(body, secc.anchors, secc.clock())
    secc.challenge = secc.random(16)
    return answers.payment_details(secc.challenge, int(secc.clock())), "challenged"


def _authorize(secc: Secc, body: Body, signature: Signature) -> Answer:
    challenge, secc.challenge = secc.challenge, b""
    payment.check_authorization(body, signature, challenge, secc.contract.point)
    record = Authorized(
        ids.parse_emaid(secc.contract.names["CN"]),
        secc.session_id,
        secc.offer.evseid,
        int(secc.clock()),
        secc.contract.serial,
    )
    secc.emit(record)
    return answers.authorization(), "authorized"


def _authorize_external(secc: Secc, body: Body, _: Signature) -> Answer:
    """Paid at the terminal: no signature to check and no EMAID to bill."""
    return answers.authorization(), "authorized"


def _stop(secc: Secc, body: Body, _: Signature) -> Answer:
    return answers.ok(), "stop"


DISCOVERY = "service discovery"
SELECTION = "payment selection"
CONTRACT = "contract"
DETAILS = "payment details"
AUTHORIZATION = "authorization"
EXTERNAL = "external authorization"
AUTHORIZED = "authorized"

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
        "PaymentDetailsReq": _challenge,
        "SessionStopReq": _stop,
    },
    DETAILS: {"PaymentDetailsReq": _challenge, "SessionStopReq": _stop},
    AUTHORIZATION: {"AuthorizationReq": _authorize, "SessionStopReq": _stop},
    EXTERNAL: {"AuthorizationReq": _authorize_external, "SessionStopReq": _stop},
    AUTHORIZED: {"SessionStopReq": _stop},  # ChargeParameterDiscoveryReq will go here
}

# (state, outcome of the request) -> next state
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
