"""The two most important requests, over HTTP with every check, beside their own cryptography.

`PUT /v1/cps/contractData/signed` with a PCID: contract data is checked, signed by the CPS and
stored. `POST /v1/ccp/signedContractData`: a vehicle's request is verified and answered, and its
operator gets an event. Every request is for another vehicle and another contract; connections stay
open. `opcp_bare.py` is the cryptography.

A machine's speed changes within seconds. So the bare loops and the ecosystems of both databases
alternate in short rounds of one run, on the same two cores, which the sender of the requests uses
too, and each ratio is the median of its rounds. At the end of a round, requests arrive at random
moments, at 80 % of the rate that the round reached.

Databases and tokens are in memory (/dev/shm) where the machine has that folder, to leave the disk
out. PostgreSQL is a private cluster with flushes on, and two processes answer.

The budgets are those of the plain code, a fifth below what two slow cores reach. The waiting time
is counted in service times (processes / rate): at 80 % of its load a perfect single server with
requests at random moments has a p99 of 10 (M/D/1 queue).
"""

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from operator import truediv
from pathlib import Path
from typing import Any

from opcp_world import HERE, Call, Fleet, Server, percentile, rate, serving

AT_LEAST = {"put": 0.065, "post": 0.075}  # of the bare loop
POSTGRESQL_AT_LEAST = {"put": 0.75, "post": 0.55}  # of SQLite: more of a POST is round trips
MOST_P99 = 20.0  # service times
LOAD = 0.8
WARM, ROUNDS, CALLS, PACED = 600, 10, 400, 150
CARS = WARM + ROUNDS * (CALLS + PACED)
SECONDS = 0.25
KINDS = {"put": "PUT contractData/signed", "post": "POST signedContractData"}

Row = dict[str, Any]


def bare(folder: Path, kind: str, processes: int) -> float:
    """Rounds per second of `processes` bare loops at once. kind: a key of `KINDS`."""
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
        rates = []
        for loop in loops:
            assert loop.stdin
            loop.stdin.close()
        for loop in loops:
            assert loop.stdout
            rates.append(float(loop.stdout.readline()))
    return sum(rates)


class Side:
    """An ecosystem on one database, and the results of its rounds. processes: the number of its
    server processes."""

    def __init__(self, title: str, server: Server, processes: int) -> None:
        self.title, self._server, self._processes = title, server, processes
        with ExitStack() as stack:
            fleet = Fleet(server.folder, stack)
            cars = [fleet.car(number) for number in range(CARS)]
            self._calls = {
                "put": [fleet.put(car, number) for number, car in enumerate(cars)],
                "post": [fleet.post(car) for car in cars],
            }
            fleet.register(server.database, (fleet.record(car.pcid, car.leaf) for car in cars))

    def begin(self, kind: str) -> None:
        """Begin the rounds of a kind of request, a key of `KINDS`, with requests that do not
        count."""
        self._kind, self._rest_of_calls = kind, iter(self._calls[kind])
        self.reached: list[float] = []
        self._bare: list[float] = []
        self._paced: list[dict[str, Any]] = []
        self._server.send(self._next(WARM))

    def measure(self) -> None:
        """One round: the bare loop, then requests without a pause, then requests at `LOAD`."""
        self._bare.append(bare(self._server.folder, self._kind, self._processes))
        reached = rate(self._server.send(self._next(CALLS)))
        self.reached.append(reached)
        self._paced.append(self._server.send(self._next(PACED), LOAD * reached))

    def _next(self, count: int) -> list[Call]:
        return list(islice(self._rest_of_calls, count))

    def rows(self) -> list[Row]:
        title = f"{KINDS[self._kind]} on {self.title}, of its bare cryptography"
        sender = statistics.median(result["cpu"] for result in self._paced)
        p99 = percentile(self._paced, 0.99)
        service_time = 1000 * self._processes / statistics.median(self.reached)
        return [
            {
                "name": title,
                "value": statistics.median(map(truediv, self.reached, self._bare)),
                "unit": "×",
            },
            {"name": "  requests", "value": statistics.median(self.reached), "unit": "/s"},
            {
                "name": "  bare cryptography",
                "value": statistics.median(self._bare),
                "unit": "/s",
            },
            {
                "name": "  p50 at 80 % of that load",
                "value": percentile(self._paced, 0.5),
                "unit": "ms",
            },
            {
                "name": "  p99 at 80 % of that load",
                "value": p99,
                "unit": "ms",
                "note": f"sender: {sender:.0%} of a core",
            },
            {
                "name": "  the same in service times",
                "value": p99 / service_time,
                "unit": "×",
                "budget": MOST_P99,
            },
        ]


@contextmanager
def postgresql() -> Iterator[str | None]:
    """The URL of a database; None where there is no PostgreSQL."""
    sys.path.append(str(HERE.parents[1] / "tests"))
    import pytest

    from fixtures.store import cluster

    with ExitStack() as stack:
        try:
            options = {"fsync": "on", "autovacuum": "on", "shared_buffers": "256MB"}
            database = stack.enter_context(cluster(**options)).create()
        except pytest.skip.Exception:
            database = None
        yield database


def bench() -> list[Row]:
    memory = Path("/dev/shm")
    rows: list[Row] = []
    with ExitStack() as stack:
        folder = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="pv-", dir=memory if memory.is_dir() else None)
        )
        server = stack.enter_context(serving(Path(folder) / "sqlite"))
        sides = [Side("SQLite, one process", server, 1)]
        database = stack.enter_context(postgresql())
        if database:
            server = stack.enter_context(serving(Path(folder) / "postgresql", database, 2))
            sides.append(Side("PostgreSQL, two processes", server, 2))
        for kind in KINDS:
            for side in sides:
                side.begin(kind)
            for _ in range(ROUNDS):
                for side in sides:
                    side.measure()
            rows += compared(kind, sides)
    return rows


def compared(kind: str, sides: list[Side]) -> list[Row]:
    first, *slower = sides
    rows = first.rows()
    rows[0]["at_least"] = AT_LEAST[kind]
    for side in slower:
        rows += side.rows()
        ratio = statistics.median(map(truediv, side.reached, first.reached))
        name = f"{KINDS[kind]}, PostgreSQL of SQLite"
        rows.append(
            {"name": name, "value": ratio, "unit": "×", "at_least": POSTGRESQL_AT_LEAST[kind]}
        )
    return rows
