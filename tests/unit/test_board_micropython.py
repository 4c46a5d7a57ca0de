"""MicroPython onto a board: the port before and after, and the board that a failure leaves."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fixtures.firmware_files import ESP32, ESP32_S3, RP2040, esp, uf2
from fixtures.flashing import Record
from plugvault.board import boot_drive, espressif, facts, micropython, ports
from plugvault.board.errors import DeviceError
from plugvault.board.micropython import MicroPython
from plugvault.board.ports import BRIDGE, DOWNLOAD, OTHER, PROMPT, SerialPort
from plugvault.board.repl import Repl

PICO = SerialPort("/dev/ttyACM0", PROMPT, "MicroPython", "E6614104032B5A2A", 0x2E8A)
OTHER_PICO = SerialPort("/dev/ttyACM8", PROMPT, "MicroPython", "E6614104032B5A2B", 0x2E8A)
ADAPTER = SerialPort("/dev/ttyUSB0", BRIDGE, "CP210x bridge", "0001", 0x10C4)
DEVKIT = SerialPort("/dev/ttyUSB1", BRIDGE, "CP210x bridge", "0001", 0x10C4)
S3 = SerialPort("/dev/ttyACM1", PROMPT, "own USB", "f412fa4000010000", 0x303A)
S3_JTAG = SerialPort("/dev/ttyACM2", PROMPT, "USB serial/JTAG", "F4:12:FA:40:00:01", 0x303A)
S2_WAITING = SerialPort("/dev/ttyACM3", DOWNLOAD, "download mode", "0", 0x303A)
S2 = SerialPort("/dev/ttyACM4", PROMPT, "own USB", "7cdfa10000010000", 0x303A)
PHONE = SerialPort("/dev/ttyACM7", OTHER, "a modem", "", 0x1234)


class Computer:
    """This computer: its ports now, the machine at each, and what was done to them."""

    def __init__(self) -> None:
        self.ports: list[SerialPort] = []
        self.machines: dict[str, str] = {}
        self.drives: list[str] = []
        self.asked: list[str] = []
        self.actions: list[str] = []
        self.write: Callable[[str], None] = lambda device: None
        self.on_bootloader: Callable[[], None] = lambda: None

    @contextlib.contextmanager
    def opened(self, device: str, soft_reset: bool) -> Iterator[Any]:
        self.asked.append(device)
        if device not in self.machines or device not in [port.device for port in self.ports]:
            raise DeviceError("silent", f"{device}: no MicroPython prompt")
        yield SimpleNamespace(device=device, start=self._start)

    def _start(self, script: str) -> None:
        assert "machine.bootloader()" in script
        self.on_bootloader()

    def write_uf2(self, path: Path, chip: str, begins: Callable[[], None]) -> Path:
        assert chip in self.drives
        begins()
        self.actions.append(f"copy {path.name}")
        self.write("")
        return path

    def write_bin(self, path: Path, chip: str, port: str, begins: Callable[[], None]) -> None:
        self.actions.append(f"esptool at {port}")
        if port not in [other.device for other in self.ports]:
            raise DeviceError("firmware", f"{port}: could not open port")
        self.write(port)
        begins()
        self.actions.append(f"written at {port}")

    def plug(self, *present: SerialPort, machine: str = "", at: SerialPort | None = None) -> None:
        """These are the ports from now on, and a MicroPython answers at one of them."""
        self.ports = list(present)
        self.machines = {at.device: machine} if at else {}


@pytest.fixture
def computer(monkeypatch: pytest.MonkeyPatch) -> Computer:
    computer = Computer()
    monkeypatch.setattr(ports, "find", lambda: computer.ports)
    monkeypatch.setattr(
        facts,
        "ask",
        lambda repl: SimpleNamespace(name="micropython", machine=computer.machines[repl.device]),
    )
    monkeypatch.setattr(micropython, "wait_for_port", lambda device, seconds: None)
    monkeypatch.setattr(micropython, "_PAUSE", 0.0)
    monkeypatch.setattr(micropython, "_RESTART", 0.0)
    monkeypatch.setattr(boot_drive, "is_there", lambda chip: chip in computer.drives)
    monkeypatch.setattr(boot_drive, "check", lambda chip: None)
    monkeypatch.setattr(boot_drive, "write", computer.write_uf2)
    monkeypatch.setattr(espressif, "write", computer.write_bin)
    return computer


def run(
    computer: Computer, path: Path, port: str | None = None, record: Record | None = None
) -> MicroPython:
    opened = cast(Callable[[str, bool], Repl], computer.opened)
    return MicroPython(path, port, record or Record(), opened)


def flashed(
    computer: Computer, path: Path, port: str | None = None, record: Record | None = None
) -> SerialPort:
    """The port at which the new MicroPython answers."""
    micropython = run(computer, path, port, record)
    return micropython.write(micropython.check())


@pytest.fixture
def pico_file(tmp_path: Path) -> Path:
    path = tmp_path / "pico.uf2"
    path.write_bytes(uf2(RP2040))
    return path


@pytest.fixture
def s3_file(tmp_path: Path) -> Path:
    path = tmp_path / "s3.bin"
    path.write_bytes(esp(ESP32_S3))
    return path


PICO_MACHINE, S3_MACHINE = "Raspberry Pi Pico with RP2040", "Generic ESP32S3 with ESP32S3"


def test_board_that_runs_goes_to_its_drive_and_is_found_under_its_new_name(
    computer: Computer, pico_file: Path
) -> None:
    again = SerialPort("/dev/ttyACM5", PROMPT, "MicroPython", PICO.serial_number, 0x2E8A)
    computer.plug(PICO, ADAPTER, machine=PICO_MACHINE, at=PICO)
    computer.on_bootloader = lambda: computer.drives.append("RP2040")
    computer.write = lambda device: computer.plug(
        OTHER_PICO, ADAPTER, again, machine=PICO_MACHINE, at=again
    )
    assert flashed(computer, pico_file) == again
    assert computer.actions == ["copy pico.uf2"]


def test_drive_is_written_without_a_word_to_adapters_and_other_boards(
    computer: Computer, pico_file: Path
) -> None:
    computer.plug(ADAPTER, OTHER_PICO, PHONE, machine=PICO_MACHINE, at=OTHER_PICO)
    computer.drives = ["RP2040"]
    computer.write = lambda device: computer.plug(
        ADAPTER, OTHER_PICO, PHONE, PICO, machine=PICO_MACHINE, at=PICO
    )
    assert flashed(computer, pico_file) == PICO
    assert computer.asked == [PICO.device]


class Refusing(Record):
    """A user who says no."""

    def agree(self, question: str) -> bool:
        super().agree(question)
        return False


@pytest.mark.parametrize(
    "port, doubt",
    [
        ("/dev/ttyACM77", r"/dev/ttyACM77 is not there\. There are: /dev/ttyUSB0"),
        (ADAPTER.device, f"no MicroPython answers at {ADAPTER.device}"),
    ],
)
def test_drive_of_any_board_is_written_instead_of_a_named_port_only_after_a_question(
    computer: Computer, pico_file: Path, port: str, doubt: str
) -> None:
    computer.plug(ADAPTER)
    computer.drives = ["RP2040"]
    record = Refusing()
    with pytest.raises(DeviceError, match=f"port: {doubt}.*: nothing was written"):
        flashed(computer, pico_file, port, record)
    (question,) = record.questions
    assert re.match(f"{doubt}.* Write pico.uf2 to the RP2040 that shows its boot drive", question)
    assert computer.actions == []
    computer.write = lambda device: computer.plug(ADAPTER, PICO, machine=PICO_MACHINE, at=PICO)
    record = Record()
    assert flashed(computer, pico_file, port, record) == PICO
    assert record.questions == [question]


def test_file_in_place_of_a_named_port_is_refused_without_a_question(
    computer: Computer, pico_file: Path
) -> None:
    computer.drives = ["RP2040"]
    record = Record()
    with pytest.raises(DeviceError, match=f"{pico_file}: it is no serial port"):
        flashed(computer, pico_file, str(pico_file), record)
    assert record.questions == []


def test_named_board_that_runs_and_a_board_that_is_not_named_need_no_question(
    computer: Computer, pico_file: Path
) -> None:
    computer.drives = ["RP2040"]
    computer.write = lambda device: computer.plug(PICO, machine=PICO_MACHINE, at=PICO)
    for port, before in ((None, []), (PICO.device, [PICO])):
        computer.plug(*before, machine=PICO_MACHINE, at=PICO)
        record = Record()
        assert flashed(computer, pico_file, port, record) == PICO
        assert record.questions == []


def test_dry_run_asks_nothing_about_the_named_port(computer: Computer, pico_file: Path) -> None:
    record = Record()
    run(computer, pico_file, "/dev/ttyACM77", record).check()
    assert record.questions == []


def test_adapter_is_not_asked_for_the_prompt_of_a_pico(
    computer: Computer, pico_file: Path
) -> None:
    computer.plug(ADAPTER, PHONE, S3, machine=S3_MACHINE, at=S3)
    run(computer, pico_file).check()
    assert computer.asked == []


def test_drives_are_compared_with_the_file_before_anything_is_written(
    computer: Computer, pico_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(chip: str) -> None:
        raise DeviceError("firmware", f"no drive of {chip}")

    monkeypatch.setattr(boot_drive, "check", check)
    with pytest.raises(DeviceError, match="no drive of RP2040"):
        run(computer, pico_file).check()


def test_file_for_another_chip_is_not_written(computer: Computer, s3_file: Path) -> None:
    computer.plug(PICO, machine=PICO_MACHINE, at=PICO)
    with pytest.raises(DeviceError, match="is for esp32s3"):
        flashed(computer, s3_file)
    assert computer.actions == []


def test_esp_is_followed_through_the_names_of_download_mode_and_of_micropython(
    computer: Computer, s3_file: Path
) -> None:
    again = SerialPort("/dev/ttyACM6", PROMPT, "own USB", S3.serial_number, 0x303A)
    computer.plug(S3, PHONE, ADAPTER, machine=S3_MACHINE, at=S3)

    def write(device: str) -> None:
        if device == S3.device:  # esptool resets the chip, and loses its port
            computer.plug(S3_JTAG, PHONE, ADAPTER)
            raise DeviceError("firmware", "could not open port")
        computer.plug(again, PHONE, ADAPTER, machine=S3_MACHINE, at=again)

    computer.write = write
    record = Record()
    assert flashed(computer, s3_file, record=record) == again
    assert computer.actions[-1] == f"written at {S3_JTAG.device}"
    assert "port" in record.steps


def test_esp_in_download_mode_is_the_board_and_is_not_asked_before(
    computer: Computer, tmp_path: Path
) -> None:
    path = tmp_path / "s2.bin"
    path.write_bytes(esp(2))
    computer.plug(ADAPTER, S2_WAITING)
    computer.write = lambda device: computer.plug(ADAPTER, S2, machine="ESP32S2", at=S2)
    assert flashed(computer, path) == S2
    assert computer.asked == [S2.device]


def test_board_behind_a_bridge_keeps_its_name(computer: Computer, tmp_path: Path) -> None:
    path = tmp_path / "esp32.bin"
    path.write_bytes(esp(ESP32))
    computer.plug(ADAPTER, DEVKIT, machine="ESP32 module with ESP32", at=DEVKIT)
    assert flashed(computer, path, DEVKIT.device) == DEVKIT


@pytest.mark.parametrize(
    "present, words", [([], "no port of a prompt"), ([S3_JTAG], "no MicroPython prompt")]
)
def test_esp_that_stays_in_download_mode_needs_its_reset_button(
    computer: Computer, s3_file: Path, present: list[SerialPort], words: str
) -> None:
    computer.plug(S3_JTAG)
    computer.write = lambda device: computer.plug(*present)
    record = Record()
    with pytest.raises(DeviceError, match="press RESET, then `plugvault flash`") as caught:
        flashed(computer, s3_file, record=record)
    assert words in caught.value.detail
    assert "press RESET" in record.begun[-1]


def test_failure_after_the_first_byte_names_the_command_that_repeats_the_work(
    computer: Computer, s3_file: Path
) -> None:
    computer.plug(S3, machine=S3_MACHINE, at=S3)
    command = f"plugvault flash {S3.device} --firmware {s3_file}"
    computer.write = lambda device: computer.plug(S3)
    with pytest.raises(DeviceError, match="may be without MicroPython") as caught:
        flashed(computer, s3_file, S3.device)
    assert f"`{command}`" in caught.value.detail


def test_failure_before_the_first_byte_says_nothing_of_a_lost_micropython(
    computer: Computer, s3_file: Path
) -> None:
    def write(device: str) -> None:
        raise DeviceError("firmware", "no serial data")

    computer.plug(S3, machine=S3_MACHINE, at=S3)
    computer.write = write
    with pytest.raises(DeviceError, match="no serial data") as caught:
        flashed(computer, s3_file)
    assert "without MicroPython" not in caught.value.detail


@pytest.mark.parametrize("has_begun", [False, True])
def test_interrupt_after_the_first_byte_names_the_command_that_repeats_the_work(
    computer: Computer, pico_file: Path, monkeypatch: pytest.MonkeyPatch, has_begun: bool
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    computer.drives = ["RP2040"]
    record = Record()
    if has_begun:
        computer.write = interrupted
    else:
        monkeypatch.setattr(boot_drive, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        flashed(computer, pico_file, record=record)
    assert len(record.warnings) == has_begun
    for text in record.warnings:
        assert f"`plugvault flash --firmware {pico_file}`" in text
        assert "BOOTSEL" in text


def test_waits_are_announced(computer: Computer, pico_file: Path) -> None:
    computer.plug(PICO, machine=PICO_MACHINE, at=PICO)
    computer.drives = []
    computer.on_bootloader = lambda: computer.drives.append("RP2040")
    record = Record()
    flashed(computer, pico_file, record=record)
    words = [text.split(" ")[0] for text in record.begun]
    assert words == ["asking", "asking", "copying", "pico.uf2"]
