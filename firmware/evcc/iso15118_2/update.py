"""The update of a contract at a station: asked for by the contract itself. Not on a board.

ISO 15118-2:2014, 8.4.3.10 [V2G2-821]: the request is signed with the key of the contract that the
car has, and the key of the new contract is sealed to that one. A contract key in a token can only
sign: ECDH with it would be a second way to use it. So the positive answer is refused ("rejected",
"vault"), and the car keeps its contract; its next one comes by an installation, sealed to the
provisioning key. The pair serves the test of stations.

RetryCounter of the answer: -1, no further request; else the days to wait before the next one.
"""

from evcc.session_engine import START, Pair, SessionError, UsageError
from evcc.vault import VaultError

from . import messages
from .session import (
    PAYMENT_SERVICE_SELECTION,
    SESSION_STOP,
    SIGNED_ID,
    build_payment_details,
    sign,
)

UPDATE = "Update"  # the service's name, and the outcome of the selection
CERTIFICATE_UPDATE = "CertificateUpdate"
_DAY = 86400
_NEVER = 1 << 62
_NEGATIVE = (  # their answer has a RetryCounter
    "FAILED_NoCertificateAvailable",
    "FAILED_ContractCanceled",
)


def prepare(session, refused: dict) -> None:
    """Have a session ask for an update of its contract.

    refused: {EMAID: unix seconds before which its operator wants no further request}; an answer
    with a RetryCounter enters itself. Raises: UsageError("update").
    """
    if session.state != START or session.contract is None:
        raise UsageError("update", "a contract, and a session before its start")
    if session.car.time.now() < refused.get(session.contract.emaid, 0):
        raise UsageError("update", "the operator wants no further request yet")
    session.refused = refused
    session.service = UPDATE
    session.wants_contract = True
    session.add_rows(PAIRS, NEXT)


def _build_update(session) -> tuple:
    roots = session.car.trust.anchors("V2G")
    if not roots:
        raise SessionError("no-anchor")
    details, _ = build_payment_details(session)  # the contract's EMAID and its chain
    body = dict(details)
    body["Id"] = SIGNED_ID
    body["ListOfRootCertificateIDs"] = messages.root_certificate_ids(roots)
    return body, sign(session, CERTIFICATE_UPDATE + "Req", body, session.contract.key)


def _read_update(session, body: dict, message: dict) -> str:
    if "RetryCounter" in body:
        days = body["RetryCounter"]
        wait = _NEVER if days < 0 else days * _DAY
        session.refused[session.contract.emaid] = session.car.time.now() + wait
    if body["ResponseCode"] != "OK":
        raise SessionError("response-code", body["ResponseCode"])
    session.error = VaultError("refused", "a contract key can only sign")
    session.emit("rejected", "vault")
    return "rejected"


PAIRS = {
    CERTIFICATE_UPDATE: Pair(5000, _build_update, _read_update, ("OK",) + _NEGATIVE),
}
NEXT = {
    (PAYMENT_SERVICE_SELECTION, UPDATE): CERTIFICATE_UPDATE,
    (CERTIFICATE_UPDATE, "rejected"): SESSION_STOP,
}
