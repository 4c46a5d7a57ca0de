"""MicroPython as a file: the chip that it is for, and the comparison with a board.

RP2040 and RP2350 take a UF2 (`boot_drive`), each block of which names a family. ESP chips take a
.bin (`espressif`), whose header names a chip. STM32 boards take their firmware by DFU or a
debugger, which stays the user's own command.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

from plugvault.board import espressif
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
_DFU = (
    "an STM32 takes its firmware by DFU: `sudo apt-get install dfu-util`, connect BOOT0 (on a"
    " Pyboard DFU) with 3.3 V, press reset, then `dfu-util -a 0 -D FILE.dfu`, or `pydfu.py -u"
    " FILE.dfu` of MicroPython. After that `plugvault flash` without --firmware"
)
_HEX = (
    "a debugger writes it: `sudo apt-get install stlink-tools`, then `st-flash --format ihex write"
    " FILE.hex` for an STM32. After that `plugvault flash` without --firmware"
)
# The kinds of file that another tool writes: their first bytes, name and tool.
_OTHERS = (
    (b"DfuSe", "a DFU file", _DFU),
    (b":", "an Intel HEX file", _HEX),
    (b"\x7fELF", "an ELF file for a debugger", "take the board's .uf2, .bin or .dfu"),
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
    if data[:1] == espressif.MAGIC:
        return Image(path, "bin", espressif.chip_of(path))
    for start, kind, tool in _OTHERS:
        if data.startswith(start):
            raise DeviceError("firmware", f"{path} is {kind}: {tool}")
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


def check(image: Image, machine: str) -> None:
    """Compare an image with the board as it describes itself ("Raspberry Pi Pico with RP2040").

    Raises: DeviceError("firmware").
    """
    if image.kind == "uf2" and image.chip.startswith("STM32"):
        raise DeviceError("firmware", _DFU)
    if image.kind == "uf2" and image.chip.startswith("ESP"):
        raise DeviceError(
            "firmware", f"{image.path.name} is for the loader TinyUF2: take the .bin"
        )
    # "RP2350-RISCV" is the same chip, which starts the cores that its firmware is for.
    described = machine.upper().replace("-RISCV", "").replace("-", "")
    if described and image.chip.upper().replace("-", "") not in described.split():
        raise DeviceError(
            "firmware", f"{image.path.name} is for {image.chip}, and the board is: {machine}"
        )
