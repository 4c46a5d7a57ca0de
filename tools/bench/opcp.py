"""The two requests that matter most, over HTTP with every check, beside their own cryptography.

`PUT /v1/cps/contractData/signed` with a PCID: contract data is checked, signed by the CPS and
stored. `POST /v1/ccp/signedContractData`: a vehicle's request is verified and answered, its
operator told. Every request is another vehicle's and another contract's; connections are kept.
`opcp_bare.py` says which cryptography it is; both take short turns, in one run, on the same two
cores, which the requests' sender uses too, and the ratio is the median of the turns': a machine's
speed changes within seconds. At 80 % of that load requests arrive at random moments.

Databases and tokens are in memory where there is such a place (/dev/shm): it is not the disk
that is measured. PostgreSQL is a private cluster with flushes on, and two processes answer.
"""

import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from operator import truediv
from pathlib import Path
from typing import Any

from opcp_world import HERE, Call, Fleet, Server, percentile, rate, serving

AT_LEAST = 0.25  # of the bare loop
MOST_P99 = 50.0  # milliseconds
LOAD = 0.8
ROUNDS, CALLS, WARM, PACED = 8, 500, 600, 1200
CARS = WARM + ROUNDS * CALLS + PACED
SECONDS = 0.25
KINDS = {"put": "PUT contractData/signed", "post": "POST signedContractData"}

Row = dict[str, Any]


def bare(folder: Path, kind: str, processes: int) -> float:
    """Rounds per second of so many bare loops at once."""
    command = [sys.executable, HERE / "opcp_bare.py", folder, str(SECONDS), kind]
    with ExitStack() as stack:
        loops = [
            stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            )
            for _ in range(processes)
        ]
        for loop in loops:
            assert loop.stdout
            loop.stdout.readline()  # ready
        found = []
        for loop in loops:
            assert loop.stdin
            loop.stdin.close()
        for loop in loops:
            assert loop.stdout
            found.append(float(loop.stdout.readline()))
    return sum(found)


def measure(server: Server, kind: str, calls: list[Call], processes: int) -> dict[str, float]:
    server.send(calls[:WARM])
    ours, alone = [], []
    for turn in range(ROUNDS):
        first = WARM + turn * CALLS
        alone.append(bare(server.folder, kind, processes))
        ours.append(rate(server.send(calls[first : first + CALLS])))
    reached = statistics.median(ours)
    paced = server.send(calls[-PACED:], LOAD * reached)
    return {
        "rate": reached,
        "bare": statistics.median(alone),
        "ratio": statistics.median(map(truediv, ours, alone)),
        "p50": percentile(paced, 0.5),
        "p99": percentile(paced, 0.99),
        "sender": paced["cpu"],
    }


def measured(
    folder: Path, database: str | None, processes: int, calls: dict[str, list[Call]] | None
) -> tuple[dict[str, dict[str, float]], dict[str, list[Call]]]:
    """Figures for each kind, and the calls, which another database can be asked too."""
    with serving(folder, database, processes) as server, ExitStack() as stack:
        fleet = Fleet(folder, stack)
        cars = [fleet.car(number) for number in range(CARS)] if calls is None else []
        calls = calls or {
            "put": [fleet.put(car, number) for number, car in enumerate(cars)],
            "post": [fleet.post(car) for car in cars],
            "cars": cars,
        }
        vehicles = (fleet.record(car.pcid, car.leaf) for car in calls["cars"])
        fleet.register(server.database, vehicles)
        found = {kind: measure(server, kind, calls[kind], processes) for kind in KINDS}
    return found, calls


def rows(where: str, found: dict[str, dict[str, float]]) -> list[Row]:
    made: list[Row] = []
    for kind, title in KINDS.items():
        one = found[kind]
        share = f"sender: {one['sender']:.0%} of a core"
        made += [
            {
                "name": f"{title} on {where}, of its bare cryptography",
                "value": one["ratio"],
                "unit": "×",
            },
            {"name": "  requests", "value": one["rate"], "unit": "/s"},
            {"name": "  bare cryptography", "value": one["bare"], "unit": "/s"},
            {"name": "  p50 at 80 % of that load", "value": one["p50"], "unit": "ms"},
            {
                "name": "  p99 at 80 % of that load",
                "value": one["p99"],
                "unit": "ms",
                "budget": MOST_P99,
                "note": share,
            },
        ]
    return made


def on_postgresql(folder: Path, calls: dict[str, list[Call]]) -> dict[str, dict[str, float]]:
    """Nothing where there is no PostgreSQL."""
    sys.path.append(str(HERE.parents[1] / "tests"))
    import pytest

    from fixtures.store import cluster

    try:
        with cluster(fsync="on", autovacuum="on", shared_buffers="256MB") as running:
            return measured(folder, running.create(), 2, calls)[0]
    except pytest.skip.Exception:
        return {}


def bench() -> list[Row]:
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        prefix="pv-", dir=memory if memory.is_dir() else None
    ) as folder:
        data = Path(folder) / "data"
        sqlite, calls = measured(data, None, 1, None)
        postgresql = on_postgresql(data, calls)
    found = rows("SQLite, one process", sqlite)
    for row in found:
        if row["unit"] == "×":
            row["at_least"] = AT_LEAST
    if not postgresql:
        return found
    found += rows("PostgreSQL, two processes", postgresql)
    for kind, title in KINDS.items():
        ratio = postgresql[kind]["rate"] / sqlite[kind]["rate"]
        name = f"{title}, PostgreSQL of SQLite"
        found.append({"name": name, "value": ratio, "unit": "×", "at_least": 1.0})
    return found
