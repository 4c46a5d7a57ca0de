"""The certificate office answers any bytes with a result or a refusal of its own."""

from __future__ import annotations

import base64

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_der_x509_certificate, ocsp
from hypothesis import given
from hypothesis import strategies as st

from evcc.x509 import CertificateError
from fixtures.office import KEYS, branch, names, request
from plugvault.pki import iso20, path, responder
from plugvault.pki import ocsp as client
from plugvault.pki import request as pkcs10
from plugvault.pki.issue import der, issue
from plugvault.pki.schemes import EDITION20
from world import NOW

ISSUER = branch("oem")
LEAF = issue("provisioning", names("PVTP0000000000001"), KEYS["secp256r1"]().public_key(),
             ISSUER, NOW)  # fmt: skip
NEWER = branch("oem", "secp521r1").root
ASKED = (
    ocsp.OCSPRequestBuilder()
    .add_certificate(load_der_x509_certificate(LEAF), ISSUER.certificate, SHA256())
    .build()
    .public_bytes(Encoding.DER)
)
ANSWER = responder.answer(ISSUER, responder.read(client.request(LEAF, der(ISSUER.certificate))),
                          "good", NOW, NOW + 60)  # fmt: skip
CSR = base64.b64decode(request("PVTP0000000000001", KEYS["secp521r1"]()))


@st.composite
def damaged(draw: st.DrawFn, original: bytes) -> bytes:
    """Bytes of `original` changed, cut out or doubled."""
    out = bytearray(original)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(out) - 1)))
        size = draw(st.integers(0, 8))
        out[at : at + draw(st.sampled_from([0, size]))] = draw(st.binary(max_size=8))
    return bytes(out)


def near(original: bytes) -> st.SearchStrategy[bytes]:
    return st.one_of(st.binary(max_size=300), damaged(original))


@given(near(ASKED))
def test_an_ocsp_request_is_read_or_refused(data: bytes):
    try:
        request = responder.read(data)
    except responder.ResponderError as error:
        assert responder.failure(error.reason)
    else:
        assert responder.answer(ISSUER, request, "unknown", NOW, NOW + 60)


@given(near(ANSWER))
def test_an_ocsp_answer_is_believed_only_whole(data: bytes):
    try:
        answer = client.read(data, LEAF, der(ISSUER.certificate), NOW)
    except client.OcspError:
        assert data != ANSWER
    else:
        assert answer.status == "good"


@given(near(NEWER))
def test_a_certificate_of_the_newer_edition_is_read_or_refused(data: bytes):
    try:
        certificate = iso20.read(data)
    except CertificateError:
        return
    assert certificate.der == data
    assert all(path.identity(certificate))


@given(near(CSR))
def test_a_signing_request_of_the_newer_edition_is_read_or_refused(data: bytes):
    try:
        signing_request = pkcs10.read(base64.b64encode(data), EDITION20)
    except pkcs10.RequestError:
        return
    assert signing_request.common_name == "PVTP0000000000001"
