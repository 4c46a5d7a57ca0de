"""Locks of a folder or a tty for one process, by the system's flock(2). Linux only.

CPython has flock in `fcntl`, MicroPython reaches it through `ffi`; an interpreter with neither
locks nothing. The system releases the lock when the process ends, however it ends.
"""

from evcc.ports.stream import PortError

_EXCLUSIVE = 2  # LOCK_EX
_AT_ONCE = 4  # LOCK_NB
_HELD = 11  # EAGAIN; any other error is of a file system without locks


def hold_folder(path: str) -> None:
    """Lock a folder for this process until it ends. Raises: PortError("unavailable") where another
    process holds the lock."""
    try:
        import os

        descriptor = os.open(path, os.O_RDONLY)  # pyright: ignore[reportAttributeAccessIssue]
    except AttributeError:  # MicroPython
        library = _library()
        descriptor = -1 if library is None else library.func("i", "open", "si")(path, 0)
    if descriptor >= 0:
        hold(descriptor, path)


def hold(descriptor: int, name: str) -> None:
    """Lock an open file for this process until it is closed. name: for the error's text.

    Raises: PortError("unavailable") where another process holds the lock.
    """
    if not _lock(descriptor):
        raise PortError("unavailable", name + ": another process uses it")


def _lock(descriptor: int) -> bool:
    """Whether the file is locked now, or cannot be locked at all."""
    try:
        import fcntl
    except ImportError:
        library = _library()
        if library is None:
            return True
        import os

        failed = library.func("i", "flock", "ii")(descriptor, _EXCLUSIVE | _AT_ONCE) != 0
        return not (failed and os.errno() == _HELD)  # pyright: ignore[reportAttributeAccessIssue]
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # a file system without locks
    return True


def _library():
    """The C library; None where the interpreter has no `ffi`."""
    try:
        import ffi

        return ffi.open("libc.so.6")
    except (ImportError, OSError):
        return None
