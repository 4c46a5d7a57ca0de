"""The UART of each kind of board for the link, and its pins. The host has the same table."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# (a word of `sys.platform` or of the machine's description, number, tx, rx); the first that fits.
# None: the port's own pins, which cannot be chosen.
LINKS = (
    ("rp2", 1, 4, 5),
    ("ESP32C3", 1, 4, 5),
    ("ESP32C6", 1, 4, 5),
    ("esp32", 1, 17, 18),
    ("PYBD", 1, None, None),  # X9, X10
    ("PYBv1", 6, None, None),  # Y1, Y2
)


def of_board(platform: str, machine: str) -> "Any":
    """(number, tx, rx) of this kind of board, or None.

    platform: its `sys.platform`; machine: its `sys.implementation._machine`.
    """
    for word, number, tx, rx in LINKS:
        if word == platform or word in machine:
            return number, tx, rx
    return None
