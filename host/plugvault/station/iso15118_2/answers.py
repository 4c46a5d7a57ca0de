"""The station's response bodies of ISO 15118-2, 8.4.3, as plain values for the EXI codec.

A refusal carries every mandatory element too, filled with a dummy: the schema requires them, and
the vehicle reads the ResponseCode first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from evcc.iso15118_2.messages import (
    CERTIFICATE_SERVICE,
    NAMESPACE,
    VERSION,
)
from evcc.iso15118_2.response_codes import RESPONSE_CODES
from plugvault.station.engine import Body
from plugvault.station.iso15118_2 import charging
from plugvault.station.iso15118_2.charging import Supply

CHARGE_SERVICE = 1
CONTRACT = "Contract"
EXTERNAL = "ExternalPayment"
INSTALLATION, UPDATE = 1, 2  # ParameterSetIDs of the certificate service


@dataclass(frozen=True)
class Offer:
    """A station's name, its services and its supply.

    payment, energy_transfer: the values of PaymentOption and EnergyTransferMode.
    certificate_update: the certificate service has CertificateUpdate too.
    """

    evseid: str = "DE*PVT*E0001"
    certificate_service: bool = True
    payment: Sequence[str] = (CONTRACT, EXTERNAL)
    energy_transfer: Sequence[str] = field(default=("DC_extended", "AC_three_phase_core"))
    supply: Supply = field(default=Supply())
    certificate_update: bool = False


def without_contract(offer: Offer) -> Offer:
    """The offer over a connection that is not TLS: neither a contract nor its certificates."""
    payment = tuple(option for option in offer.payment if option != CONTRACT) or (EXTERNAL,)
    return replace(offer, certificate_service=False, payment=payment)


def supported_app_protocol(request: Body) -> Body:
    """Agree on ISO 15118-2 if it is among the offers, in any minor version."""
    for offer in sorted(request["AppProtocol"], key=lambda offer: int(offer["Priority"])):
        if (offer["ProtocolNamespace"], offer["VersionNumberMajor"]) == (NAMESPACE, VERSION[0]):
            same = offer["VersionNumberMinor"] == VERSION[1]
            code = "OK_SuccessfulNegotiation" + ("" if same else "WithMinorDeviation")
            return {"ResponseCode": code, "SchemaID": offer["SchemaID"]}
    return {"ResponseCode": "Failed_NoNegotiation"}


def session_setup(offer: Offer, now: int, is_old: bool) -> Body:
    """SessionSetupRes. now: Unix seconds; is_old: whether a paused session continues."""
    code = "OK_OldSessionJoined" if is_old else "OK_NewSessionEstablished"
    return {"ResponseCode": code, "EVSEID": offer.evseid, "EVSETimeStamp": now}


def service_discovery(offer: Offer) -> Body:
    """ServiceDiscoveryRes: the payment options, the energy transfer modes, and the certificate
    service where offered."""
    body = {
        "ResponseCode": "OK",
        "PaymentOptionList": {"PaymentOption": list(offer.payment)},
        "ChargeService": {
            "ServiceID": CHARGE_SERVICE,
            "ServiceCategory": "EVCharging",
            "FreeService": False,
            "SupportedEnergyTransferMode": {"EnergyTransferMode": list(offer.energy_transfer)},
        },
    }
    if offer.certificate_service:
        service = {
            "ServiceID": CERTIFICATE_SERVICE,
            "ServiceName": "Certificate",
            "ServiceCategory": "ContractCertificate",
            "FreeService": True,
        }
        body["ServiceList"] = {"Service": [service]}
    return body


def service_detail(offer: Offer) -> Body:
    """The parameters of the certificate service: the installation of a contract, and its update
    where offered."""
    offered = [(INSTALLATION, "Installation")]
    if offer.certificate_update:
        offered.append((UPDATE, "Update"))
    parameters = [
        {"ParameterSetID": ident, "Parameter": [{"Name": "Service", "stringValue": name}]}
        for ident, name in offered
    ]
    return {
        "ResponseCode": "OK",
        "ServiceID": CERTIFICATE_SERVICE,
        "ServiceParameterList": {"ParameterSet": parameters},
    }


def payment_details(challenge: bytes, now: int) -> Body:
    """PaymentDetailsRes. challenge: 16 bytes; now: Unix seconds."""
    return {"ResponseCode": "OK", "GenChallenge": challenge, "EVSETimeStamp": now}


def authorization() -> Body:
    """AuthorizationRes with "Finished"."""
    return {"ResponseCode": "OK", "EVSEProcessing": "Finished"}


def ok() -> Body:
    """The body of a response that has only its ResponseCode."""
    return {"ResponseCode": "OK"}


def _session_setup(offer: Offer, kind: str, request: Body) -> Body:
    return {"EVSEID": offer.evseid}


def _service_discovery(offer: Offer, kind: str, request: Body) -> Body:
    return service_discovery(offer)


def _service_detail(offer: Offer, kind: str, request: Body) -> Body:
    return {"ServiceID": request.get("ServiceID", CHARGE_SERVICE)}


def _code_alone(offer: Offer, kind: str, request: Body) -> Body:
    return {}


def _contract(offer: Offer, kind: str, request: Body) -> Body:
    """Four elements with different Ids, as the schema wants, and an EMAID of the right length."""
    emaid = request.get("eMAID", "ZZ000000000000")
    return {
        "SAProvisioningCertificateChain": {"Certificate": b"\x00"},
        "ContractSignatureCertChain": {"Id": "id1", "Certificate": b"\x00"},
        "ContractSignatureEncryptedPrivateKey": {"Id": "id2", "value": b"\x00"},
        "DHpublickey": {"Id": "id3", "value": b"\x00"},
        "eMAID": {"Id": "id4", "value": emaid if 14 <= len(emaid) <= 15 else "ZZ000000000000"},
    }


def _payment_details(offer: Offer, kind: str, request: Body) -> Body:
    return {"GenChallenge": bytes(16), "EVSETimeStamp": 0}


def _finished(offer: Offer, kind: str, request: Body) -> Body:
    return {"EVSEProcessing": "Finished"}


def _parameters(offer: Offer, kind: str, request: Body) -> Body:
    asked = request.get("RequestedEnergyTransferMode", kind)[:2].lower()
    return {"EVSEProcessing": "Finished", **charging.limits(asked, offer.supply)}


def _status(offer: Offer, kind: str, request: Body) -> Body:
    return charging.status(charging.DC if "DC_EVPowerDeliveryParameter" in request else kind)


def _charging_status(offer: Offer, kind: str, request: Body) -> Body:
    schedule = {"SAScheduleTupleID": charging.SCHEDULE}
    return {"EVSEID": offer.evseid, **schedule, **charging.status(charging.AC)}


def _voltage(offer: Offer, kind: str, request: Body) -> Body:
    return {**charging.status(charging.DC), "EVSEPresentVoltage": charging.value("V", 0)}


def _cable_check(offer: Offer, kind: str, request: Body) -> Body:
    return {**charging.status(charging.DC), "EVSEProcessing": "Finished"}


def _current_demand(offer: Offer, kind: str, request: Body) -> Body:
    return {
        **_voltage(offer, kind, request),
        "EVSEPresentCurrent": charging.value("A", 0),
        "EVSECurrentLimitAchieved": False,
        "EVSEVoltageLimitAchieved": False,
        "EVSEPowerLimitAchieved": False,
        "EVSEID": offer.evseid,
        "SAScheduleTupleID": charging.SCHEDULE,
    }


# message pair -> the mandatory elements of its response beside the ResponseCode
_NEGATIVE: dict[str, Callable[[Offer, str, Body], Body]] = {
    "SessionSetup": _session_setup,
    "ServiceDiscovery": _service_discovery,
    "ServiceDetail": _service_detail,
    "PaymentServiceSelection": _code_alone,
    "PaymentDetails": _payment_details,
    "Authorization": _finished,
    "ChargeParameterDiscovery": _parameters,
    "PowerDelivery": _status,
    "SessionStop": _code_alone,
    "CertificateUpdate": _contract,
    "CertificateInstallation": _contract,
    "ChargingStatus": _charging_status,
    "MeteringReceipt": _status,
    "CableCheck": _cable_check,
    "PreCharge": _voltage,
    "CurrentDemand": _current_demand,
    "WeldingDetection": _voltage,
}


def negative(pair: str, code: str, request: Body, offer: Offer, kind: str) -> Body | None:
    """The negative response of a message pair ("Authorization"); None for an unknown pair.

    request: the body of the request, of which it repeats what the schema has in both. kind: "ac"
    or "dc", of the session. Raises ValueError for a code that may not stand in this response.
    """
    elements = _NEGATIVE.get(pair)
    if elements is None:
        return None
    if pair not in RESPONSE_CODES[code][1]:
        raise ValueError(f"{code} in {pair}Res")
    return {**elements(offer, kind, request), "ResponseCode": code}
