"""The ecosystem's store: one connection and one transaction per `read()` or `write()`.

SQLite: WAL, so readers and one writer go on at once; a write takes its lock when it begins, so
that it never has to give up half-way; what was acknowledged survives the end of the process.
PostgreSQL: a reader sees one state; writers go on at once.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from plugvault.pools.errors import PoolError
from plugvault.store import tables
from plugvault.store.rows import SqlRecords

log = logging.getLogger("plugvault.store")

_BUSY = 5000  # milliseconds a writer waits for another


class SqlStore:
    """Opens transactions over one database. `close()` when done."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._writer = engine.execution_options(write=True)
        tables.metadata.create_all(self._writer)

    @classmethod
    def open(cls, url: str) -> "SqlStore":
        """`url`: sqlite:///FILE or postgresql://USER@HOST/DATABASE, as libpq takes it.

        Raises ValueError when it is neither.
        """
        try:
            read = make_url(url)
        except ArgumentError as error:
            raise ValueError("not a database's URL") from error
        if read.drivername == "sqlite" and read.database not in (None, "", ":memory:"):
            return cls.sqlite(Path(read.database))
        if read.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
            engine = create_engine(read.set(drivername="postgresql+psycopg"))
            event.listen(engine, "begin", _begin_postgresql)
            return cls(engine)
        raise ValueError("the database's URL must be sqlite:///FILE or postgresql://…")

    @classmethod
    def sqlite(cls, file: Path) -> "SqlStore":
        """A database in one file, which its owner alone can read."""
        file.touch(mode=0o600)
        engine = create_engine(URL.create("sqlite", database=str(file)))
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
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
            records = SqlRecords(connection)
            yield records
            records.finish()

    def close(self) -> None:
        self._engine.dispose()


@contextmanager
def _available() -> Iterator[None]:
    try:
        yield
    except (DBAPIError, PoolTimeoutError) as error:
        log.error("database: %s", getattr(error, "orig", error))
        raise PoolError("unavailable", "The database is not available.") from error


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin where `_begin_sqlite` says
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", f"busy_timeout={_BUSY}"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get("write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _begin_postgresql(connection: Connection) -> None:
    if not connection.get_execution_options().get("write"):
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
