"""Signature and binding: the signer, the signed parts, and the request they answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from evcc.iso15118_2.installation import InstallationRequest
from fixtures.cars import Car
from world import EMAID, NOW, SESSION_ID, World, point, seal

Body = dict[str, Any]
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def header(message: Body) -> Any:
    return message["V2G_Message"]["Header"]


def body(message: Body) -> Any:
    return message["V2G_Message"]["Body"]["CertificateInstallationRes"]


def test_rejects_res_signed_by_cpo_leaf_instead_of_cps(car: Car) -> None:
    car.attack("cps-path", "role", cps=car.world.cpo)


def test_rejects_cps_leaf_without_dc_cps(car: Car) -> None:
    car.attack("cps-path", "role", cps=car.world.cps_sub2.issue("CPS Leaf"))


def test_rejects_cps_chain_to_mo_root(car: Car) -> None:
    car.attack("cps-path", "untrusted", cps=car.world.mo_sub2.issue("CPS Leaf", dc="CPS"))


@pytest.mark.parametrize("missing", range(4))
def test_rejects_missing_one_of_four_references(car: Car, missing: int) -> None:
    names = ["ContractSignatureCertChain", "ContractSignatureEncryptedPrivateKey"]
    names += ["DHpublickey", "eMAID"]
    del names[missing]
    car.attack("signature", "references", references=names)


def test_rejects_duplicate_reference_id(car: Car) -> None:
    car.attack("signature", "references", ids=("id1", "id2", "id2", "id4"))


def test_rejects_a_reference_given_twice(car: Car) -> None:
    def twice(info: Body) -> None:
        info["Reference"][3] = info["Reference"][0]

    car.attack("signature", "references", edit_signed_info=twice)


def test_rejects_a_fifth_reference(car: Car) -> None:
    def fifth(info: Body) -> None:
        info["Reference"].append({**info["Reference"][0], "URI": "#id5"})

    car.attack("signature", "references", edit_signed_info=fifth)


def test_rejects_reference_wrapping_of_second_contract_chain(car: Car) -> None:
    """The signed chain is moved to an unread element; another chain takes its place."""
    other_contract = car.world.new_contract(EMAID)

    def wrap(message: Body) -> None:
        good = body(message)["ContractSignatureCertChain"]
        body(message)["SAProvisioningCertificateChain"]["Id"] = good["Id"]
        good["Certificate"] = other_contract.der
        good["Id"] = "id5"

    car.attack("signature", "references", edit=wrap)


def test_rejects_another_chain_under_the_signed_id(car: Car) -> None:
    other_contract = car.world.new_contract(EMAID)

    def swap(message: Body) -> None:
        body(message)["ContractSignatureCertChain"]["Certificate"] = other_contract.der

    car.attack("signature", "digest", edit=swap)


def test_rejects_swapped_dhpublickey_with_valid_old_signature(car: Car) -> None:
    def swap(message: Body) -> None:
        body(message)["DHpublickey"]["value"] = car.world.contract.point

    car.attack("signature", "digest", edit=swap)


def test_rejects_swapped_encrypted_key_between_two_vehicles(car: Car) -> None:
    """First between two messages (the digest tells), then as a whole message for another car."""
    other_car = point(car.world.mo_root.key)

    def swap(message: Body) -> None:
        element = body(message)["ContractSignatureEncryptedPrivateKey"]
        element["value"] = seal(bytes(31) + b"\1", car.world.contract_key, other_car)

    car.attack("signature", "digest", edit=swap)
    contract = car.world.new_contract("DEPVT0000000Z27")
    message_for_other = car.world.response(other_car, contract=contract)
    car.rejects("vault", "key-mismatch", message_for_other)


def test_rejects_emaid_not_equal_to_contract_cn(car: Car) -> None:
    car.attack("emaid", None, emaid="DEPVT0000000Z27")


def test_rejects_an_emaid_other_than_the_one_announced(car: Car) -> None:
    request = InstallationRequest.over_the_air("DEPVT0000000Z27", SESSION_ID)
    car.rejects("emaid", None, car.world.response(car.point), request=request)
    request = InstallationRequest.over_the_air(EMAID, SESSION_ID)
    car.installs(car.world.response(car.point), request=request)


ALGORITHMS: dict[str, Callable[[Body], Any]] = {
    "SHA-1 digest": lambda info: info["Reference"][1]["DigestMethod"].update(
        Algorithm="http://www.w3.org/2000/09/xmldsig#sha1"
    ),
    "unknown signature": lambda info: info["SignatureMethod"].update(
        Algorithm="http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha1"
    ),
    "other canonicalization": lambda info: info["CanonicalizationMethod"].update(
        Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"
    ),
    "other transform": lambda info: info["Reference"][0]["Transforms"]["Transform"][0].update(
        Algorithm="http://www.w3.org/TR/1999/REC-xpath-19991116"
    ),
}


@pytest.mark.parametrize("which", ALGORITHMS)
def test_rejects_sha1_or_unknown_digest_algorithm(car: Car, which: str) -> None:
    car.attack("signature", "algorithm", edit_signed_info=ALGORITHMS[which])


def test_rejects_members_that_a_signature_must_not_have(car: Car) -> None:
    def named(info: Body) -> None:
        info["Id"] = "id9"

    car.attack("signature", "members", edit_signed_info=named)


@pytest.mark.parametrize("raw", [(0, 1), (1, 0), (ORDER, 1), (1, ORDER), (0, 0)])
def test_rejects_signature_r_or_s_zero_or_out_of_range(car: Car, raw: tuple[int, int]) -> None:
    value = b"".join(n.to_bytes(32, "big") for n in raw)

    def replace(message: Body) -> None:
        header(message)["Signature"]["SignatureValue"]["value"] = value

    car.attack("signature", "signature", edit=replace)


def test_rejects_r_and_s_that_only_a_lax_reader_reduces(car: Car) -> None:
    """r + n is the same number to a library that reduces first."""

    def grow(message: Body) -> None:
        element = header(message)["Signature"]["SignatureValue"]
        s = int.from_bytes(element["value"][32:], "big")
        element["value"] = element["value"][:32] + (s + ORDER).to_bytes(33, "big")

    car.attack("signature", "signature", edit=grow)


def test_rejects_an_answer_without_a_signature(car: Car) -> None:
    car.attack("signature", None, edit=lambda message: header(message).pop("Signature"))


def test_rejects_res_for_another_session_id(car: Car) -> None:
    car.attack("session", None, session_id=bytes(8))


def test_rejects_replayed_res_after_newer_install(car: Car) -> None:
    old = car.world.response(car.point)
    car.installs(old)
    newer = car.world.new_contract(EMAID, not_before=NOW - 60)
    car.installs(car.world.response(car.point, contract=newer))
    car.rejects("not-admitted", "replayed", old)
    older = car.world.response(car.point, contract=car.world.new_contract(EMAID))
    car.rejects("not-admitted", "older", older)


def test_rejects_replayed_res_after_the_contract_was_removed(car: Car) -> None:
    old = car.world.response(car.point)
    car.installs(old)
    car.vault.delete(car.contracts.delete(EMAID))
    car.rejects("not-admitted", "replayed", old)


def test_rejects_unsolicited_installation_res(car: Car) -> None:
    response = car.world.response(car.point)
    car.rejects("unsolicited", None, response, request=None)
    car.installs(response)


def test_rejects_a_second_answer_to_one_request(car: Car, world: World) -> None:
    request = InstallationRequest.at_station(SESSION_ID)
    wrong = world.response(car.point, emaid="DEPVT0000000Z27")
    car.rejects("emaid", None, wrong, request=request)
    car.rejects("unsolicited", None, world.response(car.point), request=request)


def test_the_peers_form_of_the_emaid_is_accepted_only_when_set_and_reported(car: Car) -> None:
    from evcc import signature

    def legacy(info: Body) -> None:
        element = {"Id": "id4", "value": EMAID}
        info["Reference"][3]["DigestValue"] = signature.digest("eMAID", element, True)

    response = car.world.response(car.point, edit_signed_info=legacy)
    car.rejects("signature", "digest", response)
    reported: list[str] = []
    car.installs(response, legacy_emaid=True, report=reported.append)
    assert "legacy-emaid" in reported
