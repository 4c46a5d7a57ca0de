"""MicroPython onto a board: its image is checked, and then copied or flashed.

RP2040 and RP2350 take a UF2 by their boot drive; each block of it names a family, the drive's
INFO_UF2.TXT its own. ESP chips take a .bin by esptool; its header names a chip. STM32 boards take
their firmware by DFU, which stays the user's own command.
"""

import contextlib
import importlib
import io
import os
import shutil
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from plugvault.board.errors import DeviceError

_UF2_BLOCK = 512
_UF2_MAGIC = (0x0A324655, 0x9E5D5157, 0x0AB16F30)
_FAMILY_FLAG = 0x2000
FAMILIES = {
    0xE48BFF56: "RP2040",
    0xE48BFF59: "RP2350",  # Arm, secure
    0xE48BFF5A: "RP2350",  # RISC-V
    0xE48BFF5B: "RP2350",  # Arm, non-secure
    0xE48BFF57: "",  # absolute: of either chip
    0xE48BFF58: "",  # data
    0x57755A57: "STM32F4",
    0x5D1A0A2E: "STM32F2",
    0x53B80F00: "STM32F7",
    0x6DB66082: "STM32H7",
    0xC47E5767: "ESP32-S3",
    0x1C5F21B0: "ESP32",
    0xD42BA06C: "ESP32-C3",
}
_DRIVES = {"RPI-RP2": "RP2040", "RP2350": "RP2350"}  # by Board-ID
_ESP_MAGIC = 0xE9
_DRIVE_TIMEOUT = 20.0
_DFU = (
    "this board takes its firmware by DFU: `sudo apt-get install dfu-util`, connect BOOT0, then"
    " `dfu-util -a 0 -D FILE.dfu`"
)


@dataclass(frozen=True)
class Image:
    """A firmware file: its chip ("RP2040", "esp32s3"), and its kind ("uf2", "bin")."""

    path: Path
    kind: str
    chip: str


def read(path: Path) -> Image:
    """A firmware file, with the chip that it is for. Raises: DeviceError("firmware")."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DeviceError("firmware", f"{path}: {error.strerror}") from error
    if data[:4] == struct.pack("<I", _UF2_MAGIC[0]):
        return Image(path, "uf2", _uf2_chip(path, data))
    if data[:1] == bytes([_ESP_MAGIC]):
        return Image(path, "bin", _esp_chip(path))
    raise DeviceError("firmware", f"{path} is neither a UF2 nor an ESP image")


def _uf2_chip(path: Path, data: bytes) -> str:
    """The chip of a UF2 whose every block is well formed."""
    if len(data) % _UF2_BLOCK:
        raise DeviceError("firmware", f"{path} is cut off: a UF2 consists of blocks of 512 bytes")
    families, numbers = set(), []
    for start in range(0, len(data), _UF2_BLOCK):
        one, two, flags, _, size, number, total, family = struct.unpack_from("<8I", data, start)
        (end,) = struct.unpack_from("<I", data, start + _UF2_BLOCK - 4)
        if (one, two, end) != _UF2_MAGIC or size > 476:
            raise DeviceError("firmware", f"{path}: block {start // _UF2_BLOCK} is damaged")
        families.add(family if flags & _FAMILY_FLAG else 0)
        if FAMILIES.get(family) != "":
            numbers.append((number, total))
    chips = {FAMILIES[family] for family in families if FAMILIES.get(family)}
    unknown = [family for family in families if family not in FAMILIES]
    if unknown or len(chips) != 1:
        known = ", ".join(sorted(chips)) or f"family 0x{min(families):08x}"
        raise DeviceError("firmware", f"{path} is for no one chip that is known here: {known}")
    if len({total for _, total in numbers}) != 1 or len(numbers) != numbers[0][1]:
        raise DeviceError(
            "firmware", f"{path} is cut off: it has {len(numbers)} blocks of its own"
        )
    return chips.pop()


def _esp_chip(path: Path) -> str:
    esptool = _esptool()
    with path.open("rb") as file:
        header = file.read(24)
    if len(header) < 24:
        raise DeviceError("firmware", f"{path} is cut off")
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


def check(image: Image, machine: str) -> None:
    """Compare an image with the board as it describes itself ("Raspberry Pi Pico with RP2040").

    Raises: DeviceError("firmware").
    """
    described = machine.upper().replace("-", "")
    if image.kind == "uf2" and image.chip.startswith("STM32"):
        raise DeviceError("firmware", _DFU)
    if described and image.chip.upper().replace("-", "") not in described.split():
        raise DeviceError(
            "firmware", f"{image.path.name} is for {image.chip}, and the board is: {machine}"
        )


# -- RP2040, RP2350: the boot drive --


def boot_drives() -> list[tuple[Path, str]]:
    """(folder, chip) of every mounted boot drive; the chip is "" for an unknown one."""
    drives = []
    for folder in _mounts():
        try:
            info = (folder / "INFO_UF2.TXT").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        board = next(
            (line[9:].strip() for line in info.splitlines() if line.startswith("Board-ID:")), ""
        )
        drives.append((folder, _DRIVES.get(board, "")))
    return drives


def _mounts() -> Iterator[Path]:
    with contextlib.suppress(OSError):
        for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
            _, folder, kind, *_ = line.split(" ")
            if kind in ("vfat", "msdos"):
                yield Path(folder.encode().decode("unicode_escape"))


def write_uf2(image: Image, drives: list[tuple[Path, str]] | None = None) -> Path:
    """Copy a UF2 onto the one boot drive of its chip. Returns the drive's folder.

    Raises: DeviceError("firmware") without such a drive, before anything is written, and after a
    failed copy.
    """
    if drives is None:
        drives = _wait_for_drive()
    fitting = [folder for folder, chip in drives if chip == image.chip]
    if not fitting:
        others = ", ".join(f"{folder} ({chip or 'unknown'})" for folder, chip in drives)
        raise DeviceError(
            "firmware",
            f"no boot drive of an {image.chip}: hold BOOTSEL, plug the board in, and mount the"
            f" drive if your desktop does not. There is: {others or 'none'}. A UF2 for another"
            " chip would be copied, and nothing would happen",
        )
    if len(fitting) > 1:
        raise DeviceError("firmware", "several boot drives: plug in one board")
    try:
        with image.path.open("rb") as source, (fitting[0] / image.path.name).open("wb") as target:
            shutil.copyfileobj(source, target)
            target.flush()
            os.fsync(target.fileno())
    except OSError as error:  # the board may restart before the last write is acknowledged
        if error.errno not in (5, 19):  # EIO, ENODEV
            raise DeviceError("firmware", f"{fitting[0]}: {error.strerror}") from error
    return fitting[0]


def _wait_for_drive() -> list[tuple[Path, str]]:
    deadline = time.monotonic() + _DRIVE_TIMEOUT
    while not (drives := boot_drives()) and time.monotonic() < deadline:
        time.sleep(0.5)
    return drives


# -- ESP --


def write_bin(image: Image, port: str) -> None:
    """Flash an image by esptool, after the chip at the port was compared with the image's.

    Raises: DeviceError("firmware").
    """
    esptool = _esptool()
    try:
        with esptool.detect_chip(port) as chip:
            found = chip.CHIP_NAME.lower().replace("-", "")
            if found != image.chip:
                raise DeviceError(
                    "firmware", f"{image.path.name} is for {image.chip}, and {port} has a {found}"
                )
            stub = esptool.run_stub(chip)
            esptool.attach_flash(stub)
            esptool.write_flash(stub, [(stub.BOOTLOADER_FLASH_OFFSET, str(image.path))])
            esptool.reset_chip(stub, "hard-reset")
    except (esptool.FatalError, OSError) as error:
        raise DeviceError(
            "firmware",
            f"{port}: {error}. Hold BOOT, press RESET, release BOOT, and try again",
        ) from error
