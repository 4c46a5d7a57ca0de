"""Writes of one turn of an event loop share a transaction: nobody is answered before it ends."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from plugvault.opcp.route import _here
from plugvault.patience import WouldWait, begins, comes, hurried, is_last
from plugvault.pools.errors import PoolError
from plugvault.pools.records import Client, Endpoint, Event, Root, Status
from plugvault.store import SqlStore, hurry, together, transaction

Work = Callable[[], Any]


@pytest.fixture
def store(
    store_url: str, open_store: Callable[[str], SqlStore], monkeypatch: pytest.MonkeyPatch
) -> SqlStore:
    # A server is as quick as the machine that tests it, which may be busy.
    for name, patience in (("SILENCE", 20_000), ("SLOW", 20.0)):
        monkeypatch.setattr(hurry, name, patience)
    monkeypatch.setattr(together, "LATE", 20.0)
    store = open_store(store_url)
    names(store)  # to connect is to wait
    return store


@pytest.fixture
def other(store: SqlStore, store_url: str, open_store: Callable[[str], SqlStore]) -> SqlStore:
    """Sees what is in the database."""
    return open_store(store_url)


@pytest.fixture(autouse=True)
def nobody_else() -> None:
    while not is_last():
        begins()


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
    begins()
    try:
        try:
            return await _here(store, work)
        except WouldWait:
            return await asyncio.get_running_loop().run_in_executor(None, work)
    except PoolError as error:
        return error.detail


def answers(store: SqlStore, *works: Work) -> list[Any]:
    async def all_at_once() -> list[Any]:
        return await asyncio.gather(*come(store, *works))

    return asyncio.run(all_at_once())


def come(store: SqlStore, *works: Work, more: int = 0) -> list[asyncio.Task[Any]]:
    """Requests of one turn. `more`: others who come to nothing: the turn is over all the same."""
    for _ in range(len(works) + more):
        comes()
    return [asyncio.create_task(answer(store, work)) for work in works]


def test_what_comes_together_is_written_together(
    store: SqlStore, other: SqlStore, begun: list[Any]
):
    assert answers(store, *(writer(store, name) for name in "abc")) == ["a", "b", "c"]
    assert names(other) == ["a", "b", "c"]
    assert len(begun) == 1


def test_nobody_is_answered_before_it_is_in_the_file(store: SqlStore, other: SqlStore):
    seen = []

    async def ask(asked: asyncio.Task[Any]) -> None:
        await asked
        seen.append(names(other))

    async def both() -> None:
        await asyncio.gather(*map(ask, come(store, writer(store, "a"), writer(store, "b"))))

    asyncio.run(both())
    assert seen == [["a", "b"]] * 2


def test_who_reads_in_the_same_turn_sees_what_he_is_answered_after(
    store: SqlStore, other: SqlStore
):
    assert answers(store, writer(store, "a"), lambda: names(store)) == ["a", ["a"]]
    assert names(other) == ["a"]


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
        works = writer(store, "a"), only_without_a, refused(store, after="c")
        gone, second, third = come(store, *works)
        await asyncio.sleep(0)
        gone.cancel()
        return await asyncio.gather(second, third)

    assert asyncio.run(turn()) == ["there is none", "No."]
    assert names(store) == (["b"] if himself else [])


class Ending:
    """A connection on which nothing can be committed."""

    def __init__(self, connection: Any, error: Exception) -> None:
        self._connection, self._error = connection, error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, text: str, *values: Any) -> Any:
        if text == "COMMIT":
            raise self._error
        return self._connection.execute(text, *values)


@pytest.fixture
def ending(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], None]:
    """Has what an event loop writes end with this error, the first time."""

    def fail(error: Exception) -> None:
        begin, errors = store._begin, [error]

        def begun(write: bool) -> Any:
            transaction, give_back = begin(write)
            if write and hurried() and errors:
                errors.clear()
                transaction.connection = Ending(transaction.connection, error)
            return transaction, give_back

        monkeypatch.setattr(store, "_begin", begun)

    return fail


def test_what_cannot_be_kept_is_done_again_by_each(
    store: SqlStore, begun: list[Any], ending: Callable[[Exception], None]
):
    ending(sqlite3.OperationalError("database or disk is full"))
    assert answers(store, writer(store, "a"), writer(store, "b")) == ["a", "b"]
    assert names(store) == ["a", "b"]
    assert len(begun) == 1


def test_what_nobody_knows_to_be_kept_is_not_done_again(
    store: SqlStore, ending: Callable[[Exception], None]
):
    ending(psycopg.OperationalError("the connection is lost"))
    assert answers(store, writer(store, "a"), writer(store, "b")) == [together.UNAVAILABLE] * 2
    assert names(store) == []


def teller(store: SqlStore, text: str, *, refuse: bool = False) -> Work:
    def tell() -> None:
        with store.write() as records:
            records.events.add(Event(text, "kind", 1, "who", text, "", "urn"))
            if refuse:
                raise PoolError("invalid", "No.")

    return tell


def told(store: SqlStore) -> list[str]:
    with store.read() as records:
        return [event.event_id for event in records.events.since(0, None, 9)]


def test_what_is_told_is_told_in_the_order_of_the_turn(store: SqlStore):
    assert answers(store, *(teller(store, name) for name in "cab")) == [None] * 3
    assert told(store) == ["c", "a", "b"]


def test_who_is_refused_has_told_nothing(store: SqlStore, begun: list[Any]):
    works = teller(store, "a"), teller(store, "bad", refuse=True), teller(store, "b")
    assert answers(store, *works) == [None, "No.", None]
    assert told(store) == ["a", "b"]
    assert len(begun) == 1


def test_what_no_database_can_keep_is_refused_to_who_brought_it(store: SqlStore):
    works = teller(store, "a"), teller(store, "\ud800"), teller(store, "b")
    assert answers(store, *works) == [None, "The request has text that is not Unicode.", None]
    assert sorted(told(store)) == ["a", "b"]


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
        tasks = come(store, putter("undone"), roots, more=1)
        await asyncio.sleep(0)  # both have had their say, and nothing is kept
        assert store._together
        next(iter(store._together.values())).end()
        for task in tasks:
            task.cancel()

    asyncio.run(turn())
    putter("kept")()  # which has the number that the other would have had
    assert roots() == ["kept"]


def test_what_is_changed_in_a_turn_is_changed_for_who_comes_after(store: SqlStore):
    def look() -> tuple[Any, ...]:
        with store.write() as records:
            heard = records.endpoints.listening("WMI")
            roots = records.roots.all()
            return len(heard), len(roots), records.statuses.revoked([("issuer", "1")])

    def change() -> None:
        with store.write() as records:
            records.endpoints.put(
                Endpoint("1", "who", "name", "OEM", "WMI", "https://example.com", "kind", 1)
            )
            records.roots.put(Root("1", "V2G", b"der", "ab", "urn"))
            records.statuses.put(Status("issuer", "1", "subject", 9, revoked=1, reason="gone"))

    found = answers(store, look, change, look)
    assert found == [(0, 0, False), None, (1, 1, True)]


@pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)
def test_what_another_process_changes_in_a_turn_is_changed_for_who_comes_after(
    store: SqlStore, other: SqlStore
):
    def look() -> tuple[Any, ...]:
        with store.write() as records:
            heard = records.endpoints.listening("WMI")
            return len(heard), records.statuses.revoked([("issuer", "1")])

    def change() -> None:
        with other.write() as records:
            records.endpoints.put(
                Endpoint("1", "who", "name", "OEM", "WMI", "https://example.com", "kind", 1)
            )
            records.statuses.put(Status("issuer", "1", "subject", 9, revoked=1, reason="gone"))

    def in_another_process() -> None:
        thread = threading.Thread(target=change)
        thread.start()
        thread.join()

    look()  # prepares its statements
    found = answers(store, look, in_another_process, look)
    assert found == [(0, False), None, (1, True)]


def test_who_comes_late_does_not_keep_the_first_waiting(
    store: SqlStore, begun: list[Any], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(together, "LATE", 0.0)
    assert answers(store, *(writer(store, name) for name in "abc")) == ["a", "b", "c"]
    assert names(store) == ["a", "b", "c"]
    assert len(begun) == 3


def test_who_wrote_twice_and_lost_the_first_writes_both_again(
    store: SqlStore, ending: Callable[[Exception], None], monkeypatch: pytest.MonkeyPatch
):
    """The second comes too late for the transaction of the first, which then fails."""
    monkeypatch.setattr(together, "LATE", 0.0)
    ending(sqlite3.OperationalError("database or disk is full"))

    def both() -> None:
        writer(store, "a")()
        writer(store, "b")()

    assert answers(store, both) == [None]
    assert names(store) == ["a", "b"]


def test_who_does_not_wait_for_his_answer_leaves_the_others_theirs(
    store: SqlStore, other: SqlStore
):
    async def one_goes_away() -> Any:
        first, second = come(store, writer(store, "a"), writer(store, "b"), more=1)
        await asyncio.sleep(0)
        first.cancel()
        return await second

    assert asyncio.run(one_goes_away()) == "b"
    assert names(other) == ["a", "b"]


def test_a_thread_writes_after_the_turn(store: SqlStore, other: SqlStore):
    async def both() -> None:
        (task,) = come(store, writer(store, "a"), more=1)
        await asyncio.sleep(0)
        assert names(other) == []
        await asyncio.gather(task, asyncio.to_thread(writer(store, "b")))

    asyncio.run(both())
    assert names(other) == ["a", "b"]


def test_who_is_alone_is_answered_at_once(store: SqlStore, other: SqlStore):
    async def alone() -> list[str]:
        (task,) = come(store, writer(store, "a"))
        await asyncio.sleep(0)
        assert task.done()
        return names(other)

    assert asyncio.run(alone()) == ["a"]


def test_turns_of_two_processes_that_lock_crosswise_both_come_to_an_end(
    postgresql_url: str, open_store: Callable[[str], SqlStore]
):
    """A loop waits hardly at all for another's lock; then each is done by himself, and no one of
    them has what the other waits for."""
    both = threading.Barrier(2)

    def locker(store: SqlStore, name: str, meet: bool) -> Work:
        def lock() -> str:
            with store.write() as records:
                records.lock(name)
                records.clients.put(Client(name, b"digest", "OEM", name))
                names = [one.client_id for one in records.clients.all()]
                if meet and hurried():
                    both.wait(20)  # each has the first lock, and goes on to the second
            assert name in names
            return name

        return lock

    def turn(order: str) -> list[Any]:
        store = open_store(postgresql_url)
        names(store)
        works = [locker(store, name, at == 0) for at, name in enumerate(order)]
        return answers(store, *works)

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(turn, ("xy", "yx"))) == [["x", "y"], ["y", "x"]]
    assert names(open_store(postgresql_url)) == ["x", "y"]


@pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)
def test_the_end_of_a_turn_waits_for_anothers_end(
    store: SqlStore, store_url: str, begun: list[Any], monkeypatch: pytest.MonkeyPatch
):
    """Longer than a question would, after which all would have to do their work again."""
    longer = transaction._PATIENTLY.replace("'100'", "'20000'")
    monkeypatch.setattr(transaction, "_PATIENTLY", longer)
    asked = []

    def tell(name: str) -> Work:
        def work() -> None:
            asked.append(name)
            teller(store, name)()

        return work

    with psycopg.connect(store_url, autocommit=True) as another:
        another.execute("SELECT pg_advisory_lock(7, 0)")
        later = threading.Timer(0.04, another.execute, ["SELECT pg_advisory_unlock(7, 0)"])
        later.start()
        answers(store, tell("a"), tell("b"))
        later.join()
    assert asked == told(store) == ["a", "b"]
    assert len(begun) == 1
