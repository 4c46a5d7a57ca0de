"""Databases made by earlier plugvaults, by later ones, and by several processes at once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy.engine import make_url

from evcc import exi
from evcc.x509 import CertificateError
from fixtures.pools import Pools
from plugvault.contract.iso15118_2 import response
from plugvault.pools import envelopes
from plugvault.store import NewerDatabaseError, SqlStore, UnknownDatabaseError, migrate, tables
from world import World

Open = Callable[[str], SqlStore]


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest) -> str:
    """A database with nothing in it."""
    url: str = request.getfixturevalue(f"empty_{request.param}_url")
    return url


def engine(url: str) -> sa.Engine:
    read = make_url(url)
    if read.drivername == "postgresql":
        read = read.set(drivername="postgresql+psycopg")
    return sa.create_engine(read, poolclass=sa.NullPool)


def steps() -> ScriptDirectory:
    return ScriptDirectory(str(Path(migrate.__file__).parent / "migrations"))


def first_layout(connection: sa.Connection) -> None:
    """The tables of a plugvault from before the first step."""
    with Operations.context(MigrationContext.configure(connection)):
        steps().get_revision("0001").module.upgrade()


def test_the_latest_step_is_the_one_that_is_asked_for():
    assert steps().get_heads() == [migrate.LATEST]


def test_the_steps_lead_to_the_tables(empty_url: str, open_store: Open):
    open_store(empty_url)
    with engine(empty_url).connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, tables.metadata) == []


def test_a_difference_between_steps_and_tables_is_found(empty_url: str, open_store: Open):
    open_store(empty_url)
    with engine(empty_url).begin() as connection:
        connection.exec_driver_sql("DROP INDEX contracts_vehicle")
        connection.exec_driver_sql("ALTER TABLE jobs DROP COLUMN done")
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert len(compare_metadata(context, tables.metadata)) == 2


def old(record: Any, **more: Any) -> dict[str, Any]:
    """A record as the first layout had it."""
    return {**{name: value for name, value in vars(record).items() if name in OLD}, **more}


OLD = {
    *("root_id", "kind", "certificate", "fingerprint", "namespace"),
    *("vehicle", "pcid", "sub2", "sub1", "v2g_roots", "previous_pcid"),
    *("emaid", "message", "root_fingerprint", "default", "not_before", "not_after"),
    *("metadata", "delivered"),
}


def test_a_database_of_the_first_layout_is_taken_up(
    empty_url: str, open_store: Open, sqlite_store: SqlStore, pool_world: World
):
    pools = Pools(sqlite_store, pool_world)
    vehicle, contract = pools.register(), pools.put()
    with sqlite_store.read() as records:
        (root,) = records.roots.all("V2G")
    with engine(empty_url).begin() as connection:
        first_layout(connection)
        row = old(vehicle, root=vehicle.root)
        del row["not_after"]  # came later
        for table, values in (
            ("roots", old(root)),
            ("vehicles", row),
            ("contracts", old(contract)),
        ):
            into = sa.table(table, *map(sa.column, values))
            connection.execute(into.insert().values(values))
    with open_store(empty_url).read() as records:
        assert records.roots.all() == (root,)
        assert records.vehicles.get(vehicle.vehicle, vehicle.namespace) == vehicle
        assert records.contracts.get(contract.emaid, contract.namespace) == contract
    with open_store(empty_url).read() as records:  # its DH point and its key are its own
        data = response.read(exi.decode(contract.message)).contract
        until = contract.not_before + envelopes.LEAST
        assert set(records.seen.all()) == set(envelopes.seen(data, until))
    with open_store(empty_url).write() as records:  # and it is a database like any other
        records.vehicles.put(vehicle)
        records.contracts.put(contract)


def test_a_database_of_a_later_plugvault_is_refused_and_left(empty_url: str, open_store: Open):
    open_store(empty_url)
    with engine(empty_url).begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(NewerDatabaseError, match="later plugvault") as caught:
        SqlStore.open(empty_url)
    assert caught.value.reason == "newer"
    with engine(empty_url).begin() as connection:
        version = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    assert version == "9999"


def test_a_failing_step_leaves_the_database_unchanged(
    empty_url: str, open_store: Open, monkeypatch: pytest.MonkeyPatch
):
    with engine(empty_url).begin() as connection:
        first_layout(connection)
        before = sorted(sa.inspect(connection).get_table_names())
        row = {"vehicle": "V", "namespace": "n", "pcid": "v", "v2g_roots": ""}
        row |= dict.fromkeys(("certificate", "sub1", "root"), b"not a certificate")
        into = sa.table("vehicles", *map(sa.column, row))
        connection.execute(into.insert().values(row))
    with pytest.raises(UnknownDatabaseError, match="It is unchanged: use") as caught:
        SqlStore.open(empty_url)
    assert isinstance(caught.value.__cause__, CertificateError)
    with engine(empty_url).begin() as connection:
        assert sorted(sa.inspect(connection).get_table_names()) == before
        assert connection.exec_driver_sql("SELECT count(*) FROM vehicles").scalar() == 1


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE roots (identifier TEXT)",
        "CREATE TABLE vehicles (pcid TEXT)",
        "CREATE TABLE clients (name TEXT)",
    ],
)
def test_a_database_of_no_known_layout_is_refused_with_words_and_left(
    empty_url: str, open_store: Open, statement: str
):
    with engine(empty_url).begin() as connection:
        connection.exec_driver_sql(statement)
        before = sorted(sa.inspect(connection).get_table_names())
    with pytest.raises(UnknownDatabaseError, match="of no known plugvault") as caught:
        SqlStore.open(empty_url)
    assert "--data" in caught.value.detail
    with engine(empty_url).begin() as connection:
        assert sorted(sa.inspect(connection).get_table_names()) == before


def test_a_file_that_is_no_database_is_refused_with_words(tmp_path: Path):
    file = tmp_path / "ecosystem.sqlite"
    file.write_bytes(b"not a database" * 100)
    with pytest.raises(UnknownDatabaseError, match="not a database"):
        SqlStore.sqlite(file)
    assert file.read_bytes() == b"not a database" * 100


def test_several_processes_may_open_a_new_database_at_once(empty_url: str, open_store: Open):
    code = "import sys\nfrom plugvault.store import SqlStore\nSqlStore.open(sys.argv[1])"

    def run(_: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, empty_url]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    with ThreadPoolExecutor(4) as several:
        for ended in several.map(run, range(4)):
            assert ended.returncode == 0, ended.stderr
    with open_store(empty_url).read() as records:
        assert records.roots.all() == ()
