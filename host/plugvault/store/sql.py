"""The pools' store on SQLAlchemy: one connection and one transaction per `read()` or `write()`.

SQLite: WAL, so readers and one writer go on at once; a write takes its lock when it begins, so
that it never has to give up half-way; what was acknowledged survives the end of the process.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import OperationalError

from plugvault.pools.errors import PoolError
from plugvault.pools.records import Contract, Provisioning, Root
from plugvault.store import tables

log = logging.getLogger("plugvault.store")

T = TypeVar("T")

_BUSY = 5000  # milliseconds a writer waits for another


class _Records(Generic[T]):
    """Get, put and delete records of one type by the table's primary key."""

    def __init__(self, connection: Connection, table: Table, record: type[T]) -> None:
        self._connection = connection
        self._table = table
        self._record = record
        self._key = [column.name for column in table.primary_key]

    def _where(self, **wanted: Any) -> Sequence[T]:
        query = self._table.select()
        for name, value in wanted.items():
            query = query.where(self._table.c[name] == value)
        return [self._record(**row) for row in self._connection.execute(query).mappings()]

    def _one(self, **wanted: Any) -> T | None:
        found = self._where(**wanted)
        return found[0] if found else None

    def put(self, record: T) -> None:
        values = {column.name: getattr(record, column.name) for column in self._table.columns}
        update = self._table.update()
        for name in self._key:
            update = update.where(self._table.c[name] == values[name])
        if not self._connection.execute(update.values(values)).rowcount:
            self._connection.execute(self._table.insert().values(values))


class _Roots(_Records[Root]):
    def get(self, root_id: str) -> Root | None:
        return self._one(root_id=root_id)

    def all(self, kind: str | None = None) -> Sequence[Root]:
        return self._where(kind=kind) if kind else self._where()

    def by_fingerprint(self, fingerprint: str) -> Root | None:
        return self._one(fingerprint=fingerprint)


class _Vehicles(_Records[Provisioning]):
    def get(self, vehicle: str, namespace: str) -> Provisioning | None:
        return self._one(vehicle=vehicle, namespace=namespace)


class _Contracts(_Records[Contract]):
    def get(self, emaid: str, namespace: str) -> Contract | None:
        return self._one(emaid=emaid, namespace=namespace)

    def of_vehicle(self, vehicle: str, namespace: str) -> Sequence[Contract]:
        return self._where(vehicle=vehicle, namespace=namespace)

    def delete(self, emaid: str, namespace: str) -> None:
        table = self._table
        self._connection.execute(
            table.delete().where(table.c.emaid == emaid, table.c.namespace == namespace)
        )


class SqlRecords:
    """One transaction over the pools' tables."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @cached_property
    def roots(self) -> _Roots:
        return _Roots(self._connection, tables.roots, Root)

    @cached_property
    def vehicles(self) -> _Vehicles:
        return _Vehicles(self._connection, tables.vehicles, Provisioning)

    @cached_property
    def contracts(self) -> _Contracts:
        return _Contracts(self._connection, tables.contracts, Contract)


class SqlStore:
    """Opens transactions over one database. `close()` when done."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._writer = engine.execution_options(write=True)
        tables.metadata.create_all(engine)

    @classmethod
    def sqlite(cls, file: Path) -> "SqlStore":
        """A database in one file, which its owner alone can read."""
        file.touch(mode=0o600)
        engine = create_engine(URL.create("sqlite", database=str(file)))
        event.listen(engine, "connect", _prepare)
        event.listen(engine, "begin", _begin)
        return cls(engine)

    @contextmanager
    def read(self) -> Iterator[SqlRecords]:
        """Raises PoolError("unavailable") when the database cannot be used."""
        with _available(), self._engine.connect() as connection:
            yield SqlRecords(connection)

    @contextmanager
    def write(self) -> Iterator[SqlRecords]:
        """As `read`; also when the disk is full or another writer does not come to an end."""
        with _available(), self._writer.begin() as connection:
            yield SqlRecords(connection)

    def close(self) -> None:
        self._engine.dispose()


@contextmanager
def _available() -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        log.error("database: %s", error.orig)
        raise PoolError("unavailable", "The database is not available.") from error


def _prepare(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin where `_begin` says
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", f"busy_timeout={_BUSY}"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    write = connection.get_execution_options().get("write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
