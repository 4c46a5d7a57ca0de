"""The power fails at an operation of the flash, before it, half way through it or after it: what
the board has afterwards is the old state or the new one, and it goes on from there.

`make test` tries some of the points, `make soak` all of them.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from fixtures.board import StartBoard, mpremote
from fixtures.board_car import (
    INSTALLATION_OPERATIONS,
    TRUST_OPERATIONS,
    BoardCar,
    StartCar,
    Surroundings,
)
from plugvault.emulated_board import EmulatedBoard
from plugvault.telematics import Maker
from world import EMAID

pytestmark = pytest.mark.xdist_group("board")

Some = Callable[[Sequence[Any], int], list[Any]]
PARTS = (0.0, 0.5, 1.0)  # of the operation that the power cut leaves
SECOND = "DEPVT0000000X19"
OLD, NEW = "old" * 500, "new" * 600


@pytest.fixture(scope="module")
def file_flash(
    empty_flash: Path, module_files: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A board with `evcc.ports.files` and one file in its store."""
    flash = tmp_path_factory.mktemp("files") / "files.bin"
    flash.write_bytes(empty_flash.read_bytes())
    with EmulatedBoard(flash) as board:
        mpremote(board, "mkdir", ":evcc", "+", "mkdir", ":evcc/ports")
        for name in ("__init__", "errors", "ports/__init__", "ports/files"):
            mpremote(board, "cp", str(module_files / f"evcc/{name}.mpy"), f":evcc/{name}.mpy")
        mpremote(board, "exec", write(OLD))
    return flash


def write(text: str) -> str:
    return f"from evcc.ports.files import Files; Files('/store').write('file', {text!r}.encode())"


def content(board: EmulatedBoard) -> list[str]:
    """The names in the store, and the bytes of the file."""
    script = (
        "from evcc.ports.files import Files; f = Files('/store'); import os\n"
        "print(f.names(), os.listdir('/store'), f.read('file').decode())"
    )
    return mpremote(board, "exec", script).strip().rsplit(" ", 1)


def operations(board: EmulatedBoard, work: Callable[[], Any]) -> int:
    before = board.counters()["flash"]["operations"]
    work()
    return int(board.counters()["flash"]["operations"] - before)


def test_file_is_the_old_one_or_the_new_one(
    file_flash: Path, start_board: StartBoard, some: Some
) -> None:
    board = start_board(file_flash)
    count = operations(board, lambda: mpremote(board, "exec", write(NEW)))
    assert count > 5
    board.stop()
    seen = set()
    for operation, part in some(list(product(range(1, count + 1), PARTS)), 7):
        board = start_board(file_flash)
        board.cut_power(operation, part)
        mpremote(board, "exec", write(NEW), code=1)
        board.wait_for_power_loss()
        board.power_on()
        names, text = content(board)
        assert names == "['file'] ['file']", (operation, part)
        assert text in (OLD, NEW), (operation, part)
        seen.add(text)
        board.stop()
    assert seen == {OLD, NEW}


Work = Callable[[BoardCar, Maker], object]
Sweep = Callable[[Work, int, int], Iterator[tuple[BoardCar, tuple[int, float]]]]


@pytest.fixture
def sweep(installed_flash: Path, start_car: StartCar, some: Some) -> Sweep:
    """sweep(work, operations, n): a car with one contract, after each of n power cuts in `work`
    and a new start, with the point of the cut."""

    def cars(work: Work, count: int, n: int) -> Iterator[tuple[BoardCar, tuple[int, float]]]:
        car = start_car(installed_flash)
        for point in some(list(product(range(1, count + 1), PARTS)), n):
            car.lose_power(work, *point)
            yield car, point

    return cars


def test_installation_is_whole_or_has_not_happened(sweep: Sweep) -> None:
    """An envelope that was cut off counts as one that did not match, and so locks the car in the
    end: the maker lifts the lock, and the next installation is accepted."""

    def install(car: BoardCar, maker: Maker) -> object:
        return car.install(maker, SECOND)

    for car, point in sweep(install, INSTALLATION_OPERATIONS, 2):
        emaids = car.emaids()
        assert emaids in ([EMAID], [EMAID, SECOND]), point
        if SECOND in emaids:
            car.maker().remove_contract(SECOND)
        if car.wait()["locked"]:
            car.maker().unlock()
    install(car, car.maker())
    assert car.emaids() == [EMAID, SECOND]


def test_trust_is_the_old_one_or_the_new_one(sweep: Sweep, around: Surroundings) -> None:
    anchors = around.world.anchors
    region, other = "EU", "US"

    def update(_: BoardCar, maker: Maker) -> None:
        maker.install_trust(other, anchors)

    for car, point in sweep(update, TRUST_OPERATIONS, 2):
        status = car.wait()
        assert status["region"] in (region, other), point
        assert status["anchors"] == len(anchors), point
        if status["region"] == other:
            region, other = other, region
