"""A serial line on Linux: a USB adapter, a PTY. `board` has the UART of a board.

8 data bits, no parity, one stop bit, no flow control: `evcc.link` repeats lost frames.
"""

from evcc.ports import exclusive
from evcc.ports.stream import PortError, Stream


def open_tty(path: str, baud: int = 115200) -> Stream:
    """The tty at `path`, raw, at `baud` bits a second, for this process alone.

    Raises: PortError("unavailable").
    """
    import termios

    speed = getattr(termios, "B" + str(baud), None)
    if speed is None:
        raise PortError("unavailable", "no such speed: " + str(baud))
    try:
        tty = open(path, "r+b", buffering=0)
    except OSError as error:
        raise PortError("unavailable", path + ": " + str(error))
    try:
        exclusive.hold(tty.fileno(), path)
        _make_raw(termios, tty.fileno(), speed)
    except PortError:
        tty.close()
        raise
    except (OSError, getattr(termios, "error", OSError)) as error:
        tty.close()
        raise PortError("unavailable", path + ": " + str(error))
    return Stream(tty, tty.read, tty.write)


def _make_raw(termios, descriptor: int, speed: int) -> None:
    """VMIN = VTIME = 0: a read returns the bytes there are, instead of waiting for all of n."""
    if hasattr(termios, "setraw"):
        termios.setraw(descriptor)
    else:
        import tty

        tty.setraw(descriptor)
    mode = termios.tcgetattr(descriptor)
    mode[4] = mode[5] = speed
    mode[6][getattr(termios, "VMIN", 6)] = 0
    mode[6][getattr(termios, "VTIME", 5)] = 0
    termios.tcsetattr(descriptor, termios.TCSANOW, mode)
