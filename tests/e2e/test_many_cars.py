"""Many cars at once through stations, their operator and CCP: each gets its own contract."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from pathlib import Path

from fixtures.backend import Backend
from many_cars import Car, charge_together
from plugvault.station import Offer, Station, StationSettings
from plugvault.station.limits import Limits

IN_TEST, IN_SOAK = 16, 200
AT_ONE_STATION = 8


def fleet(backend: Backend, count: int, folder: Path) -> tuple[list[Car], list[str]]:
    """Registered cars with a contract for each; the EMAIDs in the same order."""
    world = backend.ecosystem
    anchors = [("V2G", world.v2g_root), ("OEM", world.oem_root), ("MO", world.mo_root)]
    cars, emaids = [], []
    for _ in range(count):
        vehicle = backend.vehicle()
        emaids.append(world.mo.contract(vehicle.pcid))
        place = folder / vehicle.pcid
        now = int(time.time())
        cars.append(Car(vehicle.pcid, vehicle.key, vehicle.leaf, anchors, place, now))
    return cars, emaids


def test_many_cars_at_once_get_each_its_own_contract(
    backend: Backend, whole: bool, tmp_path: Path
):
    cars, emaids = fleet(backend, IN_SOAK if whole else IN_TEST, tmp_path)
    roots, fetch = backend.ecosystem.cpo.roots(), backend.ecosystem.cpo.fetch_contract
    settings = StationSettings(insecure_contract=True, limits=Limits(fetch_seconds=60))
    with ExitStack() as stack:
        stations = [
            Station(Offer(), roots, fetch, settings) for _ in range(len(cars) // AT_ONE_STATION)
        ]
        addresses = [stack.enter_context(station.in_thread()) for station in stations]
        asyncio.run(charge_together(cars, addresses))
    assert [car.billed for car in cars] == emaids
    assert {car.events[-1][0] for car in cars} == {"closed"}
    billed = [record.emaid for station in stations for record in station.records]
    assert sorted(billed) == sorted(emaids)
    assert all(car.waited for car in cars)
