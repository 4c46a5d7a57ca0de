"""The module's start on a board: the hold of main.py, the report of a failed start, the clock."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import serial

from evcc.ports import pins
from fixtures.board import mpremote
from plugvault.emulated_board import EmulatedBoard
from plugvault.link.bench import Bench, BenchError
from plugvault.link.endpoint import open_serial

TIMEOUT = 600.0  # seconds, for a board that hangs
HOLD_PIN = pins.of_board("rp2", "")[-1]
pytestmark = pytest.mark.xdist_group("board")


@pytest.fixture(scope="module")
def board(
    evcc_flash: Path, module_files: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EmulatedBoard]:
    """A board with the module, and without a configuration."""
    flash = tmp_path_factory.mktemp("module") / "flash.bin"
    shutil.copyfile(evcc_flash, flash)
    with EmulatedBoard(flash) as board:
        mpremote(board, "cp", str(module_files / "boot.py"), str(module_files / "main.py"), ":")
        yield board


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def prompt(board: EmulatedBoard, key: bytes) -> str:
    """Press a key until the prompt is there. Returns the board's output."""
    output = b""
    with serial.Serial(board.wait_for_serial_port(), timeout=0.2) as port:

        def is_there() -> bool:
            nonlocal output
            port.write(key)
            output += port.read(1000)
            return b">>> " in output

        wait(is_there)
    return output.decode()


def test_board_without_a_configuration_tells_it_on_its_first_uart(board: EmulatedBoard) -> None:
    text = "start: config: config.json cannot be read"
    with Bench(open_serial(board.uart)) as bench:
        board.reset()
        assert bench.wait_event("unable", timeout=TIMEOUT) == text
        assert text in bench.log
        with pytest.raises(BenchError, match=f"refused: {text}"):
            bench.status(TIMEOUT)


def test_ctrl_c_gives_the_prompt_before_and_after_main_py_starts(board: EmulatedBoard) -> None:
    board.reset()
    output = prompt(board, b"\x03")
    assert "KeyboardInterrupt" in output or "main.py is held back" in output


def test_pin_at_ground_holds_main_py_back_until_the_next_reset(board: EmulatedBoard) -> None:
    """No Ctrl-C is sent, so a prompt means that main.py does not run."""
    with Bench(open_serial(board.uart)) as bench:
        board.ground(HOLD_PIN)
        try:
            board.reset()
            prompt(board, b"\r")
            assert bench.events == []
        finally:
            board.ground(HOLD_PIN, connected=False)
        board.reset()
        assert bench.wait_event("unable", timeout=TIMEOUT).startswith("start: config")


def test_clock_chip_takes_a_time_and_counts_on(board: EmulatedBoard) -> None:
    code = (
        "from evcc.ports import board, clock; before = clock.now(); board.set_clock(1790000000);"
        "print(before < 1767225600, clock.now() - 1790000000)"
    )
    assert mpremote(board, "exec", code) in ("True 0\n", "True 1\n")


def test_watchdog_and_uart_that_the_board_does_not_have_are_refused(board: EmulatedBoard) -> None:
    code = """
from evcc.ports import board
from evcc.ports.stream import PortError
for attempt in (
    lambda: board.watchdog(60000), lambda: board.open_uart(7), lambda: board.open_uart(1, tx=1),
    lambda: board.join('network', 'password'),
):
    try:
        attempt()
        print('no error')
    except PortError as error:
        print(error.reason)
"""
    assert mpremote(board, "exec", code) == "unavailable\n" * 4
