"""A serial line: a UART of the board, or a tty on Linux (a USB adapter, a PTY).

8 data bits, no parity, one stop bit, no flow control: `evcc.link` repeats lost frames.
"""

from evcc.ports.stream import PortError, Stream

_BOARD_BUFFER = 4096  # bytes: a window of frames while the module computes


def open_tty(path: str, baud: int = 115200) -> Stream:
    """The tty at `path`, raw, at `baud` bits a second. Raises: PortError("unavailable")."""
    import termios

    speed = getattr(termios, "B" + str(baud), None)
    if speed is None:
        raise PortError("unavailable", "no such speed: " + str(baud))
    try:
        tty = open(path, "r+b", buffering=0)
        _make_raw(termios, tty.fileno(), speed)
    except (OSError, getattr(termios, "error", OSError)) as error:
        raise PortError("unavailable", path + ": " + str(error))
    return Stream(tty, tty.read, tty.write)


def open_uart(number: int, baud: int = 115200, **pins) -> Stream:
    """The board's UART `number`; `pins` as `machine.UART` has them (tx, rx)."""
    import machine

    uart = machine.UART(number, baud, rxbuf=_BOARD_BUFFER, timeout=0, **pins)
    return Stream(uart, uart.read, uart.write)  # pyright: ignore[reportAttributeAccessIssue]


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
