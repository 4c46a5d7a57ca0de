"""Child processes that are started again when they end.

A child reads its orders from its stdin, PINs and all, and never from a command line. It writes
"ready" to its stdout and ends when its stdin does, so no child outlives this process [`LifeLine`].
After "ready" its stdout tells of its failing loops, a line of JSON for each event. Its errors go
to stderr, which is this process's own; the end of a child is logged there too. An observer is told
of both.
"""

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO, NamedTuple, cast

from plugvault.failing import log_event

log = logging.getLogger("plugvault.processes")

PATIENCE = 120.0  # seconds a start waits for each step, and each answer, of a process of its own
GRACE = 10.0  # seconds after the end of its supervisor in which a child ends by itself
_STOP = 5.0  # seconds a child may take to end when it is asked to
_STEADY = 10.0  # seconds a child must last before its end counts as its first again


ENDED, AGAIN, NO_START = "ended", "again", "does not start"


class ProcessEvent(NamedTuple):
    """An event of a child. `name`: ENDED, AGAIN (it was started again), NO_START, or FAILING or
    WORKS of one of its loops; `pid`: of the child; `restarts`: the number of its starts after the
    first; `text`: the reason, or ""; `loop`: the name of the loop, or ""."""

    name: str
    pid: int
    restarts: int
    text: str
    loop: str = ""


class ProcessError(Exception):
    """A child that did not become ready. `code`: its exit code; `answer`: the line that it wrote
    instead of "ready"."""

    def __init__(self, code: int, answer: str = "") -> None:
        super().__init__(f"ended with {code} before it was ready")
        self.code = code
        self.answer = answer


class LifeLine:
    """In the child: ends this process after its supervisor, also when the process hangs.

    Made as soon as the orders are read. `ready(stop)` reports to the supervisor; `stop()` is
    called, in a thread, when stdin ends. A process that still runs `GRACE` seconds later is ended
    by force. `tell` reports an event of a loop: see `FailingLoops`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_cut = self._is_ready = False
        self._early: list[str] = []  # what is to be told after "ready"
        self._stop: Callable[[], None] = lambda: None
        threading.Thread(target=self._watch, name="life line", daemon=True).start()

    def ready(self, stop: Callable[[], None]) -> None:
        """Report to the supervisor that the child is ready. `stop()`: ends the child's work."""
        with self._lock:
            self._stop = stop
            if self._is_cut:
                stop()
            for line in ("ready", *self._early):
                self._write(line)
            self._is_ready = True

    def tell(self, name: str, loop: str, reason: str) -> None:
        """Log an event of a loop and report it to the supervisor."""
        log_event(name, loop, reason)
        line = json.dumps({"name": name, "loop": loop, "text": reason})
        with self._lock:
            if self._is_ready:
                self._write(line)
            else:
                self._early.append(line)

    def _write(self, line: str) -> None:
        with contextlib.suppress(OSError):  # the supervisor has ended, which ends stdin, too
            os.write(1, line.encode() + b"\n")

    def _watch(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while os.read(0, 1024):
                pass
        with self._lock:
            self._is_cut = True
            self._stop()
        time.sleep(GRACE)
        os._exit(1)


class Supervised:
    """One child, `python -m module arguments`. The constructor starts it, so that it loads its
    code meanwhile; `start` gives it its orders. `close()` when done.

    `observe(event)`: called for each event after the start, in a thread that serves the child, so
    it must not wait. `restarts`: the number of starts after the first.
    """

    start_timeout = PATIENCE  # seconds a child may take to become ready
    longest_delay = 5.0  # seconds between two starts, at most

    def __init__(
        self,
        module: str,
        *arguments: str,
        pass_fds: Sequence[int] = (),
        environment: Mapping[str, str] = os.environ,
        observe: Callable[[ProcessEvent], None] = lambda event: None,
    ) -> None:
        self.restarts = 0
        self._observe = observe
        self._name = module
        self._command = [sys.executable, "-m", module, *arguments]
        self._fds = tuple(pass_fds)
        self._environment = environment
        self._orders = b""
        self._delay = 0.0
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._process = self._spawn()

    def start(self, orders: bytes) -> None:
        """Give the child its orders and wait until it is ready. From then on it is started again
        when it ends.

        `orders`: one or more lines, without the end of the last. Raises ProcessError.
        """
        self._orders = orders
        self._begin()
        self._thread = threading.Thread(target=self._supervise, daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        """The process id of the present child."""
        return self._process.pid

    def ask_to_end(self) -> None:
        """Ask the child to end, without waiting for that."""
        self._closing.set()
        with contextlib.suppress(OSError):
            cast(IO[bytes], self._process.stdin).close()

    def close(self) -> None:
        """Ask the child to end, and kill it when it does not."""
        self.ask_to_end()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP)
        self._process.kill()
        if self._thread:
            self._thread.join(self.start_timeout)
        else:  # nothing reads it
            cast(IO[bytes], self._process.stdout).close()
        self._release()

    def _spawn(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=self._fds,
            start_new_session=True,  # a Ctrl-C in the terminal is for the supervisor
            env=self._environment,
        )

    def _begin(self) -> None:
        """Give the current child its orders. Raises ProcessError when it does not become ready."""
        stdin, stdout = cast(IO[bytes], self._process.stdin), cast(IO[bytes], self._process.stdout)
        timer = threading.Timer(self.start_timeout, self._process.kill)
        timer.start()
        answer = b""
        # OSError: it ended before it read its orders. ValueError: it was asked to end before that.
        with contextlib.suppress(OSError, ValueError):
            stdin.write(self._orders + b"\n")
            stdin.flush()
            answer = stdout.readline().strip()
        timer.cancel()
        if answer != b"ready":
            code = self._release()
            stdout.close()
            raise ProcessError(code, answer.decode(errors="replace"))
        threading.Thread(target=self._read, args=(stdout, self.pid), daemon=True).start()

    def _read(self, stdout: IO[bytes], pid: int) -> None:
        """Pass on what a child tells of its loops, until it ends."""
        with stdout:
            for line in stdout:
                try:
                    event = ProcessEvent(pid=pid, restarts=self.restarts, **json.loads(line))
                except (ValueError, TypeError):  # a library of the child has written it
                    log.warning("%s (%d): %s", self._name, pid, line.decode(errors="replace"))
                else:
                    self._tell(event)

    def _supervise(self) -> None:
        while True:
            started = time.monotonic()
            code = self._process.wait()
            if not self._closing.is_set():
                log.warning("%s (%d) %s", self._name, self.pid, _end(code))
                self._tell(self._event(ENDED, _end(code)))
            self._release()
            if time.monotonic() - started > _STEADY:
                self._delay = 0.0
            else:
                self._lengthen_delay()
            if not self._restart():
                return

    def _restart(self) -> bool:
        """Start the child again, after growing delays; False when it is to end instead."""
        error: Exception | None = None
        while not self._ends_within(self._delay, error):
            try:
                self._process = self._spawn()
                self._begin()
            except Exception as e:  # noqa: BLE001 - no room for a process or a thread, for one
                error = e
                self._lengthen_delay()
                if not self._closing.is_set():
                    log.warning("%s does not start: %s", self._name, e)
                    self._tell(self._event(NO_START, str(e)))
            else:
                self.restarts += 1
                log.warning("%s (%d) is there again", self._name, self.pid)
                self._tell(self._event(AGAIN))
                return not self._closing.is_set()  # `ask_to_end` may have missed this child
        return False

    def _event(self, name: str, text: str = "") -> ProcessEvent:
        return ProcessEvent(name, self.pid, self.restarts, text)

    def _tell(self, event: ProcessEvent) -> None:
        try:
            self._observe(event)
        except Exception:  # the child must be started again all the same
            log.exception("the observer of %s", self._name)

    def _ends_within(self, seconds: float, error: Exception | None) -> bool:
        """Wait before the next start; True as soon as the child is to end. `error`: of the last
        start."""
        return self._closing.wait(seconds)

    def _lengthen_delay(self) -> None:
        self._delay = min(self.longest_delay, 2 * self._delay + 0.05)

    def _release(self) -> int:
        """Kill the child and close its stdin. Its exit code."""
        self._process.kill()
        code = self._process.wait()
        with contextlib.suppress(OSError):
            cast(IO[bytes], self._process.stdin).close()
        return code


def _end(code: int) -> str:
    """The end of a process in words, by its exit code."""
    if code >= 0:
        return f"has ended with {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was ended by {name}"
