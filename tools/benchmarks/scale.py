"""Time per request with 1,000 and with 1,000,000 vehicles in the pools: SQLite, on this disk.

Two servers over the same keys, one database each. Both alternately get the same requests for the
same vehicles, which are scattered among the rest. The rest are copies of a vehicle that differ in
PCID and serial number.
"""

import random
import shutil
import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from opcp_world import Call, Car, Fleet, Server, multiply, rate, serving
from plugvault.store import tables

FEW, MANY = 1_000, 1_000_000
CARS, WARM, ROUNDS = 800, 100, 7
CALLS = (CARS - WARM) // ROUNDS
APART = 7_368_787  # the distance between two vehicles' numbers; fills 13 digits
MOST = 1.2


def fill(database: Path, fleet: Fleet, cars: list[Car], count: int) -> None:
    """Put the cars and their copies into a SQLite database, `count` vehicles in all."""
    fleet.register(f"sqlite:///{database}", (fleet.record(car.pcid, car.leaf) for car in cars))
    pcid = f"printf('PVTB%013d', i * {APART})"
    changed = {"vehicle": pcid, "pcid": pcid, "serial": "printf('%016x', i)"}
    multiply(database, tables.vehicles, count - len(cars), changed)


def slower(few: Server, many: Server, calls: list[Call]) -> float:
    """Time per request of `many`, divided by that of `few`: the median of the rounds."""
    ratios = []
    for server in (few, many):
        server.send(calls[:WARM])
    for round_number in range(ROUNDS):
        first = WARM + round_number * CALLS
        part = calls[first : first + CALLS]
        pair = (few, many) if round_number % 2 else (many, few)
        rates = {server: rate(server.send(part)) for server in pair}
        ratios.append(rates[few] / rates[many])
    return statistics.median(ratios)


def bench() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="pv-") as temporary, ExitStack() as stack:
        folder = Path(temporary)
        folders = {count: folder / f"{count}" for count in (FEW, MANY)}
        with serving(folders[FEW]):
            pass  # this start makes the keys; the second server gets a copy
        shutil.copytree(folders[FEW], folders[MANY])
        files = {count: folder / "ecosystem.sqlite" for count, folder in folders.items()}
        few, many = (stack.enter_context(serving(folder)) for folder in folders.values())
        fleet = Fleet(folders[FEW], stack)
        places = random.Random(1).sample(range(MANY), CARS)
        cars = [fleet.car(place * APART + 1) for place in places]
        for count, file in files.items():
            fill(file, fleet, cars, count)
        calls_by_name = {
            "PUT contractData/signed": [fleet.put(car, n) for n, car in enumerate(cars)],
            "POST signedContractData": [fleet.post(car) for car in cars],
            "GET provCerts/{pcid}": [
                Call("GET", f"/v1/oem/provCerts/{car.pcid}", "MO_EXTERNAL_PKI") for car in cars
            ],
        }
        ratios = {name: slower(few, many, calls) for name, calls in calls_by_name.items()}
        size = files[MANY].stat().st_size / 1e6
    rows = [
        {
            "name": f"{name}, 1,000,000 vehicles of 1,000",
            "value": ratio,
            "unit": "×",
            "budget": MOST,
        }
        for name, ratio in ratios.items()
    ]
    return [*rows, {"name": "  the database of 1,000,000", "value": size, "unit": "MB"}]
