"""One transaction over all repositories of the ecosystem."""

from functools import cached_property

from sqlalchemy import and_, bindparam, select

from plugvault.pools.records import Contract, Provisioning
from plugvault.store import tables
from plugvault.store.chains import StoreCache
from plugvault.store.outbox import Audit, Deliveries, Endpoints, Events, Jobs, Outbox
from plugvault.store.pools import Contracts, Roots, Statuses, Vehicles
from plugvault.store.rows import (
    Clients,
    EndEntities,
    FailedAttempts,
    Peers,
    Providers,
    Registry,
    RootChanges,
)
from plugvault.store.seen import SeenMarks
from plugvault.store.transaction import Transaction

_vehicle, _contract = tables.vehicles.c, tables.contracts.c
_VEHICLE_COLUMNS = len(tables.vehicles.columns)
_WITH_CONTRACTS = (
    select(tables.vehicles, tables.contracts)
    .outerjoin(
        tables.contracts,
        and_(
            _contract.vehicle == _vehicle.vehicle,
            _contract.namespace == _vehicle.namespace,
        ),
    )
    .where(_vehicle.vehicle == bindparam("vehicle"), _vehicle.namespace == bindparam("namespace"))
    .order_by(_contract.emaid)
)


class SqlRecords:
    """`plugvault.pools.repositories.Records` in SQL."""

    def __init__(self, transaction: Transaction, cache: StoreCache) -> None:
        self._transaction, self._cache = transaction, cache
        self._outbox = Outbox(transaction)

    def finish(self) -> None:
        """The last step of a transaction, before its commit."""
        self._outbox.flush()

    def lock(self, *names: str) -> None:
        self._transaction.lock(*names)

    def vehicle_with_contracts(
        self, vehicle: str, namespace: str
    ) -> tuple[Provisioning | None, list[Contract]]:
        rows = self._transaction.rows(_WITH_CONTRACTS, (vehicle, namespace))
        if not rows:
            return None, []
        of_contracts = [row[_VEHICLE_COLUMNS:] for row in rows]
        contracts = [self.contracts._read(row) for row in of_contracts if row[0] is not None]
        return self.vehicles._read(rows[0][:_VEHICLE_COLUMNS]), contracts

    @cached_property
    def roots(self) -> Roots:
        return Roots(self._transaction, self._cache)

    @cached_property
    def vehicles(self) -> Vehicles:
        return Vehicles(self._transaction, self._cache)

    @cached_property
    def contracts(self) -> Contracts:
        return Contracts(self._transaction, self._cache)

    @cached_property
    def statuses(self) -> Statuses:
        return Statuses(self._transaction)

    @cached_property
    def seen(self) -> SeenMarks:
        return SeenMarks(self._transaction)

    @cached_property
    def clients(self) -> Clients:
        return Clients(self._transaction)

    @cached_property
    def endpoints(self) -> Endpoints:
        return Endpoints(self._transaction)

    @cached_property
    def events(self) -> Events:
        return Events(self._transaction, self._outbox)

    @cached_property
    def deliveries(self) -> Deliveries:
        return Deliveries(self._transaction, self._outbox)

    @cached_property
    def audit(self) -> Audit:
        return Audit(self._transaction, self._outbox)

    @cached_property
    def changes(self) -> RootChanges:
        return RootChanges(self._transaction)

    @cached_property
    def entities(self) -> EndEntities:
        return EndEntities(self._transaction)

    @cached_property
    def registry(self) -> Registry:
        return Registry(self._transaction)

    @cached_property
    def failed_attempts(self) -> FailedAttempts:
        return FailedAttempts(self._transaction)

    @cached_property
    def providers(self) -> Providers:
        return Providers(self._transaction)

    @cached_property
    def peers(self) -> Peers:
        return Peers(self._transaction)

    @cached_property
    def jobs(self) -> Jobs:
        return Jobs(self._transaction)
