"""The station's half of a session: the contracts and signed challenges that it refuses."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from evcc.iso15118_2 import messages
from secc_vehicle import CHALLENGE, Vehicle, refused
from world import DAY, EMAID, NOW, World


@pytest.fixture
def vehicle(world: World) -> Vehicle:
    return Vehicle(world)


# The contract


def test_rejects_a_contract_of_a_foreign_root(vehicle: Vehicle) -> None:
    chain = World().contract.chain
    refused(vehicle, vehicle.to_payment().details(chain), "FAILED_CertChainError")


def test_rejects_a_root_the_vehicle_brought(vehicle: Vehicle) -> None:
    foreign = World()
    chain = [*foreign.contract.chain, foreign.mo_root.der]
    refused(vehicle, vehicle.to_payment().details(chain), "FAILED_CertChainError")


def test_rejects_a_chain_with_a_sub_ca_missing(vehicle: Vehicle) -> None:
    leaf, sub2, _ = vehicle.world.contract.chain
    refused(vehicle, vehicle.to_payment().details([leaf, sub2]), "FAILED_CertChainError")


def test_rejects_a_contract_signed_by_another_contract(vehicle: Vehicle) -> None:
    contract = vehicle.world.contract
    leaf = contract.issue(EMAID, dc="MO")
    refused(vehicle, vehicle.to_payment().details(leaf.chain), "FAILED_CertChainError")


def test_rejects_a_leaf_that_is_no_contract(vehicle: Vehicle) -> None:
    leaf = vehicle.world.cpo
    refused(vehicle, vehicle.to_payment().details(leaf.chain), "FAILED_CertChainError")


def test_rejects_a_chain_that_begins_with_a_sub_ca(vehicle: Vehicle) -> None:
    _, sub2, sub1 = vehicle.world.contract.chain
    refused(vehicle, vehicle.to_payment().details([sub2, sub1]), "FAILED_CertChainError")


def test_accepts_sub_cas_in_any_order(vehicle: Vehicle) -> None:
    leaf, sub2, sub1 = vehicle.world.contract.chain
    assert vehicle.to_payment().details([leaf, sub1, sub2])["ResponseCode"] == "OK"


@pytest.mark.parametrize("after", [-DAY, 10 * 365 * DAY], ids=["not yet valid", "expired"])
def test_rejects_a_contract_out_of_its_dates(vehicle: Vehicle, after: int) -> None:
    leaf = vehicle.world.new_contract(EMAID, not_before=NOW)
    vehicle.now = NOW + after
    refused(vehicle, vehicle.to_payment().details(leaf.chain), "FAILED_CertificateExpired")


@pytest.mark.parametrize("emaid", ["DEPVT0000000028", "no EMAID at all"])
def test_rejects_an_emaid_that_is_not_the_certificates(vehicle: Vehicle, emaid: str) -> None:
    body = vehicle.to_payment().details(emaid=emaid)
    refused(vehicle, body, "FAILED_CertChainError")


def test_rejects_bytes_that_are_no_certificate(vehicle: Vehicle) -> None:
    body = vehicle.to_payment().details([b"\x30\x03\x02\x01\x00"])
    refused(vehicle, body, "FAILED_CertChainError")


# The signed challenge


def test_rejects_a_challenge_that_was_not_ours(vehicle: Vehicle) -> None:
    body = vehicle.to_authorization().authorize(challenge=bytes(16))
    refused(vehicle, body, "FAILED_ChallengeInvalid")


def test_rejects_an_authorization_without_challenge(vehicle: Vehicle) -> None:
    body = vehicle.to_authorization().say("AuthorizationReq", {"Id": "id1"})
    refused(vehicle, body, "FAILED_ChallengeInvalid")


def test_rejects_another_contracts_key(vehicle: Vehicle) -> None:
    other_contract = vehicle.world.new_contract("DEPVT0000000028")
    refused(
        vehicle,
        vehicle.to_authorization().authorize(key=other_contract.key),
        "FAILED_SignatureError",
    )


def test_rejects_an_unsigned_authorization(vehicle: Vehicle) -> None:
    body = messages.authorization_req("id1", CHALLENGE)
    answer = vehicle.to_authorization().say("AuthorizationReq", body)
    refused(vehicle, answer, "FAILED_SignatureError")


def _second_reference(info: Any, body: Any) -> None:
    info["Reference"].append({**info["Reference"][0], "URI": "#id2"})


def _no_such_id(info: Any, body: Any) -> None:
    info["Reference"][0]["URI"] = "#id2"


def _digest(info: Any, body: Any) -> None:
    info["Reference"][0]["DigestValue"] = hashlib.sha256(b"").digest()


def _sha1(info: Any, body: Any) -> None:
    method = {"Algorithm": "http://www.w3.org/2000/09/xmldsig#sha1"}
    info["Reference"][0]["DigestMethod"] = method


def _no_id(info: Any, body: Any) -> None:
    del body["Id"]


@pytest.mark.parametrize("edit", [_second_reference, _no_such_id, _digest, _sha1, _no_id])
def test_rejects_a_signature_over_anything_else(vehicle: Vehicle, edit: Any) -> None:
    body = vehicle.to_authorization().authorize(edit=edit)
    refused(vehicle, body, "FAILED_SignatureError")


def test_a_challenge_is_good_for_one_session_only(world: World) -> None:
    vehicle = Vehicle(world)
    vehicle.to_authorization()
    assert vehicle.authorize()["ResponseCode"] == "OK"
    refused_body = vehicle.authorize()
    assert refused_body["ResponseCode"] == "FAILED_SequenceError"
