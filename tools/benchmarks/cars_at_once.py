"""200 and 1,000 cars that ask for their contracts at the same moment.

`plugvault sandbox`, the stations with their operator, and the cars are three processes on the same
two cores. Eight cars are at each station. All cars have their requests ready before any is sent
(`tests/many_cars.py`), so the slowest answer is that of a queue with all cars in it. A car waits 5
seconds for it, and its station waits 4.5 [ISO 15118-2:2014, 8.7.3].
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from opcp_world import HERE, Fleet, Server, serving

sys.path.append(str(HERE.parents[1] / "tests"))
from many_cars import Car, charge_together

WARM, AT_ONE_STATION = 80, 8
SLOWEST = {200: 1000.0, 1000: 4500.0}  # milliseconds


def processor(*parents: int) -> float:
    """The processor time of processes and their children so far, in seconds. parents: pids."""
    ticks = 0
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = file.read_text().rpartition(")")[2].split()
            if int(file.parent.name) in parents or int(fields[1]) in parents:
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def stations(server: Server, count: int) -> Iterator[tuple[int, list[tuple[str, int]]]]:
    """(pid of the process of `count` stations, their addresses)."""
    url, role = server.report["url"], server.report["roles"]["CPO"]
    orders = {"url": url, "credentials": role, "stations": count}
    command = [sys.executable, HERE / "cars_at_once_stations.py"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(json.dumps(orders) + "\n")
        process.stdin.flush()
        ports = json.loads(process.stdout.readline())
        yield process.pid, [("127.0.0.1", port) for port in ports]
        process.stdin.close()


def fleet(server: Server, folder: Path, count: int) -> list[Car]:
    """`count` cars in the pools, with a contract for each. folder: for the cars' files."""
    with ExitStack() as stack:
        company = Fleet(server.folder, stack)
        vehicles = [company.car(number) for number in range(count)]
        company.register(server.database, (company.record(v.pcid, v.leaf) for v in vehicles))
        server.send([company.put(vehicle, number) for number, vehicle in enumerate(vehicles)])
        anchors, now = company.anchors, int(time.time())
    return [Car(v.pcid, v.key, v.leaf, anchors, folder / v.pcid, now) for v in vehicles]


def rows(cars: Sequence[Car], count: int, used: Mapping[str, float]) -> list[dict[str, Any]]:
    """The rows of a run. count: of cars. used: processor time in seconds, by processes' names."""
    waits = sorted(car.waited * 1000 for car in cars)
    unbilled = sum(not car.billed for car in cars)
    name = f"{count:,} cars at once"
    return [
        {"name": f"{name}: without a contract", "value": unbilled, "unit": "", "budget": 0},
        {"name": "  the slowest", "value": waits[-1], "unit": "ms", "budget": SLOWEST[count]},
        {"name": "  p50", "value": waits[len(waits) // 2], "unit": "ms"},
        *(
            {
                "name": f"  processor for a car: {name}",
                "value": 1000 * seconds / count,
                "unit": "ms",
            }
            for name, seconds in used.items()
        ),
    ]


def bench() -> list[dict[str, Any]]:
    memory = Path("/dev/shm")
    result = []
    with ExitStack() as stack:
        temporary = tempfile.TemporaryDirectory(
            prefix="pv-", dir=memory if memory.is_dir() else None
        )
        folder = Path(stack.enter_context(temporary))
        server = stack.enter_context(serving(folder / "sandbox"))
        cars = iter(fleet(server, folder / "cars", WARM + sum(SLOWEST)))
        pid, most = stack.enter_context(stations(server, max(SLOWEST) // AT_ONE_STATION))
        processes = {"stations and operator": pid, "pools": server.pid}
        for count in (WARM, *SLOWEST):
            group = [next(cars) for _ in range(count)]
            before = {name: processor(parent) for name, parent in processes.items()}
            asyncio.run(charge_together(group, most[: count // AT_ONE_STATION]))
            used = {n: processor(parent) - before[n] for n, parent in processes.items()}
            if count in SLOWEST:
                result += rows(group, count, used)
    return result
