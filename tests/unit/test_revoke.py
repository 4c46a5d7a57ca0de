"""Revocation on request: by the owner of the subject, and of every certificate below a CA."""

from __future__ import annotations

import base64

import httpx
import pytest
from cryptography import x509

from fixtures.backend import refused
from fixtures.office import Office, branch, forged, levels
from plugvault.pki import path
from plugvault.pki.issue import der
from plugvault.pools import certificates
from plugvault.pools.records import Status

URL = "/opnc/v1/pki/pki/revokeCertificate"
EVSEID = "DE*PVC*E000001"


def revoke(
    office: Office, role: str, certificate: x509.Certificate, reason: str = "superseded"
) -> httpx.Response:
    encoded = base64.b64encode(der(certificate)).decode()
    body = {"certificate": encoded, "revocationReason": reason}
    return office.ask(role, "POST", URL, json=body)


def status(office: Office, certificate: x509.Certificate) -> Status:
    with office.store.read() as records:
        row = records.statuses.get(*path.identity(path.read_any(der(certificate))))
    assert row
    return row


ISSUED = {
    "oem": ("OEM", "PVTP0000000000001"),
    "cpo": ("CPO", EVSEID),
    "mo": ("MO_HUBJECT_PKI", "DEPVB0000000012"),
}


@pytest.mark.parametrize("kind", ISSUED)
@pytest.mark.parametrize("curve", ["secp256r1", "secp521r1"])
def test_the_owner_of_a_subject_and_an_administrator_revoke_it(
    office: Office, kind: str, curve: str
):
    role, name = ISSUED[kind]
    if curve == "secp521r1" and kind == "cpo":
        name = "DE-PVC-S-0001-2"
    for caller_role in (role, "ADMIN"):
        leaf = office.enroll(role, kind, name, curve)
        answer = revoke(office, caller_role, leaf, "keyCompromise")
        assert answer.status_code == 200, answer.text
        assert (status(office, leaf).revoked, status(office, leaf).reason) == (
            int(office.now),
            "keyCompromise",
        )


@pytest.mark.parametrize("kind", ISSUED)
def test_no_caller_revokes_anothers_certificate(office: Office, kind: str):
    role, name = ISSUED[kind]
    leaf = office.enroll(role, kind, name)
    for other_role in {"OEM", "CPO", "MO_EXTERNAL_PKI", "MO_HUBJECT_PKI"} - {role}:
        refused(revoke(office, other_role, leaf), 403, "does not belong to the caller")
    refused(revoke(office, "CPS", leaf), 403, "This call is for")
    assert status(office, leaf).revoked is None


def test_a_forged_certificate_with_anothers_serial_revokes_nothing(office: Office):
    """The forgery has the same issuer, serial and key identifier, under the caller's subject."""
    victim = office.enroll("OEM", "oem", "PVTP0000000000001")
    cpo = office.enroll("CPO", "cpo", EVSEID)
    forgery = forged(victim, cpo.subject)
    refused(revoke(office, "CPO", forgery), 404, "not issued here")
    assert status(office, victim).revoked is None


def test_a_second_revocation_changes_nothing(office: Office):
    leaf = office.enroll("CPO", "cpo", EVSEID)
    assert revoke(office, "CPO", leaf, "superseded").status_code == 200
    first = status(office, leaf)
    office.now += 60
    assert revoke(office, "CPO", leaf, "keyCompromise").status_code == 200
    assert status(office, leaf) == first


def test_a_certificate_from_before_the_register_can_be_revoked(office: Office):
    certificate = x509.load_der_x509_certificate(office.issue("cpo", "cpo", EVSEID))
    assert revoke(office, "CPO", certificate).status_code == 200
    assert status(office, certificate).revoked == int(office.now)


def test_a_role_certificate_is_an_administrators(office: Office):
    leaf = office.enroll("CPS", "cps", "CPS 7")
    refused(revoke(office, "OEM", leaf), 403, "Only an administrator")
    assert revoke(office, "ADMIN", leaf).status_code == 200


def test_a_revoked_ca_revokes_every_certificate_below_it(office: Office):
    leaf, unrelated = office.enroll("CPO", "cpo", EVSEID), office.enroll("CPS", "cps", "CPS 7")
    _, sub1, sub2 = levels("cpo", "secp256r1")
    with office.store.write() as records:
        certificates.record(records, der(sub2.certificate))
    refused(revoke(office, "CPO", sub1.certificate), 403, "Only an administrator")
    assert revoke(office, "ADMIN", sub1.certificate, "cessationOfOperation").status_code == 200
    for fallen in (sub1.certificate, sub2.certificate, leaf):
        assert status(office, fallen).revoked == int(office.now)
        assert status(office, fallen).reason == "cessationOfOperation"
    assert status(office, unrelated).revoked is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"certificate": "AAAA", "revocationReason": "superseded"}, "certificate : "),
        ({"certificate": "%", "revocationReason": "superseded"}, "certificate : must match"),
        ({"certificate": "AAAA", "revocationReason": "boredom"}, "revocationReason : must match"),
        ({"certificate": "AAAA"}, "revocationReason : must be given"),
    ],
)
def test_a_bad_request_gets_a_precise_error(office: Office, body: dict[str, str], words: str):
    refused(office.ask("ADMIN", "POST", URL, json=body), 400, words)


def test_a_root_is_not_revoked_here(office: Office):
    """It leaves RCP; no CA stands above it to say more."""
    top = levels("cpo", "secp256r1")[0]
    sub2 = branch("cpo")
    with office.store.write() as records:
        certificates.record(records, der(sub2.certificate))
    refused(revoke(office, "ADMIN", top.certificate), 400, "root")
    assert status(office, sub2.certificate).revoked is None
