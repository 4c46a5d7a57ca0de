"""RC: the ResponseCode is read before anything else of the message."""

from typing import Any

from evcc import exi
from plugvault.cases.case import EITHER, REFUSE, Case
from plugvault.cases.scene import Scene

_FAILURES = (
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
_OTHER_SUCCESS = (
    "OK_NewSessionEstablished",
    "OK_OldSessionJoined",
    "OK_CertificateExpiresSoon",
)


def _code(name: str) -> Any:
    return lambda scene: {"code": name}


def _negative(scene: Scene) -> bytes:
    """A negative response as stations and pools send it: dummies, and no signature."""
    dummy = {"Id": "id1", "value": b"\0"}
    body = {
        "ResponseCode": "FAILED_NoCertificateAvailable",
        "SAProvisioningCertificateChain": {"Certificate": b"\0"},
        "ContractSignatureCertChain": {"Id": "id2", "Certificate": b"\0"},
        "ContractSignatureEncryptedPrivateKey": {**dummy, "Id": "id3"},
        "DHpublickey": dummy,
        "eMAID": {"Id": "id4", "value": "DE0000000000000"},
    }
    header = {"SessionID": scene.session}
    message = {"V2G_Message": {"Header": header, "Body": {"CertificateInstallationRes": body}}}
    return exi.encode(message)


CASES = [
    Case(
        "RC-001",
        "a negative response: dummies, and no signature",
        REFUSE,
        "ISO 15118-2, 8.4.3",
        "After FAILED the mandatory elements are dummies.",
        "",
        "response-code",
        message=_negative,
    ),
    *(
        Case(
            f"RC-{number:03}",
            f"a response that is good but for {code}",
            REFUSE,
            "ISO 15118-2, 8.4.3.8.3",
            "A code other than OK says that nothing is to be installed. No signature covers it.",
            "A module that ignores the code does not notice that its operator refused.",
            "response-code",
            change=_code(code),
        )
        for number, code in enumerate(_FAILURES, 10)
    ),
    *(
        Case(
            f"RC-{number:03}",
            f"a response that is good, with {code}",
            EITHER,
            "ISO 15118-2, 8.4.3.8.3",
            "The code means success, of another message.",
            change=_code(code),
        )
        for number, code in enumerate(_OTHER_SUCCESS, 40)
    ),
]
