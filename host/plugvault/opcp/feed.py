"""What happens, read from the store once for everybody in this process who listens.

Events that happened lately are kept in memory; who is further behind, because it has been away or
reads slowly, reads a page at a time from the store. So nobody's slowness costs memory, and no
number of listeners makes the store busier. Nothing is polled while nobody listens.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from plugvault.pools.errors import PoolError
from plugvault.pools.records import Event
from plugvault.pools.repositories import Store

log = logging.getLogger("plugvault.opcp")

EVERY = 0.2  # seconds between two looks into the store
PAGE = 200  # events read at once
RECENT = 1000  # events kept in memory


class Feed:
    """For one event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._recent: deque[Event] = deque(maxlen=RECENT)
        self._floor = 0  # every event later than this one, up to `known`, is in `recent`
        self._known = 0
        self.listeners: Counter[str] = Counter()  # by client
        self._news = asyncio.Event()
        self._starting = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def listening(self, client: str = "") -> AsyncIterator[int]:
        """While inside, the store is looked at. Gives the place of the last event so far."""
        self.listeners[client] += 1
        try:
            async with self._starting:
                if self._task is None or self._task.done():
                    self._known = self._floor = await run_in_threadpool(self._last)
                    self._recent.clear()
                    self._task = asyncio.create_task(self._look())
            yield self._known
        finally:
            self.listeners -= Counter({client: 1})  # which leaves no zeros behind
            if not self.listeners and self._task:
                self._task.cancel()
                self._task = None

    async def after(
        self, position: int, audiences: frozenset[str] | None, patience: float
    ) -> tuple[int, Sequence[Event]]:
        """The next events for these audiences (None: all) and the place to go on from; none after
        `patience` seconds in which nothing happened. For use inside `listening`.

        Raises PoolError("unavailable")."""
        if position < self._floor:
            known = self._known
            page = await run_in_threadpool(self._since, position, audiences)
            if len(page) < PAGE:
                return max(known, page[-1].sequence if page else 0), page
            return page[-1].sequence, page
        if position >= self._known:
            try:
                await asyncio.wait_for(self._news.wait(), patience)
            except TimeoutError:
                return position, ()
        if position < self._floor:  # so much at once that it is not all in memory
            return position, ()
        return max(self._known, position), [
            event
            for event in self._recent
            if event.sequence > position and (audiences is None or event.audience in audiences)
        ]

    async def _look(self) -> None:
        while True:
            found: Sequence[Event] = ()
            try:
                found = await run_in_threadpool(self._since, self._known, None)
            except PoolError as error:  # it will be back; until then nothing is known to happen
                log.warning("events: %s", error)
            if found:
                self._recent.extend(found)
                if len(self._recent) == RECENT:
                    self._floor = self._recent[0].sequence - 1
                self._known = found[-1].sequence
                news, self._news = self._news, asyncio.Event()
                news.set()
            if len(found) < PAGE:
                await asyncio.sleep(EVERY)

    def _last(self) -> int:
        with self._store.read() as records:
            return records.events.last()

    def _since(self, position: int, audiences: frozenset[str] | None) -> Sequence[Event]:
        with self._store.read() as records:
            wanted = None if audiences is None else sorted(audiences)
            return records.events.since(position, wanted, PAGE)


async def feed(request: Request) -> Feed:
    """The feed of the running application (a FastAPI dependency)."""
    state = request.app.state
    if not hasattr(state, "feed"):
        state.feed = Feed(state.services.store)
    found: Feed = state.feed
    return found
