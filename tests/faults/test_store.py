"""The store when a process, a disk or a database fails: what was acknowledged stays."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fixtures.store import Cluster, cluster
from plugvault.pools.errors import PoolError
from plugvault.pools.records import ISO2, Contract, Provider, Root
from plugvault.store import SqlStore, sql
from plugvault.store.migrate import UnknownDatabaseError

Open = Callable[[str], SqlStore]

WRITER = """
import sys
from plugvault.pools.records import AuditEntry, Delivery, Event
from plugvault.store import SqlStore
store = SqlStore.open(sys.argv[1])
for number in range(1_000_000):
    name = f"{sys.argv[2]}.{number}"
    with store.write() as records:
        records.events.add(Event(name, "root.cert.added", 1, "*", "{}"))
        records.deliveries.put(Delivery(name, "w"))
        records.audit.add(AuditEntry(1, "me", "did", name))
    print(name, flush=True)
"""
ROOT = Root("id", "V2G", b"der", "ab" * 32)


def writer(url: str, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, url, name]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def acknowledged(process: subprocess.Popen[str], enough: int) -> list[str]:
    """The records that it said to have written, when it is killed after `enough` of them."""
    assert process.stdout
    lines = [process.stdout.readline() for _ in range(enough)]
    process.kill()
    lines += process.stdout.readlines()
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    return [line.strip() for line in lines if line.endswith("\n")]


def check_whole(store: SqlStore, names: list[str]) -> None:
    """Assert that each of these is stored, and every stored event has its parts."""
    with store.read() as records:
        events = {event.event_id for event in records.events.since(0, None, 100_000)}
        lines = {line.subject for line in records.audit.since(0, 100_000)}
        assert set(names) <= events
        assert lines == events
        assert all(records.deliveries.get(name, "w") for name in events)


def test_a_killed_process_loses_nothing_it_acknowledged(store_url: str, open_store: Open):
    names = acknowledged(writer(store_url, "a"), 30)
    assert len(names) >= 30
    check_whole(open_store(store_url), names)


def test_several_killed_at_once_lose_nothing(store_url: str, open_store: Open):
    processes = [writer(store_url, name) for name in "abc"]
    names = [name for process in processes for name in acknowledged(process, 20)]
    assert len(names) >= 60
    check_whole(open_store(store_url), names)


@pytest.fixture
def own() -> Iterator[Cluster]:
    """A cluster for one test, which keeps its promises."""
    with cluster(fsync="on") as running:
        yield running


def test_a_database_that_crashes_loses_nothing_it_acknowledged(own: Cluster, open_store: Open):
    url = own.create()
    SqlStore.open(url).close()
    process = writer(url, "a")
    assert process.stdout
    lines = [process.stdout.readline() for _ in range(30)]
    own.stop(signal.SIGQUIT)  # nothing is written down, as after a crash
    lines += process.stdout.readlines()
    assert process.wait() == 1  # it was told
    process.stdout.close()
    own.start()
    check_whole(open_store(url), [line.strip() for line in lines if line.endswith("\n")])


def test_a_database_that_was_restarted_is_used_again_at_once(own: Cluster, open_store: Open):
    store = open_store(own.create())
    with store.write() as records, store.read() as _:  # two connections to it
        records.roots.put(ROOT)
    own.stop()
    own.start()
    for _ in range(3):
        with store.read() as records:
            assert records.roots.get("id") == ROOT


def test_a_missing_database_is_an_error_and_found_again(own: Cluster, open_store: Open):
    store = open_store(own.create())
    with store.write() as records:
        records.roots.put(ROOT)
    own.stop()
    with pytest.raises(PoolError) as away, store.read():
        pass
    assert (away.value.reason, away.value.detail) == (
        "unavailable",
        "The database is not available.",
    )
    own.start()
    with store.read() as records:
        assert records.roots.get("id") == ROOT


def test_a_transaction_is_rolled_back_when_its_database_goes_away(own: Cluster, open_store: Open):
    store = open_store(own.create())

    def write() -> None:
        with store.write() as records:
            records.providers.put(Provider("DEPVA", "A", "R"))
            own.stop(signal.SIGQUIT)
            records.providers.put(Provider("DEPVB", "B", "R"))

    with pytest.raises(PoolError, match="unavailable"):
        write()
    own.start()
    with store.write() as records:
        assert records.providers.all() == []
        records.providers.put(Provider("DEPVA", "A", "R"))


def test_a_database_that_was_never_there_is_an_error(tmp_path: Path):
    for url in (f"postgresql:///pv?host={tmp_path}", f"sqlite:///{tmp_path}/no/such/file"):
        with pytest.raises(PoolError) as away:
            SqlStore.open(url)
        assert away.value.reason == "unavailable"


def test_of_two_deadlocked_writers_one_fails_and_one_continues(own: Cluster, open_store: Open):
    store = open_store(own.create())
    both = threading.Barrier(2, timeout=20)
    outcomes: list[str] = []

    def write(first: str, second: str) -> None:
        try:
            with store.write() as records:
                records.lock(first)
                records.providers.put(Provider(first, "", ""))
                both.wait()
                records.lock(second)
            outcomes.append("done")
        except PoolError as error:
            outcomes.append(error.detail)

    threads = [threading.Thread(target=write, args=names) for names in (("a", "b"), ("b", "a"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(outcomes) == [
        "Another request changed the same just now; send this one again.",
        "done",
    ]
    with store.read() as records:
        assert len(records.providers.all()) == 1


def test_the_second_of_two_equal_keys_is_refused(store: SqlStore):
    """A fingerprint is one root's: the second is refused whole."""
    with store.write() as records:
        records.roots.put(ROOT)

    def again() -> None:
        with store.write() as records:
            records.providers.put(Provider("DEPVA", "A", "R"))
            records.roots.put(Root("other", "V2G", b"der", ROOT.fingerprint))

    with pytest.raises(PoolError, match="send this one again"):
        again()
    with store.read() as records:
        assert records.providers.all() == []


def test_two_writers_of_one_name_run_one_after_the_other(store: SqlStore):
    """Each counts on from what it read: none is lost."""
    name = "DEPVA"

    def count() -> None:
        for _ in range(10):
            with store.write() as records:
                records.lock("x", name)
                before = records.providers.get(name)
                number = int(before.name) if before else 0
                records.providers.put(Provider(name, str(number + 1), ""))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with store.read() as records:
        counted = records.providers.get(name)
        assert counted
        assert counted.name == "40"


def test_the_wait_for_an_endless_writer_is_limited(
    sqlite_url: str, open_store: Open, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sql, "LOCK_TIMEOUT", 20)
    store = open_store(sqlite_url)
    with store.write() as records:
        records.roots.put(ROOT)
        with pytest.raises(PoolError, match="not available"), store.write():
            pass
    with store.write() as records:
        assert records.roots.get("id") == ROOT


def test_a_file_that_is_no_database_is_an_error(tmp_path: Path):
    file = tmp_path / "store.sqlite"
    file.write_bytes(b"something else " * 100)
    with pytest.raises(UnknownDatabaseError, match="is of no known plugvault, or damaged"):
        SqlStore.open(f"sqlite:///{file}")


def test_a_full_disk_is_an_error_and_keeps_the_stored_records(sqlite_store: SqlStore):
    def contract(number: int) -> Contract:
        message = bytes(4000)
        return Contract(f"DEPVT{number}", ISO2, "V", "v", b"", message, "", False, 1, 9)

    with sqlite_store.write() as records:
        records.contracts.put(contract(0))
        records._transaction.connection.execute("PRAGMA max_page_count = 1")
    failed = 0
    for number in range(1, 20):
        try:
            with sqlite_store.write() as records:
                records.contracts.put(contract(number))
        except PoolError as error:
            assert error.reason == "unavailable"
            failed += 1
    assert failed
    with sqlite_store.read() as records:
        contracts = records.contracts.of_vehicle("V", ISO2)
        assert contract(0) in contracts
        assert len(contracts) == 20 - failed


@pytest.mark.parametrize(
    "text", [pytest.param("\ud800", id="half a character"), pytest.param("a\0b", id="a zero")]
)
def test_text_that_cannot_be_stored_is_invalid(text: str, store: SqlStore):
    try:
        with store.write() as records:
            records.providers.put(Provider("DEPVA", text, ""))
    except PoolError as error:
        assert error.reason == "invalid"
    else:
        with store.read() as records:
            (stored,) = records.providers.all()
            assert stored.name == text


def test_a_mistake_in_a_statement_is_not_called_a_missing_database(store: SqlStore):
    def run() -> None:
        with store.write() as records:
            records._transaction.connection.execute("SELECT 1 FROM nowhere")

    with pytest.raises(Exception, match="nowhere") as caught:
        run()
    assert not isinstance(caught.value, PoolError)
