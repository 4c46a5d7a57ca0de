"""The main job on a board: the module over UART1, its keys in a token at the other end."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from evcc import envelopes, exi, x509
from fixtures.board_car import (
    INSTALLATION_OPERATIONS,
    PATIENCE,
    TRUST_OPERATIONS,
    Figures,
    StartCar,
    Surroundings,
)
from fixtures.flashing import patience
from plugvault.board.repl import Repl
from plugvault.station import Offer, Station, StationSettings
from world import EMAID, PCID

pytestmark = pytest.mark.xdist_group("board")

SECOND = "DEPVT0000000X19"
INSECURE = StationSettings(insecure_contract=True)
STACK_BUDGET = 8192 * 3 // 4  # bytes: a quarter of the board's C stack is a margin
FLASH_PAGE = 256  # bytes that one operation writes
INTERRUPT = 256  # bytes of its frames: now and then one comes at the deepest call
INSTALLATION_BUDGET = 280e6  # instructions, with chains that are known; the aim is 250e6

Record = Callable[[str, object], None]


def record(record_property: Record, name: str, figures: Figures) -> None:
    for what, value in figures.items():
        record_property(f"board {name}, {what}", value)


def test_module_starts_and_answers_over_its_uart(
    module_flash: Path, start_car: StartCar, record_property: Record
) -> None:
    car = start_car(module_flash)
    status = car.wait()
    assert status["runtime"].startswith("micropython")
    assert status["contracts"] == []
    counters = car.board.counters()
    record_property("board start, instructions", counters["instructions"])
    assert counters["stack"]["deepest"] <= STACK_BUDGET


def test_board_serves_its_link_within_a_message(module_flash: Path, start_car: StartCar) -> None:
    """A board sets the module of `evcc.pause`; `tests/both` shows that a message calls it."""
    car = start_car(module_flash)
    car.wait()
    with patience(), Repl(car.board.wait_for_serial_port(), soft_reset=False) as repl:
        code = "import evcc.pause\nprint(repr(evcc.pause._module is not None))"
        assert repl.run(code) is True


def test_provisioned_car_keeps_its_identity_and_changes_its_region(
    provisioned_flash: Path, start_car: StartCar, around: Surroundings, record_property: Record
) -> None:
    car = start_car(provisioned_flash)
    status = car.wait()
    assert (status["pcid"], status["certified"], status["region"]) == (PCID, True, "EU")
    maker = car.maker()
    figures = car.counted(lambda: maker.install_trust("US", around.world.anchors))
    record(record_property, "trust anchors", figures)
    assert car.wait()["region"] == "US"
    assert 0 < figures["operations"] <= TRUST_OPERATIONS


def test_first_installation_loses_no_byte(
    first_installation: tuple[Path, Figures], record_property: Record
) -> None:
    figures = first_installation[1]
    record(record_property, "first installation", figures)
    assert figures["lost"] == 0
    assert 0 < figures["operations"] <= INSTALLATION_OPERATIONS


def test_installation_leaves_a_quarter_of_the_stack(
    first_installation: tuple[Path, Figures],
) -> None:
    assert first_installation[1]["stack"] <= STACK_BUDGET


def test_board_charges_gets_a_contract_at_the_station_and_removes_one(
    installed_flash: Path, start_car: StartCar, around: Surroundings, record_property: Record
) -> None:
    world = around.world

    def fetch(request: bytes) -> bytes:
        body = exi.decode(request)["V2G_Message"]["Body"]["CertificateInstallationReq"]
        leaf = x509.parse(body["OEMProvisioningCert"])
        return world.response(leaf.point, contract=world.new_contract(SECOND))

    car = start_car(installed_flash)
    maker = car.maker()
    station = Station(
        Offer(),
        [world.v2g_root.der, world.mo_root.der],
        fetch,
        INSECURE,
    )
    car.board.mark_stack()
    with station.in_thread() as (host, port):
        assert car.bench.charge(host, port, timeout=PATIENCE, insecure_contract=True) == [
            ("authorized", EMAID)
        ]
        events = car.bench.charge(
            host, port, want_contract=True, timeout=PATIENCE, insecure_contract=True
        )
    stack = car.board.counters()["stack"]["deepest"]
    record_property("board sessions with an installation, stack", stack)
    assert stack <= STACK_BUDGET
    assert [event for event in events if event[0] != "check"] == [
        ("installed", SECOND),
        ("authorized", SECOND),
    ]
    assert [record.emaid for record in station.records] == [EMAID, SECOND]
    maker.choose_contract(SECOND)
    assert [(held.emaid, held.active) for held in maker.contracts()] == [
        (EMAID, False),
        (SECOND, True),
    ]
    maker.remove_contract(EMAID)
    assert car.emaids() == [SECOND]


def test_installations_do_not_grow(
    installed_flash: Path, start_car: StartCar, whole: bool, record_property: Record
) -> None:
    """The same contract again and again: instructions and stack stay as they were at the second
    time, flash operations grow by the table of envelopes, which is written twice. A heap that
    fills would show as instructions of its collector.

    A soak does 120, of the 128 for which the car has room, in some 30 thousand million
    instructions; `tests/faults/test_endurance_on_a_board.py` does 1,000 with a board's heap."""
    car = start_car(installed_flash)
    maker = car.maker()
    car.install(maker, SECOND)
    second = car.counted(lambda: car.install(maker, SECOND))
    last = second
    count = 120 if whole else 1
    for _ in range(count):
        last = car.counted(lambda: car.install(maker, SECOND))
    record(record_property, "installation with known chains", last)
    assert second["instructions"] <= INSTALLATION_BUDGET
    assert last["instructions"] < second["instructions"] * 1.1
    pages = 2 * math.ceil(count * envelopes._ENTRY / FLASH_PAGE)
    assert last["operations"] <= second["operations"] + pages + 2  # littlefs compacts now and then
    assert last["stack"] <= second["stack"] + INTERRUPT
    assert second["operations"] <= INSTALLATION_OPERATIONS
    assert sorted(car.emaids()) == sorted([EMAID, SECOND])
