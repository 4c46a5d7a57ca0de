"""Records of one kind in their table: get by key or by a column's value, put, delete.

Kinds with more operations than these have them in `pools.py` and `outbox.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, ClassVar, Generic, TypeVar

from sqlalchemy import Boolean, Executable, Select, Table, bindparam, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from plugvault.pools import records
from plugvault.store import tables
from plugvault.store.transaction import Row, Transaction, Values

T = TypeVar("T")

# Both databases have an upsert; SQLAlchemy's general insert has none.
INSERT: Mapping[str, Callable[[Table], Any]] = {
    "sqlite": sqlite.insert,
    "postgresql": postgresql.insert,
}


class Rows(Generic[T]):
    """Records of the type `record`, in `table`. The columns have the names of the record's
    fields."""

    table: ClassVar[Table]
    record: ClassVar[type]

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def _read(self, row: Row) -> T:
        """`row`: all columns of the table."""
        record: T = self.record(**self._named(row))
        return record

    def _named(self, row: Row) -> dict[str, Any]:
        values = dict(zip(names(self.table), row, strict=True))
        if self._transaction.database == "sqlite":  # which has no boolean type
            for name in booleans(self.table):
                values[name] = bool(values[name])
        return values

    def _values(self, record: T) -> Mapping[str, Any]:
        return vars(record)

    def _rows(self, statement: Executable, **values: Any) -> list[T]:
        return self._all_of(statement, values)

    def _all_of(self, statement: Executable, values: Values) -> list[T]:
        return [self._read(row) for row in self._transaction.rows(statement, values)]

    def _where(self, **columns: Any) -> list[T]:
        statement = by_columns(self.table, tuple(columns))
        return self._all_of(statement, tuple(columns.values()))

    def _one(self, **columns: Any) -> T | None:
        matches = self._where(**columns)
        return matches[0] if matches else None

    def _delete(self, **columns: Any) -> None:
        self._transaction.run(delete_by(self.table, tuple(columns)), columns)

    def put(self, record: T) -> None:
        statement = upsert(self.table, self._transaction.database)
        self._transaction.run(statement, self._values(record))

    def all(self) -> Sequence[T]:
        return self._rows(everything(self.table))


@cache
def names(table: Table) -> tuple[str, ...]:
    """The names of a table's columns, in their order."""
    return tuple(column.name for column in table.columns)


@cache
def booleans(table: Table) -> list[str]:
    """The names of a table's columns with truth values, which SQLite stores as 0 and 1."""
    return [column.name for column in table.columns if isinstance(column.type, Boolean)]


@cache
def by_columns(table: Table, names: tuple[str, ...]) -> Select[Any]:
    """Rows in which these columns have the values of the parameters of the same names."""
    return table.select().where(*(table.c[name] == bindparam(name) for name in names))


@cache
def everything(table: Table) -> Select[Any]:
    """All rows, in the order of the primary key."""
    return table.select().order_by(*table.primary_key)


@cache
def delete_by(table: Table, names: tuple[str, ...]) -> Executable:
    """Delete the rows in which these columns have the values of the parameters of the same
    names."""
    return table.delete().where(*(table.c[name] == bindparam(name) for name in names))


@cache
def upsert(table: Table, database: str) -> Executable:
    """Insert a row, or replace the row with its key."""
    key = [column.name for column in table.primary_key]
    insert = INSERT[database](table)
    updated = {name: insert.excluded[name] for name in names(table) if name not in key}
    statement: Executable = (
        insert.on_conflict_do_update(index_elements=key, set_=updated)
        if updated
        else insert.on_conflict_do_nothing()
    )
    return statement


class SqlClients(Rows[records.Client]):
    table, record = tables.clients, records.Client

    def get(self, client_id: str) -> records.Client | None:
        return self._one(client_id=client_id)


class SqlRootChanges(Rows[records.RootChange]):
    table, record = tables.changes, records.RootChange

    def get(self, change_id: str) -> records.RootChange | None:
        return self._one(change_id=change_id)


class SqlEndEntities(Rows[records.EndEntity]):
    table, record = tables.entities, records.EndEntity

    def get(self, common_name: str) -> records.EndEntity | None:
        return self._one(common_name=common_name)

    def of_owner(self, owner: str) -> Sequence[records.EndEntity]:
        return self._where(owner=owner)


class SqlRegistry(Rows[records.RegisteredVehicle]):
    table, record = tables.registry, records.RegisteredVehicle

    def by_vin(self, vin: str) -> records.RegisteredVehicle | None:
        return self._one(vin=vin)

    def by_plate(self, plate: str) -> records.RegisteredVehicle | None:
        return self._one(plate=plate)

    def by_pcid(self, pcid: str) -> records.RegisteredVehicle | None:
        return self._one(pcid=pcid)


_guesses = tables.guesses.c
_PAST = _guesses.last <= bindparam("before")
_FORGET_GUESSES = tables.guesses.delete().where(
    _PAST,
    tuple_(_guesses.who, _guesses.subject).in_(
        select(_guesses.who, _guesses.subject).where(_PAST).limit(bindparam("limit"))
    ),
)


class SqlFailedAttempts(Rows[records.FailedAttemptCount]):
    table, record = tables.guesses, records.FailedAttemptCount

    def get(self, who: str, subject: str) -> records.FailedAttemptCount | None:
        return self._one(who=who, subject=subject)

    def delete(self, who: str, subject: str) -> None:
        self._delete(who=who, subject=subject)

    def forget(self, before: float, limit: int) -> int:
        return self._transaction.change(_FORGET_GUESSES, {"before": int(before), "limit": limit})


class SqlProviders(Rows[records.Provider]):
    table, record = tables.providers, records.Provider

    def get(self, provider: str) -> records.Provider | None:
        return self._one(provider=provider)


class SqlPeers(Rows[records.Peer]):
    table, record = tables.peers, records.Peer

    def get(self, name: str) -> records.Peer | None:
        return self._one(name=name)
