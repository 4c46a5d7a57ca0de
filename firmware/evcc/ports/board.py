"""A board: its UART, clock, watchdog, Wi-Fi, and the hold of `main.py`. MicroPython only.

`PORTS` has the differences between the ports, `pins` the pins of each kind of board. Every other
name of hardware is MicroPython's own. Not imported on Linux.
"""

import sys
import time

import machine

from evcc.ports import pins
from evcc.ports.stream import PortError, Stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# By `sys.platform`: the longest time of the watchdog in milliseconds, and the number of Monday in
# the clock chip.
PORTS = {
    "rp2": (8388, 0),
    "esp32": (60000, 0),
    "pyboard": (32000, 1),  # every STM32
}
_BUFFER = 4096  # bytes: a window of frames while the module computes
_WINDOW_MS = 1000  # Ctrl-C ends main.py later, too, unless that resets the board
_WINDOW_AFTER_WATCHDOG_MS = 5000  # mpremote waits ten seconds for the prompt
_JOIN_MS = 20000


def default_link() -> "dict | None":
    """The "link" for a board whose configuration cannot be read; None: there is none."""
    link = _of_board()
    return None if link is None else {"kind": "uart", "number": link[0]}


def open_uart(number: int, baud: int = 115200, **chosen: "Any") -> Stream:
    """UART `number`. chosen: its pins tx and rx, by default those of `pins`, else the port's own.

    8 data bits, no parity, one stop bit, no flow control: `evcc.link` repeats lost frames.
    Raises: PortError("unavailable") for a UART or a pin that the board does not have.
    """
    link = _of_board()
    tx, rx = link[1:3] if link is not None and link[0] == number else (None, None)
    wanted = {"tx": chosen.get("tx", tx), "rx": chosen.get("rx", rx)}
    options: "dict[str, Any]" = {
        name: machine.Pin(pin) for name, pin in wanted.items() if pin is not None
    }
    try:
        uart = machine.UART(number, baud, rxbuf=_BUFFER, timeout=0, **options)
    except (OSError, ValueError, TypeError) as error:
        raise PortError("unavailable", "UART %s: %s" % (number, error))
    return Stream(uart, uart.read, uart.write)  # pyright: ignore[reportAttributeAccessIssue]


def _of_board():
    return pins.of_board(sys.platform, sys.implementation._machine)


def set_clock(now: int) -> None:
    """Set the clock chip to `now`, unix seconds. Without a battery the chip loses the time with
    the power. A chip that refuses the time is no error."""
    day = time.gmtime(now - time_of_epoch())
    weekday = day[6] + PORTS[sys.platform][1]
    try:
        machine.RTC().datetime((day[0], day[1], day[2], weekday, day[3], day[4], day[5], 0))
    except (OSError, ValueError):
        pass  # the module counts the time without the chip


def time_of_epoch() -> int:
    """Unix seconds of this board's time 0: in 2000 on some boards."""
    return 946684800 if time.gmtime(0)[0] == 2000 else 0


def watchdog(timeout_ms: int):
    """Start the watchdog, which cannot be stopped again. Returns the function that feeds it.

    timeout_ms: from 5000 to the port's limit in `PORTS`; else PortError("unavailable").
    """
    if not 5000 <= timeout_ms <= PORTS[sys.platform][0]:
        limit = PORTS[sys.platform][0]
        raise PortError("unavailable", "watchdog: 5000 to %d milliseconds" % limit)
    return machine.WDT(timeout=timeout_ms).feed


def join(name: str, password: str) -> None:
    """Join the Wi-Fi network with the SSID `name`; returns when connected.

    Raises: PortError("unavailable"), at the latest after 20 s.
    """
    try:
        import network

        station: "Any" = network.WLAN(network.STA_IF)  # pyright: ignore
        station.active(True)
        if not station.isconnected():
            station.connect(name, password)
    except (ImportError, AttributeError, OSError) as error:
        raise PortError("unavailable", "Wi-Fi: " + str(error))
    start = time.ticks_ms()
    while not station.isconnected():
        if time.ticks_diff(time.ticks_ms(), start) > _JOIN_MS:
            raise PortError("unavailable", "Wi-Fi: no connection to " + name)
        time.sleep_ms(50)


def is_held() -> bool:
    """Whether the owner holds `main.py` back, by Ctrl-C or the pin, within a second of a reset.

    After a reset by the watchdog it is five seconds: such a board may reset itself again.
    """
    board = _of_board()
    hold = None if board is None else board[3]
    pin = None if hold is None else machine.Pin(hold, machine.Pin.IN, machine.Pin.PULL_UP)
    by_watchdog = machine.reset_cause() == getattr(machine, "WDT_RESET", -1)
    end = time.ticks_add(time.ticks_ms(), _WINDOW_AFTER_WATCHDOG_MS if by_watchdog else _WINDOW_MS)
    print("main.py starts soon; Ctrl-C now holds it back")
    try:
        while time.ticks_diff(end, time.ticks_ms()) > 0:
            if pin is not None and not pin.value():
                break
            time.sleep_ms(20)
        else:
            return False
    except KeyboardInterrupt:
        pass
    print("main.py is held back; a reset starts it")
    return True
