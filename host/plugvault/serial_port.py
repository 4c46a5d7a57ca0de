"""A serial port, or a pseudo-terminal, for this process alone."""

import errno
from pathlib import Path

import serial


class SerialPortError(OSError):
    """A port that could not be opened or locked. The text has the reason."""


def open_alone(path: Path | str, baud: int, timeout: float | None = None) -> serial.Serial:
    """Open a port, locked against other programs as pyserial and mpremote do it (flock).

    baud: bits a second. timeout: seconds for which a read waits; None: without a limit. Raises:
    SerialPortError.
    """
    try:
        return serial.Serial(str(path), baud, timeout=timeout, exclusive=True)
    except (serial.SerialException, ValueError) as error:
        is_held = isinstance(error, OSError) and error.errno == errno.EAGAIN
        text = "another program uses it; end that one first" if is_held else str(error)
        raise SerialPortError(text) from error
