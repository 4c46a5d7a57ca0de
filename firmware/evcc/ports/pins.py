"""The UART of each kind of board for the link, its pins, and the pin that holds `main.py` back
when it is low. The host has the same table."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# (a word of `sys.platform` or of the machine's description, UART, tx, rx, hold); the first that
# fits. tx, rx: None for the port's own pins, which cannot be chosen. hold: of an ESP the button
# BOOT; None without such a pin.
BOARDS = (
    ("rp2", 1, 4, 5, 22),
    ("ESP32C3", 1, 4, 5, 9),
    ("ESP32C6", 1, 4, 5, 9),
    ("esp32", 1, 17, 18, 0),
    ("PYBD", 1, None, None, None),  # X9, X10
    ("PYBv1", 6, None, None, None),  # Y1, Y2
)


def of_board(platform: str, machine: str) -> "Any":
    """(UART, tx, rx, hold) of this kind of board, or None.

    platform: its `sys.platform`; machine: its `sys.implementation._machine`.
    """
    for row in BOARDS:
        if row[0] == platform or row[0] in machine:
            return row[1:]
    return None
