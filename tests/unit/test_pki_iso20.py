"""ISO 15118-20's certificates: issued by the same profiles, judged by the same path policy."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.x509.oid import SignatureAlgorithmOID

from evcc import chain
from evcc.x509 import CertificateError
from fixtures.tokens import CarToken
from plugvault.cryptoki import ed448 as token_ed448
from plugvault.pki import iso20, path
from plugvault.pki.issue import Authority, IssueError, der, issue, root, subordinate
from plugvault.pki.schemes import PrivateKey
from plugvault.tokens import Hsm
from world import NOW, PCID
from world import root as p256_root

KEYS: dict[str, Callable[[], PrivateKey]] = {
    "secp521r1": lambda: ec.generate_private_key(ec.SECP521R1()),
    "ed448": ed448.Ed448PrivateKey.generate,
}
SIGNED = {
    "secp521r1": SignatureAlgorithmOID.ECDSA_WITH_SHA512,
    "ed448": SignatureAlgorithmOID.ED448,
}
OCSP = "http://127.0.0.1/ocsp"


def names(cn: str) -> dict[str, str]:
    return {"C": "DE", "O": "Example", "CN": cn}


def branch(curve: str) -> Authority:
    above = root("oem", names("Root"), KEYS[curve](), NOW)
    for level in ("sub1", "sub2"):
        above = subordinate(f"oem-{level}", names(level), KEYS[curve](), above, NOW, OCSP)
    return above


def vehicle(above: Authority, curve: str) -> bytes:
    return issue("vehicle", names(PCID), KEYS[curve]().public_key(), above, NOW)


@pytest.mark.parametrize("curve", KEYS)
def test_a_whole_path_is_issued_and_validated(curve: str):
    sub2 = branch(curve)
    leaf = vehicle(sub2, curve)
    anchor = path.validate(leaf, sub2.path, [sub2.root], chain.PROVISIONING, NOW)
    assert anchor.der == sub2.root
    assert path.curve(anchor) == curve
    for certificate in (leaf, *sub2.path, sub2.root):
        assert len(certificate) <= 1600
        read = x509.load_der_x509_certificate(certificate)
        assert read.signature_algorithm_oid == SIGNED[curve]
        assert path.read_any(certificate).ski is not None
        assert len(path.read_any(certificate).ski or b"") == 8


@pytest.mark.parametrize("curve", KEYS)
def test_a_path_with_a_foreign_signature_is_refused(curve: str):
    real, foreign = branch(curve), branch(curve)
    forged = Authority(real.certificate, foreign.key, real.issuers)
    with pytest.raises(CertificateError, match="signature"):
        path.validate(vehicle(forged, curve), real.path, [real.root], chain.PROVISIONING, NOW)


def test_p521_and_ed448_stand_under_one_root():
    top = root("v2g", names("Root"), KEYS["ed448"](), NOW)
    sub1 = subordinate("v2g-sub1", names("Sub1"), KEYS["secp521r1"](), top, NOW)
    sub2 = subordinate("v2g-sub2", names("Sub2"), KEYS["secp521r1"](), sub1, NOW)
    leaf = vehicle(sub2, "secp521r1")
    assert path.validate(leaf, sub2.path, [top.root], chain.PROVISIONING, NOW).der == top.root


@pytest.mark.parametrize("key", [ec.SECP256R1(), ec.SECP384R1()])
def test_a_ca_certifies_keys_of_its_own_edition_only(key: ec.EllipticCurve):
    with pytest.raises(IssueError, match="curve"):
        issue(
            "vehicle",
            names(PCID),
            ec.generate_private_key(key).public_key(),
            branch("secp521r1"),
            NOW,
        )


def test_more_than_1600_bytes_are_refused():
    long = "http://127.0.0.1/" + "o" * 1200
    key, above = KEYS["secp521r1"]().public_key(), branch("secp521r1")
    with pytest.raises(IssueError, match="at most 1600"):
        issue("contract", names("DEPVT0000000012"), key, above, NOW, ocsp=long)


@pytest.mark.parametrize("curve", KEYS)
def test_a_root_is_an_anchor_only_when_its_own_key_signed_it(curve: str):
    real = root("v2g", names("Root"), KEYS[curve](), NOW)
    assert path.check_root(real.root, NOW).names["CN"] == "Root"
    forged = real.root[:-1] + bytes([real.root[-1] ^ 1])
    with pytest.raises(CertificateError, match="not-a-root"):
        path.check_root(forged, NOW)


def test_edition_2_is_still_read_strictly():
    weak = ec.generate_private_key(ec.SECP384R1())
    with pytest.raises(CertificateError, match="curve"):
        path.read_any(p256_root("Root", key=weak).der)
    assert not isinstance(path.read_any(p256_root("Root").der), iso20.Iso20Certificate)


def test_p521_signed_with_another_hash_is_refused():
    real = root("v2g", names("Root"), KEYS["secp521r1"](), NOW)
    assert isinstance(real.key, ec.EllipticCurvePrivateKey)
    certificate = (
        x509.CertificateBuilder(real.certificate.subject, real.certificate.subject)
        .public_key(real.key.public_key())
        .serial_number(1)
        .not_valid_before(real.certificate.not_valid_before_utc)
        .not_valid_after(real.certificate.not_valid_after_utc)
        .sign(real.key, SHA384())
    )
    with pytest.raises(CertificateError, match="algorithm"):
        path.read_any(der(certificate))


def test_an_unknown_critical_extension_is_refused():
    real = root("v2g", names("Root"), KEYS["secp521r1"](), NOW)
    assert isinstance(real.key, ec.EllipticCurvePrivateKey)
    oid = x509.ObjectIdentifier("1.3.6.1.4.1.99999.1")
    certificate = (
        x509.CertificateBuilder(real.certificate.subject, real.certificate.subject)
        .public_key(real.key.public_key())
        .serial_number(1)
        .not_valid_before(real.certificate.not_valid_before_utc)
        .not_valid_after(real.certificate.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(True, None), critical=True)
        .add_extension(x509.UnrecognizedExtension(oid, b"\x05\x00"), critical=True)
        .sign(real.key, real.scheme.hash)
    )
    with pytest.raises(CertificateError, match="critical-extension"):
        path.check_root(der(certificate), NOW)


@pytest.fixture
def token(car_token: CarToken):
    with Hsm(car_token.module, car_token.conf) as hsm:
        yield hsm.token(car_token.label, car_token.pin)


def test_roots_of_both_algorithms_are_made_with_keys_in_a_token(token):
    for key in (
        token.generate("p521", curve="secp521r1"),
        token_ed448.generate(token, "ed448"),
    ):
        authority = root("v2g", names("Root"), key, NOW)
        assert path.check_root(authority.root, NOW).names["CN"] == "Root"
        assert key.custody() == "L3"
    assert token.key("p521").public_key() == token.key("p521").public_key()
    again = token_ed448.key(token, "ed448")
    again.public_key().verify(again.sign(b"data"), b"data")


def test_a_p521_key_in_a_token_signs_with_sha512_alone(token):
    key = token.generate("p521", curve="secp521r1")
    with pytest.raises(UnsupportedAlgorithm):
        key.sign(b"data", ec.ECDSA(SHA256()))
