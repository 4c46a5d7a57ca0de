"""An adapter for everything that carries lines: a command, a TCP connection, a serial port."""

import contextlib
import json
import queue
import threading
from collections.abc import Callable
from typing import BinaryIO

from plugvault.campaign import vocabulary
from plugvault.campaign.function import Limited
from plugvault.campaign.vocabulary import Answer, Begin, Hello, Json, ModuleError

_END_SECONDS = 5.0
_MOST_LATE = 100  # lines that a serial port may have before the answer to hello
_WAITING = _MOST_LATE + 1  # lines that are kept until they are read; further ones are dropped


class LinesModule:
    """A module behind two byte streams.

    receive, send: the streams of its answers and of its requests, closed with the module.
    explain(): the reason why the stream has ended, as text. end(): ends a read of `receive` that
    waits. seconds: for one answer. is_kept: the stream is the same after a new opening, so that
    answers to earlier requests may come.

    An answer has no number. So no request follows one without an answer in time, and on a kept
    stream everything before the answer to hello is dropped. Each call raises ModuleError.
    """

    def __init__(
        self,
        receive: BinaryIO,
        send: BinaryIO,
        explain: Callable[[], str],
        end: Callable[[], object],
        seconds: float,
        is_kept: bool = False,
    ) -> None:
        self._is_kept, self._is_late = is_kept, False
        self._streams = (receive, send)
        self._send, self._explain, self._end, self._seconds = send, explain, end, seconds
        self._writing = Limited(self._write, seconds)
        self._lines: queue.Queue[bytes] = queue.Queue()
        self._hello: Hello | None = None
        self._reader = threading.Thread(target=self._read, args=(receive,), daemon=True)
        self._reader.start()

    def hello(self) -> Hello:
        """The module's description. A second call returns the first answer."""
        if self._hello is None:
            self._request(vocabulary.hello_request())
            self._hello = vocabulary.hello_of(self._greeting(_MOST_LATE if self._is_kept else 0))
        return self._hello

    def begin(self, begin: Begin) -> None:
        """Send the state for the next message."""
        self._ask(vocabulary.begin_request(begin))

    def install(self, message: bytes) -> Answer:
        """The module's answer to a message, EXI."""
        return vocabulary.answer_of(self._ask(vocabulary.install_request(message)))

    def sign(self, emaid: str, digest: bytes) -> bytes:
        """A signature by the key of a contract: r | s, 64 bytes."""
        return vocabulary.signature_of(self._ask(vocabulary.sign_request(emaid, digest)))

    def state(self) -> str:
        """A text that is the same for the same state of the module."""
        return vocabulary.state_of(self._ask(vocabulary.state_request()))

    def close(self) -> None:
        self._end()
        self._writing.close()
        self._reader.join(_END_SECONDS)
        if self._reader.is_alive():
            return  # a stream must not be closed under a read
        for stream in self._streams:
            with contextlib.suppress(OSError):
                stream.close()

    def _greeting(self, most_late: int) -> Json:
        """The answer to hello, after at most `most_late` lines that are no such answer."""
        for _ in range(most_late):
            try:
                answer = self._next()
            except ModuleError as error:
                if error.reason != "answer":
                    raise
                continue
            if "v" in answer:
                return answer
        return self._next()

    def _ask(self, request: Json) -> Json:
        self._request(request)
        return self._next()

    def _request(self, request: Json) -> None:
        if self._is_late:
            raise ModuleError("crash", "an earlier request had no answer in time")
        self._forget_unasked()
        try:
            _, error = self._writing.end(request)
        except ModuleError:  # it does not read
            self._is_late = True
            raise
        if error is not None:
            raise ModuleError("crash", self._explain() or str(error)) from error

    def _write(self, request: Json) -> None:
        self._send.write(json.dumps(request).encode() + b"\n")
        self._send.flush()

    def _next(self) -> Json:
        """The next answer. Raises ModuleError."""
        try:
            line = self._lines.get(timeout=self._seconds)
        except queue.Empty:
            self._is_late = True
            raise ModuleError("timeout", f"no answer within {self._seconds:g} s") from None
        if not line.endswith(b"\n"):
            self._lines.put(b"")  # it stays ended
            raise ModuleError("crash", self._explain() or "the connection has ended")
        return vocabulary.parse(line)

    def _forget_unasked(self) -> None:
        """Drop the lines that wait, so that they do not stand for later answers; not those that
        come meanwhile, for a module may write without a pause."""
        for _ in range(self._lines.qsize()):
            line = self._lines.get()
            if not line.endswith(b"\n"):
                self._lines.put(line)  # it stays ended
                return

    def _read(self, receive: BinaryIO) -> None:
        """Take the answers; a line without its end is the end of the stream, or too long."""
        line = b"\n"
        while line.endswith(b"\n"):
            try:
                line = receive.readline(vocabulary.MAX_LINE)
            except (OSError, ValueError):
                line = b""
            if self._lines.qsize() < _WAITING or not line.endswith(b"\n"):
                self._lines.put(line)
