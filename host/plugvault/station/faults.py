"""Faults on demand, to test a vehicle with a station that makes mistakes.

A fault changes one thing of a session that is otherwise as it should be. Messages are named by
their pair: "Authorization" is AuthorizationRes, too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from evcc import exi
from evcc.iso15118_2 import response_codes
from evcc.link import v2gtp
from plugvault.station.large_bundle import enlarged

PAIRS = (
    "supportedAppProtocol",
    "SessionSetup",
    "ServiceDiscovery",
    "ServiceDetail",
    "PaymentServiceSelection",
    "CertificateInstallation",
    "CertificateUpdate",
    "PaymentDetails",
    "Authorization",
    "ChargeParameterDiscovery",
    "CableCheck",
    "PreCharge",
    "PowerDelivery",
    "ChargingStatus",
    "MeteringReceipt",
    "CurrentDemand",
    "WeldingDetection",
    "SessionStop",
)
_BY_LOWER_NAME = {pair.lower(): pair for pair in PAIRS}
_BUNDLES = ("CertificateInstallationRes", "CertificateUpdateRes")
SILENCE, CLOSE, RESET = ENDS = ("silence", "close", "reset")
_APP_PROTOCOL_CODES = (
    "OK_SuccessfulNegotiation",
    "OK_SuccessfulNegotiationWithMinorDeviation",
    "Failed_NoNegotiation",
)


def pair_of(name: str) -> str:
    """The pair of a message: "authorizationreq" -> "Authorization". Raises ValueError."""
    for end in ("req", "res", ""):
        if name.lower().endswith(end):
            pair = _BY_LOWER_NAME.get(name[: len(name) - len(end)].lower())
            if pair is not None:
                return pair
    raise ValueError(f"no message {name!r}; there are {', '.join(PAIRS)}")


def checked_code(pair: str, code: str) -> str:
    """A ResponseCode that the pair's response may have. Raises ValueError."""
    codes = _APP_PROTOCOL_CODES if pair == PAIRS[0] else response_codes.allowed(pair)
    if code not in codes:
        raise ValueError(f"no ResponseCode {code!r} of {pair}; there are {', '.join(codes)}")
    return code


@dataclass(frozen=True)
class Pace:
    """A response that is sent slowly or not completely. seconds: from its first byte to its last
    one. part: the sent part of its bytes, from 0 to 1. end: the end of the connection after a
    part, one of `ENDS`. silence: seconds within which the vehicle must end a session without an
    answer."""

    seconds: float = 0.0
    part: float = 1.0
    end: str = SILENCE
    silence: float = 60.0


@dataclass(frozen=True)
class Faults:
    """The faults of a station; none by default.

    Keys are message pairs. delay: seconds before a response. drop: pairs in place of whose
    response the connection ends. answer: the ResponseCode of a response; after a FAILED one the
    station closes the connection. bandwidth: bytes a second that the station sends, None for no
    limit. large_bundle: bytes that a response with a contract has at least [`large_bundle`]. pace:
    how slowly a response is sent.
    """

    delay: Mapping[str, float] = field(default_factory=dict)
    drop: frozenset[str] = frozenset()
    answer: Mapping[str, str] = field(default_factory=dict)
    bandwidth: int | None = None
    large_bundle: int = 0
    pace: Mapping[str, Pace] = field(default_factory=dict)

    def seconds(self, name: str) -> float:
        """The delay of a response in seconds. name: of the response on the wire."""
        return self.delay.get(name.removesuffix("Res"), 0.0)

    def drops(self, name: str) -> bool:
        """Whether the connection ends in place of this response."""
        return name.removesuffix("Res") in self.drop

    def pace_of(self, name: str) -> Pace | None:
        """The pace of a response, None for its own one."""
        return self.pace.get(name.removesuffix("Res"))

    def code(self, name: str) -> str | None:
        """The ResponseCode that replaces the response's own; None for none."""
        return self.answer.get(name.removesuffix("Res"))

    def changed(self, name: str, frame: bytes) -> bytes:
        """A response's V2GTP frame as this station sends it, changed or not. name: of the response
        on the wire."""
        code = self.code(name)
        enlarge = self.large_bundle and name in _BUNDLES
        if code is None and not enlarge:
            return frame
        schema = "sap" if name == "supportedAppProtocolRes" else "iso2"
        message = exi.decode(frame[v2gtp.HEADER_BYTES :], schema)
        body = message if schema == "sap" else message["V2G_Message"]["Body"]
        if code is not None:
            body[name]["ResponseCode"] = code
        if enlarge and body[name]["ResponseCode"] == "OK":
            return v2gtp.encode(enlarged(message, name, self.large_bundle))
        return v2gtp.encode(exi.encode(message, schema))


NO_FAULTS = Faults()
