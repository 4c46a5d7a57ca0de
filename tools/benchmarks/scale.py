"""Time per request with 1,000 and with 1,000,000 vehicles in the pools: SQLite, on this disk.

Two servers over the same keys, one database each; both get the same requests in turns, of the
same vehicles, which lie scattered among the others. The others are copies of one of them that
differ in PCID and serial number.
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
APART = 7_368_787  # between the numbers of two vehicles; fills 13 digits
MOST = 1.2


def fill(database: Path, fleet: Fleet, cars: list[Car], count: int) -> None:
    fleet.register(f"sqlite:///{database}", (fleet.record(car.pcid, car.leaf) for car in cars))
    pcid = f"printf('PVTB%013d', i * {APART})"
    changed = {"vehicle": pcid, "pcid": pcid, "serial": "printf('%016x', i)"}
    multiply(database, tables.vehicles, count - len(cars), changed)


def slower(few: Server, many: Server, calls: list[Call]) -> float:
    """Time per request of `many`, of that of `few`: the median of the rounds."""
    found = []
    for server in (few, many):
        server.send(calls[:WARM])
    for turn in range(ROUNDS):
        first = WARM + turn * CALLS
        asked = calls[first : first + CALLS]
        pair = (few, many) if turn % 2 else (many, few)
        rates = {server: rate(server.send(asked)) for server in pair}
        found.append(rates[few] / rates[many])
    return statistics.median(found)


def bench() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="pv-") as temporary, ExitStack() as stack:
        folder = Path(temporary)
        folders = {count: folder / f"{count}" for count in (FEW, MANY)}
        with serving(folders[FEW]):
            pass  # it makes the keys, which the other has too
        shutil.copytree(folders[FEW], folders[MANY])
        files = {count: one / "ecosystem.sqlite" for count, one in folders.items()}
        few, many = (stack.enter_context(serving(one)) for one in folders.values())
        fleet = Fleet(folders[FEW], stack)
        places = random.Random(1).sample(range(MANY), CARS)
        cars = [fleet.car(place * APART + 1) for place in places]
        for count, file in files.items():
            fill(file, fleet, cars, count)
        asked = {
            "PUT contractData/signed": [fleet.put(car, n) for n, car in enumerate(cars)],
            "POST signedContractData": [fleet.post(car) for car in cars],
            "GET provCerts/{pcid}": [
                Call("GET", f"/v1/oem/provCerts/{car.pcid}", "MO_EXTERNAL_PKI") for car in cars
            ],
        }
        found = {name: slower(few, many, calls) for name, calls in asked.items()}
        size = files[MANY].stat().st_size / 1e6
    rows = [
        {"name": f"{name}, 1,000,000 vehicles of 1,000", "value": one, "unit": "×", "budget": MOST}
        for name, one in found.items()
    ]
    return [*rows, {"name": "  the database of 1,000,000", "value": size, "unit": "MB"}]
