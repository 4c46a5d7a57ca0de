"""The OCSP responder and the revocation lists, as a client that trusts only the CA sees them."""

from __future__ import annotations

import base64
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from evcc.vault import VaultError
from fixtures.office import Office, branch, levels
from plugvault.opcp import ocsp as served
from plugvault.pki import path, responder
from plugvault.pki.issue import der
from plugvault.pki.schemes import SCHEMES
from plugvault.pools import certificates
from plugvault.pools.errors import PoolError

PCID = "PVTP0000000000001"
GOOD, REVOKED, UNKNOWN = ocsp.OCSPCertStatus.GOOD, ocsp.OCSPCertStatus.REVOKED, (
    ocsp.OCSPCertStatus.UNKNOWN
)  # fmt: skip
Status = ocsp.OCSPResponseStatus


def request(
    leaf: x509.Certificate,
    issuer: x509.Certificate,
    algorithm: hashes.HashAlgorithm | None = None,
    nonce: bytes | None = None,
) -> bytes:
    builder = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuer, algorithm or hashes.SHA256())
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


def read(answer: httpx.Response) -> ocsp.OCSPResponse:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/ocsp-response"
    return ocsp.load_der_ocsp_response(answer.content)


def ask(
    office: Office, leaf: x509.Certificate, issuer: x509.Certificate, **options: Any
) -> ocsp.OCSPResponse:
    response = read(office.ask(None, "POST", "/ocsp", content=request(leaf, issuer, **options)))
    assert response.response_status == Status.SUCCESSFUL
    return response


def proven(response: ocsp.OCSPResponse, issuer: x509.Certificate) -> None:
    key = issuer.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        scheme = SCHEMES[key.curve.name]
        assert scheme.hash
        key.verify(response.signature, response.tbs_response_bytes, ec.ECDSA(scheme.hash))
    else:
        key.verify(response.signature, response.tbs_response_bytes)  # type: ignore[union-attr,call-arg]


def revoke(office: Office, leaf: x509.Certificate, reason: str = "superseded") -> None:
    with office.store.write() as records:
        identity = path.identity(path.read_any(der(leaf)))
        certificates.revoke(records, *identity, reason, office.now)


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)


@pytest.mark.parametrize("curve", ["secp256r1", "secp521r1", "ed448"])
@pytest.mark.parametrize("algorithm", [hashes.SHA1(), hashes.SHA256(), hashes.SHA512()])
def test_each_ca_answers_for_the_certificates_it_issued(
    office: Office, curve: str, algorithm: hashes.HashAlgorithm
):
    leaf, issuer = office.enroll("OEM", "oem", PCID, curve), branch("oem", curve).certificate
    response = ask(office, leaf, issuer, algorithm=algorithm)
    proven(response, issuer)
    assert (response.certificate_status, response.serial_number) == (GOOD, leaf.serial_number)
    assert response.hash_algorithm.name == algorithm.name
    assert response.this_update_utc == moment(office.now)
    assert response.next_update_utc == moment(office.now + served.VALID)
    revoke(office, leaf, "keyCompromise")
    response = ask(office, leaf, issuer, algorithm=algorithm)
    proven(response, issuer)
    assert response.certificate_status == REVOKED
    assert response.revocation_time_utc == moment(office.now)
    assert response.revocation_reason == x509.ReasonFlags.key_compromise


def test_a_certificate_that_was_never_issued_is_unknown(office: Office):
    never = x509.load_der_x509_certificate(office.issue("oem", "provisioning", PCID))
    response = ask(office, never, branch("oem").certificate)
    proven(response, branch("oem").certificate)
    assert response.certificate_status == UNKNOWN


def test_a_sub_ca_has_a_status_too(office: Office):
    top, sub1, _ = levels("oem", "secp256r1")
    with office.store.write() as records:
        certificates.record(records, der(sub1.certificate))
    assert ask(office, sub1.certificate, top.certificate).certificate_status == GOOD


def test_an_unspecified_reason_is_not_written(office: Office):
    leaf = office.enroll("OEM", "oem", PCID)
    revoke(office, leaf, "unspecified")
    assert ask(office, leaf, branch("oem").certificate).revocation_reason is None


def test_a_nonce_comes_back(office: Office):
    leaf = office.enroll("OEM", "oem", PCID)
    for nonce in (b"1", bytes(range(32))):
        response = ask(office, leaf, branch("oem").certificate, nonce=nonce)
        assert response.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == nonce


@pytest.mark.parametrize("nonce", [b"", bytes(33)])
def test_a_nonce_out_of_bounds_is_malformed(office: Office, nonce: bytes):
    leaf = office.enroll("OEM", "oem", PCID)
    body = request(leaf, branch("oem").certificate, nonce=nonce)
    answer = office.ask(None, "POST", "/ocsp", content=body)
    assert read(answer).response_status == Status.MALFORMED_REQUEST


def several(office: Office) -> bytes:
    """One request for two certificates, as RFC 6960 allows: the library builds none."""
    leaf = office.enroll("OEM", "oem", PCID)
    encoded = request(leaf, branch("oem").certificate)
    single = encoded[6:] if encoded[1] < 0x80 else encoded[9:]
    while len(single) + 6 < len(encoded) and single[0] != 0x30:
        single = single[1:]

    def wrap(content: bytes) -> bytes:
        size = bytes([len(content)]) if len(content) < 0x80 else bytes([0x81, len(content)])
        return b"\x30" + size + content

    request_for_two = wrap(wrap(wrap(single * 2)))
    with pytest.raises(NotImplementedError):
        _ = ocsp.load_der_ocsp_request(request_for_two).serial_number
    return request_for_two


def test_several_at_once_are_refused(office: Office):
    answer = office.ask(None, "POST", "/ocsp", content=several(office))
    assert read(answer).response_status == Status.UNAUTHORIZED


@pytest.mark.parametrize("body", [b"", b"0\x00", b"hello", b"0" * 2049, b"0\x82\x10\x00"])
def test_data_that_is_no_request_is_malformed(office: Office, body: bytes):
    for answer in (
        office.ask(None, "POST", "/ocsp", content=body),
        office.ask(None, "GET", f"/ocsp/{quote(base64.b64encode(body or b'?'), safe='')}"),
        office.ask(None, "GET", "/ocsp/%25%25"),
    ):
        assert read(answer).response_status == Status.MALFORMED_REQUEST


def test_a_ca_that_is_not_ours_is_refused_unsigned(office: Office):
    leaf = office.enroll("OEM", "oem", PCID)
    answer = office.ask(None, "POST", "/ocsp", content=request(leaf, leaf))
    assert read(answer).response_status == Status.UNAUTHORIZED


def test_an_issuers_name_with_anothers_key_is_no_ca_of_ours(office: Office):
    leaf = office.enroll("OEM", "oem", PCID)
    mixed = request(leaf, branch("cpo").certificate)  # the name is taken from the leaf
    answer = office.ask(None, "POST", "/ocsp", content=mixed)
    assert read(answer).response_status == Status.UNAUTHORIZED


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_a_get_is_answered_with_a_cacheable_response(office: Office, encode: Any):
    leaf, issuer = office.enroll("OEM", "oem", PCID), branch("oem").certificate
    text = encode(request(leaf, issuer)).decode()
    for written in (text, quote(text, safe=""), text.rstrip("=")):
        answer = office.ask(None, "GET", f"/ocsp/{written}")
        assert read(answer).certificate_status == GOOD
    assert answer.headers["cache-control"].startswith("max-age=3600, public")
    assert answer.headers["etag"]
    assert read(answer).next_update_utc == datetime.strptime(
        answer.headers["expires"], "%a, %d %b %Y %H:%M:%S GMT"
    ).replace(tzinfo=UTC)
    with_nonce = encode(request(leaf, issuer, nonce=b"n")).decode()
    answer = office.ask(None, "GET", f"/ocsp/{quote(with_nonce, safe='')}")
    assert "cache-control" not in answer.headers


def test_a_signed_answer_is_kept_while_it_holds(office: Office, monkeypatch: pytest.MonkeyPatch):
    signed = []
    real = responder.answer
    monkeypatch.setattr(responder, "answer", lambda *args: signed.append(args) or real(*args))
    leaf, issuer = office.enroll("OEM", "oem", PCID), branch("oem").certificate
    for _ in range(3):
        assert ask(office, leaf, issuer).certificate_status == GOOD
    assert len(signed) == 1
    office.now += served.VALID / 2 + 1
    assert ask(office, leaf, issuer).this_update_utc == moment(office.now)
    revoke(office, leaf)
    for _ in range(3):
        assert ask(office, leaf, issuer).certificate_status == REVOKED
    assert len(signed) == 3


def test_an_address_over_its_limit_gets_cached_answers_only(
    office: Office, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(served, "SIGNATURES", 2)
    monkeypatch.setattr(served, "PER_SECOND", 1e-6)
    issuer = branch("oem").certificate
    first, second, third = (office.enroll("OEM", "oem", f"{PCID[:-1]}{n}") for n in range(3))
    ask(office, first, issuer)
    nonce = ask(office, first, issuer, nonce=b"n").extensions
    assert nonce.get_extension_for_class(x509.OCSPNonce)
    for leaf in (second, third):
        answer = office.ask(None, "POST", "/ocsp", content=request(leaf, issuer))
        assert read(answer).response_status == Status.TRY_LATER
    assert ask(office, first, issuer).certificate_status == GOOD
    assert not list(ask(office, first, issuer, nonce=b"n").extensions)  # the cached answer
    revoke(office, first)  # the cached answer is invalid now
    answer = office.ask(None, "POST", "/ocsp", content=request(first, issuer))
    assert read(answer).response_status == Status.TRY_LATER


def test_a_status_changed_by_another_process_is_seen_at_once(office: Office):
    leaf, issuer = office.enroll("OEM", "oem", PCID), branch("oem").certificate
    assert ask(office, leaf, issuer).certificate_status == GOOD
    second_office = Office(office.store)
    assert ask(second_office, leaf, issuer).certificate_status == GOOD
    revoke(second_office, leaf)
    assert ask(office, leaf, issuer).certificate_status == REVOKED


def test_answers_are_kept_in_bounds(office: Office, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(served, "CACHED", 2)
    issuer = branch("oem").certificate
    for number in range(4):
        ask(office, office.enroll("OEM", "oem", f"PVTP000000000000{number}"), issuer)
    assert len(office.app.state.responder._answers) == 2


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (PoolError("unavailable", "database"), Status.TRY_LATER),
        (VaultError("unavailable", "token"), Status.INTERNAL_ERROR),
    ],
)
def test_a_backend_failure_is_an_ocsp_error_status(
    office: Office, monkeypatch: pytest.MonkeyPatch, error: Exception, status: Status
):
    leaf, issuer = office.enroll("OEM", "oem", PCID), branch("oem").certificate

    def fails(*_: Any) -> bytes:
        raise error

    monkeypatch.setattr(responder, "answer", fails)
    answer = office.ask(None, "POST", "/ocsp", content=request(leaf, issuer))
    assert read(answer).response_status == status


# Revocation lists


def crl(office: Office, authority: Any) -> x509.CertificateRevocationList:
    answer = office.ask(None, "GET", f"/crl/{authority.identifier.hex()}.crl")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/pkix-crl"
    return x509.load_der_x509_crl(answer.content)


@pytest.mark.parametrize("curve", ["secp256r1", "secp521r1", "ed448"])
def test_a_ca_lists_the_certificates_it_revoked(office: Office, curve: str):
    authority = branch("oem", curve)
    good, bad = (office.enroll("OEM", "oem", PCID, curve) for _ in range(2))
    assert len(crl(office, authority)) == 0
    revoke(office, bad, "superseded")
    office.now += 1
    revocation_list = crl(office, authority)
    assert revocation_list.is_signature_valid(authority.certificate.public_key())  # type: ignore[arg-type]
    assert revocation_list.get_revoked_certificate_by_serial_number(good.serial_number) is None
    entry = revocation_list.get_revoked_certificate_by_serial_number(bad.serial_number)
    assert entry
    assert entry.revocation_date_utc == moment(office.now - 1)
    reason = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
    assert reason == x509.ReasonFlags.superseded
    above = revocation_list.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert above.key_identifier == authority.identifier
    assert revocation_list.next_update_utc == moment(office.now + served.CRL_VALID)


def test_a_list_is_kept_until_something_is_revoked(
    office: Office, monkeypatch: pytest.MonkeyPatch
):
    calls = []
    real = responder.revocation_list
    monkeypatch.setattr(
        responder, "revocation_list", lambda *args: calls.append(args) or real(*args)
    )
    leaves = [office.enroll("OEM", "oem", PCID) for _ in range(2)]
    for expected, step in ((1, None), (1, None), (2, leaves[0]), (3, leaves[1])):
        if step:
            revoke(office, step)
        office.now += 60
        crl(office, branch("oem"))
        assert len(calls) == expected
    office.now += served.CRL_VALID / 2 + 1
    crl(office, branch("oem"))
    assert len(calls) == 4


def test_a_list_that_took_long_is_not_made_for_every_revocation(
    office: Office, monkeypatch: pytest.MonkeyPatch
):
    ticks = iter(range(0, 1000, 10))  # each list takes ten seconds
    monkeypatch.setattr(served.time, "perf_counter", lambda: next(ticks))
    leaf = office.enroll("OEM", "oem", PCID)
    assert len(crl(office, branch("oem"))) == 0
    revoke(office, leaf)
    office.now += 99
    assert len(crl(office, branch("oem"))) == 0
    office.now += 1
    assert len(crl(office, branch("oem"))) == 1


def test_a_list_is_made_once_for_concurrent_requests(
    office: Office, monkeypatch: pytest.MonkeyPatch
):
    calls = []
    real, both = responder.revocation_list, threading.Barrier(2)

    def slow(*args: Any) -> bytes:
        calls.append(args)
        with suppress(threading.BrokenBarrierError):
            both.wait(0.5)  # a second one that also makes it comes here too
        return real(*args)

    monkeypatch.setattr(responder, "revocation_list", slow)
    office.ask(None, "GET", "/crl")  # a test client has a loop for each call, a server has one
    with ThreadPoolExecutor(2) as threads:
        lists = list(threads.map(lambda _: crl(office, branch("oem")), range(2)))
    assert len(calls) == 1
    assert lists[0] == lists[1]


def test_an_ended_certificate_leaves_the_list(office: Office):
    leaf = office.enroll("CPO", "cpo", "DE*PVC*E000001")
    revoke(office, leaf)
    office.now += 1
    assert len(crl(office, branch("cpo"))) == 1
    office.now += 91 * 86_400
    assert len(crl(office, branch("cpo"))) == 0


def test_the_revocation_lists_are_listed(office: Office):
    listed = office.ask(None, "GET", "/crl").json()
    assert "CN=oem Sub2, DC=OEM, O=Example, C=DE" in {row["distinguishedName"] for row in listed}
    for row in listed:
        assert office.ask(None, "GET", row["url"]).status_code == 200
    answer = office.ask(None, "GET", "/crl/4b45ff8225fc1096.crl")
    assert answer.status_code == 404
