"""The pin that holds main.py back on each kind of board, with the hardware replaced."""

from __future__ import annotations

import importlib
import sys
from types import SimpleNamespace
from typing import Any

import pytest


class Hardware:
    """MicroPython's `machine` and `time`; low: the pins at ground."""

    PWRON_RESET, WDT_RESET = 1, 3

    def __init__(self) -> None:
        self.low: set[int] = set()
        self.pulled_up: list[int] = []
        self.milliseconds = 0
        hardware = self

        class Pin:
            IN, PULL_UP = 0, 1

            def __init__(self, number: int, mode: int, pull: int) -> None:
                assert (mode, pull) == (Pin.IN, Pin.PULL_UP)
                hardware.pulled_up.append(number)
                self._number = number

            def value(self) -> int:
                return self._number not in hardware.low

        self.Pin = Pin

    def reset_cause(self) -> int:
        return self.PWRON_RESET

    def ticks_ms(self) -> int:
        return self.milliseconds

    def ticks_add(self, ticks: int, milliseconds: int) -> int:
        return ticks + milliseconds

    def ticks_diff(self, later: int, earlier: int) -> int:
        return later - earlier

    def sleep_ms(self, milliseconds: int) -> None:
        self.milliseconds += milliseconds


@pytest.fixture
def hardware(monkeypatch: pytest.MonkeyPatch) -> Hardware:
    return Hardware()


@pytest.fixture
def board(hardware: Hardware, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`evcc.ports.board`, imported on this hardware alone."""
    monkeypatch.setitem(sys.modules, "machine", hardware)
    monkeypatch.delitem(sys.modules, "evcc.ports.board", raising=False)
    module = importlib.import_module("evcc.ports.board")
    monkeypatch.setattr(module, "time", hardware)
    monkeypatch.delitem(sys.modules, "evcc.ports.board")
    return module


@pytest.mark.parametrize(
    "platform, machine, pin",
    [
        ("rp2", "Raspberry Pi Pico with RP2040", 22),
        ("esp32", "Generic ESP32S3 module with ESP32S3", 0),
        ("esp32", "ESP32C3 module with ESP32C3", 9),
        ("esp32", "ESP32C6 module with ESP32C6", 9),
        ("pyboard", "PYBv1.1 with STM32F405RG", None),
        ("pyboard", "NUCLEO-F767ZI with STM32F767ZI", None),
    ],
)
def test_main_py_is_held_back_by_the_pin_of_the_board_and_no_other(
    hardware: Hardware,
    board: Any,
    monkeypatch: pytest.MonkeyPatch,
    platform: str,
    machine: str,
    pin: int | None,
) -> None:
    described = SimpleNamespace(
        platform=platform, implementation=SimpleNamespace(_machine=machine)
    )
    monkeypatch.setattr(board, "sys", described)
    hardware.low = {0, 9, 22} - {pin}
    assert not board.is_held()
    assert hardware.milliseconds >= 1000
    assert hardware.pulled_up == ([] if pin is None else [pin])
    if pin is not None:
        hardware.low = {pin}
        assert board.is_held()
