"""The time of the last run of periodic tasks."""

from functools import cache

from sqlalchemy import BindParameter, Executable, bindparam, select

from plugvault.store import tables
from plugvault.store.rows import INSERT
from plugvault.store.transaction import Transaction

_version = tables.versions.c
_NAME: BindParameter[str] = bindparam("name")
_GET = select(_version.number).where(_version.name == _NAME)


class SqlTimes:
    """`plugvault.pools.repositories.Times` in SQL."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def get(self, name: str) -> int | None:
        rows = self._transaction.rows(_GET, {"name": f"time of {name}"})
        return int(rows[0][0]) if rows else None

    def put(self, name: str, time: int) -> None:
        values = {"name": f"time of {name}", "number": time}
        self._transaction.run(_put(self._transaction.database), values)


@cache
def _put(database: str) -> Executable:
    insert = INSERT[database](tables.versions)
    statement: Executable = insert.on_conflict_do_update(
        index_elements=["name"], set_={"number": insert.excluded.number}
    )
    return statement
