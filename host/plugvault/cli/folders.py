"""Temporary folders in memory, and the clean end of a command after a signal."""

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ROOM = 32 << 20  # bytes; a run needs a few


def memory() -> Path | None:
    """A folder in memory for temporary files, because SoftHSM writes each object thirty times.

    None when TMPDIR names another folder, or when there is no room.
    """
    if os.environ.get("TMPDIR"):
        return None
    folder = Path("/dev/shm")  # noqa: S108 - only TemporaryDirectory makes names in it
    roomy = folder.is_dir() and shutil.disk_usage(folder).free > _ROOM
    return folder if roomy and os.access(folder, os.W_OK) else None


@contextmanager
def stoppable() -> Iterator[None]:
    """Clean up after `kill`, or when the terminal closes, as after Ctrl-C."""
    signals = (signal.SIGTERM, signal.SIGHUP)
    handlers = [
        signal.signal(number, lambda number, _: sys.exit(128 + number)) for number in signals
    ]
    try:
        yield
    finally:
        for number, handler in zip(signals, handlers, strict=True):
            signal.signal(number, handler)
