"""The ecosystem's certificate office over HTTP: keys in tokens, status of what it issued."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from fixtures.backend import Backend, b64, certificates
from fixtures.office import request
from plugvault.pki.issue import der

CALLS = {
    "oem": ("OEM", "PVTP0000000000777"),
    "cpo": ("CPO", "DE*PVC*E000777"),
    "mo": ("MO_HUBJECT_PKI", "DEPVB0000007770"),
    "cps": ("CPS", "CPS 7"),
}


def enrolled(backend: Backend, kind: str) -> tuple[x509.Certificate, x509.Certificate]:
    """A leaf and its issuer."""
    role, name = CALLS[kind]
    body = request(name)
    (leaf,) = certificates(backend.ask(role, "POST", f"/{kind}/simpleenroll", content=body))
    above = certificates(backend.ask(role, "GET", f"/{kind}/cacerts"))
    (issuer,) = (candidate for candidate in above if candidate.subject == leaf.issuer)
    leaf.verify_directly_issued_by(issuer)
    return leaf, issuer


def status(backend: Backend, leaf: x509.Certificate, issuer: x509.Certificate) -> Any:
    request_ = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuer, SHA256()).build()
    answer = backend.http.post("/ocsp", content=request_.public_bytes(Encoding.DER))
    response = ocsp.load_der_ocsp_response(answer.content)
    key = issuer.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(response.signature, response.tbs_response_bytes, ec.ECDSA(SHA256()))
    return response.certificate_status


@pytest.mark.parametrize("kind", CALLS)
def test_each_ca_issues_answers_and_revokes(backend: Backend, kind: str):
    leaf, issuer = enrolled(backend, kind)
    assert status(backend, leaf, issuer) == ocsp.OCSPCertStatus.GOOD
    body = {"certificate": b64(der(leaf)), "revocationReason": "superseded"}
    revoker = "ADMIN" if kind == "cps" else CALLS[kind][0]
    answer = backend.ask(revoker, "POST", "/opnc/v1/pki/pki/revokeCertificate", json=body)
    assert answer.status_code == 200, answer.text
    assert status(backend, leaf, issuer) == ocsp.OCSPCertStatus.REVOKED
    listed = backend.http.get("/crl").json()
    lists = [x509.load_der_x509_crl(backend.http.get(item["url"]).content) for item in listed]
    (own,) = (item for item in lists if item.issuer == issuer.subject)
    assert own.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]
    assert own.get_revoked_certificate_by_serial_number(leaf.serial_number)


def test_every_ca_below_a_root_has_a_status(backend: Backend):
    for kind, (role, _) in CALLS.items():
        chain = certificates(backend.ask(role, "GET", f"/{kind}/cacerts"))
        by_name = {certificate.subject: certificate for certificate in chain}
        for certificate in chain:
            if certificate.issuer != certificate.subject:
                certificate_status = status(backend, certificate, by_name[certificate.issuer])
                assert certificate_status == ocsp.OCSPCertStatus.GOOD, certificate.subject


def test_the_address_in_a_certificate_is_the_responders(backend: Backend):
    leaf, issuer = enrolled(backend, "mo")
    access = leaf.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    (url,) = (description.access_location.value for description in access)
    assert url == f"{backend.ecosystem.url}/ocsp"
    assert status(backend, leaf, issuer) == ocsp.OCSPCertStatus.GOOD
