"""Folders for what is thrown away, and the end of a command that somebody asks for."""

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ROOM = 32 << 20  # bytes; a run takes a few


def memory() -> Path | None:
    """A folder in memory for what is thrown away: SoftHSM writes each object thirty times.

    TMPDIR says where somebody would rather have it.
    """
    if os.environ.get("TMPDIR"):
        return None
    folder = Path("/dev/shm")  # noqa: S108 - only TemporaryDirectory makes names in it
    roomy = folder.is_dir() and shutil.disk_usage(folder).free > _ROOM
    return folder if roomy and os.access(folder, os.W_OK) else None


@contextmanager
def stoppable() -> Iterator[None]:
    """Asked to end, by `kill` or a terminal that closes: clean up as after Ctrl-C."""
    signals = (signal.SIGTERM, signal.SIGHUP)
    before = [
        signal.signal(number, lambda number, _: sys.exit(128 + number)) for number in signals
    ]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
