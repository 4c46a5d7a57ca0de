"""esptool's part of `flash --firmware`: what it is asked for, and where its output goes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import esptool
import pytest
from esptool.logger import log

from plugvault.board import espressif
from plugvault.board.errors import DeviceError

calls: list[str] = []


@pytest.fixture(autouse=True)
def board(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ESP32-S3 at any port; esptool's log is its own."""
    calls.clear()

    @contextlib.contextmanager
    def detect_chip(port: str) -> Iterator[Any]:
        log.print(f"Connecting to {port}...")
        yield SimpleNamespace(CHIP_NAME="ESP32-S3", BOOTLOADER_FLASH_OFFSET=0)

    def write_flash(stub: object, files: list[tuple[int, str]]) -> None:
        calls.append(f"write at {files[0][0]}")
        for part in (50, 100):
            log.progress_bar(part, 100, prefix="Writing at 0x00001000 ", suffix=" 1000 bytes")
        log.print("Wrote 1000 bytes")

    monkeypatch.setattr(esptool, "detect_chip", detect_chip)
    monkeypatch.setattr(esptool, "run_stub", lambda rom: rom)
    monkeypatch.setattr(esptool, "attach_flash", lambda stub: None)
    monkeypatch.setattr(esptool, "write_flash", write_flash)
    monkeypatch.setattr(esptool, "reset_chip", lambda stub, mode: calls.append(mode))


def test_output_and_progress_of_esptool_are_on_stderr_alone(
    capfd: pytest.CaptureFixture[str],
) -> None:
    espressif.write(Path("a.bin"), "esp32s3", "/dev/ttyACM0", lambda: calls.append("begins"))
    assert calls == ["begins", "write at 0", "hard-reset"]
    output = capfd.readouterr()
    assert output.out == ""
    for text in ("Connecting to /dev/ttyACM0", "100.0%", "Wrote 1000 bytes"):
        assert text in output.err


def test_image_for_another_esp_is_not_written() -> None:
    with pytest.raises(DeviceError, match=r"is for esp32c3, and .* is esp32s3"):
        espressif.write(Path("a.bin"), "esp32c3", "/dev/ttyACM0", lambda: calls.append("begins"))
    assert calls == []


def test_esp_that_does_not_answer_is_an_error_with_the_buttons_to_press(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @contextlib.contextmanager
    def detect_chip(port: str) -> Iterator[Any]:
        raise esptool.FatalError("No serial data received.")
        yield

    monkeypatch.setattr(esptool, "detect_chip", detect_chip)
    with pytest.raises(DeviceError, match="Hold BOOT, press RESET, release BOOT"):
        espressif.write(Path("a.bin"), "esp32s3", "/dev/ttyACM0", lambda: calls.append("begins"))
    assert calls == []
