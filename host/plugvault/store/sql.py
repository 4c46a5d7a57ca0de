"""The ecosystem's store: one connection and one transaction per `read()` or `write()`.

SQLite: WAL, so readers and one writer go on at once; a write takes its lock when it begins, so
that it never has to give up half-way; what was acknowledged survives the end of the process.
PostgreSQL: a reader sees one state; writers go on at once, and wait for one another where they
lock the same vehicle, contract or other thing that two might change.
"""

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, InvalidatePoolError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from plugvault.patience import hurried, wait
from plugvault.pools.errors import PoolError
from plugvault.store.chains import Memory
from plugvault.store.hurry import HURRY, Hurry
from plugvault.store.migrate import migrate
from plugvault.store.postgresql import Line, Silent, has_gone
from plugvault.store.records import SqlRecords
from plugvault.store.together import UNAVAILABLE, Together
from plugvault.store.transaction import Transaction

log = logging.getLogger("plugvault.store")

BUSY = 5000  # milliseconds a writer waits for another
WAIT = 10  # seconds a transaction waits for a connection

# A server has some hundred connections for all processes; a file has as many as are opened.
_POOL: dict[str, dict[str, Any]] = {
    "sqlite": {"pool_size": 8, "max_overflow": 56},
    "postgresql": {"pool_size": 8, "max_overflow": 8, "paramstyle": "format"},
}
# Serialisation, deadlock, and a key that another has put there meanwhile.
_LOST = {"40001", "40P01", "23505", "SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY"}
# Nobody's but ours, and no reason to say that the database is away.
_MISTAKES = (
    psycopg.ProgrammingError,
    psycopg.IntegrityError,
    sqlite3.ProgrammingError,
    sqlite3.IntegrityError,
)


class SqlStore:
    """Opens transactions over one database. `close()` when done."""

    def __init__(self, url: URL) -> None:
        self._engine = _engine(url)
        self._memory = Memory()
        self._hurry = Hurry(self._engine)
        # SQLite lets one write at a time, and who must wait sleeps for longer and longer: the
        # writers of one process take turns before they ask for its lock.
        self._turn = threading.Lock() if url.get_backend_name() == "sqlite" else None
        self._together: dict[asyncio.AbstractEventLoop, Together] = {}
        try:
            migrate(self._engine)
        except Exception as error:
            _refuse(error)
            raise

    @classmethod
    def open(cls, url: str) -> "SqlStore":
        """`url`: sqlite:///FILE or postgresql://USER@HOST/DATABASE, as libpq takes it.

        Makes its tables or brings them up. Raises ValueError when it is neither,
        PoolError("unavailable") when it cannot be used, StoreError("newer").
        """
        try:
            read = make_url(url)
        except ArgumentError as error:
            raise ValueError("not a database's URL") from error
        if read.drivername == "sqlite" and read.database not in (None, "", ":memory:"):
            return cls(read)
        if read.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
            return cls(read.set(drivername="postgresql+psycopg"))
        raise ValueError("the database's URL must be sqlite:///FILE or postgresql://…")

    @classmethod
    def sqlite(cls, file: Path) -> "SqlStore":
        """A database in one file, which its owner alone can read."""
        return cls(URL.create("sqlite", database=str(file)))

    @property
    def at_hand(self) -> bool:
        return self._hurry.at_hand

    def read(self) -> "_Session":
        """Raises PoolError("unavailable") when the database cannot be used."""
        return _Member(self, write=False) if self._company() else _Session(self, write=False)

    def write(self) -> "_Session":
        """As `read`; also when the disk is full, another writer does not come to an end, or has
        changed the same at the same moment: then the same call may succeed when made again."""
        if hurried() and _loop():
            return _Member(self, write=True)
        return _Session(self, write=True)

    def kept(self) -> Awaitable[bool] | bool:
        company = self._company()
        return company.kept() if company else True

    def _company(self) -> Together | None:
        """Those of this turn of this event loop who have begun to write, if it is one's turn."""
        loop = _loop() if self._together else None
        return self._together.get(loop) if loop else None

    def _join(self, write: bool) -> Together:
        found = self._company()
        if found and write and found.is_late:
            if not found.commit():
                wait()  # for what one may have written there oneself
            found = None
        if found:
            return found
        loop = asyncio.get_running_loop()
        self._take_turn()
        try:
            transaction, give_back = self._begin(True)
        except BaseException:
            self._release_turn()
            raise

        def over(members: int) -> None:
            del self._together[loop]
            try:
                give_back(members)
            finally:
                self._release_turn()

        records = SqlRecords(transaction, self._memory)
        made = self._together[loop] = Together(loop, transaction, records, over)
        return made

    def _take_turn(self) -> None:
        """Before a write, which then has to `_release_turn`."""
        if self._turn and not self._turn.acquire(timeout=(HURRY if hurried() else BUSY) / 1000):
            wait()
            raise PoolError("unavailable", UNAVAILABLE)

    def _release_turn(self) -> None:
        if self._turn:
            self._turn.release()

    def _begin(self, write: bool) -> tuple[Transaction, Callable[..., None]]:
        """A transaction, and what gives its connection back, with how many have shared it; what is
        not committed is undone."""
        if not self.at_hand:
            wait()  # for the network, and others' locks at its other end
        connection, give_back = self._connect()
        transaction = Transaction(connection, self._engine.dialect, write)
        try:
            transaction.begin()
        except BaseException:
            give_back()
            raise
        return transaction, give_back

    def _connect(self) -> tuple[Any, Callable[..., None]]:
        if hurried():
            return self._hurry.connect()
        self._hurry.keep_one()
        held = self._engine.raw_connection()
        driver: Any = held.driver_connection
        if self._turn is None:
            driver = Line(driver, held.info.setdefault("prepared", {}))
        return driver, lambda _=1: held.close()

    def close(self) -> None:
        self._hurry.close()
        self._engine.dispose()


class _Session:
    """One transaction: `with` it. No generator, of which several would cost a query's time."""

    def __init__(self, store: SqlStore, write: bool) -> None:
        self._store, self._write = store, write

    def __enter__(self) -> SqlRecords:
        if self._write:
            self._store._take_turn()
        try:
            self._transaction, self._give_back = self._store._begin(self._write)
        except BaseException as error:
            self._leave(error)
            raise
        self._records = SqlRecords(self._transaction, self._store._memory)
        return self._records

    def __exit__(self, _kind: Any, error: BaseException | None, _trace: Any) -> None:
        try:
            try:
                if error is None:
                    if self._write:
                        self._records.finish()
                    self._transaction.commit()
            finally:
                self._give_back()
        except BaseException as failed:
            self._leave(failed)
            raise
        self._leave(error)

    def _leave(self, error: BaseException | None) -> None:
        if self._write:
            self._store._release_turn()
        if error is not None:
            _explain(error)


class _Member(_Session):
    """One's part of a transaction that is shared with others of the same turn."""

    def __enter__(self) -> SqlRecords:
        try:
            self._shared = self._store._join(self._write)
        except BaseException as error:
            _explain(error)
            raise
        self._before = self._shared.join()
        return self._shared.records

    def __exit__(self, _kind: Any, error: BaseException | None, _trace: Any) -> None:
        if error is None:
            return
        if not self._shared.leave(self._before):
            wait()  # and once more, by himself
        _explain(error)


def _explain(error: BaseException) -> None:
    """Raise what the pools say of it, or that it has to wait; nothing for what is not of the
    database."""
    if _is_for_another(error):
        wait()
    _refuse(error)


def _is_for_another(error: BaseException) -> bool:
    """Whether it is only that another had not done yet what this one must not wait for."""
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY or isinstance(
        error, (Silent, psycopg.errors.LockNotAvailable)
    )


def _refuse(error: BaseException) -> None:
    """Raise what the pools say when the database does not do something; nothing for the rest."""
    if isinstance(error, UnicodeEncodeError):
        raise PoolError("invalid", "The request has text that is not Unicode.") from error
    if isinstance(error, psycopg.DataError):
        raise PoolError("invalid", "The request has a value that cannot be kept.") from error
    if not isinstance(error, (sqlite3.Error, psycopg.Error, SQLAlchemyError)):
        return
    cause = getattr(error, "orig", None) or error
    code = getattr(cause, "sqlstate", None) or getattr(cause, "sqlite_errorname", None)
    if code in _LOST:
        raise PoolError(
            "unavailable", "Another request changed the same just now; send this one again."
        ) from error
    if isinstance(cause, _MISTAKES) or code == "SQLITE_ERROR":
        return
    log.error("database: %s", cause)
    raise PoolError("unavailable", UNAVAILABLE) from error


def _loop() -> asyncio.AbstractEventLoop | None:
    """The event loop that runs here."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _engine(url: URL) -> Engine:
    name = url.get_backend_name()
    if name == "sqlite":
        with suppress(OSError):  # SQLite says it better
            Path(str(url.database)).touch(mode=0o600)
    engine = create_engine(url, poolclass=QueuePool, pool_timeout=WAIT, **_POOL[name])
    event.listen(engine, "connect", _PREPARE[name])
    if name == "postgresql":
        event.listen(engine, "checkout", _check)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin where `Transaction` says
    for pragma in (f"busy_timeout={BUSY}", "journal_mode=WAL", "synchronous=NORMAL"):
        connection.execute(f"PRAGMA {pragma}")


def _prepare_postgresql(connection: Any, _record: Any) -> None:
    connection.autocommit = True  # likewise
    connection.execute("SET jit = off")  # compiling takes longer than any statement here


def _check(connection: Any, _record: Any, _proxy: Any) -> None:
    """When the server has gone, all connections are made anew."""
    if has_gone(connection):
        raise InvalidatePoolError


_PREPARE = {"sqlite": _prepare_sqlite, "postgresql": _prepare_postgresql}
