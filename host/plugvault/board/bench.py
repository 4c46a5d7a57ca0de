"""A flashed board on its link: the test bench, and the vault service with the board's keys.

    with BoardBench(board) as bench:
        print(bench.status())

The board's keys are in a token on this computer, and the service answers this board alone, by the
key that `flash` gave to both. The token stands for a secure element, and is as safe as this
computer.
"""

import time
from collections.abc import Callable
from typing import Any

from evcc.ports.stream import PortError
from plugvault.board import simulated
from plugvault.board.errors import DeviceError
from plugvault.board.folder import Board
from plugvault.board.ports import explain_refusal, require_two
from plugvault.contexts import Startable
from plugvault.link.bench import Bench, BenchError
from plugvault.link.endpoint import open_serial
from plugvault.telematics import Maker
from plugvault.telematics.maker import Key
from plugvault.temporary import temporary_folder
from plugvault.vault_service.service import VaultService

ANSWER = 90.0  # seconds: a module that has just started loads its tables and its keys first
REQUEST = 120.0  # seconds for a request of the maker: a board verifies each signature in seconds
_TRY = 5.0
_DAMAGED = "start: damaged: "
_EMPTY_CAR = "`plugvault flash --erase-car` makes the board an empty car, without its keys"
_UNANSWERED = (
    "the module does not answer. Is the adapter's RX at the board's TX, its TX at RX, and ground"
    " at ground? Is it the board's adapter? Another one is named by --link PORT. `plugvault board"
    " reset` starts the module again, `plugvault board log` shows it"
)


class BoardBench(Startable):
    """The bench of one board, while the context lasts. Its methods are `Bench`'s.

    observe: see `Bench`. answer: seconds to wait for the module at the start, 0 not at all; None:
    `ANSWER`. Raises: DeviceError, VaultError, on entry.
    """

    bench: Bench

    def __init__(
        self,
        board: Board,
        observe: Callable[[str, str], None] = lambda channel, text: None,
        answer: float | None = None,
    ) -> None:
        self.board = board
        self._observe = observe
        self._answer = ANSWER if answer is None else answer

    def _start(self) -> None:
        board = self.board
        if not board.link:
            raise DeviceError("port", f"which port is the link of {board.uid}? --link PORT")
        require_two(board.prompt, board.link)
        self._stack.enter_context(board.locked())
        # The path of a socket must be short; the board's folder may be long.
        short = self._stack.enter_context(temporary_folder())
        service = VaultService(
            board.configuration(),
            short / "vault",
            keys={board.uid: bytes.fromhex(board.key)},
            state=board.folder / "vault",
        )
        self._stack.enter_context(service)
        try:
            stream = open_serial(board.link, board.baud)
        except PortError as error:
            raise explain_refusal(board.link) from error
        bench = Bench(stream, self._observe, service.socket_path, self._lost)
        self.bench = self._stack.enter_context(bench)
        self.request, self.charge = bench.request, bench.charge
        self.bridge_session, self.traffic = bench.bridge_session, bench.traffic
        if self._answer:
            self.status(self._answer)

    def status(self, timeout: float | None = None) -> dict[str, Any]:
        """The module's status, requested again until the module answers. timeout: seconds, None
        for `ANSWER`.

        Raises: DeviceError("silent", or "state" for a damaged store); BenchError as
        `Bench.request`.
        """
        deadline = time.monotonic() + (ANSWER if timeout is None else timeout)
        while True:
            try:
                return self.bench.status(_TRY)
            except BenchError as error:
                if error.detail.startswith(_DAMAGED):
                    raise DeviceError("state", f"{error.detail}. {_EMPTY_CAR}") from error
                if error.reason != "timeout":
                    raise
                if time.monotonic() > deadline:
                    last = f". Its last line: {self.bench.log[-1]}" if self.bench.log else ""
                    raise DeviceError(
                        "silent", f"{self.board.link}: {_UNANSWERED}{last}"
                    ) from None

    def _lost(self, error: PortError) -> BenchError:
        cause = "it takes no bytes" if error.reason == "timeout" else "the line has ended"
        question = "Is the adapter still plugged in?"
        if simulated.is_port(self.board.data, self.board.link):
            cause, question = "the emulated board has ended", simulated.START
        return BenchError("lost", f"{self.board.link}: {cause}. {question}")

    def maker(self, key: Key, car: bytes | None = None) -> Maker:
        """The maker's end of the channel: see `Bench.maker`. Each answer may take `REQUEST`
        seconds."""
        return self.bench.maker(key, car, REQUEST)
