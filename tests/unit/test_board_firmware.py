"""Firmware files: the chip that each is for, and nothing written to another."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import pytest

from plugvault.board import firmware
from plugvault.board.errors import DeviceError

RP2040, RP2350, ABSOLUTE = 0xE48BFF56, 0xE48BFF59, 0xE48BFF57
PICO = "Raspberry Pi Pico with RP2040"
PICO_2 = "Raspberry Pi Pico2 with RP2350"


def uf2(family: int, blocks: int = 3, lead: int | None = None) -> bytes:
    """lead: the family of the block that RP2350 images carry in front, for an erratum."""
    data = b"" if lead is None else block(lead, 0, 2)
    return data + b"".join(block(family, number, blocks) for number in range(blocks))


def block(family: int, number: int, total: int) -> bytes:
    address = 0x10000000 + 256 * number
    magic = (0x0A324655, 0x9E5D5157)
    head = struct.pack("<8I", *magic, 0x2000, address, 256, number, total, family)
    return head + bytes(476) + struct.pack("<I", 0x0AB16F30)


def esp(chip: int) -> bytes:
    """An image of one segment, with the checksum that its loader demands."""
    payload = bytes(range(16))
    checksum = 0xEF
    for byte in payload:
        checksum ^= byte
    head = struct.pack("<BBBBI", 0xE9, 1, 0, 0x20, 0x40000000)
    extended = bytes(4) + chip.to_bytes(2, "little") + bytes(10)
    body = head + extended + struct.pack("<II", 0x3FFB0000, len(payload)) + payload
    return body + bytes(15 - len(body) % 16) + bytes([checksum])


def image(tmp_path: Path, data: bytes, name: str = "firmware.uf2") -> firmware.Image:
    path = tmp_path / name
    path.write_bytes(data)
    return firmware.read(path)


def drive(tmp_path: Path, board_id: str) -> Path:
    folder = tmp_path / board_id
    folder.mkdir()
    text = f"UF2 Bootloader v3.0\nModel: a board\nBoard-ID: {board_id}\n"
    (folder / "INFO_UF2.TXT").write_text(text)
    return folder


def test_uf2_names_its_chip(tmp_path: Path) -> None:
    assert image(tmp_path, uf2(RP2040)).chip == "RP2040"
    assert image(tmp_path, uf2(RP2350, lead=ABSOLUTE)).chip == "RP2350"


def test_esp_image_names_its_chip(tmp_path: Path) -> None:
    assert image(tmp_path, esp(9), "a.bin").chip == "esp32s3"
    assert image(tmp_path, esp(0), "b.bin").chip == "esp32"


def test_esp_image_without_esptool_names_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "esptool", None)
    with pytest.raises(DeviceError, match=r"pip install 'plugvault\[esp\]'"):
        image(tmp_path, esp(9), "a.bin")


@pytest.mark.parametrize(
    "data, words",
    [
        (b"", "neither"),
        (b"hello", "neither"),
        (uf2(RP2040)[:-1], "cut off"),
        (uf2(RP2040)[:-512], "cut off"),
        (uf2(RP2040)[:512] + b"?" * 512 + uf2(RP2040)[1024:], "block 1 is damaged"),
        (uf2(RP2040)[:1020] + b"????" + uf2(RP2040)[1024:], "block 1 is damaged"),
        (uf2(RP2040, 1) + uf2(RP2350, 1), "no one chip"),
        (uf2(0x12345678), "family 0x12345678"),
        (esp(9)[:-1] + b"?", "damaged"),
        (esp(9)[:20], "cut off"),
        (esp(9)[:-20], ""),
        (esp(77), "77"),
    ],
)
def test_damaged_or_unknown_file_is_refused(tmp_path: Path, data: bytes, words: str) -> None:
    with pytest.raises(DeviceError, match="firmware") as caught:
        image(tmp_path, data)
    assert words in caught.value.detail


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="firmware"):
        firmware.read(tmp_path / "none.uf2")


@pytest.mark.parametrize(
    "data, machine, fits",
    [
        (uf2(RP2040), PICO, True),
        (uf2(RP2350), PICO_2, True),
        (uf2(RP2040), PICO_2, False),
        (uf2(RP2350), PICO, False),
        (uf2(RP2040), "", True),
        (esp(9), "Generic ESP32S3 module with ESP32S3", True),
        (esp(0), "Generic ESP32S3 module with ESP32S3", False),
        (esp(0), "Generic ESP32 module with ESP32", True),
        (esp(0), PICO, False),
    ],
)
def test_image_is_compared_with_the_board(
    tmp_path: Path, data: bytes, machine: str, fits: bool
) -> None:
    read = image(tmp_path, data)
    if fits:
        firmware.check(read, machine)
        return
    with pytest.raises(DeviceError, match=f"is for {read.chip}"):
        firmware.check(read, machine)


def test_stm32_firmware_is_refused_with_the_command_for_it(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="dfu-util"):
        firmware.check(image(tmp_path, uf2(0x57755A57)), "PYBv1.1 with STM32F405RG")


def test_uf2_is_copied_to_the_drive_of_its_chip(tmp_path: Path) -> None:
    pico, pico_2 = drive(tmp_path, "RPI-RP2"), drive(tmp_path, "RP2350")
    drives = [(pico, "RP2040"), (pico_2, "RP2350")]
    read = image(tmp_path, uf2(RP2350, lead=ABSOLUTE))
    assert firmware.write_uf2(read, drives) == pico_2
    assert (pico_2 / "firmware.uf2").read_bytes() == read.path.read_bytes()
    assert [path.name for path in pico.iterdir()] == ["INFO_UF2.TXT"]


def test_drive_of_another_chip_stays_as_it_was(tmp_path: Path) -> None:
    pico_2 = drive(tmp_path, "RP2350")
    with pytest.raises(DeviceError, match="no boot drive of an RP2040"):
        firmware.write_uf2(image(tmp_path, uf2(RP2040)), [(pico_2, "RP2350")])
    assert [path.name for path in pico_2.iterdir()] == ["INFO_UF2.TXT"]


def test_two_drives_of_one_chip_are_refused(tmp_path: Path) -> None:
    drives = [(tmp_path, "RP2040"), (tmp_path, "RP2040")]
    with pytest.raises(DeviceError, match="plug in one board"):
        firmware.write_uf2(image(tmp_path, uf2(RP2040)), drives)


def test_boot_drives_are_told_by_their_info_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [drive(tmp_path, "RPI-RP2"), drive(tmp_path, "RP2350"), drive(tmp_path, "FEATHER")]
    monkeypatch.setattr(firmware, "_mounts", lambda: [*folders, tmp_path])
    assert firmware.boot_drives() == list(zip(folders, ["RP2040", "RP2350", ""], strict=True))
