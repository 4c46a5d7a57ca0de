"""One transaction over everything the ecosystem keeps."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from sqlalchemy import and_, bindparam, select

from plugvault.pools.records import Contract, Provisioning
from plugvault.store import tables
from plugvault.store.chains import Memory
from plugvault.store.outbox import Audit, Deliveries, Endpoints, Events, Jobs, Outbox
from plugvault.store.pools import Contracts, Roots, Statuses, Vehicles, in_order
from plugvault.store.rows import (
    Clients,
    EndEntities,
    GuessBook,
    Peers,
    Providers,
    Registry,
    RootChanges,
)
from plugvault.store.seen import SeenMarks
from plugvault.store.transaction import Transaction

T = TypeVar("T")

_vehicle, _contract = tables.vehicles.c, tables.contracts.c
_OF_VEHICLE = len(tables.vehicles.columns)  # where a contract's columns begin
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
)


class _Part(Generic[T]):
    """Made when first asked for. `functools.cached_property` takes a lock for each until Python
    3.12, and a request asks for six."""

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make

    def __get__(self, records: Any, _kind: Any = None) -> T:
        made = vars(records)[self._make.__name__] = self._make(records)
        return made


class SqlRecords:
    """`plugvault.pools.repositories.Records` in SQL."""

    def __init__(self, transaction: Transaction, memory: Memory) -> None:
        self._transaction, self._memory = transaction, memory
        self.outbox = Outbox(transaction)

    def finish(self) -> None:
        """What a transaction does last."""
        self.outbox.flush()

    def lock(self, *names: str) -> None:
        self._transaction.lock(*names)

    def vehicle_with_contracts(
        self, vehicle: str, namespace: str
    ) -> tuple[Provisioning | None, list[Contract]]:
        rows = self._transaction.rows(_WITH_CONTRACTS, (vehicle, namespace))
        if not rows:
            return None, []
        found = [row[_OF_VEHICLE:] for row in rows if row[_OF_VEHICLE] is not None]
        contracts = list(map(self.contracts._read, found))
        return self.vehicles._read(rows[0][:_OF_VEHICLE]), in_order(contracts)

    @_Part
    def roots(self) -> Roots:
        return Roots(self._transaction, self._memory)

    @_Part
    def vehicles(self) -> Vehicles:
        return Vehicles(self._transaction, self._memory)

    @_Part
    def contracts(self) -> Contracts:
        return Contracts(self._transaction, self._memory)

    @_Part
    def statuses(self) -> Statuses:
        return Statuses(self._transaction)

    @_Part
    def seen(self) -> SeenMarks:
        return SeenMarks(self._transaction)

    @_Part
    def clients(self) -> Clients:
        return Clients(self._transaction)

    @_Part
    def endpoints(self) -> Endpoints:
        return Endpoints(self._transaction)

    @_Part
    def events(self) -> Events:
        return Events(self._transaction, self.outbox)

    @_Part
    def deliveries(self) -> Deliveries:
        return Deliveries(self._transaction, self.outbox)

    @_Part
    def audit(self) -> Audit:
        return Audit(self._transaction, self.outbox)

    @_Part
    def changes(self) -> RootChanges:
        return RootChanges(self._transaction)

    @_Part
    def entities(self) -> EndEntities:
        return EndEntities(self._transaction)

    @_Part
    def registry(self) -> Registry:
        return Registry(self._transaction)

    @_Part
    def guesses(self) -> GuessBook:
        return GuessBook(self._transaction)

    @_Part
    def providers(self) -> Providers:
        return Providers(self._transaction)

    @_Part
    def peers(self) -> Peers:
        return Peers(self._transaction)

    @_Part
    def jobs(self) -> Jobs:
        return Jobs(self._transaction)
