"""A board's MicroPython prompt: scripts run there, and their result comes back.

The transport is mpremote's: raw REPL with raw paste, which has flow control, so that no byte of a
script is lost while the board writes to its flash.
"""

import ast
import contextlib
import functools
import io
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol, Self

import serial
from mpremote.transport import TransportError, TransportExecError
from mpremote.transport_serial import SerialTransport

from plugvault.board.errors import DeviceError
from plugvault.board.ports import explain_refusal

# An ESP may reset when its port is opened, and a program may swallow the bytes after a Ctrl-C.
_ATTEMPTS = 8
_PROMPT_TIMEOUT = 4.0  # seconds, for one attempt
_RESTART_TIMEOUT = 30.0  # seconds; after a reset by the watchdog boot.py waits for five
_READ_TIMEOUT = 30.0  # seconds of silence in the middle of an exchange
_REPLUG_TIMEOUT = 30.0
_CHUNK = 512  # bytes of a file in one script, four characters each at most
_SILENT = (
    "no MicroPython prompt. Is it the port of the prompt? `plugvault flash PROMPT --link LINK`:"
    " the adapter at the board's UART is LINK. Press the board's reset button and try again at"
    " once; if its main.py holds the prompt, start with the way out of boot.py"
    " (firmware/README.md). A board without MicroPython takes --firmware FILE"
)

# An STM32 has no file system at "/", for which `os.statvfs` then gives zeros. Its current folder
# after a soft reset is /flash, or that of its SD card.
_ROOT = """
import os
try:
    has_files = os.statvfs("/")[0]
except (AttributeError, OSError):
    has_files = 1
print(repr("/" if has_files else os.getcwd().rstrip("/") + "/"))
"""


class Transport(Protocol):
    """The part of mpremote's SerialTransport that is used here."""

    in_raw_repl: bool

    def enter_raw_repl(self, soft_reset: bool = ..., timeout_overall: float = ...) -> None: ...

    def exit_raw_repl(self) -> None: ...

    def exec_raw_no_follow(self, command: str) -> None: ...

    def follow(
        self, timeout: float, data_consumer: Callable[[bytes], None] | None = ...
    ) -> tuple[bytes, bytes]: ...

    def fs_writefile(
        self,
        dest: str,
        data: bytes,
        chunk_size: int = ...,
        progress_callback: Callable[[int, int], None] | None = ...,
    ) -> None: ...

    def write_ctrl_d(self, out_callback: Callable[[bytes], None]) -> None: ...

    def read_until(self, min_num_bytes: int, ending: bytes, timeout: float = ...) -> bytes: ...

    def close(self) -> None: ...


def open_transport(device: str) -> Transport:
    """Open a port as mpremote does. Raises: DeviceError("permission" | "busy" | "gone")."""
    try:
        transport: Transport = SerialTransport(device, timeout=_READ_TIMEOUT)
    except (TransportError, OSError) as error:
        raise explain_refusal(device) from error
    return transport


class Repl:
    """A board's prompt while the context lasts; main.py is interrupted.

    `opened(device)`: opens the transport. soft_reset: begin with an empty heap; not for a board
    whose USB disappears in a soft reset. attempts: to get the prompt, of 4 s each. Raises on
    entry: DeviceError.
    """

    def __init__(
        self,
        device: str,
        soft_reset: bool = True,
        opened: Callable[[str], Transport] = open_transport,
        attempts: int = _ATTEMPTS,
    ) -> None:
        self.device = device
        self._soft_reset = soft_reset
        self._opened = opened
        self._attempts = attempts

    def __enter__(self) -> Self:
        self._transport = self._opened(self.device)
        try:
            self._enter()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._close()

    def _enter(self) -> None:
        for attempt in range(self._attempts):
            try:
                with _translated(self.device), contextlib.redirect_stdout(io.StringIO()):
                    # First without a reset: a board that resets itself is not interrupted twice.
                    self._transport.enter_raw_repl(False, _PROMPT_TIMEOUT)
                    if self._soft_reset:
                        self._transport.enter_raw_repl(True, _RESTART_TIMEOUT)
                return
            except DeviceError as error:
                if error.reason != "silent" or attempt == self._attempts - 1:
                    raise

    def _close(self) -> None:
        with contextlib.suppress(OSError, TransportError):
            if self._transport.in_raw_repl:
                self._transport.exit_raw_repl()
        with contextlib.suppress(OSError):
            self._transport.close()

    @functools.cached_property
    def root(self) -> str:
        """The folder of the board's files, with "/" at its end: "/", or "/flash/" of an STM32.
        Raises: DeviceError."""
        return str(self.run(_ROOT))

    def run(self, script: str, on_line: Callable[[str], None] | None = None) -> Any:
        """Run a script on the board. Returns the Python literal in its last line, or None.

        on_line: gets each line before the last as it comes. Raises: DeviceError("script") with the
        board's traceback; "gone"; "silent".
        """
        lines = _Lines(on_line)
        with _translated(self.device):
            self._transport.exec_raw_no_follow(script)
            _, errors = self._transport.follow(_READ_TIMEOUT, lines.take)
        if errors:
            raise DeviceError("script", errors.decode(errors="replace").strip())
        return lines.result()

    def write(self, path: str, data: bytes) -> None:
        """Write a file on the board, in an existing folder. Raises: DeviceError, OSError."""
        with _translated(self.device):
            self._transport.fs_writefile(path, data, _CHUNK)

    def start(self, script: str) -> None:
        """Begin a script that does not return, such as a reset."""
        with _translated(self.device):
            self._transport.exec_raw_no_follow(script)
        self._transport.in_raw_repl = False

    def reset(self) -> None:
        """Reset the board, which then runs boot.py and main.py. The context cannot be used
        afterwards."""
        try:
            self.start("import machine, time\ntime.sleep_ms(100)\nmachine.reset()")
        except DeviceError as error:
            if error.reason != "gone":  # the port may end before the board's answer is read
                raise

    def recover(self) -> None:
        """Interrupt a script whose answer was not read, and get the prompt again."""
        with _translated(self.device), contextlib.redirect_stdout(io.StringIO()):
            self._transport.enter_raw_repl(False, _PROMPT_TIMEOUT)

    def restart(self) -> None:
        """Run boot.py and main.py with an empty heap; the clock continues. The context cannot be
        used afterwards."""
        with _translated(self.device):
            self._transport.exit_raw_repl()  # after a raw prompt main.py would not start
            self._transport.write_ctrl_d(lambda data: None)
            self._transport.read_until(1, b"soft reboot\r\n", timeout=_PROMPT_TIMEOUT)


class _Lines:
    """The output of a script, line by line; mpremote gives single bytes, and the ends as 0x04."""

    def __init__(self, on_line: Callable[[str], None] | None) -> None:
        self._on_line = on_line
        self._bytes = bytearray()
        self._last = ""

    def take(self, data: bytes) -> None:
        self._bytes += data.replace(b"\x04", b"")
        while b"\n" in self._bytes:
            line, _, rest = bytes(self._bytes).partition(b"\n")
            self._bytes[:] = rest
            self._line(line.decode(errors="replace").rstrip("\r"))

    def _line(self, line: str) -> None:
        if self._last and self._on_line:
            self._on_line(self._last)
        self._last = line

    def result(self) -> Any:
        try:
            return ast.literal_eval(self._last) if self._last else None
        except (ValueError, SyntaxError) as error:
            raise DeviceError("script", f"not an answer: {self._last[:200]!r}") from error


def wait_for_port(device: str, seconds: float | None = None) -> None:
    """Wait until a port can be opened again after a reset. seconds: None for the usual time.
    Raises: DeviceError."""
    deadline = time.monotonic() + (_REPLUG_TIMEOUT if seconds is None else seconds)
    while True:
        try:
            serial.serial_for_url(device).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise explain_refusal(device) from error
        time.sleep(0.2)


@contextlib.contextmanager
def _translated(device: str) -> Iterator[None]:
    """mpremote's errors, and those of a port that ends, as DeviceError."""
    try:
        yield
    except TransportExecError as error:
        raise DeviceError("script", error.error_output.strip()) from error
    except (OSError, serial.SerialException) as error:
        cause = error.strerror or "the port has ended"
        raise DeviceError("gone", f"{device}: {cause}. Plug the board in again") from error
    except (TransportError, struct.error, IndexError) as error:  # a short answer
        raise DeviceError("silent", f"{device}: {_SILENT}") from error
