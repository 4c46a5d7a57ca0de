"""The ecosystem's store: one connection and one transaction per `read()` or `write()`.

SQLite: WAL, so readers and one writer work at the same time; a write takes its lock when it
begins, so that it never has to give up before its end; an acknowledged write survives the end of
the process. PostgreSQL: a reader sees one snapshot; writers work at the same time, and wait for
one another where they lock the same vehicle, contract or other name.
"""

import logging
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from pathlib import Path
from select import POLLIN, poll
from typing import Any

import psycopg
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, InvalidatePoolError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from plugvault.pools.errors import PoolError
from plugvault.store.chains import StoreCache
from plugvault.store.migrate import migrate, without_secrets
from plugvault.store.records import SqlRecords
from plugvault.store.transaction import Transaction

log = logging.getLogger("plugvault.store")

LOCK_TIMEOUT = 5000  # milliseconds a SQLite writer waits for another
POOL_TIMEOUT = 10  # seconds a transaction waits for a connection
UNAVAILABLE = "The database is not available."

# A server has some hundred connections for all processes; a file has as many as are opened.
_POOL: dict[str, dict[str, Any]] = {
    "sqlite": {"pool_size": 8, "max_overflow": 56},
    "postgresql": {"pool_size": 8, "max_overflow": 8, "paramstyle": "format"},
}
# Serialization failure, deadlock, and a key that another writer has put there meanwhile.
_CONFLICTS = {
    "40001",
    "40P01",
    "23505",
    "SQLITE_CONSTRAINT_UNIQUE",
    "SQLITE_CONSTRAINT_PRIMARYKEY",
}
# Mistakes in a statement: the database itself can be used.
_MISTAKES = (
    psycopg.ProgrammingError,
    psycopg.IntegrityError,
    sqlite3.ProgrammingError,
    sqlite3.IntegrityError,
)


class SqlStore:
    """Opens transactions over one database. `close()` when done. Safe to use from several
    threads."""

    def __init__(self, url: URL) -> None:
        self._engine = _engine(url)
        self._cache = StoreCache()
        # A SQLite writer that waits for the file's lock polls for it, and ever less often: the
        # writers of one process take this lock first.
        self._writer: AbstractContextManager[object] = (
            _WriterLock() if self.is_local else nullcontext()
        )
        try:
            migrate(self._engine)
        except Exception as error:
            _refuse(error, f"The database {without_secrets(url)} cannot be opened: ")
            raise

    @classmethod
    def open(cls, url: str) -> "SqlStore":
        """Open a database, and create its tables or migrate them.

        `url`: sqlite:///FILE or postgresql://USER@HOST/DATABASE, as libpq takes it. Raises
        ValueError for another URL, PoolError("unavailable") when the database cannot be used,
        NewerDatabaseError("newer"), UnknownDatabaseError("unknown").
        """
        try:
            parsed = make_url(url)
        except ArgumentError as error:
            raise ValueError("not a database's URL") from error
        if parsed.drivername == "sqlite" and parsed.database not in (None, "", ":memory:"):
            return cls(parsed)
        if parsed.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
            return cls(parsed.set(drivername="postgresql+psycopg"))
        raise ValueError("the database's URL must be sqlite:///FILE or postgresql://…")

    @classmethod
    def sqlite(cls, file: Path) -> "SqlStore":
        """Open a database in one file, which only its owner can read. Raises as `open`."""
        return cls(URL.create("sqlite", database=str(file)))

    @property
    def is_local(self) -> bool:
        return self._engine.dialect.name == "sqlite"

    @contextmanager
    def read(self) -> Iterator[SqlRecords]:
        """A transaction that only reads. Raises PoolError("unavailable") when the database cannot
        be used."""
        with self._transaction(write=False) as (transaction, records):
            yield records
            transaction.commit()

    @contextmanager
    def write(self) -> Iterator[SqlRecords]:
        """A transaction that commits at its end; an exception inside undoes all of it.

        Raises PoolError("unavailable") as `read`, and also when the disk is full, when another
        writer does not end in time, or when another writer has changed the same rows at the same
        moment: then the same call may succeed when it is repeated.
        """
        with self._writer, self._transaction(write=True) as (transaction, records):
            yield records
            records.finish()
            transaction.commit()

    @contextmanager
    def _transaction(self, write: bool) -> Iterator[tuple[Transaction, SqlRecords]]:
        """A transaction that is undone unless its caller commits it."""
        try:
            with closing(self._engine.raw_connection()) as pooled:
                transaction = Transaction(pooled.driver_connection, self._engine.dialect, write)
                transaction.begin()
                yield transaction, SqlRecords(transaction, self._cache)
        except Exception as error:
            _refuse(error)
            raise

    def close(self) -> None:
        self._engine.dispose()


class _WriterLock:
    """A lock between the threads of one process, with SQLite's own timeout."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        if not self._lock.acquire(timeout=LOCK_TIMEOUT / 1000):
            raise PoolError("unavailable", UNAVAILABLE)

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def _refuse(error: Exception, opening: str = "") -> None:
    """Raise PoolError for what a database refuses; nothing for other errors. opening: the words
    before the cause, where its reader is the one that named the database."""
    if isinstance(error, UnicodeEncodeError):
        raise PoolError("invalid", "The request has text that is not Unicode.") from error
    if isinstance(error, psycopg.DataError):
        raise PoolError("invalid", "The request has a value that cannot be kept.") from error
    if not isinstance(error, (sqlite3.Error, psycopg.Error, SQLAlchemyError)):
        return
    cause = getattr(error, "orig", None) or error
    code = getattr(cause, "sqlstate", None) or getattr(cause, "sqlite_errorname", None)
    if code in _CONFLICTS:
        raise PoolError(
            "unavailable", "Another request changed the same just now; send this one again."
        ) from error
    if isinstance(cause, _MISTAKES) or code == "SQLITE_ERROR":
        return
    if opening:
        first_line = str(cause).partition("\n")[0]
        raise PoolError("unavailable", f"{opening}{first_line}") from error
    log.error("database: %s", cause)
    raise PoolError("unavailable", UNAVAILABLE) from error


def _engine(url: URL) -> Engine:
    name = url.get_backend_name()
    if name == "sqlite":
        with suppress(OSError):  # SQLite's own error says more
            Path(str(url.database)).touch(mode=0o600)
    engine = create_engine(url, poolclass=QueuePool, pool_timeout=POOL_TIMEOUT, **_POOL[name])
    event.listen(engine, "connect", _PREPARE[name])
    if name == "postgresql":
        event.listen(engine, "checkout", _check)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # `Transaction` says where a transaction begins
    for pragma in (f"busy_timeout={LOCK_TIMEOUT}", "journal_mode=WAL", "synchronous=NORMAL"):
        connection.execute(f"PRAGMA {pragma}")


def _prepare_postgresql(connection: Any, _record: Any) -> None:
    connection.autocommit = True  # `Transaction` says where a transaction begins
    connection.execute("SET jit = off")  # compiling takes longer than any statement here


def _check(connection: Any, _record: Any, _proxy: Any) -> None:
    """After a restart of the server, all connections are opened anew."""
    socket = poll()
    socket.register(connection.fileno(), POLLIN)
    if socket.poll(0):  # the server has closed its end, or announces that it will
        raise InvalidatePoolError


_PREPARE = {"sqlite": _prepare_sqlite, "postgresql": _prepare_postgresql}
