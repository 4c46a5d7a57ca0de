"""A serial port, or a pseudo-terminal, for this process alone."""

import errno
from pathlib import Path

import serial


class SerialPortError(OSError):
    """A port that is not opened; the text says why."""


def open_alone(path: Path | str, baud: int, timeout: float | None = None) -> serial.Serial:
    """The port, locked against other programs as pyserial and mpremote do it (flock).

    timeout: seconds for which a read waits; None: without end. Raises: SerialPortError.
    """
    try:
        return serial.Serial(str(path), baud, timeout=timeout, exclusive=True)
    except (serial.SerialException, ValueError) as error:
        is_held = isinstance(error, OSError) and error.errno == errno.EAGAIN
        text = "another program uses it; end that one first" if is_held else str(error)
        raise SerialPortError(text) from error
