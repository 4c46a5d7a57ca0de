"""A thread that reads a role's events and continues at its position after any failure."""

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from plugvault.roles.client import OpcpClient, OpcpError
from plugvault.roles.events import EventStream
from plugvault.roles.state_file import StateFile

log = logging.getLogger("plugvault.roles.follower")

RETRY = 1.0  # seconds until an event that could not be processed is tried again

Take = Callable[[Mapping[str, Any]], object]


class Follower:
    """`take(event)` processes one event. After OpcpError the event comes again; after ValueError
    it is skipped. `close()` when done."""

    def __init__(self, client: OpcpClient, state_file: StateFile, take: Take) -> None:
        self._client = client
        self._state_file = state_file
        self._take = take
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
            with EventStream(self._client, self._state_file.position()) as stream:
                self._stream = stream
                if self._stop.is_set():  # `close` may have missed it
                    return
                try:
                    for position, event in stream:
                        if self._stop.is_set():
                            return
                        self._process(event)
                        self._state_file.set_position(position)
                except OpcpError as error:
                    log.warning("events: %s", error)
            self._stop.wait(RETRY)

    def _process(self, event: Mapping[str, Any]) -> None:
        try:
            self._take(event)
        except ValueError as error:
            log.warning("%s", error)
