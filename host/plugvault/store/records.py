"""One transaction over all repositories of the ecosystem."""

from functools import cached_property

from sqlalchemy import and_, bindparam, select

from plugvault.pools.records import Contract, Provisioning
from plugvault.store import tables
from plugvault.store.chains import StoreCache
from plugvault.store.outbox import (
    Outbox,
    SqlAudit,
    SqlDeliveries,
    SqlEndpoints,
    SqlEvents,
    SqlJobs,
)
from plugvault.store.pools import SqlContracts, SqlRoots, SqlStatuses, SqlVehicles
from plugvault.store.rows import (
    SqlClients,
    SqlEndEntities,
    SqlFailedAttempts,
    SqlPeers,
    SqlProviders,
    SqlRegistry,
    SqlRootChanges,
)
from plugvault.store.seen import SqlSeenMarks
from plugvault.store.times import SqlTimes
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
    def roots(self) -> SqlRoots:
        return SqlRoots(self._transaction, self._cache)

    @cached_property
    def vehicles(self) -> SqlVehicles:
        return SqlVehicles(self._transaction, self._cache)

    @cached_property
    def contracts(self) -> SqlContracts:
        return SqlContracts(self._transaction, self._cache)

    @cached_property
    def statuses(self) -> SqlStatuses:
        return SqlStatuses(self._transaction)

    @cached_property
    def seen(self) -> SqlSeenMarks:
        return SqlSeenMarks(self._transaction)

    @cached_property
    def clients(self) -> SqlClients:
        return SqlClients(self._transaction)

    @cached_property
    def endpoints(self) -> SqlEndpoints:
        return SqlEndpoints(self._transaction)

    @cached_property
    def events(self) -> SqlEvents:
        return SqlEvents(self._transaction, self._outbox)

    @cached_property
    def deliveries(self) -> SqlDeliveries:
        return SqlDeliveries(self._transaction, self._outbox)

    @cached_property
    def audit(self) -> SqlAudit:
        return SqlAudit(self._transaction, self._outbox)

    @cached_property
    def changes(self) -> SqlRootChanges:
        return SqlRootChanges(self._transaction)

    @cached_property
    def entities(self) -> SqlEndEntities:
        return SqlEndEntities(self._transaction)

    @cached_property
    def registry(self) -> SqlRegistry:
        return SqlRegistry(self._transaction)

    @cached_property
    def failed_attempts(self) -> SqlFailedAttempts:
        return SqlFailedAttempts(self._transaction)

    @cached_property
    def providers(self) -> SqlProviders:
        return SqlProviders(self._transaction)

    @cached_property
    def peers(self) -> SqlPeers:
        return SqlPeers(self._transaction)

    @cached_property
    def jobs(self) -> SqlJobs:
        return SqlJobs(self._transaction)

    @cached_property
    def times(self) -> SqlTimes:
        return SqlTimes(self._transaction)
