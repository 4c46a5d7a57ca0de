"""A thread that reads a role's events and continues at its position after any failure."""

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from plugvault.backoff import Backoff
from plugvault.roles.client import OpcpClient
from plugvault.roles.events import EventStream
from plugvault.roles.health import Health
from plugvault.roles.state_file import EventError, StateFile

log = logging.getLogger("plugvault.roles.follower")

STREAM, EVENTS = "stream", "events"  # names in `Health`: the connection, the events' processing
RETRY, LONGEST_RETRY = 1.0, 60.0  # seconds until an event that could not be processed comes again

Take = Callable[[Mapping[str, Any]], object]


class Follower:
    """A thread that processes the events of one role. `close()` when done.

    `take(event)` processes one event. An event with EventError is skipped; after any other error
    the event is processed again, and `health` has an event. `prepare()`: called before each
    connection.
    """

    def __init__(
        self,
        client: OpcpClient,
        state_file: StateFile,
        take: Take,
        health: Health | None = None,
        prepare: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._state_file = state_file
        self._take = take
        self._health = health or Health()
        self._prepare = prepare
        self._backoff = Backoff(RETRY, LONGEST_RETRY)
        self._stop = threading.Event()
        self._stream: EventStream | None = None
        self._thread = threading.Thread(target=self._follow, name="events", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop, after the current event."""
        self._stop.set()
        if self._stream is not None:
            self._stream.close()
        self._thread.join()

    def _follow(self) -> None:
        while not self._stop.is_set():
            try:
                self._prepare()
                self._read()
            except Exception as error:  # noqa: BLE001 - the next event must not be lost
                self._health.fails(STREAM, error)
            self._stop.wait(self._backoff.pause())

    def _read(self) -> None:
        """Process events until the stream is closed, or one fails."""
        since = self._state_file.position()
        with EventStream(self._client, since, self._connected) as stream:
            self._stream = stream
            if self._stop.is_set():  # `close` may have missed it
                return
            for position, event in stream:
                if self._stop.is_set() or not self._process(position, event):
                    return
                self._backoff.reset()

    def _connected(self, error: Exception | None) -> None:
        if error is None:
            self._health.works(STREAM)
        else:
            self._health.fails(STREAM, error)

    def _process(self, position: str, event: Mapping[str, Any]) -> bool:
        """Process one event. False when it must be processed again."""
        try:
            try:
                self._take(event)
            except EventError as error:
                log.warning("%s", error)
            self._state_file.set_position(position)
        except Exception as error:  # noqa: BLE001
            self._health.fails(EVENTS, error)
            return False
        self._health.works(EVENTS)
        return True
