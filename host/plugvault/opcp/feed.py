"""Events, read from the store once for all listeners of this process.

The latest events stay in memory. A listener that is further behind, after an absence or because it
reads slowly, reads a page at a time from the store. So a slow listener costs no memory, and more
listeners do not make the store busier. Without a listener the store is not polled.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from plugvault.backoff import Backoff
from plugvault.failing import FailingLoops
from plugvault.pools.records import Event
from plugvault.pools.repositories import Store

EVERY = 0.2  # seconds between two polls of the store
LONGEST_PAUSE = 5.0  # seconds until the next poll after failures
PAGE = 200  # events read at once
RECENT = 1000  # events kept in memory
_LOOP = "events"  # its name among the failing loops


class Feed:
    """The events of one store, for all listeners of one event loop. `streams`: the number of open
    streams of each client_id; `failing`: is told when the store is away."""

    def __init__(self, store: Store, failing: FailingLoops | None = None) -> None:
        self._store = store
        self._failing = failing or FailingLoops()
        self._recent: deque[Event] = deque(maxlen=RECENT)
        self._floor = 0  # every event later than this one, up to `known`, is in `recent`
        self._known = 0
        self.streams: Counter[str] = Counter()
        self._listeners = 0
        self._news = asyncio.Event()
        self._starting = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        """Poll the store every `EVERY` seconds while this context is open. It gives the sequence
        of the latest event.

        Raises PoolError("unavailable") when the database does not answer.
        """
        self._listeners += 1
        try:
            async with self._starting:
                if self._task is None or self._task.done():
                    self._known = self._floor = await run_in_threadpool(self._last)
                    self._recent.clear()
                    self._task = asyncio.create_task(self._poll())
            yield self._known
        finally:
            self._listeners -= 1
            if not self._listeners and self._task:
                self._task.cancel()
                self._task = None

    async def after(
        self, position: int, audiences: frozenset[str] | None, seconds: float
    ) -> tuple[int, Sequence[Event]]:
        """The next events after `position` for these audiences (None: all), and the position to
        continue from.

        It returns no events when `seconds` pass without a new event. To be called inside
        `listening`. Raises PoolError("unavailable").
        """
        if position < self._floor:
            known = self._known
            page = await run_in_threadpool(self._since, position, audiences)
            if len(page) < PAGE:
                return max(known, page[-1].sequence if page else 0), page
            return page[-1].sequence, page
        if position >= self._known:
            try:
                await asyncio.wait_for(self._news.wait(), seconds)
            except TimeoutError:
                return position, ()
        if position < self._floor:  # more new events than fit into memory
            return position, ()
        return max(self._known, position), [
            event
            for event in self._recent
            if event.sequence > position and (audiences is None or event.audience in audiences)
        ]

    async def _poll(self) -> None:
        backoff = Backoff(EVERY, LONGEST_PAUSE)
        while True:
            try:
                events = await run_in_threadpool(self._since, self._known, None)
            except Exception as error:  # noqa: BLE001 - without the poll, every open stream would stay silent
                self._failing.fails(_LOOP, error)
                await asyncio.sleep(backoff.pause())
                continue
            self._failing.works(_LOOP)
            backoff.reset()
            if events:
                self._recent.extend(events)
                if len(self._recent) == RECENT:
                    self._floor = self._recent[0].sequence - 1
                self._known = events[-1].sequence
                news, self._news = self._news, asyncio.Event()
                news.set()
            if len(events) < PAGE:
                await asyncio.sleep(EVERY)

    def _last(self) -> int:
        with self._store.read() as records:
            return records.events.last()

    def _since(self, position: int, audiences: frozenset[str] | None) -> Sequence[Event]:
        with self._store.read() as records:
            names = None if audiences is None else sorted(audiences)
            return records.events.since(position, names, PAGE)


async def feed(request: Request) -> Feed:
    """The feed of the running application (a FastAPI dependency)."""
    state = request.app.state
    if not hasattr(state, "feed"):
        state.feed = Feed(state.services.store, state.services.failing)
    running: Feed = state.feed
    return running
