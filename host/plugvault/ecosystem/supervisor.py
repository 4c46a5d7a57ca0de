"""Real processes that are started again when they end.

A process gets its orders as the first line of its stdin, PINs and all, and never on a command
line; it says "ready" on its stdout, and ends when its stdin does, so none is left behind
whatever happens to this one. What goes wrong it says on stderr, which is this process's own.
"""

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import IO, cast

_START = 60.0  # seconds a process may take to be ready
_STOP = 5.0  # seconds it may take to end when asked to
_STEADY = 10.0  # seconds a process lasts before its end counts as its first again


class ProcessError(Exception):
    """A process that did not start."""


class Supervised:
    """One process. It starts loading when this is made, and working with `start`."""

    def __init__(self, module: str, *arguments: str, pass_fds: Sequence[int] = ()) -> None:
        self._command = [sys.executable, "-m", module, *arguments]
        self._fds = tuple(pass_fds)
        self._orders = b""
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._process = self._spawn()

    def start(self, orders: bytes) -> None:
        """Give it its orders (one line) and wait until it is ready. Raises ProcessError."""
        self._orders = orders
        self._begin()
        self._thread = threading.Thread(target=self._supervise, daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask_to_end(self) -> None:
        self._closing.set()
        with contextlib.suppress(OSError):
            cast(IO[bytes], self._process.stdin).close()

    def close(self) -> None:
        """Ask it to end, and see to it that it does."""
        self.ask_to_end()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP)
        self._process.kill()
        if self._thread:
            self._thread.join(_START)
        self._end()

    def _spawn(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=self._fds,
            start_new_session=True,  # a Ctrl-C in the terminal is for the supervisor
        )

    def _begin(self) -> None:
        stdin, stdout = cast(IO[bytes], self._process.stdin), cast(IO[bytes], self._process.stdout)
        timer = threading.Timer(_START, self._process.kill)
        timer.start()
        word = b""
        # OSError: it ended before it read its orders. ValueError: it was asked to end before that.
        with contextlib.suppress(OSError, ValueError):
            stdin.write(self._orders + b"\n")
            stdin.flush()
            word = stdout.readline().strip()
        timer.cancel()
        if word != b"ready":
            raise ProcessError(f"ended with {self._end()} before it was ready")

    def _supervise(self) -> None:
        wait = 0.0
        while True:
            started = time.monotonic()
            self._process.wait()
            steady = time.monotonic() - started > _STEADY
            # At once the first time; slower and slower for one that keeps ending.
            wait = 0.0 if steady else min(5.0, 2 * wait + 0.05)
            while True:
                if self._closing.wait(wait):
                    return
                self._end()
                try:
                    self._process = self._spawn()
                    self._begin()
                    if self._closing.is_set():  # nobody asked this one to end
                        return
                    break
                except (ProcessError, OSError):  # OSError: no process to be had just now
                    wait = min(5.0, 2 * wait + 0.05)

    def _end(self) -> int:
        self._process.kill()
        code = self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()
        return code
