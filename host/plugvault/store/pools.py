"""The tables of the pools: roots, vehicles, contracts, certificate statuses."""

from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import chain
from operator import attrgetter
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Executable,
    Select,
    Table,
    and_,
    bindparam,
    func,
    literal_column,
    or_,
    select,
)

from plugvault.pools import records
from plugvault.store import tables
from plugvault.store.chains import Chains, StoreCache
from plugvault.store.rows import INSERT, Rows, T, by_columns, delete_by
from plugvault.store.transaction import Row, Transaction

_LIMIT: BindParameter[int] = bindparam("limit")
_status = tables.statuses.c
_version = tables.versions.c
_ROOTS: ColumnElement[str] = literal_column("'roots'")
_VERSION = select(_version.number).where(_version.name == _ROOTS)


class SqlRoots(Rows[records.Root]):
    """The roots of RCP. The cache of the process holds all of them with their version; a
    transaction reads the version, again after each lock and after its own changes."""

    table, record = tables.roots, records.Root

    def __init__(self, transaction: Transaction, cache: StoreCache) -> None:
        super().__init__(transaction)
        self._cache = cache
        self._changed = False
        self._roots: tuple[records.Root, ...] = ()
        self._read_after = -1  # locks of the transaction

    def all(self, kind: str | None = None) -> Sequence[records.Root]:
        roots = self._all()
        return [root for root in roots if root.kind == kind] if kind else roots

    def get(self, root_id: str) -> records.Root | None:
        return next((root for root in self._all() if root.root_id == root_id), None)

    def by_fingerprint(self, fingerprint: str) -> records.Root | None:
        return next((root for root in self._all() if root.fingerprint == fingerprint), None)

    def put(self, record: records.Root) -> None:
        self._change()
        super().put(record)

    def delete(self, root_id: str) -> None:
        self._change()
        self._delete(root_id=root_id)

    def _all(self) -> tuple[records.Root, ...]:
        if self._read_after == self._transaction.locks:
            return self._roots
        rows = self._transaction.rows(_VERSION, {})
        version = rows[0][0] if rows else 0
        if self._changed:  # not for the cache: this transaction may be rolled back
            self._roots = tuple(super().all())
        else:
            if version != self._cache.roots[0]:
                self._cache.roots = version, tuple(super().all())
            self._roots = self._cache.roots[1]
        self._read_after = self._transaction.locks
        return self._roots

    def _change(self) -> None:
        if not self._changed:
            self._transaction.run(_next_version(self._transaction.database), {})
            self._changed = True
        self._read_after = -1


@cache
def _next_version(database: str) -> Executable:
    one: ColumnElement[int] = literal_column("1")
    insert = INSERT[database](tables.versions).values(name=_ROOTS, number=one)
    increment = {"number": _version.number + one}
    statement: Executable = insert.on_conflict_do_update(index_elements=["name"], set_=increment)
    return statement


class _Chained(Rows[T]):
    """Records with a leaf certificate; the certificates above it are a row of `chains`."""

    def __init__(self, transaction: Transaction, cache: StoreCache) -> None:
        super().__init__(transaction)
        self._chains = Chains(transaction, cache)

    def ended(self, now: float, limit: int) -> Sequence[T]:
        """One query for each reason to end, so that an index answers it."""
        at = {"now": int(now), "limit": limit}
        ended = self._rows(_expired(self.table), **at)
        ended += self._rows(_revoked(self.table), **at)
        statuses = SqlStatuses(self._transaction)
        for (number,) in self._transaction.rows(_CHAINS, {}):  # some hundred
            if statuses.revoked(self._chains.identities(number)):
                ended += self._rows(_under(self.table), chain=number, limit=limit)
        return list(dict.fromkeys(ended))[:limit]

    def issuers(self) -> Sequence[str]:
        return [issuer for (issuer,) in self._transaction.rows(_issuers(self.table), {})]

    def of_issuer(self, issuer: str, serial: str, limit: int) -> Sequence[T]:
        return self._rows(_of_issuer(self.table), issuer=issuer, serial=serial, limit=limit)


_CHAINS = select(tables.chains.c.chain)


@cache
def _expired(table: Table) -> Select[Any]:
    ended = table.c.not_after < bindparam("now")
    return table.select().where(ended).limit(_LIMIT)


@cache
def _revoked(table: Table) -> Select[Any]:
    """Only those that have not expired: few statuses to look at."""
    return (
        table.select()
        .where(
            _status.revoked.is_not(None),
            _status.not_after >= bindparam("now"),
            table.c.issuer == _status.issuer,
            table.c.serial == _status.serial,
        )
        .limit(_LIMIT)
    )


@cache
def _issuers(table: Table) -> Select[Any]:
    return select(table.c.issuer).distinct()


@cache
def _of_issuer(table: Table) -> Select[Any]:
    following = table.c.issuer == bindparam("issuer"), table.c.serial > bindparam("serial")
    return table.select().where(*following).order_by(table.c.serial).limit(_LIMIT)


@cache
def _under(table: Table) -> Select[Any]:
    return table.select().where(table.c.chain == bindparam("chain")).limit(_LIMIT)


_vehicle = tables.vehicles.c.vehicle
_AFTER = tables.vehicles.select().where(_vehicle > bindparam("vehicle")).order_by(_vehicle)
_AFTER = _AFTER.limit(_LIMIT)


class SqlVehicles(_Chained[records.Provisioning]):
    table, record = tables.vehicles, records.Provisioning

    def after(self, vehicle: str, limit: int) -> Sequence[records.Provisioning]:
        return self._rows(_AFTER, vehicle=vehicle, limit=limit)

    def get(self, vehicle: str, namespace: str) -> records.Provisioning | None:
        return self._one(vehicle=vehicle, namespace=namespace)

    def delete(self, vehicle: str, namespace: str) -> None:
        self._delete(vehicle=vehicle, namespace=namespace)

    def _read(self, row: Row) -> records.Provisioning:
        values = self._named(row)
        *sub2, sub1, root = self._chains.get(values.pop("chain"))
        return records.Provisioning(**values, sub2=sub2[0] if sub2 else None, sub1=sub1, root=root)

    def _values(self, record: records.Provisioning) -> dict[str, Any]:
        chain = self._chains.number((*record.subs, record.root))
        return {**vars(record), "chain": chain}


class SqlContracts(_Chained[records.Contract]):
    table, record = tables.contracts, records.Contract

    def get(self, emaid: str, namespace: str) -> records.Contract | None:
        return self._one(emaid=emaid, namespace=namespace)

    def of_vehicle(self, vehicle: str, namespace: str) -> Sequence[records.Contract]:
        contracts = self._where(vehicle=vehicle, namespace=namespace)
        return sorted(contracts, key=attrgetter("emaid"))

    def of_provider(self, provider: str, limit: int) -> Sequence[records.Contract]:
        above = provider[:-1] + chr(ord(provider[-1]) + 1)  # a range: an index serves it
        return self._rows(_OF_PROVIDER, provider=provider, above=above, limit=limit)

    def deliver(self, emaid: str, namespace: str, at: int) -> None:
        self._transaction.run(_DELIVER, {"of_emaid": emaid, "of_namespace": namespace, "at": at})

    def delete(self, emaid: str, namespace: str) -> None:
        self._delete(emaid=emaid, namespace=namespace)

    def delete_all(self, contracts: Sequence[records.Contract]) -> None:
        delete = delete_by(tables.contracts, ("emaid", "namespace"))
        self._transaction.many(delete, map(vars, contracts))

    def _read(self, row: Row) -> records.Contract:
        values = self._named(row)
        values["subs"] = self._chains.get(values.pop("chain"))
        if values["delivered"] == _NEVER:
            values["delivered"] = None
        return records.Contract(**values)

    def _values(self, record: records.Contract) -> dict[str, Any]:
        at = _NEVER if record.delivered is None else record.delivered
        return {**vars(record), "chain": self._chains.number(record.subs), "delivered": at}


_contract = tables.contracts.c
# A number as long as a time: SQLite can then set the time in place, and does not rewrite the whole
# row with its message. Rows of older databases have NULL instead.
_NEVER = -(1 << 31)
_DELIVER = (
    tables.contracts.update()
    .where(
        _contract.emaid == bindparam("of_emaid"), _contract.namespace == bindparam("of_namespace")
    )
    .values(delivered=bindparam("at"))
)
_OF_PROVIDER = (
    tables.contracts.select()
    .where(_contract.emaid >= bindparam("provider"), _contract.emaid < bindparam("above"))
    .order_by(_contract.emaid)
    .limit(_LIMIT)
)


class SqlStatuses(Rows[records.Status]):
    table, record = tables.statuses, records.Status

    def get(self, issuer: str, serial: str) -> records.Status | None:
        return self._one(issuer=issuer, serial=serial)

    def known(self, certificates: Sequence[tuple[str, str]]) -> Sequence[records.Status]:
        return self._all_of(_any_of(len(certificates)), tuple(chain.from_iterable(certificates)))

    def revoked(self, certificates: Sequence[tuple[str, str]]) -> bool:
        if not certificates:
            return False
        statement = _any_revoked(len(certificates))
        return bool(self._transaction.rows(statement, tuple(chain.from_iterable(certificates))))

    def revoke(self, certificates: Sequence[tuple[str, str]], reason: str, at: int) -> None:
        rows = [
            {"of_issuer": issuer, "of_serial": serial, "why": reason, "at": at}
            for issuer, serial in certificates
        ]
        self._transaction.many(_REVOKE, rows)

    def revoke_issued_by(self, issuer: str, reason: str, at: int) -> None:
        values = {"of_issuer": issuer, "why": reason, "at": at}
        self._transaction.run(_REVOKE_ISSUED_BY, values)

    def revoked_by(self, issuer: str) -> Sequence[records.Status]:
        return self._rows(_REVOKED_BY, issuer=issuer)

    def revocations(self, issuer: str) -> int:
        ((count,),) = self._transaction.rows(_REVOCATIONS, {"issuer": issuer})
        return int(count)


_REVOKE = (
    tables.statuses.update()
    .where(
        _status.issuer == bindparam("of_issuer"),
        _status.serial == bindparam("of_serial"),
        _status.revoked.is_(None),
    )
    .values(revoked=bindparam("at"), reason=bindparam("why"))
)
_REVOKE_ISSUED_BY = (
    tables.statuses.update()
    .where(_status.issuer == bindparam("of_issuer"), _status.revoked.is_(None))
    .values(revoked=bindparam("at"), reason=bindparam("why"))
)
_REVOKED_BY = by_columns(tables.statuses, ("issuer",)).where(_status.revoked.is_not(None))
_REVOCATIONS = select(func.count()).where(
    _status.issuer == bindparam("issuer"), _status.revoked.is_not(None)
)


@lru_cache(maxsize=32)
def _any_of(count: int) -> Select[Any]:
    """The statuses of this many (issuer, serial)."""
    any_of = [
        and_(_status.issuer == bindparam(f"issuer{i}"), _status.serial == bindparam(f"serial{i}"))
        for i in range(count)
    ]
    return tables.statuses.select().where(or_(*any_of))


@lru_cache(maxsize=32)
def _any_revoked(count: int) -> Select[Any]:
    one: ColumnElement[int] = literal_column("1")
    return _any_of(count).with_only_columns(one).where(_status.revoked.is_not(None))
