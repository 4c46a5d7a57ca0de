"""One transaction over everything the ecosystem keeps."""

from functools import cached_property

from plugvault.store.chains import Memory
from plugvault.store.outbox import Audit, Deliveries, Endpoints, Events, Jobs, Outbox
from plugvault.store.pools import Contracts, Roots, Statuses, Vehicles
from plugvault.store.rows import (
    Clients,
    EndEntities,
    GuessBook,
    Peers,
    Providers,
    Registry,
    RootChanges,
)
from plugvault.store.transaction import Transaction


class SqlRecords:
    """`plugvault.pools.records.Records` in SQL."""

    def __init__(self, transaction: Transaction, memory: Memory) -> None:
        self._transaction, self._memory = transaction, memory
        self._outbox = Outbox(transaction)

    def finish(self) -> None:
        """What a transaction does last."""
        self._outbox.flush()

    def lock(self, *names: str) -> None:
        self._transaction.lock(*names)

    @cached_property
    def roots(self) -> Roots:
        return Roots(self._transaction, self._memory)

    @cached_property
    def vehicles(self) -> Vehicles:
        return Vehicles(self._transaction, self._memory)

    @cached_property
    def contracts(self) -> Contracts:
        return Contracts(self._transaction, self._memory)

    @cached_property
    def statuses(self) -> Statuses:
        return Statuses(self._transaction)

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
    def guesses(self) -> GuessBook:
        return GuessBook(self._transaction)

    @cached_property
    def providers(self) -> Providers:
        return Providers(self._transaction)

    @cached_property
    def peers(self) -> Peers:
        return Peers(self._transaction)

    @cached_property
    def jobs(self) -> Jobs:
        return Jobs(self._transaction)
