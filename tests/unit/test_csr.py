"""`cryptography`, like an EST server, reads the requests of evcc.csr."""

import base64

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from evcc import csr
from plugvault.pki import request as requests


def test_request_is_valid_and_names_the_vehicle() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def sign(digest: bytes) -> bytes:
        r, s = utils.decode_dss_signature(key.sign(digest, ec.ECDSA(utils.Prehashed(SHA256()))))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    der = csr.build("WMIP1234567890123", "Fahrzeugwerk Süd", "DE", point, sign)
    request = x509.load_der_x509_csr(der)
    assert request.is_signature_valid
    assert request.public_key() == key.public_key()
    assert request.subject.rfc4514_string() == (
        "DC=OEM,CN=WMIP1234567890123,O=Fahrzeugwerk Süd,C=DE"
    )
    assert list(request.extensions) == []
    assert request.public_bytes(Encoding.DER) == der


def test_request_of_an_unknown_version_is_refused_in_words() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder(x509.Name([]))
    der = builder.sign(key, SHA256()).public_bytes(Encoding.DER)
    with pytest.raises(requests.RequestError, match="not a PKCS#10 request"):
        requests.read(base64.b64encode(der.replace(b"\2\1\0", b"\2\1\x55", 1)))
