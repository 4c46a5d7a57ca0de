"""Certificates of ISO 15118-20 on the host: P-521 with SHA-512, and Ed448.

`evcc.x509` reads P-256 only, the curve of a vehicle of ISO 15118-2. A certificate read here has
the same members, so that one path policy serves both: its `point` is the whole
SubjectPublicKeyInfo, its `tbs_digest` the signed part itself, its `signature` the raw bytes.
"""

from collections.abc import Iterable

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)
from cryptography.x509.oid import AuthorityInformationAccessOID, SignatureAlgorithmOID

from evcc.der import DerError
from evcc.x509 import DIGITAL_SIGNATURE, KEY_AGREEMENT, KEY_CERT_SIGN, CertificateError, names
from evcc.x509 import Certificate as P256Certificate
from plugvault.pki.schemes import EDITION20, scheme_of

_SIGNATURE_ALGORITHMS = (SignatureAlgorithmOID.ECDSA_WITH_SHA512, SignatureAlgorithmOID.ED448)
_USAGES = {
    "digital_signature": DIGITAL_SIGNATURE,
    "key_agreement": KEY_AGREEMENT,
    "key_cert_sign": KEY_CERT_SIGN,
}
_KNOWN_EXTENSIONS = (x509.BasicConstraints, x509.KeyUsage, x509.CertificatePolicies)


class Iso20Certificate(P256Certificate):
    """One certificate of ISO 15118-20. `curve`: "secp521r1" or "ed448"."""

    curve: str

    def __init__(self, der: bytes, certificate: x509.Certificate) -> None:
        super().__init__(der)
        key = certificate.public_key()
        scheme = scheme_of(key)
        if scheme is None or scheme.edition != EDITION20:
            raise CertificateError("curve", "neither secp521r1 nor ed448")
        if certificate.signature_algorithm_oid not in _SIGNATURE_ALGORITHMS:
            raise CertificateError("algorithm", "neither ecdsa-with-SHA512 nor Ed448")
        if len(der) > scheme.limit:
            raise CertificateError("size", f"{len(der)} bytes, at most {scheme.limit}")
        if certificate.serial_number < 0:
            raise CertificateError("serial", "negative")
        self.curve = scheme.name
        self.point = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.tbs = self.tbs_digest = certificate.tbs_certificate_bytes
        self.signature = certificate.signature
        self.serial = certificate.serial_number
        self.issuer = certificate.issuer.public_bytes()
        self.subject = certificate.subject.public_bytes()
        self.names = names(self.subject)
        self.not_before = int(certificate.not_valid_before_utc.timestamp())
        self.not_after = int(certificate.not_valid_after_utc.timestamp())
        self.ski = self.aki = self.ocsp = None
        for extension in certificate.extensions:
            self._extend(extension.value, extension.critical)

    def _extend(self, value: x509.ExtensionType, critical: bool) -> None:
        match value:
            case x509.BasicConstraints():
                self.is_ca, self.path_length = value.ca, value.path_length
            case x509.KeyUsage():
                self.key_usage = sum(bit for name, bit in _USAGES.items() if getattr(value, name))
            case x509.SubjectKeyIdentifier():
                self.ski = value.digest
            case x509.AuthorityKeyIdentifier():
                self.aki = value.key_identifier
            case x509.AuthorityInformationAccess():
                self.ocsp = _responder_url(value)
        if critical and not isinstance(value, _KNOWN_EXTENSIONS):
            self.unknown_critical = True


def read(der: bytes) -> Iso20Certificate:
    """Parse one certificate of ISO 15118-20 (DER). Raises `evcc.x509.CertificateError`."""
    try:
        return Iso20Certificate(der, x509.load_der_x509_certificate(der))
    except (ValueError, TypeError, UnsupportedAlgorithm, DerError) as error:
        raise CertificateError("der", type(error).__name__) from error


def verify(point: bytes, data: bytes, signature: bytes) -> bool:
    """Whether `signature` over `data` verifies with the key of a SubjectPublicKeyInfo, `point`."""
    try:
        key = load_der_public_key(point)
        if isinstance(key, ed448.Ed448PublicKey):
            key.verify(signature, data)
        elif isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp521r1":
            key.verify(signature, data, ec.ECDSA(SHA512()))
        else:
            return False
    except (InvalidSignature, ValueError, UnsupportedAlgorithm):
        return False
    return True


def _responder_url(access: Iterable[x509.AccessDescription]) -> str | None:
    for description in access:
        location = description.access_location
        if description.access_method == AuthorityInformationAccessOID.OCSP and isinstance(
            location, x509.UniformResourceIdentifier
        ):
            return location.value
    return None
