"""A thread that follows a role's events and goes on where it was, whatever breaks."""

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from plugvault.roles.client import OpcpClient, OpcpError
from plugvault.roles.events import EventStream
from plugvault.roles.state_file import StateFile

log = logging.getLogger("plugvault.roles.follower")

RETRY = 1.0  # seconds until an event that could not be dealt with is tried again

Take = Callable[[Mapping[str, Any]], object]


class Follower:
    """`take(event)` deals with one event; what raises OpcpError comes again, what raises
    ValueError is no event. `close()` when done."""

    def __init__(self, client: OpcpClient, state_file: StateFile, take: Take) -> None:
        self._client = client
        self._state_file = state_file
        self._take = take
        self._stop = threading.Event()
        self._stream: EventStream | None = None
        self._thread = threading.Thread(target=self._follow, name="events", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """The event in hand is dealt with first."""
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
                    for place, event in stream:
                        if self._stop.is_set():
                            return
                        self._deal_with(event)
                        self._state_file.set_position(place)
                except OpcpError as error:
                    log.warning("events: %s", error)
            self._stop.wait(RETRY)

    def _deal_with(self, event: Mapping[str, Any]) -> None:
        try:
            self._take(event)
        except ValueError as error:
            log.warning("%s", error)
