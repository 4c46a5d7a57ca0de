"""A write is answered after its commit, and a refused one leaves nothing behind."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from plugvault.pools.errors import PoolError
from plugvault.pools.records import Client, Endpoint, Event, Root, Status
from plugvault.store import SqlStore, sql
from plugvault.store.transaction import Transaction


@pytest.fixture
def other(store: SqlStore, store_url: str, open_store: Callable[[str], SqlStore]) -> SqlStore:
    """Another process's view of the same database."""
    return open_store(store_url)


def names(store: SqlStore) -> list[str]:
    with store.read() as records:
        return [client.client_id for client in records.clients.all()]


def write(store: SqlStore, name: str, refusal: Exception | None = None) -> None:
    with store.write() as records:
        records.clients.put(Client(name, b"digest", "OEM", name))
        records.events.add(Event(name, "kind", 1, "who", name, "", "urn"))
        if refusal:
            raise refusal


def events(store: SqlStore) -> list[str]:
    with store.read() as records:
        return [event.event_id for event in records.events.since(0, None, 99)]


def test_a_finished_write_is_visible_to_another_process(store: SqlStore, other: SqlStore):
    with store.write() as records:
        records.clients.put(Client("a", b"digest", "OEM", "a"))
        assert names(other) == []
    assert names(other) == ["a"]


def test_a_refused_write_undoes_its_own_changes_and_events_alone(store: SqlStore):
    write(store, "a")
    with pytest.raises(PoolError, match="No"):
        write(store, "refused", PoolError("invalid", "No."))
    write(store, "b")
    assert names(store) == ["a", "b"]
    assert events(store) == ["a", "b"]


def test_events_have_the_order_of_the_commits(store: SqlStore):
    for name in "cab":
        write(store, name)
    assert events(store) == ["c", "a", "b"]


def test_text_that_no_database_can_store_is_refused_alone(store: SqlStore):
    write(store, "a")
    with pytest.raises(PoolError, match="not Unicode"):
        write(store, "\ud800")
    write(store, "b")
    assert names(store) == ["a", "b"]


@pytest.mark.parametrize(
    "error",
    [
        sqlite3.OperationalError("database or disk is full"),
        psycopg.OperationalError("the connection is lost"),
    ],
    ids=["full disk", "lost connection"],
)
def test_a_failed_commit_is_refused_and_leaves_nothing(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    def fail(_: Transaction) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Transaction, "commit", fail)
        with pytest.raises(PoolError) as refused:
            write(store, "lost")
    assert (refused.value.reason, refused.value.detail) == ("unavailable", sql.UNAVAILABLE)
    write(store, "kept")
    assert names(store) == ["kept"]
    assert events(store) == ["kept"]


def test_a_root_of_a_refused_write_does_not_stay_in_the_cache(store: SqlStore):
    def put(name: str, refusal: Exception | None = None) -> None:
        with store.write() as records:
            records.roots.put(Root(name, "V2G", b"der", name, "urn"))
            assert [root.root_id for root in records.roots.all()] == [name]
            if refusal:
                raise refusal

    with pytest.raises(PoolError):
        put("undone", PoolError("invalid", "No."))
    put("kept")  # with the version that the other would have had
    with store.read() as records:
        assert [root.root_id for root in records.roots.all()] == ["kept"]


def test_a_write_sees_the_changes_of_the_write_before_it(store: SqlStore):
    def look() -> tuple[Any, ...]:
        with store.write() as records:
            listening = records.endpoints.listening("WMI")
            roots = records.roots.all()
            return len(listening), len(roots), records.statuses.revoked([("issuer", "1")])

    assert look() == (0, 0, False)
    with store.write() as records:
        records.endpoints.put(
            Endpoint("1", "who", "name", "OEM", "WMI", "https://example.com", "kind", 1)
        )
        records.roots.put(Root("1", "V2G", b"der", "ab", "urn"))
        records.statuses.put(Status("issuer", "1", "subject", 9, revoked=1, reason="gone"))
    assert look() == (1, 1, True)


def test_writers_of_two_processes_all_succeed(store: SqlStore, other: SqlStore):
    """Each locks the two names in the order it likes: a lock has one order for all."""

    def write_some(of: SqlStore, *locks: str) -> None:
        for number in range(10):
            with of.write() as records:
                records.lock(*locks)
                name = f"{locks[0]}{number}"
                records.clients.put(Client(name, b"digest", "OEM", name))
                records.events.add(Event(name, "kind", 1, "who", name, "", "urn"))

    threads = [
        threading.Thread(target=write_some, args=(store, "x", "y")),
        threading.Thread(target=write_some, args=(other, "y", "x")),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(names(store)) == 20
    assert sorted(events(store)) == sorted(names(store))


def test_a_closed_store_keeps_no_file_open(sqlite_url: str):
    store = SqlStore.open(sqlite_url)
    write(store, "a")
    store.close()
    assert store._engine.pool.checkedin() == 0  # type: ignore[attr-defined]
