"""The vault service beside bare python-pkcs11: one client, and several at once.

What a request costs beyond the token's work is mostly its way through the kernel, twice, and who
has to be woken for it; so it depends on what else runs. The two sides are measured in short turns
for some seconds, and of each the quietest turn counts: a shared machine may have no quiet one for
a while. Several clients are processes of their own, on the cores that the service needs too. What
they can reach together is the service's one thread, busy all the time: a bare loop on the token
less that way. That loop has a neighbour as busy as the clients are: two cores may be one core's
threads.
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
    bare_opening,
    in_turns,
    microseconds,
    of_openssl,
)

ROUNDS = 5  # of many turns
NEW = 200  # envelopes
CLIENTS = (2, 4, 8)
SECONDS, TURNS = 0.1, 90

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


class Others:
    """Processes that run `code` with `arguments`, for a while at a time."""

    def __init__(self, count: int, code: str, *arguments: object) -> None:
        argv = [sys.executable, "-c", code, *map(str, arguments)]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._processes: list[Any] = [subprocess.Popen(argv, **pipes) for _ in range(count)]
        for process in self._processes:
            process.stdout.readline()

    def start(self) -> None:
        for process in self._processes:
            process.stdin.write(f"{SECONDS}\n")
            process.stdin.flush()

    def done(self) -> float:
        """What they did in a second, all together."""
        return sum(int(process.stdout.readline()) for process in self._processes) / SECONDS

    def close(self) -> None:
        for process in self._processes:
            process.communicate()


def together(socket: Path, bare: Callable[[], object]) -> tuple[dict[int, float], float]:
    """Signatures a second: by how many clients at once, and of a bare loop in turns with them."""
    several = {count: Others(count, CLIENT, socket) for count in CLIENTS}
    neighbour = Others(1, NEIGHBOUR)
    best, of_bare = dict.fromkeys(CLIENTS, 0.0), 0.0
    for _ in range(TURNS):
        for count, clients in several.items():
            clients.start()
            best[count] = max(best[count], clients.done())
        neighbour.start()
        of_bare = max(of_bare, loop(bare))
        neighbour.done()
    for others in (*several.values(), neighbour):
        others.close()
    return best, of_bare


def loop(work: Callable[[], object]) -> float:
    """Calls a second of one loop."""
    count, end = 0, time.monotonic() + SECONDS
    while time.monotonic() < end:
        work()
        count += 1
    return count / SECONDS


def remembering(client: Any, point: bytes) -> list[dict[str, Any]]:
    """What it costs that the service writes down each new envelope before it opens it."""
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
        rounds = [in_turns(works) for _ in range(ROUNDS)]
        bare_sign, sign, verify, bare_open, opening = map(min, zip(*rounds, strict=True))
        remembered = remembering(client, point)
        several, of_bare = together(service.socket_path, bare)
    vault.close()
    found: list[dict[str, Any]] = [
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
    found += remembered
    found += of_openssl(sign, opening)
    for count, signed in several.items():
        found += [
            {"name": f"sign, {count} clients together", "value": signed, "unit": "/s"},
            {
                "name": "  of a bare loop",
                "value": signed / of_bare,
                "unit": "×",
                "at_least": 0.9,
            },
        ]
    return found


def bench() -> list[dict[str, Any]]:
    sys.path.append(str(Path(__file__).parents[2] / "tests"))
    from fixtures.tokens import CarToken

    memory = Path("/dev/shm")  # the store's files, not a secret's copy
    with tempfile.TemporaryDirectory(
        prefix="pv-", dir=memory if memory.is_dir() else None
    ) as folder:
        return rows(CarToken(Path(folder)))
