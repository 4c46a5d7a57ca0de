"""The emulated board of a data folder: one at a time, found without its ports, and told when it
has ended."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from evcc.ports.stream import PortError
from fixtures.flashing import Record
from fixtures.unix_board import PICO
from plugvault.board import flash as flash_module
from plugvault.board import ports, simulated
from plugvault.board.bench import BoardBench
from plugvault.board.configuration import BoardUart
from plugvault.board.errors import DeviceError
from plugvault.board.flash import Flash, Wishes
from plugvault.board.folder import Boards
from plugvault.board.ports import BRIDGE, PROMPT, SerialPort
from plugvault.board.repl import Repl
from plugvault.cli import board as board_command
from plugvault.link.bench import BenchError

PORTS = {"prompt": "unix://prompt", "link": "unix://link"}


class Emulated:
    """An emulated board whose process is not started."""

    serial_port, uart = PORTS["prompt"], PORTS["link"]

    def __init__(self, flash: Path) -> None:
        flash.write_bytes(b"flash")

    @staticmethod
    def missing() -> None:
        return None

    def __enter__(self) -> Emulated:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def wait_for_serial_port(self) -> str:
        return self.serial_port

    def wait_for_end(self) -> None:
        raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def no_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """This computer has no serial port."""
    monkeypatch.setattr(simulated, "EmulatedBoard", Emulated)
    monkeypatch.setattr(ports, "find", list)


@pytest.fixture
def boards(tmp_path: Path, softhsm: Path) -> Boards:
    """The folder of a flashed board that is the emulated one."""
    boards = Boards(tmp_path / "data")
    boards.make(PICO).save(**PORTS, maker="04")
    return boards


@pytest.fixture
def running(boards: Boards) -> Iterator[Boards]:
    """The same while the emulated board runs."""
    with simulated.board(boards.data / simulated.FLASH):
        yield boards


def command(boards: Boards, *arguments: str) -> Result:
    """`plugvault board` with these arguments."""
    return CliRunner().invoke(board_command.app, [*arguments, "--data", str(boards.data)])


def test_second_emulated_board_of_a_folder_is_refused_and_changes_nothing(running: Boards) -> None:
    flash = running.data / simulated.FLASH
    flash.write_bytes(b"of the first")
    result = command(running, "simulate", "--empty", "--new")
    assert result.exit_code == 1
    assert result.stderr.startswith(
        "state: an emulated board runs already: prompt unix://prompt, link unix://link."
    )
    assert flash.read_bytes() == b"of the first"
    assert simulated.running(running.data) == simulated.Ports(*PORTS.values(), runs=True)


def test_emulated_board_runs_again_after_its_end(boards: Boards) -> None:
    for _ in range(2):
        assert command(boards, "simulate", "--empty").exit_code == 0
        assert simulated.running(boards.data) is None


def test_record_without_ports_is_that_of_no_board(boards: Boards) -> None:
    with simulated.board(boards.data / simulated.FLASH):
        record = boards.data / "simulated-pico.json"
        for text in ("", "{}", "[]", '"a"'):
            record.write_text(text)
            assert simulated.running(boards.data) is None


@pytest.mark.parametrize("name", ["status", "install", "log", "reset"])
def test_command_after_the_end_of_the_emulated_board_names_the_one_that_starts_it(
    boards: Boards, name: str
) -> None:
    with simulated.board(boards.data / simulated.FLASH):
        pass
    for port in ([], [PORTS["prompt"]], [PICO.uid]):
        result = command(boards, name, *port)
        assert result.exit_code == 1
        assert result.stderr == (
            "gone: the emulated board has ended: `plugvault board simulate` starts it again\n"
        )


def test_emulated_board_that_ends_during_a_command_is_named_with_the_command_that_starts_it(
    boards: Boards,
) -> None:
    with simulated.board(boards.data / simulated.FLASH):
        (board,) = boards.all()
        error = BoardBench(board)._lost(PortError("closed", "errno 5"))
    assert isinstance(error, BenchError)
    assert error.detail == (
        "unix://link: the emulated board has ended. `plugvault board simulate` starts it again"
    )


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The prompts that `flash` asks; none of them answers."""
    devices: list[str] = []

    def opened(device: str, soft_reset: bool) -> Repl:
        devices.append(device)
        raise DeviceError("silent", "no prompt")

    monkeypatch.setattr(flash_module, "Repl", opened)
    return devices


def flash(boards: Boards, **wishes: Any) -> str:
    """The error of a run of `flash`."""
    with (
        pytest.raises(DeviceError) as caught,
        Flash(boards, Wishes(**wishes), Record(), flash_module.Repl) as run,
    ):
        run.run()
    return str(caught.value)


def test_flash_takes_the_emulated_board_that_runs_where_no_board_is_on_usb(
    running: Boards, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    flash(running)
    other = SerialPort("/dev/ttyACM7", ports.OTHER, "a modem", "", 0x1234)
    monkeypatch.setattr(ports, "find", lambda: [other])
    flash(running)
    assert asked == [PORTS["prompt"]] * 2


def test_boards_on_usb_come_before_the_emulated_one(
    running: Boards, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pico = SerialPort("/dev/ttyACM0", PROMPT, "MicroPython", "E661", 0x2E8A)
    second = SerialPort("/dev/ttyACM1", PROMPT, "MicroPython", "E662", 0x2E8A)
    monkeypatch.setattr(ports, "find", lambda: [pico])
    flash(running)
    monkeypatch.setattr(ports, "find", lambda: [pico, second])
    assert "several ports" in flash(running)
    assert asked == ["/dev/ttyACM0"]


def test_link_of_the_emulated_board_needs_no_name(
    running: Boards, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the record of the board has the link of an earlier one."""
    (board,) = running.all()
    board.save(link="/dev/shm/gone/uart")
    adapter = SerialPort("/dev/ttyUSB0", BRIDGE, "CP210x", "0001", 0x10C4)
    prompt = SerialPort(PORTS["prompt"], ports.OTHER, "")
    uart = BoardUart(1, 4, 5)
    with Flash(running, Wishes(uart=uart, maker=b"\x04"), Record()) as run:
        assert run._prepare(PICO, prompt, [adapter]).uid == PICO.uid
    assert run._link["link"] == PORTS["link"]


def test_flash_takes_a_chips_number_for_its_prompt(boards: Boards, asked: list[str]) -> None:
    flash(boards, port=PICO.uid)
    assert asked == [PORTS["prompt"]]


def test_flash_of_an_emulated_board_that_has_ended_names_the_command_that_starts_it(
    boards: Boards, asked: list[str]
) -> None:
    with simulated.board(boards.data / simulated.FLASH):
        pass
    for port in (PICO.uid, PORTS["prompt"]):
        assert "`plugvault board simulate` starts it again" in flash(boards, port=port)
    assert asked == []


def test_commands_without_a_board_name_the_way_without_hardware(tmp_path: Path) -> None:
    empty = Boards(tmp_path)
    for name in ("list", "status", "provision"):
        result = command(empty, name)
        assert "`plugvault flash`" in result.output
        assert "without hardware, `plugvault board simulate`" in result.output


def test_port_is_that_of_its_board_though_it_is_not_there(boards: Boards) -> None:
    (board,) = boards.all()
    board.save(link="/dev/shm/gone/uart")
    assert boards.find("/dev/shm/gone/uart", []).uid == board.uid
    listed = json.loads(command(boards, "list", "--json").stdout)
    assert listed["boards"][0]["link"] == "/dev/shm/gone/uart"
