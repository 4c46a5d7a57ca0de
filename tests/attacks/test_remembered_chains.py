"""A chain that the car has verified once: what it may skip the next time, and what it may not."""

from __future__ import annotations

from typing import Any

import pytest

from evcc import p256
from evcc.revocation import NEVER, name
from evcc.vault import Vault
from evcc.x509 import parse
from fixtures.cars import Car, Spy
from world import DAY, EMAID, NOW, root

SKIPPED = 5  # of an installation's seven signatures, when both chains' sub-CAs are known


class OwnVerification(Spy):
    """A vault that cannot verify: the car computes."""

    verify = Vault.verify
    pause = None


def verifications(car: Car, **changes: Any) -> int:
    """Signatures that the vault verifies in one installation."""
    spy = Spy(car.vault)
    car.trust.verified._verify = spy.verify
    car.installs(car.world.response(car.point, **changes), vault=spy)
    return spy.calls.count("verify")


def test_second_installation_under_the_same_cas_verifies_two_signatures(car: Car) -> None:
    assert verifications(car) == 7 - SKIPPED
    other_cps = car.world.cps_sub2.issue("CPS Leaf", dc="CPS")
    other_contract = car.world.new_contract(EMAID)
    assert verifications(car, cps=other_cps, contract=other_contract) == 3


def test_vault_that_verifies_leaves_no_verification_to_the_car(
    car: Car, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> bool:
        raise AssertionError("the car computed")

    monkeypatch.setattr(p256, "verify", never)
    car.trust.verified._good.clear()
    assert verifications(car) == 7


def test_car_with_a_vault_that_cannot_verify_computes_by_itself(car: Car) -> None:
    vault = OwnVerification(car.vault)
    car.trust.verified._good.clear()
    car.trust.verified._verify = vault.verify
    response = car.world.response(car.point, edit=other_signature)
    car.rejects("signature", "signature", response, vault=vault)
    car.installs(car.world.response(car.point), vault=vault)
    assert "verify" not in vault.calls


def other_signature(message: dict[str, Any]) -> None:
    value = message["V2G_Message"]["Header"]["Signature"]["SignatureValue"]
    value["value"] = value["value"][:-1] + bytes([value["value"][-1] ^ 1])


# Each attack comes after an installation over the same chains, whose signatures the car knows.


@pytest.fixture
def known(car: Car) -> Car:
    assert verifications(car) < 7
    return car


@pytest.mark.parametrize("at", [-1, 20], ids=["signature", "serial number"])
def test_altered_certificate_of_a_known_chain_is_rejected(known: Car, at: int) -> None:
    leaf, sub2, sub1 = known.world.cps.chain
    altered = bytearray(sub1)
    altered[at] ^= 1
    response = known.world.response(known.point, cps_chain=[leaf, sub2, bytes(altered)])
    known.rejects("cps-path", "signature", response)


def test_known_chain_is_rejected_under_another_anchor_of_the_same_name(known: Car) -> None:
    cn = parse(known.world.v2g_root.der).names["CN"]
    known.trust.install("EU", [("V2G", root(cn).der)], NOW)
    response = known.world.response(known.point)
    known.rejects("cps-path", "wrong-issuer-key", response)


def test_known_chain_is_rejected_without_its_anchor(known: Car) -> None:
    known.trust.install("EU", [("MO", known.world.mo_root.der)], NOW)
    known.rejects("cps-path", "untrusted", known.world.response(known.point))


def test_known_chain_is_rejected_when_it_has_expired(known: Car) -> None:
    response = known.world.response(known.point)
    known.rejects("cps-path", "expired", response, now=NOW + 91 * DAY)


def test_known_chain_is_rejected_when_a_certificate_of_it_is_revoked(known: Car) -> None:
    sub = parse(known.world.cps_sub2.der)
    known.trust.revocation.install(NOW, NEVER, [name(sub.issuer, sub.serial)])
    known.rejects("cps-path", "revoked", known.world.response(known.point))


def test_known_contract_chain_is_no_cps_chain(known: Car) -> None:
    response = known.world.response(known.point, cps=known.world.contract)
    known.rejects("cps-path", "role", response)
