"""One transaction on one connection.

Statements are SQLAlchemy's, so that both databases run the same ones. Each is compiled to text
once and then goes directly to the driver, because building and interpreting a statement for each
request would take longer than running it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from sqlalchemy import Dialect, Executable

Row = Sequence[Any]
Values = Mapping[str, Any] | tuple[Any, ...]  # by name, or in the order of the statement

# How a transaction begins, for a reader and for a writer. SQLite's writer takes the lock at once;
# PostgreSQL's reader sees one snapshot, its writers see what others have committed meanwhile.
BEGIN = {
    "sqlite": ("BEGIN", "BEGIN IMMEDIATE"),
    "postgresql": ("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "BEGIN"),
}

_NO_SORT = ("SET LOCAL enable_sort = off", "SET LOCAL enable_incremental_sort = off")
_LOCK_ORDER = "SELECT pg_advisory_xact_lock(7, 0)"  # two numbers: apart from the locks of names
_LOCK_NAMES = "SELECT pg_advisory_xact_lock(name) FROM unnest(%s::bigint[]) AS name"


@dataclass(frozen=True)
class _Compiled:
    """`names`: of the parameters, in order; `constants`: values that the statement itself has."""

    text: str
    names: tuple[str, ...]
    constants: Mapping[str, Any]

    def row(self, values: Values) -> tuple[Any, ...]:
        if isinstance(values, tuple):
            return values
        named = {**self.constants, **values} if self.constants else values
        return tuple([named[name] for name in self.names])


_statements: dict[str, dict[Executable, _Compiled]] = {"sqlite": {}, "postgresql": {}}


def compiled(dialect: Dialect, statement: Any) -> _Compiled:
    """The text of a statement in the dialect of a database, compiled once for the process."""
    statements = _statements[dialect.name]
    if statement not in statements:
        text = statement.compile(dialect=dialect)
        constants = {name: value for name, value in text.params.items() if value is not None}
        names = tuple(text.positiontup or ())
        statements[statement] = _Compiled(str(text), names, constants)
    return statements[statement]


class Transaction:
    """Runs statements on a connection of the driver. `write`: whether it may write.

    `locks`: the number of locks taken so far; `on_commit`: functions to call after the commit.
    """

    def __init__(self, connection: Any, dialect: Dialect, write: bool) -> None:
        self.connection, self._dialect, self._write = connection, dialect, write
        self.database = dialect.name
        self._locked: set[str] = set()
        # After the wait for a lock, rows may be other ones than were read before.
        self.locks = 0
        self.on_commit: list[Callable[[], None]] = []

    def begin(self) -> None:
        self.connection.execute(BEGIN[self.database][self._write])

    def commit(self) -> None:
        self.connection.execute("COMMIT")
        for call in self.on_commit:
            call()

    def run(self, statement: Executable, values: Values) -> Any:
        """Run a statement. Returns the driver's cursor, for `fetchall()`."""
        prepared = compiled(self._dialect, statement)
        return self.connection.execute(prepared.text, prepared.row(values))

    def change(self, statement: Executable, values: Values) -> int:
        """Run an INSERT, UPDATE or DELETE. Returns the number of changed rows."""
        if self.database == "postgresql":
            return int(self.run(statement, values).rowcount)
        # Python's own `rowcount` is -1 for an INSERT under a Turkish locale.
        before = self.connection.total_changes
        self.run(statement, values)
        return int(self.connection.total_changes) - int(before)

    def rows(self, statement: Executable, values: Values) -> list[Row]:
        rows: list[Row] = self.run(statement, values).fetchall()
        return rows

    def many(self, statement: Executable, values: Iterable[Mapping[str, Any]]) -> None:
        """Run the same statement once for each of `values`."""
        prepared = compiled(self._dialect, statement)
        rows = [prepared.row(row) for row in values]
        if len(rows) == 1:  # psycopg enters its pipeline mode for more, which costs round trips
            self.connection.execute(prepared.text, rows[0])
        elif rows:
            self.connection.cursor().executemany(prepared.text, rows)

    def lock(self, *names: str) -> None:
        """Hold these names to the end of the transaction. SQLite has one writer at a time and
        needs no such lock."""
        if not self._write or self.database == "sqlite" or self._locked.issuperset(names):
            return
        self._locked.update(names)
        self.locks += 1
        numbers = sorted(
            int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)
            for name in names
        )
        self.connection.execute(_LOCK_NAMES, [numbers])

    def lock_order(self) -> None:
        """Let one transaction at a time pass from this call to its end, so that the numbers it
        gives grow in the order in which transactions commit."""
        if self.database == "postgresql":
            self.connection.execute(_LOCK_ORDER)

    def keep_index_order(self) -> None:
        """Read the first rows of an index one by one. For a long queue, PostgreSQL's statistics
        would make it sort all waiting rows to find the first."""
        if self.database == "postgresql":
            for setting in _NO_SORT:
                self.connection.execute(setting)
