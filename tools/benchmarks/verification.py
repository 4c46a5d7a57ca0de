"""P-256 verification in Python on an emulated Pico: instructions, and the longest pause.

Counted, not timed: the instructions of a Cortex-M0+, and the board's own time. 100 KB of the heap
are in use and `boot.py`'s threshold is set, as in a module that is not frozen. The instructions of
one verification are the difference between runs that differ by two. A Cortex-M3, which divides in
hardware, needs about three quarters of them.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from plugvault.emulated_board import EmulatedBoard
from sizes import compile_to

HERE = Path(__file__).parent
VECTORS = HERE.parents[1] / "tests/vectors/p256.json"
MOST_NEW, MOST_KNOWN = 85.0, 52.0  # millions of instructions
MOST_STRETCH = 20.0  # milliseconds, collections of garbage left out


def mpremote(board: EmulatedBoard, *arguments: str) -> str:
    """Run mpremote with the board. Returns its output. Raises: RuntimeError."""
    command = [sys.executable, "-m", "mpremote", "connect", board.wait_for_serial_port()]
    ended = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(ended.stdout + ended.stderr)
    return ended.stdout


def run(board: EmulatedBoard, folder: Path, new: int, known: int) -> tuple[int, dict[str, int]]:
    """(instructions of the board, its figures) of so many verifications with each kind of key."""
    case = next(case for case in json.loads(VECTORS.read_text()) if case[4])
    script = folder / "script.py"
    board_part = (HERE / "verification_board.py").read_text()
    script.write_text(f"CASE = {tuple(case[1:4])!r}\nNEW = {new}\nKNOWN = {known}\n{board_part}")
    before = board.counters()["instructions"]
    figures = json.loads(mpremote(board, "run", str(script)))
    return board.counters()["instructions"] - before, figures


def bench() -> list[dict[str, object]]:
    reason = EmulatedBoard.missing()
    if reason is not None:
        raise RuntimeError(reason)
    with tempfile.TemporaryDirectory(prefix="pv-") as name:
        folder = Path(name)
        names = ("__init__", "p256", "p256_base", "p256_curve")
        compile_to(folder / "mpy", [f"evcc/{name}.py" for name in names])
        with EmulatedBoard(folder / "flash.bin") as board:
            mpremote(board, "exec", "print()")  # the first start makes the file system
            mpremote(board, "cp", "-r", str(folder / "mpy/evcc"), ":")
            one, figures = run(board, folder, 1, 0)
            new, _ = run(board, folder, 3, 0)
            known, _ = run(board, folder, 1, 2)
    return [
        {
            "name": "P-256 verification on an emulated Pico, new key",
            "value": (new - one) / 2e6,
            "unit": "million instructions",
            "budget": MOST_NEW,
        },
        {
            "name": "  with one of the last four keys",
            "value": (known - one) / 2e6,
            "unit": "million instructions",
            "budget": MOST_KNOWN,
        },
        {
            "name": "  its longest stretch between two pauses, without the collection",
            "value": (figures["longest"] - figures["collection"]) / 1000,
            "unit": "ms",
            "budget": MOST_STRETCH,
        },
        {
            "name": "  one collection of garbage",
            "value": figures["collection"] / 1000,
            "unit": "ms",
        },
    ]
