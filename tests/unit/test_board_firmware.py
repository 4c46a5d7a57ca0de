"""Firmware files: the chip that each is for, and nothing written to another."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fixtures.firmware_files import (
    ABSOLUTE,
    APP,
    ESP32,
    ESP32_S3,
    RP2040,
    RP2350,
    RP2350_NON_SECURE,
    RP2350_RISCV,
    esp,
    uf2,
)
from plugvault.board import firmware
from plugvault.board.errors import DeviceError

PICO = "Raspberry Pi Pico with RP2040"
PICO_2 = "Raspberry Pi Pico2 with RP2350"
PICO_2_RISCV = "Raspberry Pi Pico2 with RP2350-RISCV"


def image(tmp_path: Path, data: bytes, name: str = "firmware.uf2") -> firmware.Image:
    path = tmp_path / name
    path.write_bytes(data)
    return firmware.read(path)


def test_uf2_names_its_chip(tmp_path: Path) -> None:
    assert image(tmp_path, uf2(RP2040)).chip == "RP2040"
    assert image(tmp_path, uf2(RP2350, lead=ABSOLUTE)).chip == "RP2350"


def test_esp_image_names_its_chip(tmp_path: Path) -> None:
    assert image(tmp_path, esp(ESP32_S3), "a.bin").chip == "esp32s3"
    assert image(tmp_path, esp(ESP32), "b.bin").chip == "esp32"


def test_esp_image_without_esptool_names_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "esptool", None)
    with pytest.raises(DeviceError, match=r"pip install 'plugvault\[esp\]'"):
        image(tmp_path, esp(ESP32_S3), "a.bin")


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
        (esp(ESP32_S3)[:-1] + b"?", "damaged"),
        (esp(ESP32_S3)[:20], "cut off"),
        (esp(ESP32_S3)[:-20], ""),
        (esp(77), "77"),
        (esp(ESP32_S3, APP), "without its bootloader"),
        (b"DfuSe\x01" + bytes(300), "dfu-util -a 0 -D FILE.dfu"),
        (b":020000040800F2\r\n", "st-flash --format ihex write FILE.hex"),
        (b"\x7fELF\x01\x01", "take the board's .uf2"),
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
        (uf2(RP2350_RISCV), PICO_2, True),
        (uf2(RP2350_NON_SECURE), PICO_2, True),
        (uf2(RP2350, lead=ABSOLUTE), PICO_2_RISCV, True),
        (uf2(RP2350_RISCV, lead=ABSOLUTE), PICO_2_RISCV, True),
        (uf2(RP2040), PICO_2_RISCV, False),
        (uf2(RP2350_RISCV), PICO, False),
        (uf2(RP2040), PICO_2, False),
        (uf2(RP2350), PICO, False),
        (uf2(RP2040), "", True),
        (esp(ESP32_S3), "Generic ESP32S3 module with ESP32S3", True),
        (esp(ESP32), "Generic ESP32S3 module with ESP32S3", False),
        (esp(ESP32), "Generic ESP32 module with ESP32", True),
        (esp(ESP32), PICO, False),
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


def test_uf2_of_an_esp_is_refused_with_the_kind_to_take(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"take the \.bin"):
        firmware.check(image(tmp_path, uf2(0xC47E5767)), "ESP32S3 module with ESP32S3")


def test_stm32_firmware_is_refused_with_the_command_for_it(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="dfu-util"):
        firmware.check(image(tmp_path, uf2(0x57755A57)), "PYBv1.1 with STM32F405RG")
