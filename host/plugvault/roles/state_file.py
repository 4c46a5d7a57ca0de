"""The state of a company's backend in a small SQLite file, with its position in the events.

A change is on the disk when the call returns, so that an acknowledged event is never lost. One
backend at a time uses a file: two would overwrite each other's position.
"""

import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evcc.errors import EvccError
from plugvault import file_lock

SEEN = 1_000_000  # latest events that are recognised when they come again
_LONGEST_ID = 100  # characters of an event's id: the ids are UUIDs

Values = tuple[object, ...] | dict[str, object]
# A statement and its values: the number of rows that it has changed, or that a query has.
Run = Callable[[str, Values], int]

_TABLES = """
CREATE TABLE IF NOT EXISTS seen (event_id TEXT PRIMARY KEY, reason TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS place (one INTEGER PRIMARY KEY CHECK (one = 1), last TEXT NOT NULL);
"""


class StateError(EvccError):
    """The state cannot be read or stored now: nothing has changed. `detail`: the file, and the
    reason of SQLite."""

    REASONS = ("unavailable",)


class EventError(ValueError):
    """A message that is no event. A repetition of it would be no event either."""


class StateFile:
    """A SQLite file. `file`: made when missing, for its owner only, with a file beside it for the
    lock; `tables`: SQL that makes missing tables.

    Safe to use from several threads of one process. `close()` when done. Every method raises
    StateError, mostly for a full disk; the same call may succeed later.
    """

    def __init__(self, file: Path, tables: str) -> None:
        self._file = file
        self._lock = threading.Lock()
        with self._translated():
            # The end of an object that is not closed unlocks it, too.
            self._unlock = weakref.finalize(self, os.close, _locked(file))
            file.touch(mode=0o600)
            self._database = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
            self._database.executescript(
                f"PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; {_TABLES} {tables}"
            )

    def close(self) -> None:
        with self._lock:
            self._database.close()
        self._unlock()

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        with self._lock, self._translated():
            return self._database.execute(query, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[Run]:
        """A transaction. The context gives a function that runs a statement in it and returns the
        number of rows."""

        def run(statement: str, values: Values) -> int:
            # Python's own `rowcount` is -1 for an INSERT under a Turkish locale.
            before = self._database.total_changes
            cursor = self._database.execute(statement, values)
            if cursor.description:
                return len(cursor.fetchall())
            return self._database.total_changes - before

        with self._lock, self._translated():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield run
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:  # SQLite may have rolled back by itself
                    self._database.execute("ROLLBACK")
                raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StateError("unavailable", f"{self._file}: {error}") from error

    def outcome(self, event_id: str) -> str | None:
        """The outcome of an event: the reason of its rejection, "" for an accepted event, None for
        a new one. Raises EventError for a value that cannot be the id of an event."""
        rows = self.rows("SELECT reason FROM seen WHERE event_id = ?", _checked(event_id))
        return str(rows[0][0]) if rows else None

    def position(self) -> str:
        """The position of the last event read from the stream, "0" at the beginning."""
        rows = self.rows("SELECT last FROM place")
        return str(rows[0][0]) if rows else "0"

    def set_position(self, last: str) -> None:
        """Store the position of the last event that was processed."""
        with self.transaction() as run:
            run("INSERT INTO place VALUES (1, ?) ON CONFLICT DO UPDATE SET last = ?", (last, last))


def _locked(file: Path) -> int:
    """Lock a state file by a file beside it: SQLite's own locks would end when a descriptor of
    the state file is closed. Returns the lock's descriptor. Raises StateError, OSError."""
    try:
        return file_lock.acquire(file.with_name(f"{file.name}.lock"), timeout=0)
    except TimeoutError:
        raise StateError("unavailable", f"{file}: another backend uses it") from None


def is_new_event(run: Run, event_id: str, reason: str = "") -> bool:
    """Store an event in the transaction that processes it. False when it is stored already, for
    example by another thread at the same time. Raises EventError as `StateFile.outcome`."""
    new = run("INSERT OR IGNORE INTO seen VALUES (?, ?)", (_checked(event_id), reason)) == 1
    if new:
        run("DELETE FROM seen WHERE rowid <= (SELECT MAX(rowid) FROM seen) - ?", (SEEN,))
    return new


def _checked(event_id: object) -> str:
    if not isinstance(event_id, str) or len(event_id) > _LONGEST_ID:
        raise EventError("not an event: its id is no text, or a long one")
    return event_id
