"""The emulated Pico as a board to flash and use, for a computer without one.

Its prompt and its link are two pseudo-terminals; everything above them is as with a real board.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from plugvault.board.errors import DeviceError
from plugvault.emulated_board import BoardError, EmulatedBoard

WHERE = (
    "It is a tool of a clone of the project, not of the package: clone the repository, `make`, and"
    " call .venv/bin/plugvault there"
)


def require() -> None:
    """Raise DeviceError("emulator") where a part of the emulator is missing."""
    reason = EmulatedBoard.missing()
    if reason:
        raise DeviceError("emulator", f"{reason}. {WHERE}")


@contextlib.contextmanager
def board(flash: Path, new: bool = False) -> Iterator[EmulatedBoard]:
    """The emulated Pico with this flash file, until the context ends. Its prompt can be opened.

    new: erase the file first, so that the flash has MicroPython alone. Raises:
    DeviceError("emulator").
    """
    require()
    flash.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if new:
        flash.unlink(missing_ok=True)
    try:
        with EmulatedBoard(flash) as emulated:
            emulated.wait_for_serial_port()
            yield emulated
    except BoardError as error:
        raise DeviceError("emulator", str(error)) from error
