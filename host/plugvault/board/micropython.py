"""MicroPython itself onto a board: the checks, the writing, and the wait for its prompt.

Nothing is written before the chip of the file has been compared with the board's. From the first
byte until the new prompt answers the board may be without MicroPython. Every failure in that time,
and Ctrl-C, says so, with the command that repeats the work.
"""

import contextlib
import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from plugvault.board import boot_drive, espressif, facts, firmware, ports
from plugvault.board.errors import DeviceError
from plugvault.board.firmware import Image
from plugvault.board.ports import BRIDGE, DOWNLOAD, ESPRESSIF_USB, PROMPT, SerialPort
from plugvault.board.repl import Repl, wait_for_port
from plugvault.board.reporter import Reporter

_RESTART = 60.0  # seconds for the first prompt of new firmware, which may make its file system
_PAUSE = 0.5


class MicroPython:
    """The firmware of one board: `check` it, then `write` it.

    path: its file. port: the device of the board, None to find it. opened(device, soft_reset): the
    board's prompt.
    """

    def __init__(
        self,
        path: Path,
        port: str | None,
        report: Reporter,
        opened: Callable[[str, bool], Repl],
    ) -> None:
        self._path = path
        self._named = port
        self._report = report
        self._opened = opened
        self._began = False
        self._doubt = ""  # why the named port may not be that of the board that is written

    def check(self) -> Image:
        """The file, after its comparison with the board. Raises: DeviceError."""
        image = firmware.read(self._path)
        found = ports.find()
        self._port = self._find(image, found)
        self._others = {port.device for port in found if port != self._port}
        machine = self._machine()
        firmware.check(image, machine)
        self._runs = bool(machine)
        if self._named and not (self._doubt or self._runs):
            self._doubt = f"no MicroPython answers at {self._named}"
        if self._port is None:
            boot_drive.check(image.chip)
        return image

    def write(self, image: Image) -> SerialPort:
        """Write the file, and return the port at which its prompt answers. Raises: DeviceError."""
        if image.kind == "uf2" and self._doubt:
            self._agree_to_any_board(image)
        with self._repeatable(image):
            if self._port is not None and image.kind == "bin":
                self._write_bin(image, self._port)
            else:
                self._write_uf2(image)
            return self._wait(image)

    def _find(self, image: Image, found: list[SerialPort]) -> SerialPort | None:
        """The board's port; None for a board that shows its boot drive, or is still to show it."""
        if image.kind == "bin":
            waiting = [port for port in found if port.kind == DOWNLOAD]
            if self._named is None and len(waiting) == 1:
                return waiting[0]
            return ports.choose_prompt(self._named, found)
        if self._named:
            try:
                return ports.named(self._named, found)
            except DeviceError as error:
                if Path(self._named).exists():  # something else than a port
                    raise
                self._doubt = error.detail  # right for a board that shows its drive
                return None
        prompts = [port for port in found if port.kind == PROMPT and port.vid != ESPRESSIF_USB]
        if boot_drive.is_there(image.chip) or not prompts:
            return None
        return ports.choose_prompt(None, prompts)

    def _machine(self) -> str:
        """The board's own description, "" if no MicroPython answers. (CircuitPython spells the
        chips otherwise.)"""
        port = self._port
        if port is None or port.kind == DOWNLOAD:
            return ""
        try:
            with self._prompt(port.device) as repl:
                described = facts.ask(repl)
            return described.machine if described.name == "micropython" else ""
        except DeviceError as error:
            if error.reason in ("permission", "busy"):
                raise
            return ""

    @contextlib.contextmanager
    def _prompt(self, device: str) -> Iterator[Repl]:
        with contextlib.ExitStack() as stack:
            with self._report.during("prompt", f"asking {device} for its prompt"):
                repl = stack.enter_context(self._opened(device, False))
            yield repl

    # -- the writing --

    def _agree_to_any_board(self, image: Image) -> None:
        """Ask before a UF2 goes to a board that cannot be the one at the named port: a drive does
        not say at which port its board was. Raises: DeviceError("port")."""
        question = (
            f"{self._doubt}. Write {image.path.name} to the {image.chip} that shows its boot"
            " drive, whichever it is?"
        )
        if not self._report.agree(question):
            raise DeviceError("port", f"{self._doubt}: nothing was written")
        if self._port is not None and self._port.kind == BRIDGE:
            self._port = None  # the prompt of that board comes at a port of its own

    def _write_uf2(self, image: Image) -> None:
        if self._port is not None and self._runs:
            with self._prompt(self._port.device) as repl:
                repl.start("import machine\nmachine.bootloader()")
        text = f"copying {image.path.name} to the boot drive, as soon as that is mounted"
        with self._report.during("firmware", text):
            boot_drive.write(image.path, image.chip, self._begin)

    def _write_bin(self, image: Image, port: SerialPort) -> None:
        text = f"writes {image.path.name} at {port.device}, with a progress of its own"
        self._report.step("esptool", text)
        try:
            espressif.write(image.path, image.chip, port.device, self._begin)
        except DeviceError:
            # An ESP on its own USB comes back under another name in download mode.
            waiting = ports.returned(port, self._others, ports.find())
            if self._began or waiting is None or waiting.device == port.device:
                raise
            self._report.step("port", f"{port.device} is {waiting.device} in download mode")
            espressif.write(image.path, image.chip, waiting.device, self._begin)

    def _begin(self) -> None:
        self._began = True

    @contextlib.contextmanager
    def _repeatable(self, image: Image) -> Iterator[None]:
        """Say what an end in the middle leaves."""
        named = [self._named] if self._named else []
        command = shlex.join(["plugvault", "flash", *named, "--firmware", str(image.path)])
        again = f"The board may be without MicroPython now: `{command}` writes it again"
        if image.kind == "uf2":
            again += ", after the board was plugged in with BOOTSEL held"
        try:
            yield
        except DeviceError as error:
            if not self._began:
                raise
            raise DeviceError(error.reason, f"{error.detail}. {again}") from error
        except BaseException:
            if self._began:
                self._report.warn(again)
            raise

    def _wait(self, image: Image) -> SerialPort:
        """Wait until the new MicroPython answers, under whatever name its port has now."""
        remedy = "press RESET" if image.kind == "bin" else "plug the board in again"
        deadline = time.monotonic() + _RESTART
        text = f"{image.path.name} is written; waiting for its prompt. If none comes, {remedy}"
        with self._report.during("firmware", text):
            while True:
                try:
                    return self._answering()
                except DeviceError as error:
                    if time.monotonic() > deadline:
                        raise DeviceError(
                            "firmware",
                            f"{image.path.name} is written, and no MicroPython answers: {remedy},"
                            f" then `plugvault flash`. The last attempt: {error.detail}",
                        ) from error
                time.sleep(_PAUSE)

    def _answering(self) -> SerialPort:
        """The board's port, where a prompt answers. Raises: DeviceError."""
        port = ports.returned(self._port, self._others, ports.find())
        if port is None or port.kind == DOWNLOAD:
            raise DeviceError("port", "the board shows no port of a prompt")
        wait_for_port(port.device, _PAUSE)
        with self._opened(port.device, False):
            return port
