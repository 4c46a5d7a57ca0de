"""Issued certificates: the contents of each kind; evcc's path validation accepts them."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from evcc import chain
from evcc.x509 import CertificateError
from plugvault.pki import path
from plugvault.pki.issue import LIMIT, Authority, IssueError, der, issue, root, subordinate
from world import EMAID, NOW, PCID

DAY = 86_400
OCSP = "http://127.0.0.1:8080/ocsp"


def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def names(cn: str) -> dict[str, str]:
    return {"C": "DE", "O": "Example", "CN": cn}


def branch(kind: str) -> Authority:
    """The Sub2 of a new PKI."""
    above = root(kind, names(f"{kind} Root"), key(), NOW)
    for level in ("sub1", "sub2"):
        above = subordinate(f"{kind}-{level}", names(level), key(), above, NOW, OCSP)
    return above


def leaf(profile: str, cn: str, above: Authority, **options) -> x509.Certificate:
    encoded = issue(profile, names(cn), key().public_key(), above, NOW, ocsp=OCSP, **options)
    return x509.load_der_x509_certificate(encoded)


# profile: DC, key usage, path length, carries OCSP [ISO 15118-2 Annex F]
SIGNS_CERTIFICATES = {"key_cert_sign", "crl_sign"}
EXPECTED = {
    "v2g-root": ("V2G", SIGNS_CERTIFICATES, None, False),
    "v2g-sub1": ("V2G", SIGNS_CERTIFICATES, 1, True),
    "v2g-sub2": ("V2G", SIGNS_CERTIFICATES, 0, True),
    "provisioning": ("OEM", {"digital_signature", "key_agreement"}, None, True),
    "contract": (
        "MO",
        {"digital_signature", "content_commitment", "key_encipherment", "key_agreement"},
        None,
        True,
    ),
    "cps": ("CPS", {"digital_signature"}, None, True),
    "cpo": ("CPO", {"digital_signature", "key_agreement"}, None, True),
}
LEAVES = {"provisioning": PCID, "contract": EMAID, "cps": "CPS 1", "cpo": "DE*PVT*E1"}


def every_profile() -> dict[str, x509.Certificate]:
    sub2 = branch("v2g")
    sub1, top = sub2.issuers
    authorities = {"v2g-root": top, "v2g-sub1": sub1, "v2g-sub2": sub2.certificate}
    return authorities | {profile: leaf(profile, cn, sub2) for profile, cn in LEAVES.items()}


@pytest.mark.parametrize("profile", EXPECTED)
def test_a_certificate_carries_the_fields_of_its_profile(profile: str):
    certificate = every_profile()[profile]
    domain, usage, length, ocsp = EXPECTED[profile]
    dc = certificate.subject.get_attributes_for_oid(NameOID.DOMAIN_COMPONENT)
    assert [attribute.value for attribute in dc] == [domain]
    basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value.ca) == (True, profile.startswith("v2g"))
    assert basic.value.path_length == length
    key_usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    flags = {flag.lstrip("_") for flag, value in vars(key_usage.value).items() if value}
    assert (key_usage.critical, flags) == (True, usage)
    access = [
        description.access_location.value
        for extension in certificate.extensions
        if isinstance(extension.value, x509.AuthorityInformationAccess)
        for description in extension.value
        if description.access_method == AuthorityInformationAccessOID.OCSP
    ]
    assert access == ([OCSP] if ocsp else [])
    assert len(der(certificate)) <= 800


def test_key_identifiers_are_8_bytes_and_name_the_issuer():
    sub2 = branch("v2g")
    certificate = path.read(der(leaf("cps", "CPS 1", sub2)))
    assert certificate.ski is not None
    assert len(certificate.ski) == 8
    assert certificate.aki == path.read(der(sub2.certificate)).ski


@pytest.mark.parametrize(
    ("kind", "profile", "role"),
    [
        ("v2g", "cps", chain.CPS),
        ("v2g", "cpo", chain.CPO),
        ("mo", "contract", chain.CONTRACT),
        ("v2g", "contract", chain.CONTRACT),
        ("oem", "provisioning", chain.PROVISIONING),
    ],
)
def test_each_leaf_is_good_for_its_role_and_no_other(kind: str, profile: str, role: str):
    sub2 = branch(kind)
    certificate = der(leaf(profile, LEAVES[profile], sub2))
    assert path.validate(certificate, sub2.path, [sub2.root], role, NOW).der == sub2.root
    for other_role in {chain.CPS, chain.CPO, chain.CONTRACT, chain.PROVISIONING} - {role}:
        with pytest.raises(CertificateError, match="role"):
            path.validate(certificate, sub2.path, [sub2.root], other_role, NOW)


def test_a_certificate_over_800_bytes_is_refused():
    sub2 = branch("mo")
    long = "http://127.0.0.1/" + "o" * 400
    with pytest.raises(IssueError, match="too-long"):
        issue("contract", names(EMAID), key().public_key(), sub2, NOW, ocsp=long)


def test_a_certificate_just_within_the_limit_is_issued():
    sub2 = branch("mo")
    size = len(der(leaf("contract", EMAID, sub2)))
    fitting = OCSP + "o" * (LIMIT - size - 16)  # lengths and a signature vary by a few bytes
    certificate = issue("contract", names(EMAID), key().public_key(), sub2, NOW, ocsp=fitting)
    assert LIMIT - 32 < len(certificate) <= LIMIT


def test_a_leaf_cannot_issue():
    above = branch("v2g")
    holder = key()
    certificate = issue("cps", names("CPS"), holder.public_key(), above, NOW)
    with pytest.raises(IssueError, match="not-a-ca"):
        leaf("contract", EMAID, Authority(x509.load_der_x509_certificate(certificate), holder))


def test_sub2_cannot_issue_a_ca():
    with pytest.raises(IssueError, match="not-a-ca"):
        subordinate("v2g-sub1", names("Sub3"), key(), branch("v2g"), NOW)


def test_a_key_on_another_curve_is_refused():
    p384_key = ec.generate_private_key(ec.SECP384R1()).public_key()
    with pytest.raises(IssueError, match="curve"):
        issue("cps", names("CPS"), p384_key, branch("v2g"), NOW)


def test_nothing_outlives_its_issuer():
    sub2 = branch("v2g")
    limit = sub2.certificate.not_valid_after_utc.timestamp()
    with pytest.raises(IssueError, match="outlive"):
        leaf("contract", EMAID, sub2, ends=limit + 1)
    certificate = leaf("provisioning", PCID, sub2)  # its usual lifetime is longer than Sub2's
    assert certificate.not_valid_after_utc.timestamp() == limit


def test_an_empty_validity_is_refused():
    with pytest.raises(IssueError, match="validity"):
        leaf("contract", EMAID, branch("mo"), begins=NOW, ends=NOW)


@pytest.mark.parametrize("begins", [-1.0, -62135596800.0, -62135683200.0])
def test_a_validity_from_before_computers_is_refused(begins: float):
    """The year 0 is no date to Python, the year 1 a panic to the library below."""
    with pytest.raises(IssueError, match="validity"):
        leaf("contract", EMAID, branch("mo"), begins=begins)


@pytest.mark.parametrize("owner", ["Ex\x1b[31mample", "Ex\0ample", "Ex\x9bample", "elpma\u202exE"])
def test_a_subject_that_hides_something_is_not_certified(owner: str):
    with pytest.raises(IssueError, match="subject"):
        issue("contract", {"O": owner, "CN": EMAID}, key().public_key(), branch("mo"), NOW)


def test_a_common_name_that_is_too_long_is_refused():
    with pytest.raises(IssueError, match="subject"):
        leaf("cps", "C" * 65, branch("v2g"))


def test_a_ca_does_not_show_its_key():
    assert "PrivateKey" not in repr(branch("v2g"))
