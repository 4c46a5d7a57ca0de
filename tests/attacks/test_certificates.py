"""Certificates: every path must end in an anchor of the car's own, and be whole on the way."""

from __future__ import annotations

import pytest

from evcc.revocation import name
from evcc.trust import TrustError
from evcc.x509 import parse
from fixtures.cars import Car
from world import DAY, EMAID, NOW, root


def test_rejects_non_root_installed_as_anchor(car: Car) -> None:
    before = car.stored()
    for der in (car.world.cps_sub1.der, car.world.cps.der):
        with pytest.raises(TrustError) as caught:
            car.trust.install("EU", [("V2G", der)], NOW)
        assert caught.value.reason == "not-an-anchor"
    assert car.stored() == before
    car.installs(car.world.response(car.point))


def test_rejects_expired_root_installed_as_anchor(car: Car) -> None:
    old = root("Old Root", NOW, not_after=NOW - DAY)
    with pytest.raises(TrustError) as caught:
        car.trust.install("EU", [("V2G", old.der)], NOW)
    assert caught.value.reason == "not-an-anchor"


def test_accepts_an_operator_under_an_unknown_root(car: Car) -> None:
    """The CPS vouches for it: the car need not hold every operator's root."""
    foreign_root = root("Strange MO Root", NOW, dc="MO")
    contract = foreign_root.sub("Strange MO Sub2", dc="MO").issue(EMAID, dc="MO")
    car.installs(car.world.response(car.point, contract=contract))


def test_rejects_a_chain_that_does_not_hold_together(car: Car) -> None:
    """The leaf of one operator under the sub-CAs of another."""
    foreign_sub = root("Strange MO Root", NOW, dc="MO").sub("Strange MO Sub2", dc="MO")
    loose = [car.world.contract.der, foreign_sub.der]
    car.attack("contract-path", "untrusted", contract_chain=loose)


def test_rejects_revoked_subca_or_stale_ocsp(car: Car) -> None:
    """By the maker's list: a car has no way to a responder. Too old a list is as none."""
    world, revocation = car.world, car.trust.revocation
    response = world.response(car.point)
    for issued, reason in (
        (world.cps, "cps-path"),
        (world.cps_sub2, "cps-path"),
        (world.cps_sub1, "cps-path"),
        (world.contract, "contract-path"),
        (world.mo_sub2, "contract-path"),
        (world.mo_sub1, "contract-path"),
    ):
        revoked = parse(issued.der)
        revocation.install(NOW, NOW + DAY, [name(revoked.issuer, revoked.serial)])
        car.rejects(reason, "revoked", response)
    revocation.install(NOW, NOW + DAY, [])
    car.rejects("revocation", None, response, now=NOW + DAY + 1)
    car.installs(response, now=NOW + DAY)
