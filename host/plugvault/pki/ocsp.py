"""The client side of OCSP: make a request, and check an answer [RFC 6960].

An answer is accepted when it is signed by the certificate's issuer, or by a responder that the
issuer has certified for that; when it is about this certificate; and when it is current. The
caller sends and receives.
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
AGE = timedelta(days=1)  # of an answer without nextUpdate

_STATUS = {
    ocsp.OCSPCertStatus.GOOD: "good",
    ocsp.OCSPCertStatus.REVOKED: "revoked",
    ocsp.OCSPCertStatus.UNKNOWN: "unknown",
}


class OcspError(EvccError):
    """An answer without a status of the certificate, or one that fails a check."""

    REASONS = ("format", "status", "certificate", "time", "signature")


@dataclass(frozen=True)
class OcspAnswer:
    """A checked answer. `status`: "good", "revoked" or "unknown"; `until`: the end of its
    validity, Unix seconds; `revoked`: the time of revocation, Unix seconds; `reason`: as RFC 5280
    names it."""

    status: str
    until: float
    revoked: int | None = None
    reason: str = "unspecified"


def request(certificate: bytes, issuer: bytes) -> bytes:
    """The OCSP request for one certificate: DER, without a nonce. `certificate`, `issuer`: DER."""
    return _request(certificate, issuer).public_bytes(Encoding.DER)


def read(answer: bytes, certificate: bytes, issuer: bytes, now: float) -> OcspAnswer:
    """Check an answer about a certificate; all DER. `now`: Unix seconds.

    Raises OcspError: "format"; "status" for an unsigned refusal; "certificate" for an answer about
    another certificate; "time"; "signature".
    """
    expected, above = _request(certificate, issuer), x509.load_der_x509_certificate(issuer)
    time = datetime.fromtimestamp(now, UTC)
    try:
        response = ocsp.load_der_ocsp_response(answer)
        if response.response_status != ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise OcspError("status", response.response_status.name.lower())
        if _certificate_id(response) != _certificate_id(expected):
            raise OcspError("certificate", "about another one")
        until = response.next_update_utc or response.this_update_utc + AGE
        if response.this_update_utc > time + SKEW or until < time - SKEW:
            raise OcspError("time", "not current")
        delegated = [c for c in response.certificates if _is_responder(c, above, time)]
        if not any(_has_signed(signer, response) for signer in (above, *delegated)):
            raise OcspError("signature", "signed neither by the issuer nor by its responder")
        at, reason = response.revocation_time_utc, response.revocation_reason
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise OcspError("format", type(error).__name__) from error
    return OcspAnswer(
        _STATUS[response.certificate_status],
        until.timestamp(),
        int(at.timestamp()) if at else None,
        reason.value if reason else "unspecified",
    )


def _request(certificate: bytes, issuer: bytes) -> ocsp.OCSPRequest:
    # SHA-1 identifies the issuer and proves nothing; many responders know no other [RFC 5019].
    return (
        ocsp.OCSPRequestBuilder()
        .add_certificate(
            x509.load_der_x509_certificate(certificate),
            x509.load_der_x509_certificate(issuer),
            SHA1(),  # noqa: S303
        )
        .build()
    )


def _certificate_id(message: ocsp.OCSPRequest | ocsp.OCSPResponse) -> tuple[int, bytes, bytes]:
    return message.serial_number, message.issuer_name_hash, message.issuer_key_hash


def _is_responder(certificate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> bool:
    """Whether the issuer has certified a responder for its answers [RFC 6960, 4.2.2.2]."""
    try:
        certificate.verify_directly_issued_by(issuer)
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    valid = certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc
    return valid and ExtendedKeyUsageOID.OCSP_SIGNING in usage


def _has_signed(signer: x509.Certificate, response: ocsp.OCSPResponse) -> bool:
    key, digest = signer.public_key(), response.signature_hash_algorithm
    try:
        if isinstance(key, ec.EllipticCurvePublicKey) and digest is not None:
            key.verify(response.signature, response.tbs_response_bytes, ec.ECDSA(digest))
            return True
        if isinstance(key, ed448.Ed448PublicKey):
            key.verify(response.signature, response.tbs_response_bytes)
            return True
    except InvalidSignature:
        pass
    return False
