"""The feed behind the streams of events: everything in order, at one reader's cost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import HTTPException, Request
from fastapi.responses import StreamingResponse
from starlette.types import Message

from plugvault.opcp import feed, stream
from plugvault.opcp.feed import Feed
from plugvault.pools import events
from plugvault.pools.caller import OEM, Caller
from plugvault.pools.records import Event
from plugvault.pools.repositories import Store
from plugvault.store import SqlStore

MINE, OTHER = "PVT", "XXX"
WAIT_TIMEOUT = 20.0


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "EVERY", 0.01)


def tell(store: Store, audience: str = MINE, count: int = 1) -> None:
    for number in range(count):
        with store.write() as records:
            payload = {"emaid": f"DEPVTC{number:08}", "pcid": f"{audience}P0000000000001"}
            events.publish(records, "oem.contract.created", audience, payload, 1.0)


class Counting(Feed):
    """Counts what it asks the store."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.pages: list[int] = []

    def _since(self, position: int, audiences: frozenset[str] | None) -> Sequence[Event]:
        if audiences is not None:
            self.pages.append(position)
        return super()._since(position, audiences)


async def collect(
    source: Feed, count: int, audiences: frozenset[str] | None, start: int | None = None
) -> list[Event]:
    events_: list[Event] = []
    async with source.listening() as last:
        position = last if start is None else start
        while len(events_) < count:
            position, page = await source.after(position, audiences, WAIT_TIMEOUT)
            events_ += page
    return events_


def test_every_listener_gets_its_own_events_and_none_asks_the_store(store: Store):
    source = Counting(store)

    async def run() -> list[list[Event]]:
        async with source.listening():  # so that all begin at the same place
            listeners = [
                asyncio.create_task(collect(source, 20, frozenset({listener, "*"})))
                for listener in (MINE, OTHER) * 10
            ]
            await asyncio.sleep(0)
            for _ in range(10):
                for audience in (MINE, OTHER, "*"):
                    await asyncio.to_thread(tell, store, audience)
            return await asyncio.gather(*listeners)

    for number, received in enumerate(asyncio.run(run())):
        mine = (MINE, OTHER)[number % 2]
        assert [event.audience for event in received] == [mine, "*"] * 10 or number % 2
        assert {event.audience for event in received} == {mine, "*"}
        places = [event.sequence for event in received]
        assert places == sorted(set(places))
    assert source.pages == []


def test_each_process_gives_the_events_of_every_process(
    store_url: str, open_store: Callable[[str], SqlStore]
):
    stores = [open_store(store_url) for _ in range(2)]
    sources = [Feed(store) for store in stores]

    async def run() -> list[list[Event]]:
        async with sources[0].listening(), sources[1].listening():
            listeners = [asyncio.create_task(collect(source, 10, None, 0)) for source in sources]
            for number in range(10):
                await asyncio.to_thread(tell, stores[number % 2])
            return await asyncio.gather(*listeners)

    first, second = asyncio.run(run())
    assert first == second
    assert len({event.event_id for event in first}) == 10


def test_a_returning_listener_reads_the_events_it_missed(store: Store):
    tell(store, MINE, 5)
    tell(store, OTHER, 5)
    tell(store, MINE, 5)
    source = Feed(store)
    missed = asyncio.run(collect(source, 10, frozenset({MINE}), 0))
    assert [event.audience for event in missed] == [MINE] * 10
    later = asyncio.run(collect(source, 7, frozenset({MINE}), missed[2].sequence))
    assert later == missed[3:]


def test_a_slow_listener_misses_nothing_and_memory_stays_bounded(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(feed, "RECENT", 8)
    monkeypatch.setattr(feed, "PAGE", 5)
    source = Counting(store)

    async def run() -> list[Event]:
        async with source.listening() as last:
            await asyncio.to_thread(tell, store, MINE, 60)
            deadline = asyncio.get_running_loop().time() + WAIT_TIMEOUT
            while source._known < last + 60:
                assert asyncio.get_running_loop().time() < deadline
                await asyncio.sleep(0.01)
            assert len(source._recent) == 8
            received: list[Event] = []
            position = last
            while len(received) < 60:
                position, page = await source.after(position, None, WAIT_TIMEOUT)
                assert len(page) <= 8
                received += page
            return received

    received = asyncio.run(run())
    assert [event.sequence for event in received] == sorted({event.sequence for event in received})


def test_a_burst_larger_than_memory_reaches_a_waiting_listener(
    sqlite_store: SqlStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(feed, "RECENT", 8)
    source = Feed(sqlite_store)

    def tell_at_once() -> None:
        with sqlite_store.write() as records:
            for _ in range(30):
                events.publish(records, "root.cert.added", events.EVERYONE, {}, 1.0)

    async def run() -> list[Event]:
        async with source.listening() as last:
            waiting = asyncio.create_task(collect(source, 30, None, last))
            await asyncio.sleep(0.05)
            await asyncio.to_thread(tell_at_once)
            return await asyncio.wait_for(waiting, WAIT_TIMEOUT)

    assert [event.sequence for event in asyncio.run(run())] == list(range(1, 31))


class Failing(Feed):
    """Fails at its first `errors` polls, and counts all of them."""

    def __init__(self, store: Store, errors: float) -> None:
        super().__init__(store)
        self.errors, self.polls = errors, 0

    def _since(self, position: int, audiences: frozenset[str] | None) -> Sequence[Event]:
        self.polls += 1
        if self.polls <= self.errors:
            raise RuntimeError("can't start new thread")
        return super()._since(position, audiences)


def test_an_error_of_any_kind_does_not_silence_the_open_streams(sqlite_store: SqlStore):
    source = Failing(sqlite_store, 1)

    async def run() -> list[Event]:
        async with source.listening() as last:
            waiting = asyncio.create_task(collect(source, 1, None, last))
            await asyncio.to_thread(tell, sqlite_store)
            return await asyncio.wait_for(waiting, WAIT_TIMEOUT)

    assert len(asyncio.run(run())) == 1


def test_the_poll_of_a_store_that_fails_pauses_longer_each_time(sqlite_store: SqlStore):
    source = Failing(sqlite_store, float("inf"))

    async def run() -> None:
        async with source.listening():
            await asyncio.sleep(0.3)

    asyncio.run(run())
    assert list(source._failing.reasons) == ["events"]
    assert 2 <= source.polls <= 6  # after 0.01, 0.02, 0.04, 0.08 and 0.16 seconds


def test_silence_ends_at_the_timeout_and_keeps_the_position(sqlite_store: Store):
    async def run() -> tuple[int, Sequence[Event], int]:
        source = Feed(sqlite_store)
        async with source.listening() as last:
            place, page = await source.after(last, None, 0.05)
            return last, page, place

    last, page, place = asyncio.run(run())
    assert (place, list(page)) == (last, [])


def test_the_store_is_not_polled_without_a_listener(sqlite_store: Store):
    async def run() -> None:
        source = Feed(sqlite_store)
        async with source.listening(), source.listening():
            assert source._task
        assert source._task is None
        tell(sqlite_store)
        async with source.listening() as last:  # starts anew, where the store is now
            assert last == 1

    asyncio.run(run())


def test_streams_that_are_opened_at_once_all_count(
    sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
):
    """None of them has sent anything when the next is opened."""
    monkeypatch.setattr(stream, "MOST", 2)
    source, caller = Feed(sqlite_store), Caller("maker", frozenset({OEM}), client_id="m")
    request = Request({"type": "http", "headers": []})
    services: Any = SimpleNamespace(tokens=None)

    async def opens(caller: Caller) -> StreamingResponse:
        return await stream.follow(request, caller, services, source)

    async def hangs_up() -> Message:
        return {"type": "http.disconnect"}

    async def send(_: Message) -> None:
        pass

    async def run() -> None:
        opened = [await opens(caller) for _ in range(2)]
        with pytest.raises(HTTPException, match="429"):
            await opens(caller)
        opened.append(await opens(replace(caller, client_id="other")))
        for response in opened:
            await response({"type": "http"}, hangs_up, send)
        assert not source.streams

    asyncio.run(run())


def test_a_store_that_is_away_for_a_while_costs_nothing(sqlite_store: Store):
    source = Feed(sqlite_store)
    real, failing = source._since, [3]

    def sometimes(position: int, audiences: frozenset[str] | None) -> Sequence[Event]:
        if failing[0]:
            failing[0] -= 1
            raise feed.PoolError("unavailable", "for a while")
        return real(position, audiences)

    source._since = sometimes  # type: ignore[method-assign]

    async def run() -> list[Event]:
        async with source.listening() as last:
            await asyncio.to_thread(tell, sqlite_store)
            return await collect(source, 1, None, last)

    assert len(asyncio.run(run())) == 1
    assert failing == [0]
