"""Records of one kind in their table: by key, by a column's value, put and deleted.

The kinds that need more than this have it in `pools.py` and `outbox.py` beside this file.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, ClassVar, Generic, TypeVar

from sqlalchemy import Boolean, Executable, Select, Table, bindparam
from sqlalchemy.dialects import postgresql, sqlite

from plugvault.pools import records
from plugvault.store import tables
from plugvault.store.transaction import Row, Transaction, Values

T = TypeVar("T")

# Both can put a row in whether or not its key is there; SQLAlchemy's general insert cannot.
INSERT: Mapping[str, Callable[[Table], Any]] = {
    "sqlite": sqlite.insert,
    "postgresql": postgresql.insert,
}


class Rows(Generic[T]):
    """Of `record`, in `table`."""

    table: ClassVar[Table]
    record: ClassVar[type]

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def _read(self, row: Row) -> T:
        """`row`: all columns of the table."""
        return self._made(dict(zip(names(self.table), row, strict=True)))

    def _made(self, said: dict[str, Any]) -> T:
        """A record of these. To put the values of a frozen one in their places one by one takes
        longer than to have them from the database."""
        if self._transaction.database == "sqlite":  # which has no type for yes and no
            for name in booleans(self.table):
                said[name] = bool(said[name])
        made: T = object.__new__(self.record)
        vars(made).update(said)
        return made

    def _values(self, record: T) -> Mapping[str, Any]:
        return vars(record)

    def _rows(self, statement: Executable, **values: Any) -> list[T]:
        return self._all_of(statement, values)

    def _all_of(self, statement: Executable, values: Values) -> list[T]:
        return [self._read(row) for row in self._transaction.rows(statement, values)]

    def _where(self, **wanted: Any) -> list[T]:
        statement = by_columns(self.table, tuple(wanted))
        return self._all_of(statement, tuple(wanted.values()))

    def _one(self, **wanted: Any) -> T | None:
        found = self._where(**wanted)
        return found[0] if found else None

    def _delete(self, **wanted: Any) -> None:
        self._transaction.run(delete_by(self.table, tuple(wanted)), wanted)

    def put(self, record: T) -> None:
        statement = upsert(self.table, self._transaction.database)
        self._transaction.run(statement, self._values(record))

    def all(self) -> Sequence[T]:
        return self._rows(everything(self.table))


@cache
def names(table: Table) -> tuple[str, ...]:
    return tuple(one.name for one in table.columns)


@cache
def booleans(table: Table) -> list[str]:
    return [one.name for one in table.columns if isinstance(one.type, Boolean)]


@cache
def by_columns(table: Table, names: tuple[str, ...]) -> Select[Any]:
    """Rows in which these columns have the values of the parameters of the same names."""
    return table.select().where(*(table.c[name] == bindparam(name) for name in names))


@cache
def everything(table: Table) -> Select[Any]:
    return table.select().order_by(*table.primary_key)


@cache
def delete_by(table: Table, names: tuple[str, ...]) -> Executable:
    return table.delete().where(*(table.c[name] == bindparam(name) for name in names))


@cache
def upsert(table: Table, database: str) -> Executable:
    """One row in, whether or not its key is there."""
    key = [column.name for column in table.primary_key]
    insert = INSERT[database](table)
    rest = {one.name: insert.excluded[one.name] for one in table.columns if one.name not in key}
    made: Executable = (
        insert.on_conflict_do_update(index_elements=key, set_=rest)
        if rest
        else insert.on_conflict_do_nothing()
    )
    return made


class Clients(Rows[records.Client]):
    table, record = tables.clients, records.Client

    def get(self, client_id: str) -> records.Client | None:
        return self._one(client_id=client_id)


class RootChanges(Rows[records.RootChange]):
    table, record = tables.changes, records.RootChange

    def get(self, change_id: str) -> records.RootChange | None:
        return self._one(change_id=change_id)


class EndEntities(Rows[records.EndEntity]):
    table, record = tables.entities, records.EndEntity

    def get(self, common_name: str) -> records.EndEntity | None:
        return self._one(common_name=common_name)

    def of_owner(self, owner: str) -> Sequence[records.EndEntity]:
        return self._where(owner=owner)


class Registry(Rows[records.RegisteredVehicle]):
    table, record = tables.registry, records.RegisteredVehicle

    def by_vin(self, vin: str) -> records.RegisteredVehicle | None:
        return self._one(vin=vin)

    def by_plate(self, plate: str) -> records.RegisteredVehicle | None:
        return self._one(plate=plate)

    def by_pcid(self, pcid: str) -> records.RegisteredVehicle | None:
        return self._one(pcid=pcid)


class GuessBook(Rows[records.Guesses]):
    table, record = tables.guesses, records.Guesses

    def get(self, who: str, subject: str) -> records.Guesses | None:
        return self._one(who=who, subject=subject)

    def delete(self, who: str, subject: str) -> None:
        self._delete(who=who, subject=subject)


class Providers(Rows[records.Provider]):
    table, record = tables.providers, records.Provider

    def get(self, provider: str) -> records.Provider | None:
        return self._one(provider=provider)


class Peers(Rows[records.Peer]):
    table, record = tables.peers, records.Peer

    def get(self, name: str) -> records.Peer | None:
        return self._one(name=name)
