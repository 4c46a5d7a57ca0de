"""The check of a payment: the contract's certificates, and the signature over the challenge.

ISO 15118-2:2014, 8.4.3.6 and 8.4.3.7. The path ends in a root of the root certificate pool, never
in one the vehicle sent. Each failure becomes its ResponseCode of the standard.
"""

from collections.abc import Iterable

from evcc import chain, ids, signature
from evcc.iso15118_2 import messages
from evcc.x509 import Certificate, CertificateError
from plugvault.pki import path
from plugvault.pki.verify import verify_p256
from plugvault.station.engine import Body, Refusal, Signature

_EXPIRED = ("expired", "not-yet-valid")


def check_contract(body: Body, anchors: Iterable[bytes], now: float) -> Certificate:
    """The contract leaf of a PaymentDetailsReq, if its path, dates and EMAID are good.

    anchors: DER of MO and V2G roots. now: Unix seconds. Raises Refusal:
    "FAILED_CertificateExpired" or "FAILED_CertChainError".
    """
    ders = messages.certificates(body["ContractSignatureCertChain"])
    try:
        path.validate(ders[0], ders[1:], anchors, chain.CONTRACT, now)
    except CertificateError as error:
        expired = error.reason in _EXPIRED
        code = "FAILED_CertificateExpired" if expired else "FAILED_CertChainError"
        raise Refusal(code, str(error)) from error
    leaf = path.read(ders[0])
    try:
        same = ids.parse_emaid(body["eMAID"]) == ids.parse_emaid(leaf.names["CN"])
    except ids.IdError as error:
        raise Refusal("FAILED_CertChainError", str(error)) from error
    if not same:
        raise Refusal("FAILED_CertChainError", f"{body['eMAID']} is not the certificate's EMAID")
    return leaf


def check_authorization(body: Body, signed: Signature, challenge: bytes, point: bytes) -> None:
    """Check that an AuthorizationReq holds `challenge` and is signed by the contract's key.

    signed: the message's Signature element. challenge: 16 bytes. point: of the contract leaf, 65
    bytes. Raises Refusal: "FAILED_ChallengeInvalid" or "FAILED_SignatureError".
    """
    if body.get("GenChallenge") != challenge:
        raise Refusal("FAILED_ChallengeInvalid", "not the challenge of this session")
    check_signature("AuthorizationReq", body, signed, point)


def check_signature(name: str, body: Body, signed: Signature, point: bytes) -> None:
    """Check the signature of the contract's key over the one signed element, the body itself.

    name: of the body element. Raises Refusal("FAILED_SignatureError").
    """
    if signed is None or not body.get("Id"):
        raise Refusal("FAILED_SignatureError", "not signed")
    try:
        parts = [(body["Id"], name, body)]
        signature.verify(signed, parts, point, verify_p256)
    except signature.SignatureError as error:
        raise Refusal("FAILED_SignatureError", str(error)) from error
