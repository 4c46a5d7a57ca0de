"""A serial port, or a pseudo-terminal, for this process alone."""

import errno
import os
import stat
import termios
from pathlib import Path

import serial

NO_PORT = "it is no serial port"
_DEVICES = Path("/sys/dev/char")  # a link for each character device, by its numbers


class SerialPortError(OSError):
    """A port that could not be opened or locked. The text has the reason."""


def open_alone(path: Path | str, baud: int, timeout: float | None = None) -> serial.Serial:
    """Open a port, locked against other programs as pyserial and mpremote do it (flock).

    baud: bits a second. timeout: seconds for which a read waits; None: without a limit. Raises:
    SerialPortError.
    """
    if is_another_kind(path):  # said first: another program may use such a file, too
        raise SerialPortError(NO_PORT)
    try:
        return serial.Serial(str(path), baud, timeout=timeout, exclusive=True)
    except (serial.SerialException, ValueError) as error:
        raise SerialPortError(_reason(error)) from error


def is_another_kind(path: Path | str) -> bool:
    """Whether a path leads to a file that is no serial port. It is not opened, because that would
    reset some boards. False for a path that leads nowhere."""
    try:
        status = Path(path).stat()
    except OSError:
        return False
    if not stat.S_ISCHR(status.st_mode):
        return True
    number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    kind = _DEVICES / number / "subsystem"  # a pseudo-terminal has none
    return kind.exists() and kind.resolve().name != "tty"


def _reason(error: Exception) -> str:
    number = getattr(error, "errno", None)
    if number == errno.EAGAIN:
        return "another program uses it; end that one first"
    if number is not None:
        return os.strerror(number)
    if isinstance(error.__context__, termios.error):
        return NO_PORT
    return str(error)
