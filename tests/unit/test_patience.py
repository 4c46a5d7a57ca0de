"""Work on the event loop never waits: it is ended before it would, with nothing done."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from plugvault.net import Outbound
from plugvault.patience import WouldWait, at_once, hurried, wait
from plugvault.pools.records import Client
from plugvault.store import SqlStore


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "ecosystem.sqlite"


@pytest.fixture
def here(file: Path) -> Iterator[SqlStore]:
    store = SqlStore.sqlite(file)
    yield store
    store.close()


@contextmanager
def another_process_writes(file: Path) -> Iterator[None]:
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def client(name: str) -> Client:
    return Client(name, b"digest", "OEM", name)


def write(store: SqlStore, name: str) -> None:
    with store.write() as records:
        records.clients.put(client(name))


def fail(store: SqlStore) -> None:
    with store.write() as records:
        records.clients.put(client("one"))
        raise LookupError


def names(store: SqlStore) -> list[str]:
    with store.read() as records:
        return [one.client_id for one in records.clients.all()]


def test_who_may_wait_does():
    wait()
    with at_once():
        assert hurried()
        with pytest.raises(WouldWait):
            wait()
    assert not hurried()
    wait()


def test_a_file_is_read_and_written_at_once(here: SqlStore):
    with at_once():
        write(here, "one")
        assert names(here) == ["one"]
    assert names(here) == ["one"]


def test_what_fails_at_once_is_undone(here: SqlStore):
    with at_once():
        with pytest.raises(LookupError):
            fail(here)
        write(here, "two")
        assert names(here) == ["two"]


def test_a_writer_of_this_process_is_not_waited_for_long(here: SqlStore):
    with here.write():
        with at_once(), pytest.raises(WouldWait):
            write(here, "one")
        with at_once():
            assert names(here) == []


def test_a_writer_of_another_process_is_not_waited_for_long(here: SqlStore, file: Path):
    with another_process_writes(file):
        with at_once(), pytest.raises(WouldWait):
            write(here, "one")
        with at_once():
            assert names(here) == []
    with at_once():
        write(here, "two")
    assert names(here) == ["two"]


def test_a_server_is_waited_for(postgresql_url: str):
    store = SqlStore.open(postgresql_url)
    try:
        with at_once(), pytest.raises(WouldWait):
            names(store)
        assert names(store) == []
    finally:
        store.close()


def test_nobody_is_called_at_once():
    with at_once(), pytest.raises(WouldWait):
        Outbound(["192.0.2.0/24"]).request("GET", "http://192.0.2.1/")


def test_a_closed_store_keeps_no_file_open(file: Path):
    store = SqlStore.sqlite(file)
    with at_once():
        write(store, "one")
    store.close()
    opened = {path.resolve() for path in Path("/proc/self/fd").iterdir() if path.exists()}
    assert not [path for path in opened if path.name.startswith(file.name)]
