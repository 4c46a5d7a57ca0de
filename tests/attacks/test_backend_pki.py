"""Attacks on the certificate office: names and keys of others."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from evcc import csr
from fixtures.backend import refused
from fixtures.office import KEYS, Office, certs, request
from plugvault.pki.keys import raw_signer
from world import point

PCID = "PVTP0000000000001"


def key_of_another() -> bytes:
    """Return a request for the victim's public key, signed by the attacker's key."""
    attacker, victim = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    signing_request = csr.build(PCID, "Example", "DE", point(victim), raw_signer(attacker))
    return base64.b64encode(signing_request)


def another_subject() -> bytes:
    """The subject was changed after it was signed."""
    signing_request = base64.b64decode(request("PVTP0000000000009"))
    return base64.b64encode(signing_request.replace(b"PVTP0000000000009", PCID.encode()))


def named(*parts: tuple[x509.ObjectIdentifier, str]) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(oid, value) for oid, value in parts])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return base64.b64encode(builder.sign(key, SHA256()).public_bytes(Encoding.DER))


ATTACKS: dict[str, tuple[Callable[[], bytes], int, str]] = {
    "another's key": (key_of_another, 400, "not signed by its own key"),
    "subject changed": (another_subject, 400, "not signed by its own key"),
    "another's vehicle": (lambda: request("XXXP0000000000001"), 403, "WMI"),
    "no vehicle": (lambda: request("OEM Sub1 CA"), 400, "pcid : must match"),
    "no organisation": (lambda: request(PCID, organisation=None), 400, "each attribute once"),
    "no name": (lambda: request(None), 400, "each attribute once"),
    "two names, the first one's own": (
        lambda: named(
            (NameOID.COMMON_NAME, PCID),
            (NameOID.ORGANIZATION_NAME, "Example"),
            (NameOID.COMMON_NAME, "XXXP0000000000001"),
        ),
        400,
        "each attribute once",
    ),
    "a control character": (
        lambda: request(PCID, organisation="Ex\x1b[31mample"),
        400,
        "not printable",
    ),
    "another edition's key": (lambda: request(PCID, KEYS["secp521r1"]()), 400, "secp256r1"),
    "nothing": (lambda: b"", 400, "PKCS#10"),
}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("call", ["simpleenroll", "simplereenroll"])
def test_csr_proof_of_possession_and_subject_enforced_in_est(
    office: Office, attack: str, call: str
):
    make, status, words = ATTACKS[attack]
    assert certs(office.ask("OEM", "POST", f"/oem/{call}", content=request(PCID)))
    before = issued(office)
    refused(office.ask("OEM", "POST", f"/oem/{call}", content=make()), status, words)
    assert issued(office) == before


def issued(office: Office) -> int:
    with office.store.read() as records:
        return len(list(records.statuses.all()))


def test_extensions_of_a_request_are_ignored(office: Office):
    """A request for a CA certificate with names of servers gets a vehicle's leaf."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, PCID),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example"),
            x509.NameAttribute(NameOID.DOMAIN_COMPONENT, "CPS"),
        ]
    )
    builder = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject)
        .add_extension(x509.BasicConstraints(True, None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("pool.example")]), critical=False)
    )
    body = base64.b64encode(builder.sign(key, SHA256()).public_bytes(Encoding.DER))
    (leaf,) = certs(office.ask("OEM", "POST", "/oem/simpleenroll", content=body))
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    domains = leaf.subject.get_attributes_for_oid(NameOID.DOMAIN_COMPONENT)
    assert [attribute.value for attribute in domains] == ["OEM"]
    with pytest.raises(x509.ExtensionNotFound):
        leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
