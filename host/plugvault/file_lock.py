"""An exclusive lock on a file or a folder, between processes (flock).

A wait of more than `SILENCE` seconds is told in the log, so that a command does not seem to hang.
"""

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger("plugvault.file_lock")

SILENCE = 2.0  # seconds of a wait until it is told
_COMMAND = 100  # characters of a command line that are shown
_INTERVAL = 0.001  # seconds between two attempts, at first
_LONGEST_INTERVAL = 0.05


@contextlib.contextmanager
def locked(path: Path, timeout: float | None = None) -> Iterator[None]:
    """Hold the lock while the context lasts. Raises as `acquire`."""
    descriptor = acquire(path, timeout)
    try:
        yield
    finally:
        os.close(descriptor)


def acquire(path: Path, timeout: float | None = None) -> int:
    """Lock a folder, or a file that is made when missing. Closing the returned descriptor unlocks
    it.

    `timeout`: seconds to wait for another holder; None: without a limit, 0: not at all. Raises
    TimeoutError, OSError.
    """
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o600)
    try:
        _wait(descriptor, path, timeout)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def holder(path: Path) -> str:
    """Another process that has the locked file open, as " (process 12: plugvault …)"; "" where the
    system does not tell."""
    real = os.path.realpath(path)
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # of another user, or it has ended
            files = (process / "fd").iterdir() if process.name != str(os.getpid()) else ()
            if any(os.path.realpath(file) == real for file in files):
                return f" (process {process.name}: {_command(process)})"
    return ""


def _command(process: Path) -> str:
    """The command line of a process, without the interpreter."""
    words = os.fsdecode((process / "cmdline").read_bytes()).split("\0")[:-1]
    if len(words) > 1 and "python" in Path(words[0]).name:
        del words[0]
    return " ".join([Path(words[0]).name, *words[1:]])[:_COMMAND] if words else "ended"


def _wait(descriptor: int, path: Path, timeout: float | None) -> None:
    begun, interval = time.monotonic(), _INTERVAL
    deadline = float("inf") if timeout is None else begun + timeout
    is_told = False
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        now = time.monotonic()
        if now >= deadline:
            raise TimeoutError("another process holds the lock")
        if not is_told and now - begun > SILENCE:
            is_told = True
            log.warning("another process holds %s: waiting for its end", path)
        time.sleep(interval)
        interval = min(_LONGEST_INTERVAL, 2 * interval)
