"""Both ends restart in the middle of an installation; the watchdog restarts a module."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
import serial

from evcc.errors import EvccError
from fixtures.board import mpremote
from fixtures.board_car import PATIENCE, BoardCar, StartCar
from plugvault.emulated_board import EmulatedBoard
from plugvault.link.bench import BenchError
from world import EMAID

pytestmark = pytest.mark.xdist_group("board")

SECOND = "DEPVT0000000X19"
WATCHDOG_MS = 5000


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_both_ends_restart_in_the_middle_of_an_installation(
    installed_flash: Path, start_car: StartCar, some: Callable[[Sequence[str], int], list[str]]
) -> None:
    """Nothing of it is left, and the same offer is accepted afterwards."""
    for check in some(["signature", "envelope"], 1):
        car = start_car(installed_flash)
        restart_both_ends(car, check)
        car.install(car.maker(), SECOND)
        assert car.emaids() == [EMAID, SECOND]
        car.close()


def restart_both_ends(car: BoardCar, check: str) -> None:
    """Begin an installation, and restart board and bench after this check of it."""
    unnamed = car.wait()["unnamed_keys"]  # of other tests, which share the token
    maker = car.maker()
    bench = car.bench

    def install() -> None:
        with suppress(EvccError):
            car.install(maker, SECOND)

    worker = threading.Thread(target=install, daemon=True)
    worker.start()
    wait(lambda: ("check", check) in bench.events)
    car.board.reset()
    bench.fail(BenchError("lost", "the bench ends"))
    worker.join()
    car.connect_bench()
    assert car.emaids() == [EMAID]
    status = car.wait()
    assert (status["locked"], status["unnamed_keys"]) == (False, unnamed)


def give_watchdog(board: EmulatedBoard) -> None:
    script = (
        "import json\nwith open('config.json') as f:\n    settings = json.load(f)\n"
        f"settings['watchdog'] = {WATCHDOG_MS}\n"
        "with open('config.json', 'w') as f:\n    json.dump(settings, f)\n"
    )
    mpremote(board, "exec", script)
    board.reset()


def test_watchdog_restarts_a_board_whose_module_has_ended(
    module_flash: Path, start_car: StartCar
) -> None:
    car = start_car(module_flash)
    board = car.board
    give_watchdog(board)
    car.wait()
    start = board.counters()
    enough = start["nanoseconds"] + 1.5e6 * WATCHDOG_MS
    wait(lambda: board.counters()["nanoseconds"] > enough)
    assert board.counters()["resets"] == start["resets"]  # the idle module feeds it
    with suppress(OSError), serial.Serial(board.wait_for_serial_port()) as port:
        port.write(b"\x03")  # ends main.py, and so the loop
    wait(lambda: board.counters()["resets"] > start["resets"])
    assert car.wait()["runtime"].startswith("micropython")
