"""Certificates: every path must end in an anchor of the car's own, and be whole on the way."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ObjectIdentifier

from evcc.revocation import name
from evcc.trust import TrustError
from evcc.x509 import parse
from fixtures.cars import Car
from world import CA_USAGE, DAY, EMAID, NOW, Issued, World, root, usage


def contract_under(sub: Issued, **changes) -> Issued:
    return sub.issue(EMAID, dc="MO", **changes)


def test_rejects_expired_contract_leaf(car: Car) -> None:
    expired = car.world.new_contract(EMAID, not_after=NOW - 1)
    car.attack("contract-path", "expired", contract=expired)


def test_rejects_not_yet_valid_leaf(car: Car) -> None:
    early = car.world.new_contract(EMAID, not_before=NOW + 1)
    car.attack("contract-path", "not-yet-valid", contract=early)


def test_rejects_expired_cps_leaf(car: Car) -> None:
    expired = car.world.cps_sub2.issue("CPS Leaf", dc="CPS", not_after=NOW - 1)
    car.attack("cps-path", "expired", cps=expired)


def test_rejects_expired_sub_ca(car: Car) -> None:
    sub = car.world.cps_sub1.sub("Prov Sub2 old", not_after=NOW - 1)
    car.attack("cps-path", "expired", cps=sub.issue("CPS Leaf", dc="CPS"))


def test_rejects_subca_without_ca_flag(car: Car) -> None:
    fake = car.world.cps_sub1.issue("Prov Sub2", dc="V2G", ca=False, key_usage=CA_USAGE)
    car.attack("cps-path", "no-ca-flag", cps=fake.issue("CPS Leaf", dc="CPS"))


def test_rejects_subca_without_basic_constraints(car: Car) -> None:
    fake = car.world.mo_sub1.issue("MO Sub2", dc="MO", ca=None, key_usage=CA_USAGE)
    car.attack("contract-path", "no-ca-flag", contract=contract_under(fake))


def test_rejects_subca_that_may_not_sign_certificates(car: Car) -> None:
    fake = car.world.mo_sub1.sub("MO Sub2", dc="MO", key_usage=usage("digital_signature"))
    car.attack("contract-path", "key-usage", contract=contract_under(fake))


def test_rejects_path_length_exceeded(car: Car) -> None:
    """Sub2 allows no further CA below it, yet one is there."""
    short = car.world.v2g_root.sub("Prov Sub1 short", path_length=0)
    deep = short.sub("Prov Sub2 deep", path_length=None)
    car.attack("cps-path", "path-length", cps=deep.issue("CPS Leaf", dc="CPS"))


def test_rejects_unknown_critical_extension(car: Car) -> None:
    unknown = x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    leaf = car.world.new_contract(EMAID, extensions=[(unknown, True)])
    car.attack("contract-path", "critical-extension", contract=leaf)


def test_accepts_unknown_extension_that_is_not_critical(car: Car) -> None:
    unknown = x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    leaf = car.world.new_contract(EMAID, extensions=[(unknown, False)])
    car.installs(car.world.response(car.point, contract=leaf))


def test_rejects_leaf_used_as_subca(car: Car) -> None:
    """The owner of one contract signs another."""
    own = contract_under(car.world.mo_sub1)
    car.attack("contract-path", "leaf-as-ca", contract=contract_under(own))


def test_rejects_root_supplied_in_message_as_anchor(car: Car) -> None:
    """A whole world of the attacker's, its root in the message."""
    evil = World()
    evil.v2g_root = root("Evil Root", NOW)
    sub = evil.v2g_root.sub("Evil Sub2")
    cps = sub.issue("CPS Leaf", dc="CPS")
    chain = [*cps.chain, evil.v2g_root.der]
    car.attack("cps-path", "root-in-message", cps=cps, cps_chain=chain)


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


def test_rejects_same_name_different_key_issuer(car: Car) -> None:
    """The names of the real roots, other keys: once for the CPS, once for the operator."""
    twin = root("V2G Root", NOW)
    cps = twin.sub("Prov Sub2").issue("CPS Leaf", dc="CPS")
    car.attack("cps-path", "wrong-issuer-key", cps=cps)


def test_rejects_operator_root_of_a_known_name_with_another_key(car: Car) -> None:
    twin = root("MO Root", NOW, dc="MO")
    contract = contract_under(twin.sub("MO Sub2", dc="MO"))
    car.attack("contract-path", "wrong-issuer-key", contract=contract)


def test_accepts_an_operator_under_an_unknown_root(car: Car) -> None:
    """The CPS vouches for it: the car need not hold every operator's root."""
    foreign_root = root("Strange MO Root", NOW, dc="MO")
    contract = contract_under(foreign_root.sub("Strange MO Sub2", dc="MO"))
    car.installs(car.world.response(car.point, contract=contract))


def test_rejects_a_chain_that_does_not_hold_together(car: Car) -> None:
    """The leaf of one operator under the sub-CAs of another."""
    foreign_sub = root("Strange MO Root", NOW, dc="MO").sub("Strange MO Sub2", dc="MO")
    loose = [car.world.contract.der, foreign_sub.der]
    car.attack("contract-path", "untrusted", contract_chain=loose)


def test_rejects_chain_on_wrong_curve(car: Car) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    leaf = car.world.mo_sub2.issue(EMAID, dc="MO", public_key=key.public_key())
    scalar = bytes(31) + b"\1"
    car.attack("contract-path", "curve", contract=leaf, scalar=scalar)


def test_rejects_chain_of_more_than_four(car: Car) -> None:
    sub1 = car.world.v2g_root.sub("Prov 1", path_length=3)
    sub2 = sub1.sub("Prov 2", path_length=2)
    sub3 = sub2.sub("Prov 3", path_length=1)
    car.attack("cps-path", "too-long", cps=sub3.issue("CPS Leaf", dc="CPS"))


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
