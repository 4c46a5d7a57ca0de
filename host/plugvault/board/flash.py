"""The module onto a board, from the port to the first answer over the link.

The order protects the board. Nothing is written before all checks have passed. The new files stay
beside the old ones until the hash of each is checked (`copying`). The start comes last.
"""

import contextlib
import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from plugvault.board import bytecode, configuration, copying, erasure, facts, own_ports, ports
from plugvault.board.bench import BoardBench
from plugvault.board.configuration import BoardUart
from plugvault.board.errors import DeviceError
from plugvault.board.facts import Facts
from plugvault.board.folder import Board, Boards
from plugvault.board.maker import BoardMaker, ecosystem
from plugvault.board.micropython import MicroPython
from plugvault.board.ports import ESPRESSIF_USB, SerialPort
from plugvault.board.repl import Repl, wait_for_port
from plugvault.board.reporter import Reporter
from plugvault.ecosystem import Ecosystem

_ERASE_CONTRACTS = "Erase the board's contracts, and destroy their keys?"
_ERASE_CAR = (
    "Erase the car on this board: its certificate, contracts, trust anchors and time, and destroy"
    " its keys?"
)
_FAT = (
    "its file system is FAT, which a power cut can damage in the flash of an STM32. littlefs is"
    ' safe. This makes one, and erases all files: mpremote connect %s exec --no-follow "import os,'
    " pyb, machine; os.umount('/flash'); os.VfsLfs2.mkfs(pyb.Flash(start=0)); machine.reset()\""
)
# The state of the board after an interruption.
_NOTHING = "nothing was changed on the board; the same command begins again"
_FIRMWARE = "MicroPython is on the board; the same command without --firmware does the rest"
_COPYING = "the board runs what it had before; the same command copies the rest"
_SWITCHING = "the board has its old files or all new ones; the same command does the rest"
_COPIED = "the new files are on the board; the same command does the rest"
_CLOCK = "from evcc.ports import board\nboard.set_clock(%d)"


@dataclass(frozen=True)
class Wishes:
    """The user's options.

    port, link: devices, None to find them. uart: pins of the link, None for those of this kind of
    board, with `baud`. config: a config.json that the user wrote; maker: another maker's key, 65
    bytes. Without both, the ecosystem in the folder of the boards is the maker.
    """

    port: str | None = None
    link: str | None = None
    uart: BoardUart | None = None
    baud: int = configuration.BAUD
    config: Path | None = None
    maker: bytes | None = None
    firmware: Path | None = None
    erase_contracts: bool = False
    erase_car: bool = False
    dry_run: bool = False
    store: str = configuration.STORE


class Flash:
    """One run, while the context lasts. opened(port, soft_reset): the board's prompt.

    `result`: the record of the work, as `--json` prints it. `next_step`: the command of
    `plugvault board` that makes sense then.
    """

    def __init__(
        self,
        boards: Boards,
        wishes: Wishes,
        report: Reporter,
        opened: Callable[[str, bool], Repl] = Repl,
    ) -> None:
        self.boards = boards
        self.wishes = wishes
        self.report = report
        self.result: dict[str, Any] = {}
        self.next_step = "provision"
        self._opened = opened
        self._stack = contextlib.ExitStack()
        self._world: Ecosystem | None = None
        self._left = _NOTHING  # the state that an interruption would leave now
        self._link: dict[str, Any] = {}  # the fields of the board that name its link
        self._chosen_uart: BoardUart | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def run(self) -> None:
        """Do the whole work. Raises: DeviceError, VaultError.

        After every failure the board has its old files or the new ones, and runs them. After an
        interruption the user is told which.
        """
        try:
            self._run()
        except (KeyboardInterrupt, SystemExit):
            if self._left:
                self.report.warn(f"interrupted: {self._left}")
            raise

    def _run(self) -> None:
        prompt = own_ports.checked(self.wishes.port, self.wishes.link, self.boards)
        self.wishes = replace(self.wishes, port=prompt)
        self._agree_to_erase()
        port = None
        if self.wishes.firmware is not None:
            port = self._write_firmware(self.wishes.firmware)
            if port is None:
                return  # a dry run ends before the board is another one
        found = ports.find()
        port = port or self._choose_prompt(found)
        ports.require_two(port.device, self.wishes.link or "")
        try:
            board = self._with_prompt(port, found)
        except DeviceError as error:
            if error.reason != "gone":
                raise
            # A watchdog has reset the board, or the cable lost contact: the work is repeated once.
            self.report.step("again", str(error))
            with self.report.during("port", f"waiting for {port.device}"):
                wait_for_port(port.device)
            board = self._with_prompt(port, found)
        if board is not None:
            self._answer(board)

    def _with_prompt(self, port: SerialPort, found: list[SerialPort]) -> Board | None:
        """Do the work at the prompt, and then start the board's module, also after a failure."""
        with contextlib.ExitStack() as stack:
            with self.report.during("prompt", f"asking {port.device} for its prompt"):
                repl = stack.enter_context(self._opened(port.device, port.vid != ESPRESSIF_USB))
            try:
                board = self._at_the_prompt(repl, port, found)
            except BaseException:
                with contextlib.suppress(DeviceError):
                    repl.recover()
                    self._restart(repl, port)
                raise
            self._restart(repl, port)
        return board

    def _at_the_prompt(
        self, repl: Repl, port: SerialPort, found: list[SerialPort]
    ) -> Board | None:
        """Everything that needs the prompt; None for a dry run."""
        described = self._look(repl)
        if self.wishes.dry_run:
            known = self.boards.get(described.uid)
            self._compare(repl, described, self._files(described, known))
            self._find_car(repl)
            return None
        board = self._prepare(described, port, found)
        files = self._files(described, board)
        copying.switch(repl)
        car = self._find_car(repl)  # before a new configuration hides its store
        self._copy(repl, described, files)
        board.save()  # not before: the user may have refused another maker
        if self.wishes.erase_car:
            board = self._erase_car(repl, board, car)
        self._set_clock(repl)
        return board

    def _agree_to_erase(self) -> None:
        """Only the board's maker can have its contracts removed and their keys destroyed."""
        wishes = self.wishes
        if wishes.dry_run or not (wishes.erase_contracts or wishes.erase_car):
            return
        if not self.report.agree(_ERASE_CAR if wishes.erase_car else _ERASE_CONTRACTS):
            raise DeviceError("config", "nothing was erased, and nothing flashed")
        if wishes.erase_contracts and self._maker() != self._own_maker():
            raise DeviceError(
                "config",
                "only the board's maker erases its contracts, and the maker in"
                f" {self.boards.data} has another key: nothing was erased, and nothing flashed",
            )

    # -- firmware --

    def _write_firmware(self, path: Path) -> SerialPort | None:
        """Write MicroPython itself, and return the port where it answers; None for a dry run."""
        micropython = MicroPython(path, self.wishes.port, self.report, self._opened)
        image = micropython.check()
        self.report.step("firmware", f"{path.name} is for {image.chip}")
        self.result["firmware"] = {"file": str(path), "chip": image.chip}
        if self.wishes.dry_run:
            text = "nothing was written; the rest is seen after the firmware is written"
            self.report.step("dry run", text)
            return None
        self._left = ""  # `MicroPython` tells of its own interruptions
        port = micropython.write(image)
        self._left = _FIRMWARE
        self.report.step(
            "firmware", f"{path.name} is on the board, which answers at {port.device}"
        )
        return port

    # -- before anything is written --

    def _choose_prompt(self, found: list[SerialPort]) -> SerialPort:
        """The port of the board's prompt, which the user chooses among several."""
        try:
            return ports.choose_prompt(self.wishes.port, found)
        except DeviceError:
            if self.wishes.port:
                raise
            emulated = own_ports.emulated_prompt(self.boards, found)
            if emulated is not None:
                return emulated
            if not found:
                raise
            chosen = self.report.choose_port("Which port is the board's prompt?", found)
            if chosen is None:
                raise
        return ports.named(chosen, found)

    def _look(self, repl: Repl) -> Facts:
        described = facts.ask(repl)
        self.result["board"] = described.as_data()
        self.report.step(
            "board",
            f"{described.machine}, MicroPython {described.text_version}, at {described.port}:"
            f" {described.heap_free // 1024} KiB of heap and {described.flash_free // 1024} KiB"
            f" of flash free{', the module is frozen' if described.frozen else ''}",
        )
        facts.require(described)
        if (described.platform, described.medium) == ("pyboard", "FAT"):
            self.report.warn(_FAT % described.port)
        return described

    def _prepare(self, described: Facts, port: SerialPort, found: list[SerialPort]) -> Board:
        """The board in this computer's folder, with its prompt; its maker and the speed of its
        link are not stored yet. A link that was stored before stays until the module has answered
        at another one."""
        board = self.boards.make(described)
        known = own_ports.known_link(port.device, board.link, self.boards)
        link = ports.choose_link(self.wishes.link or known, found, port.device)
        if link is None:
            link = self.report.choose_port("Which port is the board's link?", found)
        if link is None:
            raise DeviceError("port", "which port is the board's link? --link PORT")
        ports.require_two(port.device, link)
        board = board.save(prompt=port.device, serial_number=port.serial_number)
        numbers = {other.device: other.serial_number for other in found}
        self._link = {"link": link, "link_number": numbers.get(link, "")}
        if not board.link:
            board = board.save(**self._link)
        return replace(board, baud=self._uart(described).baud, maker=self._maker().hex())

    @functools.cached_property
    def _config(self) -> bytes | None:
        """The configuration that the user wrote."""
        path = self.wishes.config
        return configuration.of_file(path) if path else None

    def _maker(self) -> bytes:
        """The key that the board obeys."""
        if self._config:
            return bytes(configuration.read(self._config)["maker"])
        if self.wishes.maker:
            return self.wishes.maker
        return self._own_maker()

    def _own_maker(self) -> bytes:
        """The key of the maker in the folder of the boards."""
        if self._world is None:
            with self.report.during("maker", f"starting the companies in {self.boards.data}"):
                self._world = self._stack.enter_context(ecosystem(self.boards.data))
        return self._world.telematics_key.point

    def _uart(self, described: Facts) -> BoardUart:
        if self._config:
            link = configuration.read(self._config)["link"]
            baud = link.get("baud", configuration.BAUD)
            return BoardUart(link["number"], link.get("tx"), link.get("rx"), baud)
        if self._chosen_uart is None:
            self._chosen_uart = self.wishes.uart or self._uart_of_kind(described)
        return self._chosen_uart

    def _uart_of_kind(self, described: Facts) -> BoardUart:
        question = f"Which UART of {described.machine} is free for the link?"
        uart = configuration.default_link(described) or self.report.choose_uart(question)
        if uart is None:
            raise DeviceError(
                "config",
                f"{question} --uart NUMBER, and --tx PIN --rx PIN where the port lets you choose",
            )
        return replace(uart, baud=self.wishes.baud)

    def _files(self, described: Facts, board: Board | None) -> dict[str, bytes]:
        """Every file that the board is to have; without its own two before it is known here."""
        files = bytecode.module(described)
        if board is None:
            return files
        if self._config:
            config = configuration.completed(self._config, board.uid, described.root)
        else:
            uart, maker = self._uart(described), bytes.fromhex(board.maker)
            config = configuration.make(uart, board.uid, maker, described.root, self.wishes.store)
        return {**files, configuration.FILE: config, configuration.KEY_FILE: board.key.encode()}

    # -- on the board --

    def _compare(self, repl: Repl, described: Facts, files: dict[str, bytes]) -> copying.Changes:
        with self.report.during("files", "comparing with the board's files, by their SHA-256"):
            changes = copying.compare(repl, files)
        copying.require_room(changes, described)
        self.result["files"] = {
            "changed": sorted(changes.changed),
            "removed": list(changes.removed),
            "unchanged": changes.unchanged,
            "bytes": changes.size,
        }
        self.report.step(
            "files",
            f"{len(changes.changed) - len(changes.staged)} to copy ({changes.size:,} bytes),"
            f" {len(changes.removed)} to remove, {changes.unchanged} are there already"
            + (f", {len(changes.staged)} from an interrupted copy" if changes.staged else ""),
        )
        return changes

    def _copy(self, repl: Repl, described: Facts, files: dict[str, bytes]) -> None:
        changes = self._compare(repl, described, files)
        if configuration.FILE in changes.changed:
            self._agree_to_other_maker(repl, changes.changed[configuration.FILE])
        done = 0

        def copied(path: str, size: int) -> None:
            nonlocal done
            done += size
            self._left = _COPYING if done < changes.size else _SWITCHING
            self.report.file(path, done, changes.size)

        self._left = _COPYING if changes.size else _SWITCHING
        copying.copy(repl, changes, copied)
        self._left = _COPIED
        if changes:
            self.report.step("copied", "every file is there, checked by its SHA-256")

    def _find_car(self, repl: Repl) -> list[str]:
        """The files of the car that is to be erased."""
        if not self.wishes.erase_car:
            return []
        paths = erasure.find(repl, self._store())
        self.result["car"] = {"files": paths}
        self.report.step("car", f"{len(paths)} files to erase")
        return paths

    def _store(self) -> str:
        """The store in the board's next configuration."""
        if self._config:
            return str(configuration.read(self._config)["store"])
        return self.wishes.store

    def _erase_car(self, repl: Repl, board: Board, paths: list[str]) -> Board:
        keys = erasure.erase(repl, board, paths)
        self.result["car"]["keys"] = keys
        self.report.step("erased", f"{len(paths)} files of the car, and {keys} of its keys here")
        return board.save(pcid="")

    def _agree_to_other_maker(self, repl: Repl, config: bytes) -> None:
        """Ask before a board that obeys another maker gets a new one."""
        old = copying.read(repl, configuration.FILE)
        try:
            before = configuration.read(old)["maker"] if old else None
        except DeviceError:
            before = None  # a file of something else
        if before in (None, configuration.read(config)["maker"]):
            return
        question = "The board obeys another maker's key. Give it the new one?"
        if not self.report.agree(question):
            raise DeviceError("config", "the board keeps its maker: nothing was changed")

    def _set_clock(self, repl: Repl) -> None:
        now = time.time()
        repl.run(_CLOCK % now)
        self.report.step("clock", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now)))

    def _restart(self, repl: Repl, port: SerialPort) -> None:
        if port.vid == ESPRESSIF_USB:
            repl.reset()
        else:
            repl.restart()

    # -- over the link --

    def _answer(self, board: Board) -> None:
        """Wait for the module; give it the time over the maker's channel, which keeps it."""
        board = replace(board, **self._link)
        with contextlib.ExitStack() as stack:
            with self.report.during("answer", f"waiting for the module at {board.link}"):
                bench = stack.enter_context(BoardBench(board))
                status = bench.status()
            board.save()
            self.report.step("answer", f"{status['runtime']} at {board.link}")
            if self._world is not None:
                self._tell_of_another_car(board, status)
                maker = BoardMaker(self._world, board, bench)
                maker.set_time()
                self.report.step("time", "given by the maker, who authenticated")
                if self.wishes.erase_contracts:
                    self.result["erased"] = maker.erase_contracts()
                    self.report.step("erased", f"{len(self.result['erased'])} contracts")
            status = self.result["status"] = bench.status()
        if status["certified"] and status["pcid"] == board.pcid:
            self.next_step = "authorize" if status["contracts"] else "install"
        self.result["uid"], self.result["link"] = board.uid, board.link

    def _tell_of_another_car(self, board: Board, status: Mapping[str, Any]) -> None:
        """The next step, `board provision`, compares the certificate with the board's key."""
        if status["certified"] and status["pcid"] != board.pcid:
            self.report.step(
                "car",
                f"the board is already {status['pcid']}, which it did not become from this data"
                " folder: --erase-car makes it an empty car",
            )
