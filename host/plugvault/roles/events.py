"""Follow an ecosystem's events on its stream: each at least once, in order, across restarts.

    with EventStream(client, since) as stream:
        for place, event in stream:
            ...                                    # then keep place, to go on from

[WHATWG HTML, 9.2, as far as an ecosystem uses it.]
"""

import contextlib
import json
import socket
import threading
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Self

from plugvault.roles.client import OpcpClient, OpcpError

SILENCE = 20.0  # seconds without a sign of life after which the stream is opened anew
_WAITS = (0.2, 1.0, 5.0)  # seconds before each further attempt; the last one for all that follow


class EventStream:
    """Iterate over it in one thread; `close()` from any ends that.

    Gives the place of each event and the event as a webhook has it. `since`: the place of the
    last one dealt with; "0" is the beginning, "" what happens next. A connection that breaks is
    made again and goes on where it was.
    Iterating raises OpcpError("refused") when the ecosystem does not let the client in.
    """

    def __init__(self, client: OpcpClient, since: str = "") -> None:
        self._client = client
        self._since = since
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._failures = 0

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        while not self._closed.is_set():
            try:
                yield from self._connected()
            except OpcpError as error:
                # A token that is no longer good is replaced once; another refusal is final.
                if 400 <= error.status < 500 and (error.status != 401 or self._failures):
                    raise
                self._failures += 1
            self._closed.wait(_WAITS[min(self._failures, len(_WAITS) - 1)])

    def close(self) -> None:
        self._closed.set()
        with self._lock:
            if self._socket:
                with contextlib.suppress(OSError):  # it may have ended by itself
                    self._socket.shutdown(socket.SHUT_RDWR)  # wakes whoever waits for a line

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _connected(self) -> Iterator[tuple[str, dict[str, Any]]]:
        headers = {"Last-Event-ID": self._since} if self._since else {}
        with self._client.stream("GET", "/v1/events", SILENCE, headers=headers) as answer:
            with self._lock:
                self._socket = answer.extensions["network_stream"].get_extra_info("socket")
            try:
                for fields in _blocks(answer.iter_lines()):
                    if self._closed.is_set():
                        return
                    self._failures = 0
                    self._since = fields["id"]
                    if "data" in fields:
                        yield self._since, _body(fields["data"])
            finally:
                with self._lock:
                    self._socket = None


def _blocks(lines: Iterable[str]) -> Iterator[dict[str, str]]:
    """Each whole message's fields; what a broken connection leaves unfinished is none."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        else:
            if "id" in fields:
                yield fields
            fields = {}


def _body(data: str) -> dict[str, Any]:
    try:
        body: dict[str, Any] = json.loads(data)
    except ValueError as error:
        raise OpcpError("answer", "an event that is not JSON") from error
    return body
