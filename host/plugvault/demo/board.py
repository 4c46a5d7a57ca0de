"""A board in place of the demo's car.

The demo flashes the board for its own maker, with a store of its own. At the end it restores the
board's configuration, key and contracts.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

from plugvault.board import configuration, copying, ports, simulated
from plugvault.board.bench import BoardBench
from plugvault.board.errors import DeviceError
from plugvault.board.flash import Flash, Wishes
from plugvault.board.folder import Boards
from plugvault.board.ports import SerialPort
from plugvault.board.repl import Repl

SIMULATED = "simulated"
_STORE = "demo-store"
_OWN = (configuration.FILE, configuration.KEY_FILE)
_EMPTY = """
import os
folder = %r
try:
    for name in os.listdir(folder):
        os.remove(folder + "/" + name)
    os.rmdir(folder)
except OSError as e:
    if e.errno != 2:
        raise
"""


class DemoBoard(BoardBench):
    """The board, flashed and answering, while the context lasts.

    port, link: its two serial ports, link None to find it; "simulated" as port is the emulated
    Pico. folder: for its token. maker: the demo's maker, 65 bytes. report(text): called after each
    step of flashing.
    """

    vault = "bench"
    link = "board"

    def __init__(
        self,
        port: str,
        link: str | None,
        folder: Path,
        maker: bytes,
        report: Callable[[str], None],
        observe: Callable[[str, str], None],
    ) -> None:
        self._wishes = Wishes(port=port, link=link, maker=maker, store=_STORE)
        self._folder = folder
        self._report = report
        self._observe_bench = observe

    def _start(self) -> None:
        wishes = self._wishes
        if wishes.port == SIMULATED:
            flash = self._folder / "pico.bin"
            emulated = self._stack.enter_context(simulated.board(flash))
            wishes = replace(wishes, port=emulated.serial_port, link=emulated.uart)
        device = ports.choose_prompt(wishes.port, ports.find()).device
        self._before = self._read(device)
        self._stack.callback(self._give_back, device)
        boards = Boards(self._folder)
        with Flash(boards, wishes, _Steps(self._report)) as run:
            run.run()
        super().__init__(boards.find(None, ports.find()), self._observe_bench)
        super()._start()

    @property
    def pin(self) -> str:
        """The PIN of the token with the board's keys."""
        return self.board.pin

    def _read(self, device: str) -> dict[str, bytes]:
        """The board's own configuration; the store of an earlier demo is removed."""
        with Repl(device) as repl:
            _empty(repl)
            own = {path: copying.read(repl, path) for path in _OWN}
            repl.restart()
        return {path: data for path, data in own.items() if data is not None}

    def _give_back(self, device: str) -> None:
        with Repl(device) as repl:
            changes = copying.compare(repl, self._before, folders=_OWN)
            copying.copy(repl, changes)
            _empty(repl)
            repl.restart()


def _empty(repl: Repl) -> None:
    """Remove the demo's store from the board."""
    repl.run(_EMPTY % (repl.root + _STORE))


class _Steps:
    """The reporter of `Flash`: the user of a demo has agreed to every question."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report

    def step(self, name: str, text: str) -> None:
        self._report(text)

    def during(self, name: str, text: str) -> AbstractContextManager[None]:
        return nullcontext()

    def warn(self, text: str) -> None:
        self._report(text)

    def file(self, path: str, done: int, total: int) -> None:
        pass

    def agree(self, question: str) -> bool:
        return True

    def choose_port(self, question: str, found: list[SerialPort]) -> str | None:
        raise DeviceError("port", f"{question} --board-link PORT")

    def choose_uart(self, question: str) -> None:
        return None
