"""The mobility operator checks the vehicle that the pool returns."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from evcc.ids import IdError
from evcc.x509 import CertificateError
from plugvault.roles.client import OpcpError, encode
from plugvault.roles.mo import Operator, with_check_digit
from world import NOW, PCID, Issued, World, point, root

WORLD = World()


class Pool:
    """A client of a pool that answers every question with `leaf`."""

    def __init__(self, leaf: Issued) -> None:
        self._leaf = leaf

    def call(self, method: str, path: str, **options: Any) -> Any:
        leaf, sub2, sub1 = self._leaf.chain
        certificates = {"subCA1Certificate": encode(sub1), "subCA2Certificate": encode(sub2)}
        return {"OEMMessage": {"vehicleCertificate": encode(leaf), **certificates}}

    def roots(self, *kinds: str) -> list[bytes]:
        return [der for kind, der in WORLD.anchors if kind in kinds]


def operator(leaf: Issued) -> Operator:
    client: Any = Pool(leaf)
    return Operator(client, "DEPVT", clock=lambda: NOW)


def vehicle(pcid: str) -> Issued:
    return WORLD.provisioning(point(ec.generate_private_key(ec.SECP256R1())), pcid)


@pytest.mark.parametrize("pcid", [PCID, PCID.lower()])
def test_the_requested_vehicle_is_accepted_in_either_case(pcid: str):
    asked_for = vehicle(PCID)
    assert operator(asked_for).vehicle(pcid).certificate == asked_for.der


def test_another_vehicle_with_a_good_certificate_is_not_sealed_to():
    with pytest.raises(OpcpError, match="instead of"):
        operator(vehicle("PVTP0000000000666")).vehicle(PCID)


def test_a_vehicle_under_no_known_root_is_not_sealed_to():
    foreign = root("OEM Root").sub("OEM Sub1", 1).sub("OEM Sub2")
    with pytest.raises(CertificateError):
        operator(foreign.issue(PCID, dc="OEM")).vehicle(PCID)


def test_the_path_check_may_be_left_to_the_pool_and_the_identity_check_never():
    foreign = root("OEM Root").sub("OEM Sub1", 1).sub("OEM Sub2").issue(PCID, dc="OEM")
    client: Any = Pool(foreign)
    trusting = Operator(client, "DEPVT", clock=lambda: NOW, check_path=False)
    assert trusting.vehicle(PCID).certificate == foreign.der
    with pytest.raises(OpcpError, match="instead of"):
        trusting.vehicle("PVTP0000000000666")


@pytest.mark.parametrize(
    "text, emaid",
    [
        ("GB-OCT-C1234ABCD", "GBOCTC1234ABCDJ"),
        ("gboctc1234abcdj", "GBOCTC1234ABCDJ"),
        ("NL-TNM-000122045", "NLTNM000122045U"),
    ],
)
def test_an_emaid_gets_its_check_digit(text: str, emaid: str):
    assert with_check_digit(text) == emaid


def test_a_wrong_check_digit_is_no_typing_error_to_pass_over():
    with pytest.raises(IdError, match="check digit"):
        with_check_digit("GB-OCT-C1234ABCD-K")


def test_an_emaid_that_is_taken_is_not_given_again():
    looked_up = []

    class Ccp:
        def call(self, method: str, path: str) -> None:
            looked_up.append(path.rsplit("/", 1)[1])
            if len(looked_up) < 3:
                return
            raise OpcpError("refused", "404", 404)

    client: Any = Ccp()
    emaid = Operator(client, "GBOCT").new_emaid()
    assert len(set(looked_up)) == 3
    assert looked_up[-1] == emaid == with_check_digit(emaid)
    assert emaid.startswith("GBOCTC")


def test_no_emaid_is_given_while_the_pool_is_unreachable():
    class Ccp:
        def call(self, method: str, path: str) -> None:
            raise OpcpError("unreachable")

    client: Any = Ccp()
    with pytest.raises(OpcpError):
        Operator(client, "GBOCT").new_emaid()
