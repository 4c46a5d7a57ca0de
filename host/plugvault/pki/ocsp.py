"""The asking side of OCSP: a request, and what of an answer may be believed [RFC 6960].

An answer counts when the certificate's issuer has signed it, or a responder that the issuer has
certified for that; when it is about this certificate; and when it is of now. Sending and receiving
is the caller's.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from evcc.errors import EvccError

SKEW = timedelta(minutes=5)  # between the responder's clock and ours
AGE = timedelta(days=1)  # of an answer that does not say until when it holds

_STATUS = {
    ocsp.OCSPCertStatus.GOOD: "good",
    ocsp.OCSPCertStatus.REVOKED: "revoked",
    ocsp.OCSPCertStatus.UNKNOWN: "unknown",
}


class OcspError(EvccError):
    """An answer that says nothing about the certificate, or is not to be believed."""

    REASONS = ("format", "status", "certificate", "time", "signature")


@dataclass(frozen=True)
class Told:
    """`status`: "good", "revoked" or "unknown"; `revoked`: when, Unix seconds; `reason`: as
    RFC 5280 names it; `until`: how long it holds, Unix seconds."""

    status: str
    until: float
    revoked: int | None = None
    reason: str = "unspecified"


def request(certificate: bytes, issuer: bytes) -> bytes:
    """The request for one certificate; all DER."""
    return _asked(certificate, issuer).public_bytes(Encoding.DER)


def read(answer: bytes, certificate: bytes, issuer: bytes, now: float) -> Told:
    """What the answer (DER) says of the certificate. Raises OcspError."""
    asked, above = _asked(certificate, issuer), x509.load_der_x509_certificate(issuer)
    moment = datetime.fromtimestamp(now, UTC)
    try:
        told = ocsp.load_der_ocsp_response(answer)
        if told.response_status != ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise OcspError("status", told.response_status.name.lower())
        about = (asked.serial_number, asked.issuer_name_hash, asked.issuer_key_hash)
        if (told.serial_number, told.issuer_name_hash, told.issuer_key_hash) != about:
            raise OcspError("certificate", "about another one")
        until = told.next_update_utc or told.this_update_utc + AGE
        if told.this_update_utc > moment + SKEW or until < moment - SKEW:
            raise OcspError("time", "not of now")
        signers = [above, *(one for one in told.certificates if _may(one, above, moment))]
        if not any(_has_signed(one, told) for one in signers):
            raise OcspError("signature", "signed by nobody who may")
        at, reason = told.revocation_time_utc, told.revocation_reason
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise OcspError("format", type(error).__name__) from error
    return Told(
        _STATUS[told.certificate_status],
        until.timestamp(),
        int(at.timestamp()) if at else None,
        reason.value if reason else "unspecified",
    )


def _asked(certificate: bytes, issuer: bytes) -> ocsp.OCSPRequest:
    # SHA-1 names the issuer and proves nothing; many responders know no other [RFC 5019].
    return (
        ocsp.OCSPRequestBuilder()
        .add_certificate(
            x509.load_der_x509_certificate(certificate),
            x509.load_der_x509_certificate(issuer),
            SHA1(),  # noqa: S303
        )
        .build()
    )


def _may(certificate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> bool:
    """Whether the issuer has certified this one for its answers [RFC 6960, 4.2.2.2]."""
    try:
        certificate.verify_directly_issued_by(issuer)
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    valid = certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc
    return valid and ExtendedKeyUsageOID.OCSP_SIGNING in usage


def _has_signed(certificate: x509.Certificate, told: ocsp.OCSPResponse) -> bool:
    key, digest = certificate.public_key(), told.signature_hash_algorithm
    try:
        if isinstance(key, ec.EllipticCurvePublicKey) and digest is not None:
            key.verify(told.signature, told.tbs_response_bytes, ec.ECDSA(digest))
            return True
        if isinstance(key, ed448.Ed448PublicKey):
            key.verify(told.signature, told.tbs_response_bytes)
            return True
    except InvalidSignature:
        pass
    return False
