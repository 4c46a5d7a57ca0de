"""The interface of the store that the pools are given: one repository per kind of record.

`Records` is one transaction over all repositories: all of it happens or nothing. The one
implementation is SQL (`plugvault.store`); the pools know only this interface.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from plugvault.pools.records import (
    AuditEntry,
    Client,
    Contract,
    Delivery,
    EndEntity,
    Endpoint,
    Event,
    Guesses,
    Job,
    Peer,
    Provider,
    Provisioning,
    RegisteredVehicle,
    Root,
    RootChange,
    Seen,
    Status,
)

Record = TypeVar("Record")


class Repository(Protocol[Record]):
    """The records of one kind, where one text is their key."""

    def get(self, key: str, /) -> Record | None: ...
    def all(self) -> Sequence[Record]: ...
    def put(self, record: Record, /) -> None: ...


class Roots(Protocol):
    def get(self, root_id: str) -> Root | None: ...
    def all(self, kind: str | None = None) -> Sequence[Root]: ...
    def by_fingerprint(self, fingerprint: str) -> Root | None: ...
    def put(self, root: Root) -> None: ...
    def delete(self, root_id: str) -> None: ...


class Vehicles(Protocol):
    def get(self, vehicle: str, namespace: str) -> Provisioning | None: ...
    def put(self, provisioning: Provisioning) -> None: ...
    def delete(self, vehicle: str, namespace: str) -> None: ...
    def after(self, vehicle: str, limit: int) -> Sequence[Provisioning]:
        """Vehicles in the order of their PCIDs, from this one on. Only for the administrator's
        command line: no call of OPCP may list vehicles."""
        ...

    def issuers(self) -> Sequence[str]:
        """Key identifiers of the CAs that issued the vehicles' certificates."""
        ...

    def of_issuer(self, issuer: str, serial: str, limit: int) -> Sequence[Provisioning]:
        """Vehicles with a certificate of this CA, in the order of serials, from this one on."""
        ...

    def ended(self, now: float, limit: int) -> Sequence[Provisioning]:
        """Vehicles whose path has expired, or whose leaf or one of its sub-CAs is revoked."""
        ...


class Contracts(Protocol):
    def get(self, emaid: str, namespace: str) -> Contract | None: ...
    def of_vehicle(self, vehicle: str, namespace: str) -> Sequence[Contract]: ...
    def of_provider(self, provider: str, limit: int) -> Sequence[Contract]: ...
    def put(self, contract: Contract) -> None: ...
    def deliver(self, emaid: str, namespace: str, at: int) -> None:
        """Record the time of delivery."""
        ...

    def delete(self, emaid: str, namespace: str) -> None: ...
    def delete_all(self, contracts: Sequence[Contract]) -> None: ...
    def issuers(self) -> Sequence[str]:
        """Key identifiers of the CAs that issued the contract certificates."""
        ...

    def of_issuer(self, issuer: str, serial: str, limit: int) -> Sequence[Contract]:
        """Contracts with a certificate of this CA, in the order of serials, from this one on."""
        ...

    def ended(self, now: float, limit: int) -> Sequence[Contract]:
        """Contracts that have expired, or whose leaf or one of its sub-CAs is revoked."""
        ...


class Statuses(Protocol):
    def get(self, issuer: str, serial: str) -> Status | None: ...
    def put(self, status: Status) -> None: ...
    def known(self, certificates: Sequence[tuple[str, str]]) -> Sequence[Status]:
        """The statuses of these (issuer, serial) that are recorded: one query."""
        ...

    def revoked(self, certificates: Sequence[tuple[str, str]]) -> bool:
        """Whether any of these (issuer, serial) is revoked: one query."""
        ...

    def expect(self, certificates: Sequence[tuple[str, str]]) -> None:
        """A hint: `revoked` will be asked of these, some at a time. The database is asked of all
        of them now, and not again before something is locked or written."""
        ...

    def revoke(self, certificates: Sequence[tuple[str, str]], reason: str, at: int) -> None:
        """Revoke those of them that are recorded and good; the others are left out."""
        ...

    def revoke_issued_by(self, issuer: str, reason: str, at: int) -> None:
        """Revoke every good certificate of an issuer."""
        ...

    def revoked_by(self, issuer: str) -> Sequence[Status]: ...
    def revocations(self, issuer: str) -> int:
        """The number of statuses that `revoked_by` gives."""
        ...


class SeenMarks(Protocol):
    def known(self, marks: Sequence[bytes]) -> Sequence[Seen]:
        """The records of those marks that exist: one query."""
        ...

    def add(self, seen: Sequence[Seen]) -> None:
        """Add new marks. A concurrent writer that adds one of them is refused."""
        ...

    def extend(self, mark: bytes, until: int) -> None: ...
    def forget(self, now: float, limit: int) -> int:
        """Delete expired marks whose contract key has expired too; gives their number."""
        ...


class Endpoints(Repository[Endpoint], Protocol):
    def of_owner(self, owner: str) -> Sequence[Endpoint]: ...
    def listening(self, audience: str) -> Sequence[Endpoint]:
        """The enabled endpoints with this audience among their scopes, whatever kinds of event
        they subscribe to."""
        ...

    def delete(self, endpoint_id: str) -> None:
        """Delete an endpoint with its deliveries."""
        ...


class Events(Protocol):
    def add(self, event: Event) -> None: ...
    def get(self, event_id: str) -> Event | None: ...
    def since(self, sequence: int, audiences: Sequence[str] | None, limit: int) -> Sequence[Event]:
        """Later events for these audiences (None: all of them), in order."""
        ...

    def last(self) -> int:
        """The highest sequence so far, 0 when there is none."""
        ...

    def forget(self, after: int, before: float, limit: int) -> int | None:
        """Delete events from before that time, with their deliveries. Events with a pending or
        dead delivery stay, and so does the latest event. Looks at `limit` events after the
        sequence `after`; gives the sequence to continue after, or None at the end."""
        ...


class Deliveries(Protocol):
    def get(self, event_id: str, endpoint_id: str) -> Delivery | None: ...
    def put(self, delivery: Delivery) -> None: ...
    def due(self, now: float) -> Sequence[Endpoint]:
        """The enabled endpoints with a delivery that is due and not leased."""
        ...

    def claim(
        self, endpoint_id: str, now: float, until: float, limit: int
    ) -> Sequence[tuple[Delivery, Event]]:
        """Lease the deliveries that are due and not leased. Of each vehicle only the first
        unfinished one, so that a vehicle's events arrive in order."""
        ...

    def settle(self, taken: Delivery, after: Delivery) -> bool:
        """Put the outcome `after` of a delivery that `claim` gave. False, and no change, when
        its lease has passed to another worker."""
        ...

    def of_endpoint(
        self, endpoint_id: str, state: str | None, limit: int
    ) -> Sequence[tuple[Delivery, Event]]:
        """The latest first."""
        ...


class Audit(Protocol):
    def add(self, entry: AuditEntry) -> None: ...
    def since(self, sequence: int, limit: int) -> Sequence[AuditEntry]: ...


class EndEntities(Repository[EndEntity], Protocol):
    def of_owner(self, owner: str) -> Sequence[EndEntity]: ...


class Registry(Protocol):
    def by_vin(self, vin: str) -> RegisteredVehicle | None: ...
    def by_plate(self, plate: str) -> RegisteredVehicle | None: ...
    def by_pcid(self, pcid: str) -> RegisteredVehicle | None: ...
    def put(self, vehicle: RegisteredVehicle) -> None: ...


class GuessBook(Protocol):
    def get(self, who: str, subject: str) -> Guesses | None: ...
    def put(self, guesses: Guesses) -> None: ...
    def delete(self, who: str, subject: str) -> None: ...


class Jobs(Repository[Job], Protocol):
    def claim(self, now: float, until: float) -> Job | None:
        """One waiting job that no worker has leased, leased until then."""
        ...


class Records(Protocol):
    """One transaction over all repositories of the ecosystem."""

    def lock(self, *names: str) -> None:
        """Hold these names until this transaction ends; another transaction that locks one of
        them waits. Needed where a write depends on what was read. A vehicle's name is its PCID in
        upper case. Lock several names in one call: two transactions that lock in different
        orders would wait for each other, and both fail."""
        ...

    def ahead(self, *asks: Callable[[], object]) -> None:
        """A hint: what each of these asks first will be asked below. A database that has to be
        waited for is asked all of it together with the next question, and once more what was
        written, or locked, in between. What these return is lost."""
        ...

    def vehicle_with_contracts(
        self, vehicle: str, namespace: str
    ) -> tuple[Provisioning | None, Sequence[Contract]]:
        """`vehicles.get` and `contracts.of_vehicle`, of a vehicle that is there: one query."""
        ...

    @property
    def roots(self) -> Roots: ...
    @property
    def vehicles(self) -> Vehicles: ...
    @property
    def contracts(self) -> Contracts: ...
    @property
    def statuses(self) -> Statuses: ...
    @property
    def seen(self) -> SeenMarks: ...
    @property
    def clients(self) -> Repository[Client]: ...
    @property
    def endpoints(self) -> Endpoints: ...
    @property
    def events(self) -> Events: ...
    @property
    def deliveries(self) -> Deliveries: ...
    @property
    def audit(self) -> Audit: ...
    @property
    def changes(self) -> Repository[RootChange]: ...
    @property
    def entities(self) -> EndEntities: ...
    @property
    def registry(self) -> Registry: ...
    @property
    def guesses(self) -> GuessBook: ...
    @property
    def providers(self) -> Repository[Provider]: ...
    @property
    def peers(self) -> Repository[Peer]: ...
    @property
    def jobs(self) -> Jobs: ...


class Store(Protocol):
    """Opens transactions. `write` is atomic: an exception inside undoes all of it. `at_hand`:
    now nothing has to be waited for but another writer (`plugvault.patience`). `kept`: whether
    what an event loop has read and written at once is kept, which it has to know before it
    answers. If not, nothing was done."""

    @property
    def at_hand(self) -> bool: ...
    def kept(self) -> Awaitable[bool] | bool: ...
    def read(self) -> AbstractContextManager[Records]: ...
    def write(self) -> AbstractContextManager[Records]: ...
