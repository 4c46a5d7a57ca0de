"""The SQL store: whole transactions or none, for its owner only, and no key in it."""

from dataclasses import fields
from pathlib import Path

import pytest

from plugvault.pools.records import ISO2, Contract, Provisioning, Root
from plugvault.store import SqlStore, tables

ROOT = Root("id", "V2G", b"der", "ab" * 32)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "pools.sqlite"


def test_what_was_written_is_there_after_opening_again(file: Path):
    store = SqlStore.sqlite(file)
    with store.write() as records:
        records.roots.put(ROOT)
    store.close()
    with SqlStore.sqlite(file).read() as records:
        assert records.roots.get("id") == ROOT


def test_an_exception_undoes_the_whole_transaction(file: Path):
    store = SqlStore.sqlite(file)

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


def test_a_reader_sees_one_state_while_another_writes(file: Path):
    store = SqlStore.sqlite(file)
    with store.read() as before:
        assert not before.roots.all()
        with store.write() as records:
            records.roots.put(ROOT)
        assert not before.roots.all()
    with store.read() as after:
        assert after.roots.all()


def test_a_reader_cannot_write(file: Path):
    store = SqlStore.sqlite(file)
    with store.read() as records:
        records.roots.put(ROOT)
    with store.read() as records:
        assert not records.roots.all()


def test_the_database_is_its_owners_alone(file: Path):
    store = SqlStore.sqlite(file)
    with store.write() as records:
        records.roots.put(ROOT)
    for part in file.parent.iterdir():
        assert part.stat().st_mode & 0o077 == 0, part.name


@pytest.mark.parametrize(
    ("record", "table"),
    [
        (Root, tables.roots),
        (Provisioning, tables.vehicles),
        (Contract, tables.contracts),
    ],
)
def test_each_record_has_its_columns(record: type, table):
    assert [column.name for column in table.columns] == [field.name for field in fields(record)]
