"""The station's half of an ISO 15118-2 session: handlers and tables; one `Secc` per connection.

ISO 15118-2:2014, 8.8.3 seen from the SECC. `ALLOWED` says which request each state accepts and
which handler answers it, `NEXT` what follows; the handlers of the charge are in `charging`. Only
fetching a contract takes time: it is an event, and the owner of the session passes the operator's
answer to `fetched`.
"""

import os
from collections.abc import Callable, Iterable

from evcc import exi, ids, protocols
from evcc.iso15118_2 import messages
from evcc.iso15118_2.response_codes import allowed as allowed_codes
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
from plugvault.station.events import Authorized, Paused, Step
from plugvault.station.faults import Faults
from plugvault.station.iso15118_2 import answers, charging, paused, payment
from plugvault.station.iso15118_2.answers import Offer
from plugvault.station.iso15118_2.charging import Delivery


class Secc(SeccEngine):
    """A session of ISO 15118-2. `receive`, `fetched` and `timeout` return (frames to send,
    events)."""

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
        """anchors: DER of the MO and V2G roots that contracts may lead to. clock: Unix seconds.
        now_ms: milliseconds of a monotonic clock, as in every call. random: n -> n unpredictable
        bytes. secure: the connection is TLS. insecure_contract: offer payment by contract and the
        certificate service without TLS too.

        `paused`: the sessions that may be joined again; the owner shares it among connections.
        """
        super().__init__(messages, ALLOWED, NEXT, now_ms, sequence_timeout_ms)
        self.offer = offer if secure or insecure_contract else answers.without_contract(offer)
        self.anchors = tuple(anchors)
        self.clock = clock
        self.random = random
        self.services: list[int] = []  # that the vehicle selected
        self.contract: Certificate  # of the last good PaymentDetailsReq
        self.challenge = b""
        self.paused = paused.PausedSessions()
        self.joined: paused.Paused | None = None  # the paused session that continues
        self.evccid = b""
        self.emaid = ""  # of the contract that is authorized
        self.delivery: Delivery | None = None  # the charge, from its parameters on
        self.faults: Faults | None = None  # of this session, in place of the station's

    @property
    def resumed(self) -> str | None:
        """The energy transfer mode of the paused session that continues; None for a new
        session."""
        return None if self.joined is None else self.joined.mode

    def negative(self, pair: str, code: str, request: Body) -> Body | None:
        kind = charging.AC if self.delivery is None else self.delivery.kind
        return answers.negative(pair, code, request, self.offer, kind)

    def fetched(self, response: bytes | None, now_ms: int) -> Step:
        """Pass on the operator's answer to `Fetch`, EXI; None when there was none in time.

        The vehicle gets it with another SessionID, which no signature covers.
        """
        if self.state != FETCHING:
            return [], []
        pair, self.fetching = self.fetching, ""
        self.state = CONTRACT
        try:
            if response is None:
                raise Refusal("FAILED", "no answer from the operator")
            relayed = _relay(response, pair, self.session_id)
        except Refusal as refusal:
            return self.step(self.refuse(pair, refusal, {}, now_ms))
        self.state = NEXT[CONTRACT, "installed"]
        return self.step(self.send(pair + "Res", relayed, now_ms))


def _relay(response: bytes, pair: str, session_id: bytes) -> bytes:
    """The operator's positive answer, EXI, in this session. Raises Refusal.

    A negative one becomes the station's own: the published form of the pools is not valid by the
    schema, and its dummies tell the vehicle nothing.
    """
    try:
        relayed = with_session_id(response, session_id)
        _, name, body, _ = messages.opened(exi.decode(relayed))
    except (exi.ExiError, ResponseError) as error:
        raise Refusal("FAILED", f"the operator's answer: {error}") from error
    if name != pair + "Res":
        raise Refusal("FAILED", f"the operator answered with {name or 'nothing'}")
    code = body["ResponseCode"]
    if code != "OK":
        known = code if code in allowed_codes(pair) else "FAILED"
        elements = {name: body[name] for name in ("RetryCounter",) if name in body}
        raise Refusal(known, "the operator answered " + code, elements)
    return relayed


Answer = tuple[Body, str]


def _negotiate(secc: Secc, body: Body, _: Signature) -> Answer:
    response = answers.supported_app_protocol(body)
    if "SchemaID" not in response:
        offered = [_protocol_name(offer) for offer in body["AppProtocol"]]
        secc.detail = "the vehicle offers " + ", ".join(offered)
        return response, NO_PROTOCOL
    return response, "agreed"


def _protocol_name(offer: Body) -> str:
    namespace = offer["ProtocolNamespace"]
    name = protocols.of_namespace(namespace)
    if name == protocols.ISO2:
        return f"{name} version {offer['VersionNumberMajor']}"
    return name if name == namespace else f"{name}: {protocols.LATER}"


def _set_up(secc: Secc, body: Body, _: Signature) -> Answer:
    """An old session, if it is this vehicle's and was paused here; else a new one."""
    secc.evccid = body["EVCCID"]
    secc.joined = secc.paused.find(secc.asked_id, secc.evccid, secc.clock())
    secc.session_id = secc.asked_id if secc.joined else secc.random(8)
    is_old = secc.joined is not None
    return answers.session_setup(secc.offer, int(secc.clock()), is_old), "set up"


def _discover(secc: Secc, body: Body, _: Signature) -> Answer:
    return answers.service_discovery(secc.offer), "discovered"


def _detail(secc: Secc, body: Body, _: Signature) -> Answer:
    if not secc.offer.certificate_service or body["ServiceID"] != messages.CERTIFICATE_SERVICE:
        raise Refusal("FAILED_ServiceIDInvalid", f"service {body['ServiceID']}")
    return answers.service_detail(secc.offer), "detailed"


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
    if secc.joined is not None and (option == answers.CONTRACT) != (secc.joined.emaid != ""):
        raise Refusal("FAILED_PaymentSelectionInvalid", option + ", not as before the pause")
    secc.services = selected
    return answers.ok(), option


def _install(secc: Secc, body: Body, _: Signature) -> tuple[None, str]:
    if messages.CERTIFICATE_SERVICE not in secc.services:
        raise Refusal("FAILED_SequenceError", "the certificate service was not selected")
    return None, "fetch"


def _update(secc: Secc, body: Body, signature: Signature) -> tuple[None, str]:
    if not secc.offer.certificate_update:
        raise Refusal("FAILED_SequenceError", "the update of a contract is not offered")
    return _install(secc, body, signature)


def _challenge(secc: Secc, body: Body, _: Signature) -> Answer:
    secc.contract = payment.check_contract(body, secc.anchors, secc.clock())
    emaid = ids.parse_emaid(secc.contract.names["CN"])
    if secc.joined is not None and secc.joined.emaid != emaid:
        code = "FAILED_CertificateNotAllowedAtThisEVSE"
        raise Refusal(code, f"{emaid}, and {secc.joined.emaid} before the pause")
    secc.challenge = secc.random(16)
    return answers.payment_details(secc.challenge, int(secc.clock())), "challenged"


def _authorize(secc: Secc, body: Body, signature: Signature) -> Answer:
    challenge, secc.challenge = secc.challenge, b""
    payment.check_authorization(body, signature, challenge, secc.contract.point)
    secc.emaid = ids.parse_emaid(secc.contract.names["CN"])
    secc.paused.forget(secc.session_id)
    record = Authorized(
        secc.emaid,
        secc.session_id,
        secc.offer.evseid,
        int(secc.clock()),
        secc.contract.serial,
    )
    secc.emit(record)
    return answers.authorization(), "authorized"


def _authorize_external(secc: Secc, body: Body, _: Signature) -> Answer:
    """Paid at the terminal: no signature to check and no EMAID to bill."""
    secc.paused.forget(secc.session_id)
    return answers.authorization(), "authorized"


def _stop(secc: Secc, body: Body, _: Signature) -> Answer:
    return answers.ok(), "stop"


def _stop_or_pause(secc: Secc, body: Body, _: Signature) -> Answer:
    """End or pause a session after a charge. Only a session with a charge can be continued."""
    delivery = secc.delivery
    if body["ChargingSession"] == "Pause" and delivery is not None:
        session = (secc.session_id, secc.evccid, secc.emaid, delivery.mode)
        secc.paused.remember(*session, secc.clock())
        secc.emit(Paused(secc.session_id))
    return answers.ok(), "stop"


DISCOVERY = "service discovery"
SELECTION = "payment selection"
CONTRACT = "contract"
DETAILS = "payment details"
AUTHORIZATION = "authorization"
EXTERNAL = "external authorization"
AUTHORIZED = "authorized"
CABLE_CHECK = "cable check"
PRECHARGE = "precharge"
PRECHARGED = "precharged"
READY = "power delivery"  # the contactors are open
AC_CHARGE, DC_CHARGE = "AC charge", "DC charge"
AC_RECEIPT, DC_RECEIPT = "AC receipt", "DC receipt"
WELDING = "welding detection"
STOPPED = "stopped"
NO_PROTOCOL = "no common protocol"

ALLOWED: dict[str, dict[str, Handler]] = {
    APP_PROTOCOL: {"supportedAppProtocolReq": _negotiate},
    SESSION_SETUP: {"SessionSetupReq": _set_up},
    DISCOVERY: {"ServiceDiscoveryReq": _discover, "SessionStopReq": _stop},
    SELECTION: {
        "PaymentServiceSelectionReq": _select,
        "ServiceDetailReq": _detail,
        "SessionStopReq": _stop,
    },
    CONTRACT: {
        "PaymentDetailsReq": _challenge,
        "CertificateInstallationReq": _install,
        "CertificateUpdateReq": _update,
        "SessionStopReq": _stop,
    },
    DETAILS: {"PaymentDetailsReq": _challenge, "SessionStopReq": _stop},
    AUTHORIZATION: {"AuthorizationReq": _authorize, "SessionStopReq": _stop},
    EXTERNAL: {"AuthorizationReq": _authorize_external, "SessionStopReq": _stop},
    AUTHORIZED: {
        "ChargeParameterDiscoveryReq": charging.discover_parameters,
        "SessionStopReq": _stop,
    },
    CABLE_CHECK: {
        "CableCheckReq": charging.check_cable,
        "PowerDeliveryReq": charging.stop_delivery,
        "SessionStopReq": _stop,
    },
    PRECHARGE: {
        "PreChargeReq": charging.precharge,
        "PowerDeliveryReq": charging.stop_delivery,
        "SessionStopReq": _stop,
    },
    PRECHARGED: {
        "PowerDeliveryReq": charging.deliver,
        "PreChargeReq": charging.precharge,
        "SessionStopReq": _stop,
    },
    READY: {
        "PowerDeliveryReq": charging.deliver,
        "ChargeParameterDiscoveryReq": charging.discover_parameters,
        "SessionStopReq": _stop,
    },
    AC_CHARGE: {
        "ChargingStatusReq": charging.charging_status,
        "PowerDeliveryReq": charging.change_delivery,
    },
    DC_CHARGE: {
        "CurrentDemandReq": charging.demand_current,
        "PowerDeliveryReq": charging.change_delivery,
    },
    AC_RECEIPT: {"MeteringReceiptReq": charging.take_receipt},
    DC_RECEIPT: {"MeteringReceiptReq": charging.take_receipt},
    WELDING: {
        "WeldingDetectionReq": charging.detect_welding,
        "SessionStopReq": _stop_or_pause,
    },
    STOPPED: {"SessionStopReq": _stop_or_pause},
}

# (state, outcome of the request) -> next state
NEXT: dict[tuple[str, str], str] = {
    (APP_PROTOCOL, "agreed"): SESSION_SETUP,
    (APP_PROTOCOL, NO_PROTOCOL): CLOSED,
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
    (AUTHORIZED, "ongoing"): AUTHORIZED,
    (AUTHORIZED, "ac"): READY,
    (AUTHORIZED, "dc"): CABLE_CHECK,
    (CABLE_CHECK, "ongoing"): CABLE_CHECK,
    (CABLE_CHECK, "checked"): PRECHARGE,
    (CABLE_CHECK, "stop dc"): WELDING,
    (PRECHARGE, "precharged"): PRECHARGED,
    (PRECHARGE, "stop dc"): WELDING,
    (PRECHARGED, "precharged"): PRECHARGED,
    (PRECHARGED, "start dc"): DC_CHARGE,
    (PRECHARGED, "stop dc"): WELDING,
    (READY, "ongoing"): AUTHORIZED,
    (READY, "ac"): READY,
    (READY, "dc"): CABLE_CHECK,
    (READY, "start ac"): AC_CHARGE,
    (READY, "stop ac"): STOPPED,
    (AC_CHARGE, "status"): AC_CHARGE,
    (AC_CHARGE, "receipt ac"): AC_RECEIPT,
    (AC_CHARGE, "renegotiate"): AUTHORIZED,
    (AC_CHARGE, "stop ac"): STOPPED,
    (AC_RECEIPT, "start ac"): AC_CHARGE,
    (DC_CHARGE, "status"): DC_CHARGE,
    (DC_CHARGE, "receipt dc"): DC_RECEIPT,
    (DC_CHARGE, "renegotiate"): AUTHORIZED,
    (DC_CHARGE, "stop dc"): WELDING,
    (DC_RECEIPT, "start dc"): DC_CHARGE,
    (WELDING, "detected"): WELDING,
    **{
        (state, "stop"): CLOSED
        for state, allowed in ALLOWED.items()
        if "SessionStopReq" in allowed
    },
}
