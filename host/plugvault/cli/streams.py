"""The standard streams of a command that was started without one of them (`<&-`, `>&-`, `2>&-`).

Without this the next file that the process opens would take the number of the missing stream, and
Python has None in its place. Output without a stream goes nowhere; input without one is an error,
as an empty input would be a wrong one.
"""

import errno
import io
import os
import sys
from contextlib import suppress
from typing import TextIO

CLOSED = "standard input is closed: name a file"


class _ClosedInput(io.RawIOBase):
    """Each read of it is an OSError in words."""

    def readable(self) -> bool:
        return True

    def readinto(self, _: object) -> int:
        raise OSError(errno.EBADF, CLOSED)


def open_missing() -> None:
    """Put /dev/null in place of each standard stream that is missing."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            _occupy(number)
            stream: TextIO
            if name == "stdin":
                stream = io.TextIOWrapper(io.BufferedReader(_ClosedInput()), "utf-8")
            else:
                stream = open(number, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)


def discard_output() -> None:
    """Let what is still to be written to standard output go nowhere."""
    with suppress(OSError, ValueError):  # not a descriptor's stream, as in a test
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, sys.stdout.fileno())
        os.close(descriptor)


def _occupy(number: int) -> None:
    """Let a descriptor be /dev/null, unless it is open by now."""
    try:
        os.fstat(number)
    except OSError:
        descriptor = os.open(os.devnull, os.O_RDWR)
        if descriptor != number:
            os.dup2(descriptor, number)
            os.close(descriptor)
        else:
            os.set_inheritable(descriptor, True)
