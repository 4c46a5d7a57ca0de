"""Writes of one turn of an event loop share a transaction: nobody is answered before it ends."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from plugvault.opcp.route import _here
from plugvault.patience import WouldWait
from plugvault.pools.errors import PoolError
from plugvault.pools.records import Client, Root
from plugvault.store import SqlStore, together

Work = Callable[[], Any]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "ecosystem.sqlite"


@pytest.fixture
def store(file: Path) -> Iterator[SqlStore]:
    store = SqlStore.sqlite(file)
    yield store
    store.close()


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The shared transactions."""
    made: list[Any] = []
    begin = together.Together.__init__

    def count(self: Any, *given: Any) -> None:
        made.append(self)
        begin(self, *given)

    monkeypatch.setattr(together.Together, "__init__", count)
    return made


def in_file(file: Path) -> list[str]:
    with closing(sqlite3.connect(file)) as other:
        return [name for (name,) in other.execute("SELECT client_id FROM clients ORDER BY 1")]


def names(store: SqlStore) -> list[str]:
    with store.read() as records:
        return [one.client_id for one in records.clients.all()]


def writer(store: SqlStore, name: str) -> Work:
    def write() -> str:
        with store.write() as records:
            records.clients.put(Client(name, b"digest", "OEM", name))
        return name

    return write


def refused(store: SqlStore, after: str | None = None) -> Work:
    def refuse() -> None:
        with store.write() as records:
            if after:
                records.clients.put(Client(after, b"digest", "OEM", after))
            raise PoolError("invalid", "No.")

    return refuse


async def answer(store: SqlStore, work: Work) -> Any:
    """What a request is answered: as `_Short.go`, with its refusal as a result."""
    try:
        try:
            return await _here(store, work)
        except WouldWait:
            return await asyncio.get_running_loop().run_in_executor(None, work)
    except PoolError as error:
        return error.detail


def answers(store: SqlStore, *works: Work) -> list[Any]:
    async def all_at_once() -> list[Any]:
        return await asyncio.gather(*(answer(store, work) for work in works))

    return asyncio.run(all_at_once())


def test_what_comes_together_is_written_together(store: SqlStore, file: Path, begun: list[Any]):
    assert answers(store, *(writer(store, name) for name in "abc")) == ["a", "b", "c"]
    assert in_file(file) == ["a", "b", "c"]
    assert len(begun) == 1


def test_nobody_is_answered_before_it_is_in_the_file(store: SqlStore, file: Path):
    seen = []

    async def ask(name: str) -> None:
        await answer(store, writer(store, name))
        seen.append(in_file(file))

    async def both() -> None:
        await asyncio.gather(ask("a"), ask("b"))

    asyncio.run(both())
    assert seen == [["a", "b"]] * 2


def test_who_reads_in_the_same_turn_sees_what_he_is_answered_after(store: SqlStore, file: Path):
    assert answers(store, writer(store, "a"), lambda: names(store)) == ["a", ["a"]]
    assert in_file(file) == ["a"]


def test_who_is_refused_before_he_wrote_is_nobody_elses_affair(store: SqlStore, begun: list[Any]):
    works = writer(store, "a"), refused(store), writer(store, "b")
    assert answers(store, *works) == ["a", "No.", "b"]
    assert names(store) == ["a", "b"]
    assert len(begun) == 1


def test_who_fails_after_he_wrote_undoes_only_his_own(store: SqlStore):
    works = writer(store, "a"), refused(store, after="bad"), writer(store, "b")
    assert answers(store, *works) == ["a", "No.", "b"]
    assert names(store) == ["a", "b"]


@pytest.mark.parametrize("himself", [False, True])
def test_a_refusal_for_what_is_undone_is_thought_over(store: SqlStore, himself: bool):
    """Undone because another failed after he wrote, or because he did `himself`."""

    def only_without_a() -> str:
        with store.write() as records:
            if himself:
                records.clients.put(Client("b", b"digest", "OEM", "b"))
            if records.clients.get("a"):
                raise PoolError("invalid", "There is an a.")
        return "there is none"

    async def turn() -> Any:
        loop = asyncio.get_running_loop()
        gone, second, third = [
            loop.create_task(answer(store, work))
            for work in (writer(store, "a"), only_without_a, refused(store, after="c"))
        ]
        await asyncio.sleep(0)
        gone.cancel()
        return await asyncio.gather(second, third)

    assert asyncio.run(turn()) == ["there is none", "No."]
    assert names(store) == (["b"] if himself else [])


class Full:
    """A connection on which nothing can be committed."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, text: str, *values: Any) -> Any:
        if text == "COMMIT":
            raise sqlite3.OperationalError("database or disk is full")
        return self._connection.execute(text, *values)


def test_what_cannot_be_kept_is_done_again_by_each(
    store: SqlStore, begun: list[Any], monkeypatch: pytest.MonkeyPatch
):
    begin = store._begin

    def full(write: bool) -> Any:
        transaction, give_back = begin(write)
        if write and threading.current_thread() is threading.main_thread():
            transaction.connection = Full(transaction.connection)
        return transaction, give_back

    monkeypatch.setattr(store, "_begin", full)
    assert answers(store, writer(store, "a"), writer(store, "b")) == ["a", "b"]
    assert names(store) == ["a", "b"]
    assert len(begun) == 1


def test_what_was_read_and_then_undone_is_forgotten(store: SqlStore):
    def putter(name: str) -> Work:
        def put() -> None:
            with store.write() as records:
                records.roots.put(Root(name, "V2G", b"der", name, "urn"))

        return put

    def roots() -> list[str]:
        with store.read() as records:
            return [one.root_id for one in records.roots.all()]

    async def turn() -> None:
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(answer(store, work)) for work in (putter("undone"), roots)]
        await asyncio.sleep(0)  # both have had their say, and nothing is kept
        assert store._together
        store._together.end()
        for task in tasks:
            task.cancel()

    asyncio.run(turn())
    putter("kept")()  # which has the number that the other would have had
    assert roots() == ["kept"]


def test_who_comes_late_does_not_keep_the_first_waiting(
    store: SqlStore, begun: list[Any], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(together, "LATE", 0.0)
    assert answers(store, *(writer(store, name) for name in "abc")) == ["a", "b", "c"]
    assert names(store) == ["a", "b", "c"]
    assert len(begun) == 3


def test_who_does_not_wait_for_his_answer_leaves_the_others_theirs(store: SqlStore, file: Path):
    async def one_goes_away() -> Any:
        loop = asyncio.get_running_loop()
        first, second = [
            loop.create_task(answer(store, writer(store, name))) for name in ("a", "b")
        ]
        await asyncio.sleep(0)
        first.cancel()
        return await second

    assert asyncio.run(one_goes_away()) == "b"
    assert in_file(file) == ["a", "b"]


def test_a_thread_writes_after_the_turn(store: SqlStore, file: Path):
    async def both() -> None:
        task = asyncio.create_task(answer(store, writer(store, "a")))
        await asyncio.sleep(0)
        assert in_file(file) == []
        await asyncio.gather(task, asyncio.to_thread(writer(store, "b")))

    asyncio.run(both())
    assert in_file(file) == ["a", "b"]
