"""A recorded envelope, changed and sent again 256 times, must not disclose its contract key.

The attacker has a CPS that signs everything and an operator CA. `tests/oracle.py` has the attack;
the same on the vault service is in `test_vault_oracle.py`.
"""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from evcc import exi
from evcc.contracts import Contracts
from evcc.envelopes import MISMATCHES
from evcc.iso15118_2.installation import InstallationRequest, RejectedError
from fixtures.cars import Car
from oracle import Envelope, Forgetful, first_question, recover
from world import DAY, NOW, SESSION_ID, Issued, root, seal


@pytest.fixture
def rival(car: Car) -> Issued:
    """An operator CA that the car does not know: the CPS has signed its certificates."""
    top = root("Rival Root", NOW, dc="MO")
    return top.sub("Rival Sub1", path_length=1, dc="MO").sub("Rival Sub2", dc="MO")


def recorded(response: bytes, certificate: Issued) -> Envelope:
    body = exi.decode(response)["V2G_Message"]["Body"]["CertificateInstallationRes"]
    wrapped = body["ContractSignatureEncryptedPrivateKey"]["value"]
    return Envelope(body["DHpublickey"]["value"], wrapped, certificate.point)


class Door:
    """Questions as messages to the car, each with a contract certificate for the point in it."""

    def __init__(self, car: Car, rival: Issued, way: str) -> None:
        self._car, self._rival, self._way = car, rival, way
        self.asked = 0
        self.reasons: set[str] = set()

    def __call__(self, question: Envelope) -> bool:
        car = self._car
        self.asked += 1
        emaid = "DEPVT0000000X19"
        certificate = self._rival.issue(
            emaid,
            dc="MO",
            country=None,
            public_key=question.public,
            not_before=NOW - DAY + self.asked,
        )
        session_id = SESSION_ID
        response = car.world.response(
            car.point,
            contract=certificate,
            dh=question.dh_point,
            encrypted=question.wrapped,
            scalar=b"",
        )
        request = InstallationRequest.at_station(session_id)
        if self._way == "telematics":
            request = InstallationRequest.over_the_air(emaid, session_id)
        try:
            car.install(response, request=request)
        except RejectedError as error:
            self.reasons.add(error.reason)
            return False
        return True


def victim(car: Car) -> tuple[Envelope, int]:
    """A contract that is in the car, as it went over the wire, and its key."""
    certificate = car.world.new_contract("DEPVT000000004")
    assert certificate.key is not None
    response = car.world.response(car.point, contract=certificate)
    car.installs(response)
    return recorded(response, certificate), certificate.key.private_numbers().private_value


@pytest.mark.parametrize("way", ["station", "telematics"])
def test_envelope_oracle_recovers_nothing(car: Car, rival: Issued, way: str) -> None:
    envelope, key = victim(car)
    door = Door(car, rival, way)
    assert recover(envelope, door) != key
    assert door.asked == 256
    assert door.reasons == {"envelope"}


def test_without_its_guard_the_same_attack_recovers_the_key(car: Car, rival: Issued) -> None:
    envelope, key = victim(car)
    car.contracts.envelopes = Forgetful()
    door = Door(car, rival, "station")
    assert recover(envelope, door) == key
    assert door.reasons == {"vault"}


def test_seen_dh_point_with_another_envelope_is_refused(car: Car, rival: Issued) -> None:
    """After a restart too, and for the point's negation, which gives the same secret."""
    envelope, _ = victim(car)
    p = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
    y = int.from_bytes(envelope.dh_point[33:], "big")
    negated = envelope.dh_point[:33] + (p - y).to_bytes(32, "big")
    for point in (envelope.dh_point, negated):
        car.contracts = Contracts(car.files)
        door = Door(car, rival, "station")
        assert not door(first_question(envelope._replace(dh_point=point)))
        assert door.reasons == {"envelope"}


def test_retry_of_the_same_envelope_is_accepted(car: Car) -> None:
    """The first time the vault died: the very same message installs when it comes again."""

    class Dead:
        def __getattr__(self, name: str) -> Any:
            if name == "open_contract_key":
                raise EOFError
            return getattr(car.vault, name)

    response = car.world.response(car.point)
    with pytest.raises(EOFError):
        car.install(response, vault=Dead())
    car.contracts = Contracts(car.files)
    car.installs(response)


def test_a_few_mismatched_keys_lock_the_car(car: Car) -> None:
    """Only its maker lifts that; the contract in it goes on."""
    world, other_key = car.world, ec.generate_private_key(ec.SECP256R1())
    scalar = other_key.private_numbers().private_value.to_bytes(32, "big")
    for _ in range(MISMATCHES):
        assert not car.contracts.envelopes.locked
        car.rejects("vault", "key-mismatch", world.response(car.point, scalar=scalar))
    good = world.response(car.point)
    car.rejects("envelope", "locked", good)
    car.contracts = Contracts(car.files)
    car.rejects("envelope", "locked", good)
    car.contracts.unlock()
    car.installs(good)


def test_the_same_wrong_key_again_is_one_mismatch(car: Car) -> None:
    """A station with the same wrong bundle at every plug-in does not lock the car."""
    ephemeral, other_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    wrapped = seal(
        other_key.private_numbers().private_value.to_bytes(32, "big"), ephemeral, car.point
    )
    wrong = car.world.response(car.point, ephemeral=ephemeral, encrypted=wrapped)
    car.rejects("vault", "key-mismatch", wrong)
    for _ in range(MISMATCHES):
        car.rejects("envelope", "mismatched", wrong)
    assert car.contracts.envelopes.mismatches == 1
