"""Work on the event loop never waits: it is ended before it would, with nothing done."""

import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url

from fixtures.store import cluster
from plugvault.net import Outbound
from plugvault.patience import WouldWait, at_once, hurried, wait
from plugvault.pools.records import Client
from plugvault.store import SqlStore, hurry

Open = Callable[[str], SqlStore]


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


def test_a_server_that_is_far_is_waited_for(
    postgresql_url: str, open_store: Open, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(hurry, "is_local", lambda _: False)
    far = open_store(postgresql_url)
    for _ in range(2):
        with at_once(), pytest.raises(WouldWait):
            names(far)
        assert names(far) == []


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("postgresql:///db", True),
        ("postgresql://user@/db?host=%2Frun%2Fpostgresql", True),
        ("postgresql://localhost/db", False),
        ("postgresql://user@/db?host=db.example.com", False),
    ],
)
def test_a_server_on_this_machine_has_a_socket_among_its_files(
    url: str, here: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("PGHOST", raising=False)
    assert hurry.is_local(make_url(url)) is here
    monkeypatch.setenv("PGHOST", "db.example.com")
    assert hurry.is_local(make_url("postgresql:///db")) is False


@pytest.fixture
def calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server is as quick as the machine that tests it, which may be busy."""
    monkeypatch.setattr(hurry, "SILENCE", 20_000)
    monkeypatch.setattr(hurry, "SLOW", 20.0)


@pytest.fixture
def server(postgresql_url: str, open_store: Open, calm: None) -> SqlStore:
    """On this machine, and known: to connect is to wait."""
    store = open_store(postgresql_url)
    with at_once(), pytest.raises(WouldWait):
        names(store)
    assert names(store) == []
    return store


def test_no_connection_to_spare_costs_nobody_a_request(
    postgresql_url: str, open_store: Open, monkeypatch: pytest.MonkeyPatch
):
    def refused(_: hurry.Hurry) -> None:
        raise psycopg.OperationalError("sorry, too many clients already")

    server = open_store(postgresql_url)
    with monkeypatch.context() as none:
        none.setattr(hurry.Hurry, "_open", refused)
        write(server, "one")
    assert names(server) == ["one"]
    with at_once():
        assert names(server) == ["one"]


def test_who_has_no_connection_comes_before_one_to_spare(
    server: SqlStore, monkeypatch: pytest.MonkeyPatch
):
    with ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(server.read())
        server._hurry.close()
        monkeypatch.setattr(hurry.Hurry, "_open", lambda _: pytest.fail("opened"))
        assert names(server) == []


def stopped(store: SqlStore) -> int:
    """The server's process that speaks with who is in a hurry says nothing more."""
    (connection, _), *_ = store._hurry._ready
    pid: int = connection.info.backend_pid
    os.kill(pid, signal.SIGSTOP)
    return pid


def test_a_server_on_this_machine_is_read_and_written_at_once(server: SqlStore):
    with at_once():
        write(server, "one")
        assert names(server) == ["one"]
        with pytest.raises(LookupError):
            fail(server)
        write(server, "two")
        assert names(server) == ["one", "two"]
    assert names(server) == ["one", "two"]


def test_a_lock_at_a_server_is_not_waited_for_long(server: SqlStore):
    def lock() -> None:
        with server.write() as records:
            records.clients.put(client("one"))
            records.lock("V")
            records.clients.all()

    with server.write() as records:
        records.lock("V")
        records.clients.all()  # now it is held
        with at_once(), pytest.raises(WouldWait):
            lock()
        with at_once():
            assert names(server) == []
    with at_once():
        lock()
        assert names(server) == ["one"]


def test_a_server_that_does_not_answer_is_not_waited_for_long(
    server: SqlStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(hurry, "SILENCE", 200)
    monkeypatch.setattr(hurry, "SLOW", 0.005)
    pid = stopped(server)
    try:
        with at_once(), pytest.raises(WouldWait):
            names(server)
        assert not server.at_hand
        write(server, "one")  # by another process of the server's, which is as well as ever
        assert names(server) == ["one"]
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_server_that_answers_slowly_is_left_alone_for_a_while(
    open_store: Open, monkeypatch: pytest.MonkeyPatch
):
    """A disk that takes 20 ms for what is to stay."""
    monkeypatch.setattr(hurry, "SILENCE", 20_000)
    with cluster(fsync="on", commit_delay="20000", commit_siblings="0") as running:
        server = open_store(running.create())
        assert server.at_hand
        assert names(server) == []
        written = 0
        with at_once():
            while server.at_hand and written < hurry.LATELY:
                write(server, str(written))
                written += 1
            assert 1 <= written < hurry.LATELY
            with pytest.raises(WouldWait):
                write(server, "more")
        assert len(names(server)) == written
        later = time.monotonic() + hurry.AWAY
        monkeypatch.setattr(time, "monotonic", lambda: later)
        assert server.at_hand
        with at_once():
            assert len(names(server)) == written


def test_what_became_of_a_commit_is_waited_for(server: SqlStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hurry, "SILENCE", 1000)
    pid = stopped(server)
    os.kill(pid, signal.SIGCONT)
    with at_once(), server.write() as records:
        records.clients.put(client("one"))
        records.clients.all()
        os.kill(pid, signal.SIGSTOP)
        threading.Timer(2.5 * hurry.SILENCE / 1000, os.kill, (pid, signal.SIGCONT)).start()
    assert names(server) == ["one"]


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
