"""The firmware of an ESP chip: its image, and esptool, which writes it.

esptool is the extra `esp`, because its licence is the GPL. Its output, with its progress, goes to
stderr, so that stdout has a command's result alone.
"""

import contextlib
import importlib
import io
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from plugvault.board.errors import DeviceError

MAGIC = b"\xe9"  # the first byte of an image
_HEADER = 24  # bytes of an image before its first segment
_APP = bytes.fromhex("3254cdab")  # begins the first segment of an app, behind 8 bytes
_BY_HAND = "Hold BOOT, press RESET, release BOOT, and try again"


def chip_of(path: Path) -> str:
    """The chip of an image, as esptool names it ("esp32s3"). Raises: DeviceError("firmware") for
    one that is damaged, or no whole firmware."""
    esptool = _esptool()
    with path.open("rb") as file:
        header = file.read(_HEADER + 8 + len(_APP))
    if len(header) < _HEADER:
        raise DeviceError("firmware", f"{path} is cut off")
    if header[_HEADER + 8 :] == _APP:
        raise DeviceError(
            "firmware",
            f"{path} is an app without its bootloader (.app-bin), for updates over the air: take"
            " the board's .bin",
        )
    number = int.from_bytes(header[12:14], "little")
    chip = ""
    for name, rom in esptool.targets.CHIP_DEFS.items():
        if number == rom.IMAGE_CHIP_ID:
            chip = name
    if not chip:
        raise DeviceError("firmware", f"{path} is for the ESP chip number {number}, unknown here")
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            image = esptool.bin_image.LoadFirmwareImage(chip, str(path))
            damaged = image.checksum != image.calculate_checksum()
    except Exception as error:  # esptool raises many kinds for a damaged file
        raise DeviceError("firmware", f"{path}: {error}") from error
    if damaged:
        raise DeviceError("firmware", f"{path} is damaged: its checksum is wrong")
    return chip


def _esptool() -> ModuleType:
    """esptool, which the extra `esp` installs. Raises: DeviceError("firmware")."""
    try:
        return importlib.import_module("esptool")
    except ImportError as error:
        raise DeviceError(
            "firmware", "a .bin is written by esptool: pip install 'plugvault[esp]'"
        ) from error


def write(path: Path, chip: str, port: str, begins: Callable[[], None]) -> None:
    """Write an image by esptool, after the chip at the port was compared with the image's.

    begins: called before the first byte is written. Raises: DeviceError("firmware").
    """
    esptool = _esptool()
    try:
        with contextlib.redirect_stdout(sys.stderr), esptool.detect_chip(port) as rom:
            found = rom.CHIP_NAME.lower().replace("-", "")
            if found != chip:
                raise DeviceError(
                    "firmware", f"{path.name} is for {chip}, and the chip at {port} is {found}"
                )
            stub = esptool.run_stub(rom)
            esptool.attach_flash(stub)
            begins()
            esptool.write_flash(stub, [(stub.BOOTLOADER_FLASH_OFFSET, str(path))])
            esptool.reset_chip(stub, "hard-reset")
    except (esptool.FatalError, OSError) as error:
        raise DeviceError("firmware", f"{port}: {error}. {_BY_HAND}") from error
