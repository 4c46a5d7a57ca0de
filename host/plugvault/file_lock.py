"""An exclusive lock on a file or a folder, between processes (flock)."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

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
        _wait(descriptor, timeout)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _wait(descriptor: int, timeout: float | None) -> None:
    if timeout is None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return
    deadline, interval = time.monotonic() + timeout, _INTERVAL
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        if time.monotonic() >= deadline:
            raise TimeoutError("another process holds the lock")
        time.sleep(interval)
        interval = min(_LONGEST_INTERVAL, 2 * interval)
