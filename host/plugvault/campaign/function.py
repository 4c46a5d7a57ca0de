"""`py:`, a function of Python in this process: request -> answer.

With a limit of time the function is called in a thread of its own, the same for all requests. A
function that does not return cannot be ended: its thread stays, and the next opening has another.
"""

import json
import queue
import threading
from collections.abc import Callable
from typing import Any

from plugvault.campaign import vocabulary
from plugvault.campaign.vocabulary import Json, ModuleError

Function = Callable[[Json], Json]
_End = tuple[Any, BaseException | None]  # the answer, or the exception


def answered(end: _End) -> Json:
    """The answer of a call. Raises ModuleError: "crash" for an exception, also for sys.exit;
    "answer" and "unable" as `vocabulary.parse`."""
    answer, error = end
    if error is not None:
        text = f"{type(error).__name__}: {error}"
        raise ModuleError("crash", vocabulary.clean(text)) from error
    try:
        line = json.dumps(answer).encode()
    except (TypeError, ValueError, RecursionError) as problem:
        raise ModuleError("answer", f"not JSON: {problem}") from problem
    return vocabulary.parse(line)


def end_of(function: Callable[[Json], Any], request: Json) -> _End:
    """The result or the exception of a call in this thread. A KeyboardInterrupt passes through."""
    try:
        return function(request), None
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the module may raise any
        return None, error


class Limited:
    """A function with a limit of `seconds` for each call. The calls run in one thread."""

    def __init__(self, function: Callable[[Json], Any], seconds: float) -> None:
        self._function, self._seconds = function, seconds
        self._requests: queue.SimpleQueue[Json | None] = queue.SimpleQueue()
        self._ends: queue.SimpleQueue[_End] = queue.SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()

    def call(self, request: Json) -> Json:
        """The answer of a call. Raises ModuleError: "timeout", and as `answered`."""
        return answered(self.end(request))

    def end(self, request: Json) -> _End:
        """The result or the exception of a call. Raises ModuleError("timeout")."""
        self._requests.put(request)
        try:
            return self._ends.get(timeout=self._seconds)
        except queue.Empty:
            raise ModuleError("timeout", f"no answer within {self._seconds:g} s") from None

    def close(self) -> None:
        self._requests.put(None)

    def _work(self) -> None:
        while (request := self._requests.get()) is not None:
            self._ends.put(end_of(self._function, request))
