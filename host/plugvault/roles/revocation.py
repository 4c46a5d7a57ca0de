"""Ask the OCSP responders of a path's certificates whether any is revoked [RFC 6960].

What a maker does before it forwards [V2G2-894]. An answer counts when the issuer, or a responder
the issuer has certified for it, has signed it, and it is about this certificate and of now. A
certificate its issuer does not know is treated as a revoked one. No answer is no verdict.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from plugvault.net import NetError, Outbound
from plugvault.roles.client import OpcpError

TIMEOUT = 5.0  # seconds for one answer
SKEW = timedelta(minutes=5)  # between the responder's clock and ours


class Responders:
    """What `Maker` asks: `revoked(path)`, DER, leaf first, root last. Raises OpcpError.

    `networks`: addresses that may be asked although they are not public; `clock()`: Unix seconds.
    """

    def __init__(
        self, networks: Iterable[str] = (), clock: Callable[[], float] = time.time
    ) -> None:
        self._outbound = Outbound(networks, TIMEOUT)
        self._clock = clock

    def __call__(self, path: Sequence[bytes]) -> bool:
        certificates = [x509.load_der_x509_certificate(der) for der in path]
        return any(self._is_revoked(one, above) for one, above in pairwise(certificates))

    def _is_revoked(self, certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
        url = _responder(certificate)
        if url is None:
            return False
        asked = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, SHA1()).build()  # noqa: S303 - names the issuer, proves nothing
        try:
            answer = self._outbound.request(
                "POST",
                url,
                asked.public_bytes(Encoding.DER),
                {"Content-Type": "application/ocsp-request"},
            )
            told = ocsp.load_der_ocsp_response(answer.body)
            self._check(told, asked, issuer, url)
        except NetError as error:
            raise OpcpError("unreachable", f"OCSP: {error}") from error
        except (ValueError, UnsupportedAlgorithm) as error:
            raise OpcpError("answer", f"OCSP: {url}: no answer that can be read") from error
        return told.certificate_status != ocsp.OCSPCertStatus.GOOD

    def _check(
        self, told: ocsp.OCSPResponse, asked: ocsp.OCSPRequest, issuer: x509.Certificate, url: str
    ) -> None:
        """Raises OpcpError("answer") unless it may be believed."""
        if told.response_status != ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise OpcpError("answer", f"OCSP: {url}: {told.response_status.name.lower()}")
        now = datetime.fromtimestamp(self._clock(), UTC)
        about = (asked.serial_number, asked.issuer_name_hash, asked.issuer_key_hash)
        if (told.serial_number, told.issuer_name_hash, told.issuer_key_hash) != about:
            raise OpcpError("answer", f"OCSP: {url}: about another certificate")
        until = told.next_update_utc
        if told.this_update_utc > now + SKEW or (until is not None and until < now - SKEW):
            raise OpcpError("answer", f"OCSP: {url}: not of now")
        signers = [issuer, *(one for one in told.certificates if _may_answer(one, issuer, now))]
        if not any(_has_signed(one, told) for one in signers):
            raise OpcpError("answer", f"OCSP: {url}: signed by nobody who may")


def _responder(certificate: x509.Certificate) -> str | None:
    try:
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess)
    except x509.ExtensionNotFound:
        return None
    for one in access.value:
        if one.access_method == AuthorityInformationAccessOID.OCSP:
            return str(one.access_location.value)
    return None


def _may_answer(certificate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> bool:
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
