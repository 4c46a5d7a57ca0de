"""Heap of a board during an installation: 32-bit MicroPython, code from .mpy, a small heap.

The interpreter is Debian's 32-bit build, whose objects are as wide as a board's. Its heap holds
the loaded code as well; a board with a frozen module keeps that in flash. So the figure for a
board is the heap needed above the code. The peak is found from outside: the smallest heap with
which a whole installation still passes, every collection and fragment included. The vault is the
service on the host, as for a board on a test bench.
"""

import json
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from answer import NOW, SESSION_ID, World, answers
from evcc.ports.files import Files
from evcc.trust import Trust
from plugvault import runtimes
from plugvault.tokens import TokenStore
from plugvault.tokens.location import TokenLocation
from plugvault.tokens.selection import TokenConfiguration
from plugvault.vault_service.service import VaultService
from sizes import all_files, board_files, budgets, compile_to

HERE = Path(__file__).parent
STEP = 1024  # bytes between two heaps of the search


def prepare(folder: Path, point: bytes, verify: Any) -> tuple[str, int]:
    """Write a car with anchors, and an answer for it, into `folder`. Returns (the time of the
    answer in unix seconds as text, its size in bytes). point, verify: of the car's vault."""
    world = World()
    (response,) = answers(world, point)
    (folder / "new").mkdir()
    Trust(Files(str(folder / "new")), verify).install("EU", world.anchors, NOW)
    (folder / "response.exi").write_bytes(response)
    (folder / "session").write_bytes(SESSION_ID)
    return str(NOW), len(response)


def attempt(argv: tuple[str, ...], env: dict[str, str], heap: int, *args: str) -> dict | None:
    """The figures of one installation with a heap of `heap` bytes; None if that is too small.

    argv, env: of the interpreter. args: of `memory_board.py`. Raises: RuntimeError for every other
    failure."""
    script = str(HERE / "memory_board.py")
    ended = subprocess.run(
        [*argv, "-X", f"heapsize={heap}", script, *args],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    output = ended.stdout + ended.stderr
    if ended.returncode == 0:
        return json.loads(ended.stdout)
    if "MemoryError" in output:
        return None
    raise RuntimeError(f"not for want of memory: {output}")


def bench() -> list[dict[str, object]]:
    runtime = runtimes.get("debian32")
    if runtime is None:
        raise RuntimeError("no 32-bit MicroPython here; `make` says why")
    budget = budgets()
    heap = budget["heap_of_an_installation"]
    with tempfile.TemporaryDirectory(prefix="pv-") as name:
        folder = Path(name)
        sizes = compile_to(folder / "mpy", all_files())  # the service is at a Unix socket here
        bytecode = sum(sizes[name] for name in board_files())
        env = {**runtime.env(), "MICROPYPATH": f"{folder / 'mpy'}:{runtimes.firmware()}:.frozen"}
        store, pin = TokenStore(folder / "hsm"), secrets.token_hex(8)
        store.init_token("car", pin, secrets.token_hex(8))
        socket = folder / "run" / "car.sock"
        token = TokenConfiguration(TokenLocation(store.module, "car", store.conf), pin)
        service = VaultService(token, socket, 1e6, openings_per_hour=None)
        with service:
            vault = service.client()
            now, size = prepare(folder, vault.generate_provisioning_key(), vault.verify)
            vault.close()

            def passes(heap: int) -> dict | None:
                shutil.rmtree(folder / "car", ignore_errors=True)
                shutil.copytree(folder / "new", folder / "car")
                return attempt(runtime.argv, env, heap, str(folder), str(socket), now)

            figures = passes(heap)
            if figures is None:
                raise MemoryError(f"an installation does not pass with {heap} bytes of heap")
            low, high = figures["ready"], heap
            while high - low > STEP:
                middle = (low + high) // 2
                low, high = (low, middle) if passes(middle) else (middle, high)
    installation = f"installing {size:,} bytes, 32 bits"
    return [
        {
            "name": "evcc as .mpy, what a board needs",
            "value": bytecode,
            "unit": "bytes",
            "budget": budget["bytecode"],
        },
        {"name": f"{installation}: smallest heap", "value": high, "unit": "bytes", "budget": heap},
        {
            "name": "  of it, the code an installation loads",
            "value": figures["code"],
            "unit": "bytes",
        },
        {
            "name": "  of it, above the code",
            "value": high - figures["code"],
            "unit": "bytes",
            "budget": budget["heap_above_the_code"],
        },
        {
            "name": "  kept after the commit",
            "value": figures["after"] - figures["code"],
            "unit": "bytes",
        },
    ]
