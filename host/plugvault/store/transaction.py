"""One transaction on one connection, and statements that are compiled once.

Statements are SQLAlchemy's, so that both databases run the same ones; they are compiled to text
when first used and then go straight to the driver: building or interpreting one for each request
would cost more than running it.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from operator import itemgetter
from typing import Any

from sqlalchemy import Dialect, Executable

from plugvault.store.postgresql import COMMIT

Row = Sequence[Any]
Values = Mapping[str, Any] | tuple[Any, ...]  # by name, or as a statement has them

# How a transaction begins, for a reader and for a writer. SQLite's writer takes the lock at once;
# PostgreSQL's reader sees one state, its writers see what others have committed meanwhile.
BEGIN = {
    "sqlite": ("BEGIN", "BEGIN IMMEDIATE"),
    "postgresql": ("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "BEGIN"),
}

# Tables of which nobody keeps anything in a `memo`.
_MANY = {"vehicles", "contracts", "chains", "seen", "events", "deliveries", "audit"}
_NO_SORT = ("SET LOCAL enable_sort = off", "SET LOCAL enable_incremental_sort = off")
_ORDER = "SELECT pg_advisory_xact_lock(7, 0)"  # two numbers: apart from the locks of keys
_PATIENTLY = "SELECT set_config('lock_timeout', '100', true), pg_advisory_xact_lock(7, 0)"  # ms
_LOCK = "SELECT pg_advisory_xact_lock(name) FROM unnest(%s::bigint[]) AS name"


@dataclass(frozen=True)
class _Compiled:
    """`pick`: the parameters of their names, in order; `fixed`: values that the statement has
    itself; `written`: the table that it changes, "" for none."""

    text: str
    pick: Callable[[Mapping[str, Any]], tuple[Any, ...]]
    fixed: Mapping[str, Any]
    written: str

    def row(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        return self.pick({**self.fixed, **values} if self.fixed else values)


_statements: dict[str, dict[Executable, _Compiled]] = {"sqlite": {}, "postgresql": {}}


def compiled(dialect: Dialect, statement: Any) -> _Compiled:
    known = _statements[dialect.name]
    found: _Compiled | None = known.get(statement)
    if found is None:
        made = statement.compile(dialect=dialect)
        fixed = {name: value for name, value in made.params.items() if value is not None}
        written = "" if statement.is_select else statement.table.name
        pick = _picker(tuple(made.positiontup or ()))
        found = known[statement] = _Compiled(str(made), pick, fixed, written)
    return found


def _picker(names: tuple[str, ...]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    if len(names) > 1:
        return itemgetter(*names)
    return lambda values: tuple(values[name] for name in names)


class Transaction:
    """Runs statements. `write`: whether what is read may be locked."""

    def __init__(self, connection: Any, dialect: Dialect, write: bool) -> None:
        self.connection, self.database, self._dialect = connection, dialect.name, dialect
        self._compiled = _statements[dialect.name]
        # What needs not be asked again, until `forget`, or a change of a table not in `_MANY`.
        self.memo: dict[Hashable, Any] = {}
        self.write = write
        self._locks = write and dialect.name == "postgresql"
        self._held: set[str] = set()  # names that are locked
        self._is_patient = False
        self.changes = 0  # statements that may have changed something
        self.committed: list[Callable[[], None]] = []  # called when it has been

    def forget(self) -> None:
        """What was asked may have another answer now: another's end was waited for, or another's
        request has joined. SQLite shows a transaction one state of all tables to its end;
        PostgreSQL's writer sees what others have committed meanwhile."""
        if self._locks:
            self.memo.clear()

    def run(self, statement: Executable, values: Values) -> Any:
        """What has the rows: `fetchall()`, and how many were changed: `rowcount`."""
        one = self._compiled.get(statement) or compiled(self._dialect, statement)
        row = values if isinstance(values, tuple) else one.row(values)
        if one.written:
            self._note(one.written)
        return self.connection.execute(one.text, row)

    def rows(self, statement: Executable, values: Values) -> list[Row]:
        found: list[Row] = self.run(statement, values).fetchall()
        return found

    def many(self, statement: Executable, values: Iterable[Mapping[str, Any]]) -> None:
        """The same statement with each of `values`."""
        one = compiled(self._dialect, statement)
        rows = [one.row(each) for each in values]
        if rows:
            self._note(one.written)
            self.connection.executemany(one.text, rows)

    def _note(self, written: str) -> None:
        """What was kept of a table that is now another is forgotten."""
        self.changes += 1
        if self.memo and written not in _MANY:
            self.memo.clear()

    def lock(self, *names: str) -> None:
        """No other transaction that locks one of these goes on before this one ends. SQLite has
        one writer at a time and needs no such lock."""
        if not self._locks or self._held.issuperset(names):
            return
        self._held.update(names)
        self.forget()
        numbers = sorted(
            int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)
            for name in names
        )
        self.connection.execute(_LOCK, [numbers])

    def lock_order(self) -> None:
        """From here to the end one transaction at a time: what it numbers is then numbered in
        the order in which transactions end."""
        if self._locks:
            self.connection.execute(_PATIENTLY if self._is_patient else _ORDER)

    def be_patient(self) -> None:
        """What comes now is the end of much work: to do that again would take longer than others'
        ends do, which `lock_order` waits for."""
        self._is_patient = True

    def keep_index_order(self) -> None:
        """From here on take the first rows of an index one by one, and never sort all that wait
        to take the first: what a long queue's statistics make PostgreSQL prefer."""
        if self.database == "postgresql":
            for setting in _NO_SORT:
                self.connection.execute(setting)

    @property
    def is_good(self) -> bool:
        """Whether it goes on after a statement that failed: PostgreSQL ends it then, and SQLite
        when the disk is full."""
        return bool(self.connection.in_transaction)

    def begin(self) -> None:
        self.connection.execute(BEGIN[self._dialect.name][self.write])

    def commit(self) -> None:
        self.connection.execute(COMMIT).fetchall()
        for done in self.committed:
            done()
