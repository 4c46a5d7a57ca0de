"""Issue one contract: a new key pair, its certificate, and the key sealed for one vehicle.

The operator destroys the plain contract key: it exists only between `generate_private_key` and
the end of `issue_contract`, and is never returned, stored or logged. The sealed bytes are
overwritten afterwards; copies inside Python and the library cannot be (the scalar is an int for a
moment).
"""

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from plugvault.contract.data import ContractData
from plugvault.contract.iso15118_2.seal import SCALAR, seal
from plugvault.pki.issue import Authority, issue


def issue_contract(
    emaid: str,
    vehicle: bytes,
    operator: Authority,
    now: float,
    *,
    begins: float | None = None,
    ends: float | None = None,
    ocsp: str | None = None,
    organisation: str | None = None,
) -> ContractData:
    """A contract for `emaid` that only the vehicle of a provisioning certificate can use.

    `vehicle`: DER of the provisioning certificate, its path already checked; `operator`: the MO
    Sub2; `now`, `begins`, `ends`: Unix seconds; `ocsp`: URL of the responder; `organisation`: the
    contract's O, that of `operator` when not given.

    Raises `plugvault.pki.issue.IssueError`; ValueError when the vehicle's key is not on P-256.
    """
    receiver = x509.load_der_x509_certificate(vehicle).public_key()
    if not isinstance(receiver, ec.EllipticCurvePublicKey) or receiver.curve.name != "secp256r1":
        raise ValueError("the provisioning certificate's key is not on P-256")
    key = ec.generate_private_key(receiver.curve)
    scalar = bytearray(key.private_numbers().private_value.to_bytes(SCALAR, "big"))
    try:
        certificate = issue(
            "contract",
            {"O": organisation or _organisation(operator.certificate), "CN": emaid},
            key.public_key(),
            operator,
            now,
            begins=begins,
            ends=ends,
            ocsp=ocsp,
        )
        sealed = seal(scalar, receiver)
    finally:
        scalar[:] = bytes(SCALAR)
        del key
    return ContractData(emaid, certificate, tuple(operator.path), sealed.wrapped, sealed.dh_point)


def _organisation(certificate: x509.Certificate) -> str:
    attributes = certificate.subject.get_attributes_for_oid(x509.NameOID.ORGANIZATION_NAME)
    return str(attributes[0].value)
