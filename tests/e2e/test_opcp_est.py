"""OPCP: certificates by EST, under the published paths and the live ones."""

from __future__ import annotations

import base64

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from evcc import csr
from fixtures.backend import Backend, Vehicle, b64, certificates, refused
from plugvault.pki.keys import raw_signer
from world import point


@pytest.mark.parametrize("prefix", ["/.well-known/est", "/.well-known", ""])
@pytest.mark.parametrize("suffix", ["", "/", "/ISO15118-2", "/ISO15118-2/"])
def test_enrolment_answers_under_published_and_live_paths(
    backend: Backend, prefix: str, suffix: str
):
    body = b64(Vehicle("PVTP0000000000999").csr())
    path = f"{prefix}/oem/simpleenroll{suffix}"
    assert len(certificates(backend.ask("OEM", "POST", path, content=body))) == 1


@pytest.mark.parametrize("prefix", ["/.well-known/est", "/.well-known", ""])
@pytest.mark.parametrize("suffix", ["", "/ISO15118-2", "/ISO15118-2/secp256r1/"])
def test_ca_certificates_answer_under_published_and_live_paths(
    backend: Backend, prefix: str, suffix: str
):
    chain_ = certificates(backend.ask("OEM", "GET", f"{prefix}/acme-oem/cacerts{suffix}"))
    assert len(chain_) == 3


def test_an_enrolled_certificate_is_for_the_requests_subject_and_key(backend: Backend):
    vehicle = Vehicle("PVTP0000000000998")
    answer = backend.ask("OEM", "POST", "/oem/simpleenroll", content=b64(vehicle.csr()))
    (leaf,) = certificates(answer)
    assert leaf.subject.rfc4514_string() == "DC=OEM,CN=PVTP0000000000998,O=Example Cars,C=DE"
    assert leaf.public_key() == vehicle.key.public_key()


def test_pem_and_base64_of_pem_are_tolerated(backend: Backend):
    request = x509.load_der_x509_csr(Vehicle("PVTP0000000000997").csr())
    pem = request.public_bytes(Encoding.PEM)
    for body in (pem, base64.b64encode(pem)):
        answer = backend.ask("OEM", "POST", "/oem/simpleenroll", content=body)
        assert len(certificates(answer)) == 1


def other_request(curve: ec.EllipticCurve, *names: tuple[x509.ObjectIdentifier, str]) -> bytes:
    subject = x509.Name([x509.NameAttribute(oid, value) for oid, value in names])
    key = ec.generate_private_key(curve)
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return request.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


CN, O = x509.NameOID.COMMON_NAME, x509.NameOID.ORGANIZATION_NAME  # noqa: E741 - the field's name


def not_its_own_signature() -> bytes:
    other_key = ec.generate_private_key(ec.SECP256R1())
    return csr.build(
        "PVTP0000000000996",
        "Example Cars",
        "DE",
        point(ec.generate_private_key(ec.SECP256R1())),
        raw_signer(other_key),
    )


@pytest.mark.parametrize(
    ("request_der", "status", "words"),
    [
        (b"", 400, "PKCS#10"),
        (b"0\x03\x02\x01\x00", 400, "PKCS#10"),
        (Vehicle("XXXP0000000000001").csr(), 403, "WMI"),
        (other_request(ec.SECP256R1(), (CN, "PVT1"), (O, "E")), 400, "pcid : must match"),
        (not_its_own_signature(), 400, "not signed by its own key"),
        (
            other_request(ec.SECP384R1(), (CN, "PVTP0000000000995"), (O, "E")),
            400,
            "secp256r1",
        ),
        (other_request(ec.SECP256R1(), (CN, "PVTP0000000000995")), 400, "CN and O"),
        (other_request(ec.SECP256R1(), (O, "E")), 400, "CN and O"),
    ],
)
def test_csr_proof_of_possession_and_subject_enforced_in_est(
    backend: Backend, request_der: bytes, status: int, words: str
):
    answer = backend.ask("OEM", "POST", "/oem/simpleenroll", content=b64(request_der))
    refused(answer, status, words)


@pytest.mark.parametrize("ca", ["veh", "root", "oem2", "acme-"])
def test_a_ca_that_is_not_served_is_not_found(backend: Backend, ca: str):
    refused(backend.ask("OEM", "GET", f"/{ca}/cacerts"), 404, "No CA named")


def test_broken_base64_is_no_request(backend: Backend):
    refused(backend.ask("OEM", "POST", "/oem/simpleenroll", content=b"%%%"), 400, "PKCS#10")
