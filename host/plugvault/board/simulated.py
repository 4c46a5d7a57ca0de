"""The emulated Pico as a board to flash and use, for a computer without one.

Its prompt and its link are two pseudo-terminals; everything above them is as with a real board.
Beside the file of its flash a record names the two, and is locked while the board runs.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from plugvault import file_lock, json_file
from plugvault.board.errors import DeviceError
from plugvault.emulated_board import BoardError, EmulatedBoard

WHERE = (
    "It is a tool of a clone of the project, not of the package: clone the repository, `make`, and"
    " call .venv/bin/plugvault there"
)

FLASH = "simulated-pico.bin"  # in the folder of --data
START = "`plugvault board simulate` starts it again"
_PATIENCE = 0.5  # seconds for another command that looks at the record


class Ports(NamedTuple):
    """The ports of the emulated board of a folder. runs: False when it has ended."""

    prompt: str
    link: str
    runs: bool


def last(data: Path) -> Ports | None:
    """The latest emulated board of this folder of --data; None without one. Raises: OSError."""
    record = _record(data / FLASH)
    if not record.exists():
        return None
    runs = False
    try:
        os.close(file_lock.acquire(record, timeout=0))
    except TimeoutError:
        runs = True
    try:
        ports = json_file.read(record)
        return Ports(str(ports["prompt"]), str(ports["link"]), runs)
    except (json_file.JsonError, KeyError, TypeError):
        return None  # a start that has not come to its ports


def running(data: Path) -> Ports | None:
    """The emulated board of this folder that runs now. Raises: OSError."""
    ports = last(data)
    return ports if ports is not None and ports.runs else None


def is_port(data: Path, device: str) -> bool:
    """Whether this is a port of the latest emulated board of this folder. Raises: OSError."""
    ports = last(data)
    return ports is not None and device in (ports.prompt, ports.link)


def require_running(data: Path, device: str) -> None:
    """Raise DeviceError("gone") for a port of the emulated board when that has ended."""
    if running(data) is None and is_port(data, device):
        raise DeviceError("gone", f"the emulated board has ended: {START}")


def _record(flash: Path) -> Path:
    return flash.with_suffix(".json")


@contextlib.contextmanager
def _alone(flash: Path) -> Iterator[Path]:
    """The record of the only emulated board with this flash file. Raises: DeviceError("state"),
    OSError."""
    record = _record(flash)
    try:
        descriptor = file_lock.acquire(record, timeout=_PATIENCE)
    except TimeoutError as error:
        ports = last(flash.parent)
        where = f": prompt {ports.prompt}, link {ports.link}" if ports else ""
        raise DeviceError(
            "state",
            f"an emulated board runs already{where}. Use that one, end it by Ctrl-C in its"
            " terminal, or name another folder by --data DIR",
        ) from error
    try:
        yield record
    finally:
        os.close(descriptor)


def require() -> None:
    """Raise DeviceError("emulator") where a part of the emulator is missing."""
    reason = EmulatedBoard.missing()
    if reason:
        raise DeviceError("emulator", f"{reason}. {WHERE}")


@contextlib.contextmanager
def board(flash: Path, new: bool = False) -> Iterator[EmulatedBoard]:
    """The emulated Pico with this flash file, until the context ends. Its prompt can be opened.

    new: erase the file first, so that the flash has MicroPython alone. Raises:
    DeviceError("emulator"; "state" while another process runs it), OSError.
    """
    require()
    flash.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with _alone(flash) as record:
            record.write_text("", encoding="utf-8")  # no ports yet
            if new:
                flash.unlink(missing_ok=True)
            with EmulatedBoard(flash) as emulated:
                ports = {"prompt": emulated.wait_for_serial_port(), "link": emulated.uart}
                record.write_text(json.dumps(ports), encoding="utf-8")
                yield emulated
    except BoardError as error:
        raise DeviceError("emulator", str(error)) from error
