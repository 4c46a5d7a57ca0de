"""Check the firmware with pyright, once for each port of MicroPython, with that port's stubs.

    python tools/pyright_ports.py [PORT…]

Linux has every file of the firmware but the board's own port; a board has its own three files and
those that `firmware/package.json` lists. `tools/setup/stubs` fetches the stubs. Exits 1 after an
error.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FIRMWARE = ROOT / "firmware"
PORTS = ("unix", "rp2", "esp32", "stm32")
BOARDS_ONLY = ("evcc/ports/board.py",)


def files(port: str) -> list[str]:
    """The files that can be imported on a port, as paths in `firmware`."""
    if port == "unix":
        every = sorted(str(file.relative_to(FIRMWARE)) for file in FIRMWARE.rglob("*.py"))
        return [name for name in every if name not in BOARDS_ONLY]
    urls = json.loads((FIRMWARE / "package.json").read_text())["urls"]
    return ["boot.py", "main.py", "switch.py", *(source for _, source in urls)]


def project(port: str, folder: Path) -> dict[str, object]:
    """The pyright project of a port, for a file in `folder`: pyright wants relative paths."""

    def relative(path: Path) -> str:
        return os.path.relpath(path, folder)

    stubs = relative(ROOT / "typings" / port)
    return {
        "include": [relative(FIRMWARE / name) for name in files(port)],
        "typeshedPath": stubs,
        "stubPath": stubs,
        "pythonVersion": "3.11",
        "extraPaths": [relative(FIRMWARE)],
        "typeCheckingMode": "basic",
        "reportMissingModuleSource": False,
    }


def check(port: str) -> bool:
    """Whether pyright looks at every file and finds no error; its findings are printed."""
    folder = ROOT / "build/pyright" / port
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyrightconfig.json").write_text(json.dumps(project(port, folder)))
    program = Path(sys.executable).with_name("pyright")
    command = [program, "--project", folder, "--outputjson"]
    report = json.loads(subprocess.run(command, check=False, stdout=subprocess.PIPE).stdout)
    for finding in report["generalDiagnostics"]:
        file = Path(finding["file"]).relative_to(ROOT)
        line = finding["range"]["start"]["line"] + 1
        print(f"{file}:{line}: {finding['severity']}: {finding['message']}")
    analyzed, errors = report["summary"]["filesAnalyzed"], report["summary"]["errorCount"]
    print(f"{port}: {analyzed} files, {errors} errors", flush=True)
    return analyzed >= len(files(port)) and errors == 0


def main() -> int:
    parser = argparse.ArgumentParser(description="Check the firmware with each port's stubs.")
    parser.add_argument("ports", nargs="*", metavar="PORT", help=", ".join(PORTS))
    ports = parser.parse_args().ports or PORTS
    if unknown := set(ports) - set(PORTS):
        parser.error("no such port: " + ", ".join(sorted(unknown)))
    results = [check(port) for port in ports]
    return 0 if all(results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
