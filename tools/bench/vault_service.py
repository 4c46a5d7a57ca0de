"""The vault service beside bare python-pkcs11: one client, and several at once.

What a request costs beyond the token's work is mostly its way through the kernel, twice, and who
has to be woken for it; so it depends on what else runs. The two sides are measured in short turns
for some seconds, and of each the quietest turn counts: a shared machine may have no quiet one for
a while. Several clients are processes of their own, on the cores that the service needs too. What
they can reach together is the service's one thread, busy all the time: a bare loop on the token
less that way.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vault import DIGEST, OPENINGS, SIGNATURES, bare_opening, in_turns

ROUNDS = 5  # of many turns
CLIENTS, SECONDS, TURNS = 4, 0.1, 30

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


def together(socket: Path, bare: Callable[[], object]) -> tuple[float, float]:
    """Signatures a second: of several clients at once, and of a bare loop in turns with them."""
    argv = [sys.executable, "-c", CLIENT, str(socket)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    clients: list[Any] = [subprocess.Popen(argv, **pipes) for _ in range(CLIENTS)]
    for client in clients:
        client.stdout.readline()
    turns = []
    for _ in range(TURNS):
        for client in clients:
            client.stdin.write(f"{SECONDS}\n")
            client.stdin.flush()
        count = sum(int(client.stdout.readline()) for client in clients)
        turns.append((count / SECONDS, alone(bare)))
    for client in clients:
        client.communicate()
    several, of_bare = map(max, zip(*turns, strict=True))
    return several, of_bare


def alone(work: Callable[[], object]) -> float:
    """Calls a second of one loop."""
    count, end = 0, time.monotonic() + SECONDS
    while time.monotonic() < end:
        work()
        count += 1
    return count / SECONDS


def rows(token: Any) -> list[dict[str, Any]]:
    from pkcs11 import Mechanism

    import envelopes
    from evcc.vault import PROVISIONING

    vault = token.open()
    point = vault.generate_provisioning_key()
    case = envelopes.envelope(point, envelopes.KNOWN_KEY)
    static = vault._whole(PROVISIONING)[0]
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
        several, of_bare = together(service.socket_path, bare)
    vault.close()
    return [
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
        {"name": f"sign, {CLIENTS} clients together", "value": several, "unit": "/s"},
        {
            "name": "  of a bare loop alone",
            "value": several / of_bare,
            "unit": "×",
            "at_least": 0.75,
        },
    ]


def bench() -> list[dict[str, Any]]:
    sys.path.append(str(Path(__file__).parents[2] / "tests"))
    from fixtures.tokens import CarToken

    memory = Path("/dev/shm")  # the store's files, not a secret's copy
    with tempfile.TemporaryDirectory(
        prefix="pv-", dir=memory if memory.is_dir() else None
    ) as folder:
        return rows(CarToken(Path(folder)))
