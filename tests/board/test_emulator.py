"""The emulated board does what is known of a Raspberry Pi Pico, seen from its two lines."""

import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import serial

from fixtures.board import StartBoard, mpremote
from plugvault.emulated_board import BoardError, EmulatedBoard, node

ROOT = Path(__file__).parents[2]
TIMEOUT = 600.0  # seconds, for a board that hangs
pytestmark = pytest.mark.xdist_group("board")


@pytest.fixture(scope="module")
def board(empty_flash: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatedBoard]:
    flash = tmp_path_factory.mktemp("emulator") / "flash.bin"
    flash.write_bytes(empty_flash.read_bytes())
    with EmulatedBoard(flash) as board:
        yield board


def test_board_is_micropython_on_a_pico(board: EmulatedBoard) -> None:
    output = mpremote(board, "exec", "import sys; print(sys.implementation._build, 6 * 7)")
    assert output == "RPI_PICO 42\n"


def test_copied_file_has_its_hash(board: EmulatedBoard, tmp_path: Path) -> None:
    file = tmp_path / "data.bin"
    file.write_bytes(bytes(range(256)) * 20)
    operations = board.counters()["flash"]["operations"]
    mpremote(board, "cp", str(file), ":data.bin")
    assert board.counters()["flash"]["operations"] > operations
    digest = mpremote(board, "sha256sum", ":data.bin").split()[-1]
    assert digest == hashlib.sha256(file.read_bytes()).hexdigest()


def test_reset_hangs_up_the_serial_port_and_keeps_the_files(board: EmulatedBoard) -> None:
    mpremote(board, "exec", "with open('kept', 'w') as f: f.write('here')")
    resets = board.counters()["resets"]
    with serial.Serial(board.wait_for_serial_port(), timeout=TIMEOUT) as port:
        port.write(b"\x03import machine; machine.reset()\r")
        with pytest.raises(serial.SerialException):
            port.read(1_000_000)
    assert board.counters()["resets"] == resets + 1
    assert mpremote(board, "exec", "import machine; print(machine.reset_cause())") == "3\n"
    assert mpremote(board, "exec", "print(open('kept').read())") == "here\n"


def test_board_without_power_has_no_serial_port(board: EmulatedBoard) -> None:
    board.wait_for_serial_port()
    board.cut_power()
    board.wait_for_power_loss()
    assert not Path(board.serial_port).exists()
    assert board.counters()["powered"] is False
    board.power_on()
    assert mpremote(board, "exec", "print('on')") == "on\n"


def test_emulator_that_ends_is_an_error_with_its_reason(
    empty_flash: Path, start_board: StartBoard
) -> None:
    board = start_board(empty_flash)
    board.counters()
    board._process.kill()
    with pytest.raises(BoardError) as error:
        board.counters()
    assert error.value.reason == "died"


def test_translated_instruction_does_what_the_interpreter_does(emulator: None) -> None:
    """Every instruction with random operands, and by hand where the interpreter is wrong."""
    check = ROOT / "tools/board/emulator/check_translation.mjs"
    ended = subprocess.run([node(), check], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert json.loads(ended.stdout)["compared"] > 40_000
