"""The stream of an ecosystem's events: each at least once, in order, across restarts.

    with EventStream(client, since) as stream:
        for position, event in stream:
            ...                                    # then store position, to continue from there

[WHATWG HTML, 9.2, as far as an ecosystem uses it.]
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from plugvault import json_file
from plugvault.contexts import Closeable
from plugvault.roles.client import OpcpClient, OpcpError
from plugvault.roles.connections import Stream

SILENCE = 20.0  # seconds without data after which the stream is opened again
_WAITS = (0.2, 1.0, 5.0)  # seconds before each further attempt; the last one for all that follow


class EventStream(Closeable):
    """Events of one client. Iterate in one thread; `close()` from any thread ends the iteration.

    The iteration gives each event's position, and the event as a webhook has it. `since`: the
    position of the last processed event; "0" for the beginning, "" for the next event. A broken
    connection is opened again at the same position. `connected(error)`: called for each attempt to
    connect that failed, and with None for each that succeeded.

    Iterating raises OpcpError("refused") when the ecosystem refuses the client.
    """

    def __init__(
        self,
        client: OpcpClient,
        since: str = "",
        connected: Callable[[OpcpError | None], None] = lambda error: None,
    ) -> None:
        self._client = client
        self._since = since
        self._tell = connected
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._stream: Stream | None = None
        self._failures = 0

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        while not self._closed.is_set():
            try:
                yield from self._connected()
            except OpcpError as error:
                if self._closed.is_set():  # `close` has broken the connection
                    return
                # An expired token is replaced once; any other refusal is final.
                if 400 <= error.status < 500 and (error.status != 401 or self._failures):
                    raise
                self._failures += 1
                self._tell(error)
            self._closed.wait(_WAITS[min(self._failures, len(_WAITS) - 1)])

    def close(self) -> None:
        self._closed.set()
        with self._lock:
            if self._stream:
                self._stream.close()

    def _connected(self) -> Iterator[tuple[str, dict[str, Any]]]:
        headers = {"Last-Event-ID": self._since} if self._since else {}
        with self._client.stream("GET", "/v1/events", SILENCE, headers=headers) as stream:
            with self._lock:
                self._stream = stream
            self._tell(None)
            try:
                for fields in _blocks(stream):
                    if self._closed.is_set():
                        return
                    body = _body(fields["data"]) if "data" in fields else None
                    self._failures = 0
                    self._since = fields["id"]  # not before: a damaged event is to be sent again
                    if body is not None:
                        yield self._since, body
            finally:
                with self._lock:
                    self._stream = None


def _blocks(lines: Iterable[str]) -> Iterator[dict[str, str]]:
    """The fields of each complete message. The incomplete end of a broken connection is
    dropped."""
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
        body: dict[str, Any] = json_file.parse(data)
    except json_file.JsonError as error:
        raise OpcpError("answer", "an event that is not JSON") from error
    return body
