"""The refusals of a board, its cable and its files."""

from evcc.errors import EvccError


class DeviceError(EvccError):
    """A failure of a board, its port or its configuration. `detail` says what to do next.

    "port": none, or several to choose from; "permission", "busy": the port cannot be opened;
    "silent": no MicroPython prompt, or no answer over the link; "gone": the port disappeared;
    "script": an error on the board; "unfit": the module cannot run there; "firmware": a wrong
    image, or none written; "copy": a file on the board differs from the one that was sent;
    "config": an option or file of the configuration; "state": the folder of the boards;
    "emulator": a part of the emulator is missing.
    """

    REASONS = (
        "port",
        "permission",
        "busy",
        "silent",
        "gone",
        "script",
        "unfit",
        "firmware",
        "copy",
        "config",
        "state",
        "emulator",
    )
