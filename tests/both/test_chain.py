"""evcc.chain: one good path of each role, and each way of going wrong with its own reason.

The certificates: tests/vectors/certificates.json, made by tools/make_vectors.py.
"""

import json

from evcc import chain, p256, x509
from evcc.x509 import CertificateError
from helpers import raises, vector

NOW = 1767225600  # 2026-01-01
_made = json.loads(vector("certificates.json"))
_parsed = {}


def c(name):
    if name not in _parsed:
        _parsed[name] = x509.parse(bytes.fromhex(_made[name]))
    return _parsed[name]


def validate(leaf, subs, anchors, role=chain.CONTRACT, now=NOW, verify=p256.verify, **more):
    return chain.validate(
        c(leaf), [c(s) for s in subs], [c(a) for a in anchors], role, now, verify, **more
    )


def refused(reason, leaf, subs, anchors, *args, **more):
    return raises(CertificateError, reason, validate, leaf, subs, anchors, *args, **more)


def changed(name, **attributes):
    """A certificate with attributes that its DER does not have: the signature stays good."""
    cert = x509.parse(bytes.fromhex(_made[name]))
    for attribute, value in attributes.items():
        setattr(cert, attribute, value)
    return cert


SUBS = ("sub2", "sub1")
ROOT = ("root",)


def test_each_role_has_its_good_path():
    for leaf, role in (
        ("contract", chain.CONTRACT),
        ("contract_lenient", chain.CONTRACT),
        ("cps", chain.CPS),
        ("cpo", chain.CPO),
        ("provisioning", chain.PROVISIONING),
        ("provisioning_lenient", chain.PROVISIONING),
    ):
        assert validate(leaf, SUBS, ROOT, role) is c("root"), leaf


def test_subs_come_in_any_order_and_the_right_anchor_is_found():
    assert validate("contract", ("sub1", "sub2"), ("other_root", "root")) is c("root")


def test_a_leaf_may_stand_right_under_its_root():
    assert validate("contract_by_root", (), ROOT) is c("root")


def test_certificates_that_are_not_on_the_path_are_passed_over():
    assert validate("contract", ("short1", "sub2", "sub1"), ROOT) is c("root")


def test_every_link_is_verified():
    links = []

    def count(point, digest, signature):
        links.append(point)
        return p256.verify(point, digest, signature)

    validate("contract", SUBS, ROOT, verify=count)
    assert links == [c("root").point, c("sub1").point, c("sub2").point]


def test_rejects_each_link_that_does_not_verify():
    for broken in ("root", "sub1", "sub2"):
        issuer = c(broken).point

        def verify(point, digest, signature, issuer=issuer):
            return point != issuer

        refused("signature", "contract", SUBS, ROOT, verify=verify)


def test_no_signature_is_verified_before_the_cheap_checks_pass():
    def never(point, digest, signature):
        raise AssertionError("verified too early")

    for reason, leaf, subs in (
        ("expired", "contract_expired", SUBS),
        ("untrusted", "contract", ("sub2",)),
        ("path-length", "contract_too_deep", ("short2", "short1")),
        ("role", "contract_no_emaid", SUBS),
    ):
        refused(reason, leaf, subs, ROOT, verify=never)


def test_rejects_expired_leaf_from_the_second_after():
    end = c("contract").not_after
    assert validate("contract", SUBS, ROOT, now=end) is c("root")
    refused("expired", "contract", SUBS, ROOT, now=end + 1)
    refused("expired", "contract_expired", SUBS, ROOT)


def test_rejects_not_yet_valid_leaf_until_the_second_it_begins():
    begin = c("contract_future").not_before
    refused("not-yet-valid", "contract_future", SUBS, ROOT, now=begin - 1)
    assert validate("contract_future", SUBS, ROOT, now=begin) is c("root")


def test_rejects_expired_sub_ca_and_expired_anchor():
    refused("expired", "contract_by_old", ("old_sub", "sub1"), ROOT)
    refused("expired", "contract", SUBS, ("expired_twin_root",))


def test_a_renewed_root_beside_its_expired_self_is_found():
    assert validate("contract", SUBS, ("expired_twin_root", "root")) is c("root")
    assert validate("contract", SUBS, ("root", "expired_twin_root")) is c("root")


def test_rejects_sub_ca_without_ca_flag():
    refused("no-ca-flag", "contract_by_no_flag", ("no_flag", "sub1"), ROOT)


def test_rejects_sub_ca_that_may_not_sign_certificates():
    refused("key-usage", "contract_by_no_usage", ("no_usage", "sub1"), ROOT)


def test_a_ca_may_lack_key_usage():
    subs = [changed("sub2", key_usage=None), c("sub1")]
    chain.validate(c("contract"), subs, [c("root")], chain.CONTRACT, NOW, p256.verify)


def test_rejects_path_length_exceeded():
    refused("path-length", "contract_too_deep", ("short2", "short1"), ROOT)


def test_rejects_path_length_of_the_anchor_exceeded():
    refused("path-length", "contract_under_tight", ("under_tight",), ("tight_root",))


def test_rejects_unknown_critical_extension():
    refused("critical-extension", "contract_critical", SUBS, ROOT)
    refused("critical-extension", "contract_by_critical", ("critical_sub", "sub1"), ROOT)


def test_rejects_leaf_used_as_sub_ca():
    refused("leaf-as-ca", "contract_by_contract", ("contract",), ROOT, transitive=True)
    refused("leaf-as-ca", "contract_by_lenient", ("contract_lenient",), ROOT, transitive=True)
    refused("leaf-as-ca", "contract_by_root_leaf", ("contract_by_root",), ROOT)


def test_rejects_root_in_message_as_anchor():
    refused("root-in-message", "contract", SUBS + ROOT, ())
    refused("root-in-message", "contract", SUBS + ROOT, ("other_root",))


def test_root_in_message_is_passed_over_when_the_store_has_it():
    assert validate("contract", SUBS + ROOT, ROOT) is c("root")
    refused("wrong-issuer-key", "contract", SUBS + ROOT, ("impostor_root",))


def test_rejects_chain_to_no_anchor():
    refused("untrusted", "contract", SUBS, ("other_root",))
    refused("untrusted", "contract", SUBS, ())
    refused("untrusted", "contract", ("sub2",), ROOT)
    refused("untrusted", "contract_self", (), ROOT)


def test_cas_that_issued_each_other_lead_to_no_anchor():
    refused("untrusted", "contract_by_loop", ("loop_a", "loop_b"), ROOT)


def test_rejects_same_name_different_key_issuer():
    refused("wrong-issuer-key", "contract", ("impostor_sub2", "sub1"), ROOT)
    refused("signature", "contract_by_impostor", SUBS, ROOT)
    refused("wrong-issuer-key", "contract_by_impostor_keyed", SUBS, ROOT)
    refused("wrong-issuer-key", "contract", SUBS, ("impostor_root",))


def test_without_key_identifiers_a_wrong_key_is_a_wrong_signature():
    for leaf, sub in (
        (changed("contract", aki=None), c("impostor_sub2")),
        (c("contract"), changed("impostor_sub2", ski=None)),
    ):
        args = (leaf, [sub, c("sub1")], [c("root")], chain.CONTRACT, NOW, p256.verify)
        raises(CertificateError, "signature", chain.validate, *args)


def test_a_wrong_key_identifier_beside_a_good_signature_is_tolerated():
    leaf = changed("contract", aki=bytes(8))
    chain.validate(leaf, [c("sub2"), c("sub1")], [c("root")], chain.CONTRACT, NOW, p256.verify)


def test_of_two_issuers_of_one_name_the_key_identifier_decides():
    assert validate("contract", ("impostor_sub2",) + SUBS, ROOT) is c("root")
    assert validate("contract", SUBS, ("impostor_root", "root")) is c("root")


def test_without_a_key_identifier_every_issuer_of_the_name_is_tried():
    leaf = changed("contract_by_root", aki=None)
    without = changed("impostor_root", ski=None)
    for anchors in ([without, c("root")], [c("root"), without]):
        anchor_ = chain.validate(leaf, [], anchors, chain.CONTRACT, NOW, p256.verify)
        assert anchor_ is c("root")


def test_rejects_other_curves():
    raises(CertificateError, "curve", x509.parse, bytes.fromhex(_made["contract_p384"]))


def test_rejects_chain_of_more_than_four():
    refused("too-long", "contract_of_five", ("plain3", "plain2", "plain1"), ROOT)
    refused("too-long", "contract_of_five", ("plain3", "plain2", "plain1"), (), transitive=True)
    refused("too-long", "contract", ("sub2", "sub1", "short1", "short2", "plain1"), ROOT)


def test_rejects_leaf_in_another_role():
    for leaf, role in (
        ("cps_no_dc", chain.CPS),
        ("cpo", chain.CPS),
        ("cps", chain.CPO),
        ("contract", chain.CPS),
        ("contract", chain.PROVISIONING),
        ("contract_as_cps", chain.CONTRACT),
        ("contract_no_emaid", chain.CONTRACT),
        ("provisioning", chain.CONTRACT),
        ("provisioning", chain.CPO),
    ):
        refused("role", leaf, SUBS, ROOT, role)


def test_rejects_ca_as_leaf():
    refused("leaf-is-ca", "contract_ca", SUBS, ROOT)


def test_rejects_leaf_with_key_usage_against_its_role():
    refused("key-usage", "contract_no_sign", SUBS, ROOT)
    refused("key-usage", "provisioning_no_agreement", SUBS, ROOT, chain.PROVISIONING)


def test_transitive_accepts_an_unknown_root_after_verifying_the_links():
    assert validate("contract", SUBS, ("other_root",), transitive=True) is None
    assert validate("contract", SUBS + ROOT, (), transitive=True) is None
    refused("wrong-issuer-key", "contract", ("impostor_sub2",), (), transitive=True)
    refused("signature", "contract_by_impostor", ("sub2",), (), transitive=True)


def test_transitive_still_requires_a_sub_ca_that_issued_the_leaf():
    """Without this check a leaf of any issuer would pass, and no signature would be verified."""
    refused("untrusted", "contract_by_root", (), (), transitive=True)
    refused("untrusted", "contract", (), ("other_root",), transitive=True)


def test_transitive_still_requires_a_known_name_to_verify():
    assert validate("contract", SUBS, ROOT, transitive=True) is c("root")
    refused("wrong-issuer-key", "contract", SUBS, ("impostor_root",), transitive=True)
    refused("wrong-issuer-key", "contract_by_root", (), ("impostor_root",), transitive=True)


def test_transitive_still_requires_role_and_dates():
    refused("expired", "contract_expired", SUBS, (), transitive=True)
    refused("role", "contract_as_cps", SUBS, (), transitive=True)
    refused("no-ca-flag", "contract_by_no_flag", ("no_flag", "sub1"), (), transitive=True)


def test_is_anchor_accepts_roots():
    for name in ("root", "other_root", "tight_root", "forever_root"):
        chain.is_anchor(c(name), NOW, p256.verify)


def test_is_anchor_rejects_other_certificates():
    for name in (
        "sub1",
        "contract",
        "contract_self",
        "not_ca_root",
        "forged_root",
        "renamed_root",
    ):
        raises(CertificateError, "not-a-root", chain.is_anchor, c(name), NOW, p256.verify)
    raises(CertificateError, "expired", chain.is_anchor, c("expired_twin_root"), NOW, p256.verify)
    raises(CertificateError, "not-yet-valid", chain.is_anchor, c("root"), 0, p256.verify)
