"""The vault service beside bare python-pkcs11: one client, and several at once.

What a request costs beyond the token's work is mostly the two wake-ups, of the service and of its
client; so it depends on what else runs. The two sides are measured in turns.
Several clients are processes of their own, on the cores that the service needs too. What they can
reach together is the service's one thread, busy all the time: so its signatures are also counted
by the time of its own processor.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vault import DIGEST, OPENINGS, SIGNATURES, bare_opening, in_turns

CLIENTS, SECONDS = 4, 2.0

CLIENT = """
import sys, time
from evcc.ports import unix
from evcc.vault import PROVISIONING, service
vault = service.connect(lambda: unix.connect(sys.argv[1]))
vault.random(1)
print("ready", flush=True)
sys.stdin.readline()
count, end = 0, time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    vault.sign(PROVISIONING, bytes(32))
    count += 1
print(count)
"""


def together(socket: Path, pid: int) -> tuple[float, float]:
    """Signatures of several clients at once: a second, and a second of the service's processor."""
    argv = [sys.executable, "-c", CLIENT, str(socket), str(SECONDS)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    clients: list[Any] = [subprocess.Popen(argv, **pipes) for _ in range(CLIENTS)]
    for client in clients:
        client.stdout.readline()
    before = processor(pid)
    for client in clients:
        client.stdin.write("\n")
        client.stdin.flush()
    count = sum(int(client.communicate()[0]) for client in clients)
    return count / SECONDS, count / (processor(pid) - before)


def processor(pid: int) -> float:
    """Seconds of it that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def alone(work: Callable[[], object]) -> float:
    """Calls a second of its processor, of one thread."""
    count, end, before = 0, time.monotonic() + SECONDS, time.process_time()
    while time.monotonic() < end:
        work()
        count += 1
    return count / (time.process_time() - before)


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
        bare_sign, sign, verify, bare_open, opening = in_turns(
            [
                (bare, SIGNATURES),
                (lambda: client.sign(PROVISIONING, DIGEST), SIGNATURES),
                (lambda: client.verify(point, DIGEST, signature), SIGNATURES),
                (bare_opening(vault, case), OPENINGS),
                (lambda: client.delete(client.open_contract_key(*case.values())), OPENINGS),
            ]
        )
        before = alone(bare)
        several, of_processor = together(service.socket_path, service.pid)
        after = alone(bare)
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
            "name": "  of bare calls, a second of its processor",
            "value": of_processor / statistics.mean((before, after)),
            "unit": "×",
            "at_least": 0.5,
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
