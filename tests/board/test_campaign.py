"""Cases of the catalogue on the emulated board: it refuses each one, and keeps its contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.board_car import StartCar, Surroundings
from plugvault.cases import catalogue
from plugvault.cases.scene import Scene
from plugvault.telematics.maker import TelematicsError
from world import EMAID

pytestmark = pytest.mark.xdist_group("board")

# Each before the next signature is verified, which takes a board seconds: (case, reason)
CASES = {
    "EN-013": "message",
    "RC-010": "response-code",
    "SE-001": "session",
    "SG-009": "signature",
    "PA-022": "cps-path",
}


def test_board_refuses_cases_of_the_catalogue_and_keeps_its_contract(
    installed_flash: Path, start_car: StartCar, around: Surroundings
) -> None:
    car = start_car(installed_flash)
    maker = car.maker()
    before = maker.contracts()
    assert [contract.emaid for contract in before] == [EMAID]
    for number, (ident, reason) in enumerate(CASES.items()):
        case = catalogue.BY_ID[ident]
        scene = Scene(around.world, maker.car, ident, catalogue.SLOTS[ident])
        maker.offer_contract(EMAID, scene.session)
        with pytest.raises(TelematicsError) as caught:
            maker.install_contract(case.build(scene).message)
        assert caught.value.reason == "rejected", ident
        assert maker.contracts() == before, ident
        (line,) = [text for text in car.bench.log if "contract.install" in text][number:]
        assert f"contract.install: {reason}" in line, ident
