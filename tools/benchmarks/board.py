"""A car's life cycle on an emulated Pico, with the module as .mpy files and frozen into the
firmware.

Counted, not timed: the longest pause of the loop, the first import, 4,424 bytes over the link at
115,200 baud, an installation, and the smallest of a few heaps with which a life cycle passes.
Times are the board's own, at 125 MHz, without the cache of a real Pico's flash (tools/board). A
pause does not include the time of the flash, in which the core stands still. The firmware with the
module is built once, which takes a minute; then four or five life cycles run.
"""

import contextlib
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import board_life
from evcc.errors import EvccError
from plugvault.emulated_board import EmulatedBoard
from sizes import budgets

TOOL = Path(__file__).parents[1] / "board"
HEAP_AIM = 96 * 1024
HEAP_STEP = 8 * 1024  # a life cycle takes a minute: a finer search would take too long
# Reached figures. The aims are 20 ms, 1 s and, for the heap of a frozen module, 96 KiB.
MOST_PAUSE_MS = {"frozen": 110.0, ".mpy": 130.0}  # two collections of the heap and a file
MOST_IMPORT_MS = {"frozen": 400.0, ".mpy": 1950.0}
MOST_LINK_MS = 500.0
MOST_INSTALLATION = 280.0  # millions of instructions, as in tests/board/test_life.py
BITS_OF_BYTE = 10  # with start and stop bit


def frozen_firmware() -> Path:
    """The path of a firmware with the module in it, built again where the module has changed."""
    out = (TOOL / ".cache/firmware").resolve().parent / "frozen"
    subprocess.run([TOOL / "firmware/build_frozen", out], check=True, stdout=subprocess.DEVNULL)
    return out / "firmware.bin"


def smallest_heap(made: board_life.FlashedBoard, most: int) -> int:
    """The smallest heap, in bytes, with which a life cycle passes, from `most` down to HEAP_AIM.

    Raises: EvccError if `most` is not enough.
    """
    one_life(made, most)
    smallest = most
    with contextlib.suppress(EvccError):
        for heap in range(most - HEAP_STEP, HEAP_AIM - 1, -HEAP_STEP):
            one_life(made, heap)
            smallest = heap
    return smallest


def copied(made: board_life.FlashedBoard, folder: Path) -> board_life.FlashedBoard:
    """A copy of the board and of this computer's files for it."""
    return board_life.FlashedBoard(shutil.copytree(made.folder, folder / "copy"), made.firmware)


def one_life(made: board_life.FlashedBoard, heap: int | None = None) -> dict[str, Any]:
    """The figures of one life cycle of a copy of the board: see `board_life.live`."""
    with tempfile.TemporaryDirectory(prefix="pv-") as name:
        return board_life.live(copied(made, Path(name)), heap)


def rows_of_installations(made: board_life.FlashedBoard) -> list[dict[str, object]]:
    """The rows of two installations of a copy of the board."""
    with tempfile.TemporaryDirectory(prefix="pv-") as name:
        first, known = board_life.installations(copied(made, Path(name)))
    unit = "million instructions"
    return [
        {
            "name": "  an installation, the keys in this computer's token",
            "value": first / 1e6,
            "unit": unit,
        },
        {
            "name": "  the same with known chains",
            "value": known / 1e6,
            "unit": unit,
            "budget": MOST_INSTALLATION,
            "note": "aim 250",
        },
    ]


def rows_of_a_life(kind: str, report: dict[str, Any]) -> list[dict[str, object]]:
    """The rows of a report of `board_life.live`. kind: a key of `MOST_PAUSE_MS`."""
    return [
        {
            "name": f"{kind}: longest pause of the loop in a life",
            "value": report["longest"] / 1000,
            "unit": "ms",
            "budget": MOST_PAUSE_MS[kind],
            "note": "aim 20",
        },
        {
            "name": "  its instructions",
            "value": report["instructions"] / 1e6,
            "unit": "million instructions",
        },
        {
            "name": "  the longest with the time of the flash in it",
            "value": report["with_flash"] / 1000,
            "unit": "ms",
        },
        {
            "name": "  first import, to the first look at the link",
            "value": report["start"] / 1000,
            "unit": "ms",
            "budget": MOST_IMPORT_MS[kind],
            "note": "aim 1,000",
        },
        {
            "name": f"  {board_life.LINK_BYTES:,} bytes at 115,200 baud, time on the wire",
            "value": report["wire"] * BITS_OF_BYTE / 115.2,
            "unit": "ms",
            "budget": MOST_LINK_MS,
        },
    ]


def bench() -> list[dict[str, object]]:
    reason = EmulatedBoard.missing()
    if reason is not None:
        raise RuntimeError(reason)
    firmware = frozen_firmware()
    with tempfile.TemporaryDirectory(prefix="pv-") as name:
        folder = Path(name)
        frozen = board_life.flashed(folder / "frozen", firmware)
        rows = rows_of_a_life("frozen", one_life(frozen))
        most = budgets()["heap_of_a_frozen_life"]
        rows.append(
            {
                "name": "  smallest heap of a life",
                "value": smallest_heap(frozen, most),
                "unit": "bytes",
                "budget": most,
                "note": f"aim {HEAP_AIM:,}",
            }
        )
        compiled = board_life.flashed(folder / "mpy")
        rows += rows_of_a_life(".mpy", one_life(compiled))
        return rows + rows_of_installations(compiled)
