"""The computation behind a CertificateInstallationRes, step by step.

steps.py           a step: its name, its value, whether it is right
circumstances.py   the vehicle's roots, clock, open request and earlier messages
reception.py       response code, session, EMAID, replays
paths.py           the certificate paths of CPS and contract
signature.py       digests and signature; the form that a peer's stack signs instead
key_transport.py   DH point, Z, key, scalar, with the vehicle's test key
deviation.py       the first of a user's own values that differs, and the mistake behind it
"""

from plugvault.explanation.circumstances import UNKNOWN, Circumstances
from plugvault.explanation.key_transport import KeyAgreement, explain_envelope
from plugvault.explanation.paths import explain_paths
from plugvault.explanation.reception import explain_identifier, explain_reception
from plugvault.explanation.signature import explain_signature
from plugvault.explanation.steps import ExplainError, Step, document_of, message_of

__all__ = [
    "UNKNOWN",
    "Circumstances",
    "ExplainError",
    "KeyAgreement",
    "Step",
    "document_of",
    "explain",
    "explain_envelope",
    "explain_identifier",
    "explain_paths",
    "explain_reception",
    "explain_signature",
    "message_of",
]


def explain(
    data: bytes, circumstances: Circumstances = UNKNOWN, key: KeyAgreement | None = None
) -> list[Step]:
    """Every step of a message, in the order of a receiver.

    data: EXI, or V2GTP with EXI in it; key: the vehicle's provisioning key. Raises
    ExplainError("message").
    """
    message = message_of(data)
    return [
        *explain_reception(document_of(data), message, circumstances),
        *explain_paths(message, circumstances),
        *explain_signature(message),
        *explain_identifier(message, circumstances),
        *explain_envelope(message, key),
    ]
