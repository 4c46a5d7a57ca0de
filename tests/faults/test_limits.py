"""A car at the default limits of its vault service: each request of the maker gets an answer."""

from __future__ import annotations

import time
from functools import partial

import pytest

from fixtures.tokens import CarToken
from plugvault import car as cars
from plugvault import runtimes
from plugvault.car import Car
from plugvault.telematics import Maker, TelematicsError
from plugvault.tokens import Token
from plugvault.vault_service.callers import OPENINGS, RATE
from plugvault.vault_service.service import VaultService
from world import EMAID, PCID, SESSION_ID, World

INSTALLATIONS = 30  # in a row, seven signatures each: the service admits 2 * RATE at once


def install(maker: Maker, world: World, number: int) -> str:
    """Renew the car's contract; "installed", or the car's reason."""
    contract = world.new_contract(EMAID, not_before=world.now - 100_000 + number)
    assert maker.car
    response = world.response(maker.car, contract=contract)
    try:
        maker.offer_contract(EMAID, SESSION_ID)
        maker.install_contract(response)
    except TelematicsError as error:
        return f"{error.reason}: {error.detail}"
    return "installed"


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(
    "name, vault, rate, count",
    [
        ("cpython", "service", RATE, INSTALLATIONS),
        ("cpython", "link", RATE, INSTALLATIONS),
        ("wheel", "service", RATE, INSTALLATIONS),
        ("cpython", "service", 5.0, 4),  # over the rate on almost any machine
    ],
)
def test_installations_in_a_row_over_the_limits_are_all_answered(
    name: str,
    vault: str,
    rate: float,
    count: int,
    car_token: CarToken,
    makers: Token,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runtime = runtimes.get(name)
    if runtime is None:
        pytest.skip(f"no {name} interpreter here; `make` fetches it")
    monkeypatch.setattr(cars, "VaultService", partial(VaultService, rate=rate))
    world, key = World(now=int(time.time())), makers.generate("telematics")
    folder, token = car_token.folder / "of the car", car_token.configuration()
    with Car(runtime, "tcp", folder, maker=key.point, token=token, vault=vault) as car:
        maker = car.maker(key)
        point = maker.connect()
        maker.csr(PCID, "Plug Test", "DE")
        maker.install_trust("EU", world.anchors)
        maker.install_certificate(world.provisioning(point).chain)
        outcomes = [install(maker, world, number) for number in range(count)]
        within = min(count, int(OPENINGS))
        assert outcomes[:within] == ["installed"] * within
        assert set(outcomes[within:]) <= {"installed", "refused: limited"}  # one in five minutes
        assert ("refused: limited" in outcomes) == (count > within)
        assert [contract.lost for contract in maker.contracts()] == [False]
