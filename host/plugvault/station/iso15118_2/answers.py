"""What the station says: response bodies of ISO 15118-2, 8.4.3, as plain values for the EXI codec.

A refusal carries every mandatory element too, filled with something meaningless: the schema wants
them, and the vehicle looks at the ResponseCode first.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from evcc.iso15118_2.messages import CERTIFICATE_SERVICE, INSTALLATION, NAMESPACE, VERSION

Body = dict[str, Any]

CHARGE_SERVICE = 1
CONTRACT = "Contract"
EXTERNAL = "ExternalPayment"


@dataclass(frozen=True)
class Offer:
    """What a station is called and what it offers."""

    evseid: str = "DE*PVT*E0001"
    certificate_service: bool = True
    payment: Sequence[str] = (CONTRACT, EXTERNAL)
    energy_transfer: Sequence[str] = field(default=("DC_extended", "AC_three_phase_core"))


def supported_app_protocol(request: Body) -> Body:
    """Agree on ISO 15118-2 if it is among the offers; a different minor version will do."""
    for offer in sorted(request["AppProtocol"], key=lambda offer: int(offer["Priority"])):
        if (offer["ProtocolNamespace"], offer["VersionNumberMajor"]) == (NAMESPACE, VERSION[0]):
            same = offer["VersionNumberMinor"] == VERSION[1]
            code = "OK_SuccessfulNegotiation" + ("" if same else "WithMinorDeviation")
            return {"ResponseCode": code, "SchemaID": offer["SchemaID"]}
    return {"ResponseCode": "Failed_NoNegotiation"}


def session_setup(offer: Offer, now: int) -> Body:
    code = "OK_NewSessionEstablished"
    return {"ResponseCode": code, "EVSEID": offer.evseid, "EVSETimeStamp": now}


def service_discovery(offer: Offer) -> Body:
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


def service_detail() -> Body:
    """The certificate service's: installation, not update, which the pools do not have."""
    parameter = {"Name": "Service", "stringValue": "Installation"}
    parameters = {"ParameterSetID": INSTALLATION, "Parameter": [parameter]}
    return {
        "ResponseCode": "OK",
        "ServiceID": CERTIFICATE_SERVICE,
        "ServiceParameterList": {"ParameterSet": [parameters]},
    }


def payment_details(challenge: bytes, now: int) -> Body:
    return {"ResponseCode": "OK", "GenChallenge": challenge, "EVSETimeStamp": now}


def authorization() -> Body:
    return {"ResponseCode": "OK", "EVSEProcessing": "Finished"}


def ok() -> Body:
    return {"ResponseCode": "OK"}


_EMPTY: Body = {"Id": "0", "value": b"\x00"}
_DUMMIES: dict[str, Body] = {
    "SessionSetup": {"EVSEID": "ZZ00000"},
    "ServiceDiscovery": service_discovery(Offer(certificate_service=False)),
    "ServiceDetail": {"ServiceID": CERTIFICATE_SERVICE},
    "PaymentServiceSelection": {},
    "CertificateInstallation": {
        "SAProvisioningCertificateChain": {"Certificate": b"\x00"},
        "ContractSignatureCertChain": {"Id": "0", "Certificate": b"\x00"},
        "ContractSignatureEncryptedPrivateKey": _EMPTY,
        "DHpublickey": _EMPTY,
        "eMAID": {"Id": "0", "value": "0" * 14},
    },
    "PaymentDetails": {"GenChallenge": bytes(16), "EVSETimeStamp": 0},
    "Authorization": {"EVSEProcessing": "Finished"},
    "SessionStop": {},
}


def refusal(pair: str, code: str) -> Body | None:
    """The negative response of a message pair ("Authorization"); None for one unknown here."""
    dummy = _DUMMIES.get(pair)
    return None if dummy is None else {**dummy, "ResponseCode": code}
