"""evcc.signature: each guard by itself, with a verifier that would say yes to anything."""

from evcc import signature
from evcc.signature import N, SignatureError
from evcc.vault import PROVISIONING
from helpers import raises
from softvault import SoftVault


def part(ident, octet=7):
    return ident, "DHpublickey", {"Id": ident, "value": bytes([octet]) * 65}


def sign(*parts):
    return signature.sign(list(parts), lambda digest: bytes(31) + b"\1" + bytes(31) + b"\1")


def verify(signed, *parts):
    return signature.verify(signed, list(parts), bytes(65), lambda *_: True)


def refused(reason, signed, *parts):
    raises(SignatureError, reason, verify, signed, *parts)


def test_signed_parts_are_accepted():
    parts = [part("id1"), part("id2", 8), part("Ünïcode"), part("#id1")]
    assert verify(sign(*parts), *parts) is False
    assert verify(sign(*parts), *reversed(parts)) is False


def test_rejects_a_good_signature_of_another_key():
    vault, other_vault = SoftVault(), SoftVault()
    point = vault.generate_provisioning_key()
    other_point = other_vault.generate_provisioning_key()
    signed = signature.sign([part("id1")], lambda digest: vault.sign(PROVISIONING, digest))
    signature.verify(signed, [part("id1")], point, vault.verify)
    raises(
        SignatureError,
        "signature",
        signature.verify,
        signed,
        [part("id1")],
        other_point,
        vault.verify,
    )


def test_rejects_numbers_out_of_range_before_the_verifier():
    one, zero, order = (n.to_bytes(32, "big") for n in (1, 0, N))
    for raw in (one + zero, zero + one, one + order, order + one, one, one + one + b"\0", b""):
        signed = sign(part("id1"))
        signed["SignatureValue"]["value"] = raw
        refused("signature", signed, part("id1"))


def test_rejects_more_references_than_parts():
    refused("references", sign(part("id1"), part("id2")), part("id1"))
    refused("references", sign(part("id1")))


def test_rejects_more_parts_than_references():
    refused("references", sign(part("id1")), part("id1"), part("id2"))


def test_one_reference_does_not_cover_two_parts():
    refused("references", sign(part("id1"), part("id2")), part("id1"), part("id1"))


def test_rejects_a_reference_given_twice():
    refused("references", sign(part("id1"), part("id1")), part("id1"))
    refused("references", sign(part("id1"), part("id1", 8)), part("id1", 8))


def test_rejects_more_than_four_references():
    parts = [part("id%d" % n) for n in range(5)]
    refused("references", sign(*parts), *parts)


def test_rejects_a_reference_in_another_form():
    for uri in ("id1", "##id1", "#ID1", "#id1 ", "", "#", "#xpointer(id('id1'))"):
        signed = sign(part("id1"))
        signed["SignedInfo"]["Reference"][0]["URI"] = uri
        refused("references", signed, part("id1"))


def test_rejects_a_second_transform_or_none():
    for count in (0, 2):
        signed = sign(part("id1"))
        transforms = signed["SignedInfo"]["Reference"][0]["Transforms"]
        transforms["Transform"] = transforms["Transform"] * count
        refused("algorithm", signed, part("id1"))


def test_rejects_another_algorithm_in_each_place():
    for place in (
        lambda info: info["CanonicalizationMethod"],
        lambda info: info["SignatureMethod"],
        lambda info: info["Reference"][0]["Transforms"]["Transform"][0],
        lambda info: info["Reference"][0]["DigestMethod"],
    ):
        signed = sign(part("id1"))
        place(signed["SignedInfo"])["Algorithm"] += "x"
        refused("algorithm", signed, part("id1"))


def test_the_peers_form_of_the_emaid_counts_only_where_it_is_allowed():
    emaid = "id4", "eMAID", {"Id": "id4", "value": "DEPVT0000000012"}
    signed = sign(emaid)
    typed = signature.digest("eMAID", emaid[2], typed=True)
    assert verify(signed, emaid) is False
    signed["SignedInfo"]["Reference"][0]["DigestValue"] = typed
    refused("digest", signed, emaid)
    assert signature.verify(signed, [emaid], bytes(65), lambda *_: True, legacy_emaid=True)


def test_rejects_missing_and_extra_members():
    def info(signed):
        return signed["SignedInfo"]

    def reference(signed):
        return info(signed)["Reference"][0]

    for element, names in (
        (lambda signed: signed, ("SignedInfo",)),
        (info, ("CanonicalizationMethod", "SignatureMethod", "Reference")),
        (reference, ("URI", "Transforms", "DigestMethod", "DigestValue")),
        (lambda signed: reference(signed)["DigestMethod"], ("Algorithm",)),
        (lambda signed: signed["SignatureValue"], ("value",)),
    ):
        for name in names:
            signed = sign(part("id1"))
            del element(signed)[name]
            refused("members", signed, part("id1"))
        signed = sign(part("id1"))
        element(signed)["Id"] = "x"
        refused("members", signed, part("id1"))


def test_a_changed_value_is_another_digest():
    refused("digest", sign(part("id1")), part("id1", 8))
