"""The vault service beside bare python-pkcs11: one client, and several at once.

Beyond the token's work, a request costs two ways through the kernel and two wake-ups; so its time
depends on the other load of the machine. The measurement alternates between the two sides in short
rounds for some seconds, and the quietest round of each side counts. Several clients are processes
of their own, on the cores that the service needs too. The most that they can reach is one busy
thread of the service: a bare loop on the token, less the way through the kernel. That loop runs
beside a neighbour as busy as the clients, because two cores may be threads of one core.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vault import (
    DIGEST,
    OPENINGS,
    SIGNATURES,
    alternately,
    bare_opening,
    microseconds,
    of_openssl,
)

REPEATS = 5  # of all rounds
NEW = 200  # envelopes
CLIENTS = (2, 4, 8)
SECONDS, ROUNDS = 0.1, 90

CLIENT = """
import sys, time
from evcc.ports import unix
from evcc.vault import PROVISIONING, service
vault = service.connect(lambda: unix.connect(sys.argv[1]))
vault.random(1)
print("ready", flush=True)
for seconds in sys.stdin:
    count, end = 0, time.monotonic() + float(seconds)
    while time.monotonic() < end:
        vault.sign(PROVISIONING, bytes(32))
        count += 1
    print(count, flush=True)
"""

NEIGHBOUR = """
import sys, time
print("ready", flush=True)
for seconds in sys.stdin:
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:
        sum(range(1000))
    print(0, flush=True)
"""


class Processes:
    """`count` processes that run `code` with `arguments`, for `SECONDS` at a time."""

    def __init__(self, count: int, code: str, *arguments: object) -> None:
        argv = [sys.executable, "-c", code, *map(str, arguments)]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._processes: list[Any] = [subprocess.Popen(argv, **pipes) for _ in range(count)]
        for process in self._processes:
            process.stdout.readline()

    def start(self) -> None:
        """Let every process run for `SECONDS`."""
        for process in self._processes:
            process.stdin.write(f"{SECONDS}\n")
            process.stdin.flush()

    def done(self) -> float:
        """The calls of all processes in a second, after the end of their run."""
        return sum(int(process.stdout.readline()) for process in self._processes) / SECONDS

    def close(self) -> None:
        for process in self._processes:
            process.communicate()


def signatures_per_second(
    socket: Path, bare: Callable[[], object]
) -> tuple[dict[int, float], float]:
    """(signatures a second by the number of clients, those of a bare loop between them)."""
    several = {count: Processes(count, CLIENT, socket) for count in CLIENTS}
    neighbour = Processes(1, NEIGHBOUR)
    best, of_bare = dict.fromkeys(CLIENTS, 0.0), 0.0
    for _ in range(ROUNDS):
        for count, clients in several.items():
            clients.start()
            best[count] = max(best[count], clients.done())
        neighbour.start()
        of_bare = max(of_bare, loop(bare))
        neighbour.done()
    for processes in (*several.values(), neighbour):
        processes.close()
    return best, of_bare


def loop(work: Callable[[], object]) -> float:
    """The calls a second of one loop of `SECONDS`."""
    count, end = 0, time.monotonic() + SECONDS
    while time.monotonic() < end:
        work()
        count += 1
    return count / SECONDS


def record_cost(client: Any, point: bytes) -> list[dict[str, Any]]:
    """The rows of the cost of the service's record of each new envelope. point: of the
    provisioning key of `client`."""
    import envelopes

    new = iter([envelopes.envelope(point, envelopes.KNOWN_KEY) for _ in range(NEW)])
    known = envelopes.envelope(point, envelopes.KNOWN_KEY)

    def opening(case: dict[str, Any]) -> None:
        client.delete(client.open_contract_key(*case.values()))

    opening(known)
    times = [
        (microseconds(lambda: opening(known), 1), microseconds(lambda: opening(next(new)), 1))
        for _ in range(NEW)
    ]
    of_known, of_new = map(min, zip(*times, strict=True))
    ratio = of_new / of_known
    return [
        {"name": "open and delete, an envelope that is new", "value": of_new, "unit": "µs"},
        {"name": "  of one that is known", "value": ratio, "unit": "×", "budget": 1.15},
    ]


def rows(token: Any) -> list[dict[str, Any]]:
    from pkcs11 import Mechanism

    import envelopes
    from evcc.vault import PROVISIONING

    vault = token.open()
    point = vault.generate_provisioning_key()
    case = envelopes.envelope(point, envelopes.KNOWN_KEY)
    static = vault._pair(PROVISIONING)[0]
    signature = vault.sign(PROVISIONING, DIGEST)

    def bare() -> object:
        return static.sign(DIGEST, mechanism=Mechanism.ECDSA)

    with token.service() as service:
        client = service.client()
        works: list[tuple[Callable[[], object], int]] = [
            (bare, SIGNATURES),
            (lambda: client.sign(PROVISIONING, DIGEST), SIGNATURES),
            (lambda: client.verify(point, DIGEST, signature), SIGNATURES),
            (bare_opening(vault, case), OPENINGS),
            (lambda: client.delete(client.open_contract_key(*case.values())), OPENINGS),
        ]
        rounds = [alternately(works) for _ in range(REPEATS)]
        bare_sign, sign, verify, bare_open, opening = map(min, zip(*rounds, strict=True))
        remembered = record_cost(client, point)
        several, of_bare = signatures_per_second(service.socket_path, bare)
    vault.close()
    figures: list[dict[str, Any]] = [
        {"name": "sign, python-pkcs11 alone", "value": bare_sign, "unit": "µs"},
        {"name": "sign", "value": sign, "unit": "µs"},
        {"name": "sign, of bare calls", "value": bare_sign / sign, "unit": "×", "at_least": 0.5},
        {"name": "verify", "value": verify, "unit": "µs"},
        {"name": "open and delete, python-pkcs11 alone", "value": bare_open, "unit": "µs"},
        {"name": "open and delete", "value": opening, "unit": "µs"},
        {
            "name": "open and delete, of bare calls",
            "value": bare_open / opening,
            "unit": "×",
            "at_least": 0.5,
        },
    ]
    figures += remembered
    figures += of_openssl(sign, opening)
    for count, signed in several.items():
        figures += [
            {"name": f"sign, {count} clients at once", "value": signed, "unit": "/s"},
            {
                "name": "  of a bare loop",
                "value": signed / of_bare,
                "unit": "×",
                "at_least": 0.9,
            },
        ]
    return figures


def bench() -> list[dict[str, Any]]:
    sys.path.append(str(Path(__file__).parents[2] / "tests"))
    from fixtures.tokens import CarToken

    memory = Path("/dev/shm")  # the token's files, no copy of a secret
    with tempfile.TemporaryDirectory(
        prefix="pv-", dir=memory if memory.is_dir() else None
    ) as folder:
        return rows(CarToken(Path(folder)))
