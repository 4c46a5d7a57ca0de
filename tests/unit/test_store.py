"""The SQL store: whole transactions or none, on SQLite and on PostgreSQL alike."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from plugvault.pools.errors import PoolError
from plugvault.pools.records import ISO2, Client, Provisioning, Root
from plugvault.store import SqlStore, outbox, pools, rows

ROOT = Root("id", "V2G", b"der", "ab" * 32)
Open = Callable[[str], SqlStore]


def test_written_records_are_there_after_opening_again(store_url: str, open_store: Open):
    with open_store(store_url).write() as records:
        records.roots.put(ROOT)
    with open_store(store_url).read() as records:
        assert records.roots.get("id") == ROOT


def test_a_database_that_cannot_be_opened_is_named_with_the_cause(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    with pytest.raises(PoolError) as refused:
        SqlStore.open(f"sqlite:///{tmp_path}")
    assert refused.value.reason == "unavailable"
    assert refused.value.detail == (
        f"The database sqlite:///{tmp_path} cannot be opened: unable to open database file"
    )
    with pytest.raises(PoolError, match="postgresql") as refused:
        SqlStore.open("postgresql://user:secret@127.0.0.1:1/name?password=secret")
    assert "secret" not in refused.value.detail
    assert "\n" not in refused.value.detail
    assert caplog.records == []


@pytest.mark.parametrize("active", [True, False])
def test_booleans_are_read_as_booleans(store: SqlStore, active: bool):
    with store.write() as records:
        records.clients.put(Client("me", b"digest", "Me", "OEM", active=active))
        client = records.clients.get("me")
        assert client
        assert client.active is active


def test_an_exception_undoes_the_whole_transaction(store: SqlStore):
    def fail_half_way() -> None:
        with store.write() as records:
            records.roots.put(ROOT)
            records.vehicles.put(Provisioning("V", ISO2, "v", b"c", None, b"s", b"r"))
            raise RuntimeError("half-way")

    with pytest.raises(RuntimeError):
        fail_half_way()
    with store.read() as records:
        assert not records.roots.all()
        assert records.vehicles.get("V", ISO2) is None


def test_a_reader_sees_one_state_while_another_writes(store: SqlStore):
    with store.read() as before:
        assert not before.roots.all()
        with store.write() as records:
            records.roots.put(ROOT)
        assert not before.roots.all()
    with store.read() as after:
        assert after.roots.all()


def test_the_database_file_is_its_owners_alone(tmp_path: Path, sqlite_store: SqlStore):
    with sqlite_store.write() as records:
        records.roots.put(ROOT)
    assert list(tmp_path.iterdir())
    for part in tmp_path.iterdir():
        assert part.stat().st_mode & 0o077 == 0, part.name


@pytest.mark.parametrize("url", ["", "nothing", "mysql://host/name", "sqlite://", "sqlite:///"])
def test_any_other_database_is_refused(url: str):
    with pytest.raises(ValueError, match="database"):
        SqlStore.open(url)


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        (pools.SqlRoots, []),
        (pools.SqlContracts, []),
        (pools.SqlStatuses, []),
        (rows.SqlClients, []),
        (outbox.SqlEndpoints, []),
        (outbox.SqlEvents, []),
        (outbox.SqlDeliveries, ["sequence"]),
        (outbox.SqlAudit, []),
        (rows.SqlRootChanges, []),
        (rows.SqlEndEntities, []),
        (rows.SqlRegistry, []),
        (rows.SqlFailedAttempts, []),
        (rows.SqlProviders, []),
        (rows.SqlPeers, []),
        (outbox.SqlJobs, []),
    ],
)
def test_a_record_is_its_row(kind: type[rows.Rows[Any]], more: list[str]):
    names = [field.name.replace("subs", "chain") for field in fields(kind.record)]
    assert [*names, *more] == list(kind.table.columns.keys())
