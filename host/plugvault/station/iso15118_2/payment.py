"""Is this contract good, and did its key sign this challenge.

ISO 15118-2:2014, 8.4.3.6 and 8.4.3.7. The path ends in a root of the root certificate pool, never
in one the vehicle brought. What is wrong becomes the ResponseCode the standard has for it.
"""

from collections.abc import Iterable
from typing import Any

from evcc import chain, ids, signature
from evcc.iso15118_2 import messages
from evcc.x509 import Certificate, CertificateError
from plugvault.pki import path
from plugvault.pki.verify import verify_p256

_EXPIRED = ("expired", "not-yet-valid")


class Refusal(Exception):
    """`code`: the ResponseCode the vehicle gets. The text is for the station's own log."""

    def __init__(self, code: str, why: str) -> None:
        if code not in messages.RESPONSE_CODES:
            raise ValueError("not a ResponseCode: " + code)
        super().__init__(f"{code}: {why}")
        self.code = code


def check_contract(body: dict[str, Any], anchors: Iterable[bytes], now: float) -> Certificate:
    """The contract leaf of a PaymentDetailsReq, when its path, dates and EMAID are good.

    anchors: DER of MO and V2G roots. now: unix seconds. Raises Refusal.
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


def check_authorization(
    body: dict[str, Any], signed: dict[str, Any] | None, challenge: bytes, point: bytes
) -> None:
    """The AuthorizationReq answers our challenge, and the contract's key signed just that.

    signed: the message's Signature element. challenge: 16 bytes. point: of the contract leaf.
    Raises Refusal.
    """
    if body.get("GenChallenge") != challenge:
        raise Refusal("FAILED_ChallengeInvalid", "not the challenge of this session")
    if signed is None or not body.get("Id"):
        raise Refusal("FAILED_SignatureError", "not signed")
    try:
        parts = [(body["Id"], "AuthorizationReq", body)]
        signature.verify(signed, parts, point, verify_p256)
    except signature.SignatureError as error:
        raise Refusal("FAILED_SignatureError", str(error)) from error
