"""The rules of ISO 15118-2 for a whole session: order, pairs, times, response codes.

Times are those of the capture: a capture at the station sees the car's time plus the line's.
Sources: 8.7.3 table 109 (times of the messages), 8.8.4 (order).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from evcc.iso15118_2 import charging, session
from evcc.iso15118_2.response_codes import RESPONSE_CODES
from plugvault.inspection.report import Report, listed

SEQUENCE_MS = 60_000  # V2G_SECC_Sequence_Timeout: how long the car may be silent
SETUP_MS = 20_000  # V2G_EVCC_CommunicationSetup_Timeout: up to SessionSetupRes
_SHOWN = 5  # violations of one rule that are named

_START = "supportedAppProtocol"
_CHARGING = ("PowerDelivery", "MeteringReceipt")
# Request: the requests that may follow its response. SessionStopReq may follow most of them.
_FOLLOWING: dict[str, tuple[str, ...]] = {
    "": (_START,),
    _START: ("SessionSetup",),
    "SessionSetup": ("ServiceDiscovery",),
    "ServiceDiscovery": ("ServiceDetail", "PaymentServiceSelection"),
    "ServiceDetail": ("ServiceDetail", "PaymentServiceSelection"),
    "PaymentServiceSelection": (
        "CertificateInstallation",
        "CertificateUpdate",
        "PaymentDetails",
        "Authorization",
    ),
    "CertificateInstallation": ("PaymentDetails",),
    "CertificateUpdate": ("PaymentDetails",),
    "PaymentDetails": ("Authorization",),
    "Authorization": ("Authorization", "ChargeParameterDiscovery"),
    "ChargeParameterDiscovery": ("ChargeParameterDiscovery", "CableCheck", "PowerDelivery"),
    "CableCheck": ("CableCheck", "PreCharge"),
    "PreCharge": ("PreCharge", "PowerDelivery"),
    "PowerDelivery": (
        "ChargingStatus",
        "CurrentDemand",
        "ChargeParameterDiscovery",
        "WeldingDetection",
        "PowerDelivery",
    ),
    "ChargingStatus": ("ChargingStatus", *_CHARGING),
    "CurrentDemand": ("CurrentDemand", *_CHARGING),
    "MeteringReceipt": ("ChargingStatus", "CurrentDemand", "PowerDelivery"),
    "WeldingDetection": ("WeldingDetection",),
    "SessionStop": (),
}
_NO_STOP = ("", _START, "SessionStop")  # there is no session that could be stopped
_PAIRS = {**session.PAIRS, **charging.PAIRS}  # the car's own rows: times of each message pair
_UPDATE_MS = 5000  # of CertificateUpdate, which this car does not ask for


@dataclass(frozen=True)
class Told:
    """A message that was read. number: its place in the session, from 1. time: milliseconds since
    the beginning of the session. session_id: None for SupportedAppProtocol."""

    number: int
    time: float
    by_car: bool
    name: str
    body: dict[str, Any]
    session_id: bytes | None

    @property
    def pair(self) -> str:
        """The name without Req or Res."""
        return self.name[:-3] if self.name.endswith(("Req", "Res")) else self.name

    @property
    def is_request(self) -> bool:
        """Whether the message is a request."""
        return self.name.endswith("Req")

    def __str__(self) -> str:
        return f"{self.number} {self.name}"


def check_session(report: Report, told: list[Told], *, is_whole: bool, has_tls: bool) -> None:
    """Check every rule for the messages of one session. is_whole: whether the capture has its
    beginning."""
    requests = [message for message in told if message.is_request]
    if not requests:
        return
    _add(report, "each message is of the right end", _wrong_ends(told))
    _add(report, "each request has its response", _wrong_pairs(told))
    _add(report, "order of the requests", _wrong_order(requests, is_whole))
    _add(report, "response codes", _refusals(told))
    _add(report, "each response code is one of its message", _wrong_codes(told))
    _add(report, "one session, one SessionID", _wrong_session_ids(told))
    _add(report, "responses in time", _late_responses(told))
    _add(report, f"requests within {SEQUENCE_MS // 1000} s", _late_requests(told))
    _add(report, "no response is Ongoing for too long", _ongoing(told))
    if is_whole:
        _check_setup(report, told)
    _check_payment(report, told, has_tls)
    last = requests[-1].pair
    report.add(
        "ends with SessionStop",
        True if last == "SessionStop" else None,
        "" if last == "SessionStop" else f"its last request is {requests[-1]}",
    )


def _add(report: Report, name: str, violations: Iterator[str]) -> None:
    found = list(violations)
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    report.add(name, not found, listed(found[:_SHOWN]) + more)


def _wrong_ends(told: list[Told]) -> Iterator[str]:
    for message in told:
        if message.by_car != message.is_request:
            yield f"{message} is from the {'car' if message.by_car else 'station'}"


def _wrong_pairs(told: list[Told]) -> Iterator[str]:
    waiting: Told | None = None
    for message in told:
        if message.is_request:
            if waiting is not None:
                yield f"{waiting} has none"
            waiting = message
        else:
            if waiting is None:
                yield f"{message} without a request"
            elif waiting.pair != message.pair:
                yield f"{message} to {waiting}"
            waiting = None
    if waiting is not None:
        yield f"{waiting} has none"


def _wrong_order(requests: list[Told], is_whole: bool) -> Iterator[str]:
    before = "" if is_whole else requests[0].pair
    for request in requests if is_whole else requests[1:]:
        allowed = _FOLLOWING.get(before, ())
        stops = request.pair == "SessionStop" and before not in _NO_STOP
        if request.pair not in allowed and not stops:
            yield f"{request} after {before + 'Req' if before else 'nothing'}"
        before = request.pair


def is_refusal(code: str) -> bool:
    """Whether a response code is a failure. SupportedAppProtocol spells it
    Failed_NoNegotiation."""
    return code.upper().startswith("FAILED")


def _refusals(told: list[Told]) -> Iterator[str]:
    for message in told:
        code = str(message.body.get("ResponseCode", ""))
        if is_refusal(code):
            meaning = RESPONSE_CODES[code][0] if code in RESPONSE_CODES else "no common protocol"
            yield f"{message}: {code} ({meaning})"


def _wrong_codes(told: list[Told]) -> Iterator[str]:
    for message in told:
        code = message.body.get("ResponseCode")
        if code in RESPONSE_CODES and message.pair not in RESPONSE_CODES[code][1]:
            yield f"{message}: {code}"


def _wrong_session_ids(told: list[Told]) -> Iterator[str]:
    session_id = next((m.session_id for m in told if m.name == "SessionSetupRes"), None)
    for message in told:
        if message.session_id is None or message.name == "SessionSetupReq":
            continue
        session_id = message.session_id if session_id is None else session_id
        if message.session_id != session_id:
            yield f"{message}: {message.session_id.hex()} instead of {session_id.hex()}"


def _pairs(told: list[Told]) -> Iterator[tuple[Told, Told]]:
    """Each request with the response right after it."""
    for request, response in pairwise(told):
        if request.is_request and not response.is_request and request.pair == response.pair:
            yield request, response


def response_times(told: list[Told]) -> dict[int, float]:
    """{number of a response: milliseconds since its request}."""
    return {response.number: response.time - request.time for request, response in _pairs(told)}


def _late_responses(told: list[Told]) -> Iterator[str]:
    for request, response in _pairs(told):
        limit = _PAIRS[request.pair].timeout_ms if request.pair in _PAIRS else _UPDATE_MS
        if response.time - request.time > limit:
            yield f"{response} after {_seconds(response.time - request.time)} of {_seconds(limit)}"


def _late_requests(told: list[Told]) -> Iterator[str]:
    for before, request in pairwise(told):
        if request.is_request and request.time - before.time > SEQUENCE_MS:
            yield f"{request} after {_seconds(request.time - before.time)}"


def _ongoing(told: list[Told]) -> Iterator[str]:
    began: dict[str, float] = {}
    for message in told:
        if message.is_request:
            continue
        if message.body.get("EVSEProcessing", "Finished") == "Finished":
            began.pop(message.pair, None)
            continue
        since = began.setdefault(message.pair, message.time)
        if message.pair in _PAIRS and message.time - since > _PAIRS[message.pair].ongoing_ms:
            yield f"{message}, since {_seconds(message.time - since)}"
            began[message.pair] = message.time


def _check_setup(report: Report, told: list[Told]) -> None:
    setup = next((message for message in told if message.name == "SessionSetupRes"), None)
    if setup is not None:
        within = setup.time <= SETUP_MS
        name = f"SessionSetupRes within {SETUP_MS // 1000} s of the beginning"
        report.add(name, within, _seconds(setup.time))


def _check_payment(report: Report, told: list[Told], has_tls: bool) -> None:
    """Check that a contract pays only over TLS, and signs the challenge of this session."""
    for message in told:
        if message.body.get("SelectedPaymentOption") == "Contract":
            report.add("payment by contract over TLS only", has_tls, str(message))
    challenge: bytes | None = None
    for message in told:
        if message.name == "PaymentDetailsRes":
            challenge = message.body.get("GenChallenge")
        elif message.name == "AuthorizationReq" and "GenChallenge" in message.body:
            name = "AuthorizationReq has the station's challenge"
            known = None if challenge is None else message.body["GenChallenge"] == challenge
            report.add(name, known, str(message))


def _seconds(milliseconds: float) -> str:
    return f"{milliseconds / 1000:.3f} s"


# -- one line about a message -------------------------------------------------------------------

_NOTES: dict[str, Callable[[dict[str, Any]], object]] = {
    "SessionSetupRes": lambda body: body["EVSEID"],
    "ServiceDiscoveryRes": lambda body: listed(body["PaymentOptionList"]["PaymentOption"]),
    "ServiceDetailReq": lambda body: f"service {body['ServiceID']}",
    "PaymentServiceSelectionReq": lambda body: body["SelectedPaymentOption"],
    "CertificateInstallationRes": lambda body: body["eMAID"]["value"],
    "CertificateUpdateRes": lambda body: body["eMAID"]["value"],
    "PaymentDetailsReq": lambda body: body["eMAID"],
    "AuthorizationReq": lambda body: "signed" if "Id" in body else "",
    "AuthorizationRes": lambda body: body["EVSEProcessing"],
    "ChargeParameterDiscoveryReq": lambda body: body["RequestedEnergyTransferMode"],
    "ChargeParameterDiscoveryRes": lambda body: body["EVSEProcessing"],
    "CableCheckRes": lambda body: body["EVSEProcessing"],
    "PowerDeliveryReq": lambda body: body["ChargeProgress"],
    "SessionStopReq": lambda body: body["ChargingSession"],
}


def note(name: str, body: dict[str, Any]) -> str:
    """The most useful values of this message, in a few words; "" for none."""
    try:
        return str(_NOTES[name](body)) if name in _NOTES else ""
    except (KeyError, TypeError):  # an optional element is not there
        return ""
