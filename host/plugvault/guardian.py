"""The end of other makers' commands with the process that started them, also after a kill -9.

Processes of this project end when their stdin does [`processes.LifeLine`]. A command of another
maker need not read its stdin. So a small process of its own knows the commands that run, and kills
them when this process has ended without doing so.
"""

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import IO, cast

# Reads "+PID", "+-PID" for a process group, and "-..." when it has ended; kills the rest at the
# end of its stdin.
_PROGRAM = """
import contextlib, os, signal, sys
running = set()
for line in sys.stdin:
    (running.add if line[0] == "+" else running.discard)(int(line[1:]))
for process in running:
    with contextlib.suppress(OSError):
        (os.kill if process > 0 else os.killpg)(abs(process), signal.SIGKILL)
"""


class _Guardian:
    """The process, started with the first command. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def tell(self, line: str) -> None:
        with self._lock:
            if self._process is None:
                atexit.register(self._end)
            if self._process is None or self._process.poll() is not None:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", _PROGRAM],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,  # a Ctrl-C in the terminal is not for it
                )
            stdin = cast(IO[bytes], self._process.stdin)
            with contextlib.suppress(OSError):  # something has killed it
                stdin.write(line.encode() + b"\n")
                stdin.flush()

    def _end(self) -> None:
        if self._process is not None:
            with contextlib.suppress(OSError):
                cast(IO[bytes], self._process.stdin).close()
            self._process.wait()


_GUARDIAN = _Guardian()


def watch(process: subprocess.Popen[bytes], group: bool = False) -> None:
    """Kill a process when this one ends before `release`; `group`: with its process group, which
    it leads.

    Raises OSError when the system has no room for the guardian; the process has been killed then.
    """
    try:
        _GUARDIAN.tell(f"+{'-' if group else ''}{process.pid}")
    except OSError:
        if group:
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.wait()
        raise


def release(process: subprocess.Popen[bytes], group: bool = False) -> None:
    """To be called as soon as the process has ended: its id may be given to another one."""
    _GUARDIAN.tell(f"-{'-' if group else ''}{process.pid}")


@contextlib.contextmanager
def guarded(process: subprocess.Popen[bytes], group: bool = False) -> Iterator[None]:
    """`watch` a process while the context lasts, at whose end it has ended."""
    watch(process, group)
    try:
        yield
    finally:
        release(process, group)
