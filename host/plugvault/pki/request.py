"""Certificate signing requests and certs-only answers, as EST carries them [RFC 7030, RFC 2986].

A request must prove possession of its key, and the key must be of the requested edition. The
caller decides whether a client may request a subject.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from cryptography.x509.oid import NameOID

from evcc.errors import EvccError
from plugvault.pki import forms
from plugvault.pki.schemes import EDITION2, SCHEMES, PublicKey, scheme_of


class RequestError(EvccError):
    """A certificate request, or an answer to one, that is refused."""

    REASONS = ("format", "proof-of-possession", "curve", "subject")


@dataclass(frozen=True)
class SigningRequest:
    """The content of a request. `curve`: of its key, a name in `SCHEMES`; `country`: None without
    a C."""

    common_name: str
    organisation: str
    country: str | None
    public_key: PublicKey
    curve: str = "secp256r1"


def read(body: bytes, edition: str = EDITION2) -> SigningRequest:
    """A PKCS#10 request as clients send it: base64 of DER; the other forms of `forms` are
    tolerated.

    `edition`: whose keys are accepted. Raises RequestError: "format"; "curve" for a key of another
    edition; "proof-of-possession" for a wrong signature; "subject" without one CN and one O.
    """
    try:
        csr = x509.load_der_x509_csr(forms.request(body))
        key = csr.public_key()
        names = {attribute.oid: str(attribute.value) for attribute in csr.subject}
    except forms.FormError as error:
        raise RequestError("format", error.detail) from error
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise RequestError("format", "not a PKCS#10 request in base64") from error
    scheme = scheme_of(key)
    if not isinstance(key, PublicKey) or scheme is None or scheme.edition != edition:
        curves = " or ".join(s.name for s in SCHEMES.values() if s.edition == edition)
        raise RequestError("curve", f"the key of the request must be on {curves}")
    if not csr.is_signature_valid:
        raise RequestError("proof-of-possession", "the request is not signed by its own key")
    common_name = names.get(NameOID.COMMON_NAME)
    organisation = names.get(NameOID.ORGANIZATION_NAME)
    if not common_name or not organisation or len(names) < len(list(csr.subject)):
        # With a second CN, two readers could see different subjects.
        raise RequestError("subject", "CN and O are required, each attribute once")
    country = names.get(NameOID.COUNTRY_NAME)
    return SigningRequest(common_name, organisation, country, key, scheme.name)


def certs_only(certificates: Sequence[bytes]) -> bytes:
    """A degenerate PKCS#7 that carries DER certificates, in base64 as EST sends it."""
    loaded = [x509.load_der_x509_certificate(certificate) for certificate in certificates]
    return base64.b64encode(pkcs7.serialize_certificates(loaded, Encoding.DER))


def read_certs_only(body: bytes) -> list[bytes]:
    """The DER certificates of a certs-only PKCS#7 in base64. Raises RequestError("format")."""
    try:
        return forms.certificates(body)
    except forms.FormError as error:
        raise RequestError("format", f"not a certs-only PKCS#7: {error.detail}") from error
