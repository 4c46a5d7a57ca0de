"""Sign OCSP responses and revocation lists with a CA's own key [RFC 6960, RFC 5280].

A client that has the CA's certificate needs no responder's certificate. One certificate per
request [RFC 5019, 2.1.1]. The caller looks up the status and caches the answers.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from evcc.errors import EvccError
from plugvault.pki.issue import Authority
from plugvault.pki.schemes import public_bits

LIMIT = 2048  # bytes of a request: one certificate's takes about a hundred
NONCE = 32  # bytes at most [RFC 8954]
SERIAL = 20  # bytes of a certificate's number at most [RFC 5280, 4.1.2.2]
_HASHES = (hashes.SHA1(), hashes.SHA256(), hashes.SHA384(), hashes.SHA512())  # noqa: S303 - identifies a key, proves nothing
_FAILURES = {
    "malformed": ocsp.OCSPResponseStatus.MALFORMED_REQUEST,
    "unauthorized": ocsp.OCSPResponseStatus.UNAUTHORIZED,
    "try-later": ocsp.OCSPResponseStatus.TRY_LATER,
    "internal": ocsp.OCSPResponseStatus.INTERNAL_ERROR,
}
_STATUS = {"good": ocsp.OCSPCertStatus.GOOD, "unknown": ocsp.OCSPCertStatus.UNKNOWN}


class ResponderError(EvccError):
    """A request that gets an unsigned refusal. `failure(reason)` makes the refusal."""

    REASONS = tuple(_FAILURES)


@dataclass(frozen=True)
class StatusRequest:
    """An OCSP request. `issuer`: name of the hash algorithm, hash of the issuer's name, hash of
    its key; `nonce`: 1 to 32 bytes, as sent, or None."""

    issuer: tuple[str, bytes, bytes]
    serial: int
    algorithm: hashes.HashAlgorithm
    nonce: bytes | None = None


@dataclass(frozen=True)
class RevocationEntry:
    """A revoked certificate. `at`: Unix seconds; `reason`: as RFC 5280 names it, such as
    "superseded"."""

    serial: int
    at: int
    reason: str


CertificateStatus = Literal["good", "unknown"] | RevocationEntry


def read(request: bytes) -> StatusRequest:
    """Parse an OCSP request (DER).

    Raises ResponderError: "malformed"; "unauthorized" for a well-formed request of a kind that is
    not answered here, such as one for several certificates.
    """
    if len(request) > LIMIT:
        raise ResponderError("malformed", f"{len(request)} bytes, at most {LIMIT}")
    try:
        parsed = ocsp.load_der_ocsp_request(request)
        algorithm = parsed.hash_algorithm
        issuer = (algorithm.name, parsed.issuer_name_hash, parsed.issuer_key_hash)
        nonces = [
            extension.value.nonce
            for extension in parsed.extensions
            if isinstance(extension.value, x509.OCSPNonce)
        ]
        serial = parsed.serial_number
    except (
        NotImplementedError,
        UnsupportedAlgorithm,
    ) as error:  # or several requests
        raise ResponderError("unauthorized", str(error)) from error
    except ValueError as error:
        raise ResponderError("malformed", str(error)) from error
    if not 0 <= serial < 1 << 8 * SERIAL - 1:
        raise ResponderError("malformed", "no serial number of a certificate")
    if nonces and not 0 < len(nonces[0]) <= NONCE:
        raise ResponderError("malformed", "the nonce must have 1 to 32 bytes")
    return StatusRequest(issuer, serial, algorithm, nonces[0] if nonces else None)


def failure(reason: str) -> bytes:
    """The unsigned refusal (DER) for a reason of ResponderError [RFC 6960, 4.2.1]."""
    return ocsp.OCSPResponseBuilder.build_unsuccessful(_FAILURES[reason]).public_bytes(
        Encoding.DER
    )


def by_issuer_hash(
    authorities: Iterable[Authority],
) -> dict[tuple[str, bytes, bytes], Authority]:
    """Each authority under every `StatusRequest.issuer` that identifies it, with SHA-1 and
    SHA-2."""
    index = {}
    for authority in authorities:
        name = authority.certificate.subject.public_bytes()
        key = public_bits(authority.key.public_key())
        for algorithm in _HASHES:
            index[algorithm.name, _hash(algorithm, name), _hash(algorithm, key)] = authority
    return index


def answer(
    authority: Authority,
    request: StatusRequest,
    status: CertificateStatus,
    now: float,
    until: float,
) -> bytes:
    """The signed response, DER. `now`, `until`: its thisUpdate and nextUpdate, Unix seconds."""
    entry = status if isinstance(status, RevocationEntry) else None
    builder = (
        ocsp.OCSPResponseBuilder()
        .add_response_by_hash(
            issuer_name_hash=request.issuer[1],
            issuer_key_hash=request.issuer[2],
            serial_number=request.serial,
            algorithm=request.algorithm,
            cert_status=ocsp.OCSPCertStatus.REVOKED if entry else _STATUS[str(status)],
            this_update=_date(now),
            next_update=_date(until),
            revocation_time=_date(entry.at) if entry else None,
            revocation_reason=_reason(entry.reason) if entry else None,
        )
        .responder_id(ocsp.OCSPResponderEncoding.HASH, authority.certificate)
    )
    if request.nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(request.nonce), critical=False)
    return builder.sign(authority.key, authority.scheme.hash).public_bytes(Encoding.DER)


def revocation_list(
    authority: Authority, revoked: Sequence[RevocationEntry], now: float, until: float
) -> bytes:
    """The CRL of an authority, DER. `now`, `until`: its thisUpdate and nextUpdate, Unix seconds;
    its number is `now`."""
    above = x509.AuthorityKeyIdentifier(authority.identifier, None, None)
    builder = x509.CertificateRevocationListBuilder(
        authority.certificate.subject,
        _date(now).replace(tzinfo=None),
        _date(until).replace(tzinfo=None),
        [
            x509.Extension(above.oid, False, above),
            x509.Extension(x509.CRLNumber.oid, False, x509.CRLNumber(int(now))),
        ],
        # As one list: the builder would copy its entries for each that is added.
        [_revoked_certificate(entry) for entry in revoked],
    )
    return builder.sign(authority.key, authority.scheme.hash).public_bytes(Encoding.DER)


def _revoked_certificate(entry: RevocationEntry) -> x509.RevokedCertificate:
    builder = x509.RevokedCertificateBuilder(entry.serial, _date(entry.at).replace(tzinfo=None))
    reason = _reason(entry.reason)
    if reason:
        builder = builder.add_extension(x509.CRLReason(reason), critical=False)
    return builder.build()


def _reason(name: str) -> x509.ReasonFlags | None:
    """The reason for an extension; None for "unspecified", which has no extension [RFC 5280,
    5.3.1]."""
    return None if name in ("", "unspecified") else x509.ReasonFlags(name)


def _hash(algorithm: hashes.HashAlgorithm, data: bytes) -> bytes:
    digest = hashes.Hash(algorithm)
    digest.update(data)
    return digest.finalize()


def _date(seconds: float) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)
