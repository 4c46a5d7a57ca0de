"""The station's response bodies of ISO 15118-2, 8.4.3, as plain values for the EXI codec.

A refusal carries every mandatory element too, filled with a dummy: the schema requires them, and
the vehicle reads the ResponseCode first.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from evcc.iso15118_2.messages import (
    CERTIFICATE_SERVICE,
    NAMESPACE,
    VERSION,
)
from plugvault.station.engine import Body

CHARGE_SERVICE = 1
CONTRACT = "Contract"
EXTERNAL = "ExternalPayment"
INSTALLATION = 1  # the ParameterSetID of CertificateInstallation (2 would be the update)

# responseCodeType, in the schema's order
RESPONSE_CODES = (
    "OK",
    "OK_NewSessionEstablished",
    "OK_OldSessionJoined",
    "OK_CertificateExpiresSoon",
    "FAILED",
    "FAILED_SequenceError",
    "FAILED_ServiceIDInvalid",
    "FAILED_UnknownSession",
    "FAILED_ServiceSelectionInvalid",
    "FAILED_PaymentSelectionInvalid",
    "FAILED_CertificateExpired",
    "FAILED_SignatureError",
    "FAILED_NoCertificateAvailable",
    "FAILED_CertChainError",
    "FAILED_ChallengeInvalid",
    "FAILED_ContractCanceled",
    "FAILED_WrongChargeParameter",
    "FAILED_PowerDeliveryNotApplied",
    "FAILED_TariffSelectionInvalid",
    "FAILED_ChargingProfileInvalid",
    "FAILED_MeteringSignatureNotValid",
    "FAILED_NoChargeServiceSelected",
    "FAILED_WrongEnergyTransferMode",
    "FAILED_ContactorError",
    "FAILED_CertificateNotAllowedAtThisEVSE",
    "FAILED_CertificateRevoked",
)


@dataclass(frozen=True)
class Offer:
    """A station's name and its services."""

    evseid: str = "DE*PVT*E0001"
    certificate_service: bool = True
    payment: Sequence[str] = (CONTRACT, EXTERNAL)
    energy_transfer: Sequence[str] = field(default=("DC_extended", "AC_three_phase_core"))


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
    """The certificate service offers installation only: the pools have no update."""
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
    """The negative response of a message pair ("Authorization"); None for an unknown pair.

    Raises ValueError for a code that ISO 15118-2 does not have.
    """
    if code not in RESPONSE_CODES:
        raise ValueError("not a ResponseCode: " + code)
    dummy = _DUMMIES.get(pair)
    return None if dummy is None else {**dummy, "ResponseCode": code}
