"""The DH points and contract keys that were seen [`plugvault.pools.envelopes`]."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import Select, bindparam, exists, select

from plugvault.pools import records
from plugvault.store import tables
from plugvault.store.rows import Rows

_seen = tables.seen.c
_contract_key = tables.seen.alias("contract_key")
_NOW: Any = bindparam("now")
_ADD = tables.seen.insert()  # no upsert: the second of two concurrent writers must fail
_EXTEND = (
    tables.seen.update()
    .where(_seen.mark == bindparam("of_mark"), _seen.until < bindparam("later"))
    .values(until=bindparam("later"))
)
_ENDED = (
    select(_seen.mark)
    .where(
        _seen.until < _NOW,
        ~exists().where(_contract_key.c.mark == _seen.of_key, _contract_key.c.until >= _NOW),
    )
    .limit(bindparam("limit"))
)
_FORGET = tables.seen.delete().where(_seen.until < _NOW, _seen.mark.in_(_ENDED))


class SqlSeenMarks(Rows[records.Seen]):
    table, record = tables.seen, records.Seen

    def known(self, marks: Sequence[bytes]) -> Sequence[records.Seen]:
        return self._all_of(_any_of(len(marks)), tuple(marks))

    def add(self, seen: Sequence[records.Seen]) -> None:
        self._transaction.many(_ADD, map(vars, seen))

    def extend(self, mark: bytes, until: int) -> None:
        self._transaction.run(_EXTEND, {"of_mark": mark, "later": until})

    def forget(self, now: float, limit: int) -> int:
        return self._transaction.change(_FORGET, {"now": int(now), "limit": limit})


@cache
def _any_of(count: int) -> Select[Any]:
    marks: list[Any] = [bindparam(f"mark{number}") for number in range(count)]
    return tables.seen.select().where(_seen.mark.in_(marks))
