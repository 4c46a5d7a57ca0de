"""The computation behind a CertificateInstallationRes, step by step.

steps.py           a step: its name, its value, whether it is right
signature.py       digests and signature; the form that a peer's stack signs instead
key_transport.py   DH point, Z, key, scalar, with the vehicle's test key
deviation.py       the first of somebody's own values that differs, and the mistake behind it
"""

from plugvault.explanation.key_transport import explain_envelope
from plugvault.explanation.signature import explain_signature
from plugvault.explanation.steps import ExplainError, Step, message_of

__all__ = ["ExplainError", "Step", "explain_envelope", "explain_signature", "message_of"]
