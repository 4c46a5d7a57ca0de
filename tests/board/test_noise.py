"""Noise on the UART of a board: both ends of the link repeat the damaged frames."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from evcc.ports.stream import Stream
from fixtures.board_car import PATIENCE, StartCar
from plugvault.link.bench import Bench
from plugvault.link.endpoint import open_serial

sys.path.append(str(Path(__file__).parents[1] / "both"))
from noise import Chance, spoil

pytestmark = pytest.mark.xdist_group("board")


def spoiled(stream: Stream, per_thousand: int) -> Stream:
    """The stream with `per_thousand` bytes in a thousand damaged, dropped or repeated each way."""
    inwards, outwards = Chance(1), Chance(2)

    def receive(n: int) -> bytes:
        return spoil(stream.read(n // 2, 0), inwards, per_thousand)

    def send(data: bytes) -> int:
        stream.write(spoil(data, outwards, per_thousand))
        return len(data)

    return Stream(stream.source, receive, send)


def test_board_answers_a_long_request_through_noise(
    module_flash: Path, start_car: StartCar, record_property: Callable[[str, object], None]
) -> None:
    car = start_car(module_flash)
    clean = car.wait()
    car.disconnect_bench()
    vault = car.around.service.socket_path
    with Bench(spoiled(open_serial(car.board.uart), 10), vault=vault) as bench:
        status = bench.request("status", PATIENCE, ignored="x" * 2000)
        assert (status["pcid"], status["contracts"]) == (clean["pcid"], clean["contracts"])
        assert bench.endpoint.resent > 0
        record_property("board link with noise, frames sent again", bench.endpoint.resent)
