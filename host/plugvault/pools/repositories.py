"""The interface of the store that the pools use: one repository per kind of record.

`Records` is one transaction over all repositories: either all of its changes take effect or none
does. The one implementation is SQL (`plugvault.store`); the pools know only this interface.

Every method that gets one record by its key returns None for an unknown key. `put` inserts a
record or replaces the one with its key. Times are Unix seconds. `limit` is the largest number of
records that a call returns or deletes.
"""

from collections.abc import Sequence
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
    FailedAttemptCount,
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
    """The roots of RCP."""

    def get(self, root_id: str) -> Root | None: ...
    def all(self, kind: str | None = None) -> Sequence[Root]: ...
    def by_fingerprint(self, fingerprint: str) -> Root | None: ...
    def put(self, root: Root) -> None: ...
    def delete(self, root_id: str) -> None: ...


class Vehicles(Protocol):
    """The vehicles of PCP. `vehicle`: the PCID in upper case."""

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
    """The contracts of CCP. `emaid`: as stored, with or without its check digit; `of_provider`: by
    the five characters "DEPVA"."""

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
    """The statuses of certificates. `issuer`, `serial`: lower-case hexadecimal, see `records`."""

    def get(self, issuer: str, serial: str) -> Status | None: ...
    def put(self, status: Status) -> None: ...
    def known(self, certificates: Sequence[tuple[str, str]]) -> Sequence[Status]:
        """The statuses of these (issuer, serial) that are recorded: one query."""
        ...

    def revoked(self, certificates: Sequence[tuple[str, str]]) -> bool:
        """Whether any of these (issuer, serial) is revoked: one query."""
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
    """The marks of used DH points and contract keys (`pools.envelopes`)."""

    def known(self, marks: Sequence[bytes]) -> Sequence[Seen]:
        """The records of those marks that exist: one query."""
        ...

    def add(self, seen: Sequence[Seen]) -> None:
        """Add new marks. A concurrent writer that adds one of them is refused."""
        ...

    def extend(self, mark: bytes, until: int) -> None: ...
    def forget(self, now: float, limit: int) -> int:
        """Delete expired marks whose contract key has expired too. Return their number."""
        ...


class Endpoints(Repository[Endpoint], Protocol):
    """The webhook endpoints."""

    def of_owner(self, owner: str) -> Sequence[Endpoint]: ...
    def listening(self, audience: str) -> Sequence[Endpoint]:
        """The enabled endpoints with this audience among their scopes. Their kinds of events are
        not considered."""
        ...

    def delete(self, endpoint_id: str) -> None:
        """Delete an endpoint with its deliveries."""
        ...


class Events(Protocol):
    """The events, in the order of their sequence numbers."""

    def add(self, event: Event) -> None: ...
    def get(self, event_id: str) -> Event | None: ...
    def since(self, sequence: int, audiences: Sequence[str] | None, limit: int) -> Sequence[Event]:
        """The events after this sequence number for these audiences (None: all of them), in
        order."""
        ...

    def last(self) -> int:
        """The highest sequence number, 0 without an event."""
        ...

    def forget(self, after: int, before: float, limit: int) -> int | None:
        """Delete events from before that time, with their deliveries. Events with a pending or
        dead delivery stay, and so does the latest event.

        One call looks at `limit` events after the sequence `after`. It returns the sequence to
        continue after, or None at the end.
        """
        ...


class Deliveries(Protocol):
    """The deliveries of events to webhooks."""

    def get(self, event_id: str, endpoint_id: str) -> Delivery | None: ...
    def put(self, delivery: Delivery) -> None: ...
    def due(self, now: float) -> Sequence[Endpoint]:
        """The enabled endpoints with a delivery that is due and not leased."""
        ...

    def claim(
        self, endpoint_id: str, now: float, until: float, limit: int
    ) -> Sequence[tuple[Delivery, Event]]:
        """Lease the deliveries of an endpoint that are due and not leased, until the time `until`.
        Of each vehicle only the first unfinished one, so that a vehicle's events arrive in
        order."""
        ...

    def settle(self, taken: Delivery, after: Delivery) -> bool:
        """Replace a delivery that `claim` returned by its outcome `after`. False, and no change,
        when its lease has passed to another worker."""
        ...

    def end_waits(self, now: float, due: float, lease: float) -> None:
        """Make pending deliveries due at `now` that are due later than `due`, and end leases that
        end later than `lease`."""
        ...

    def forget_deleted(self) -> None:
        """Delete deliveries whose endpoint does not exist. One remains when an event is published
        while its endpoint is deleted."""
        ...

    def of_endpoint(
        self, endpoint_id: str, state: str | None, limit: int
    ) -> Sequence[tuple[Delivery, Event]]:
        """The deliveries to an endpoint with their events, the latest first. `state`: None for
        all."""
        ...


class Audit(Protocol):
    """The audit trail. `add` writes a line; no method changes or deletes one."""

    def add(self, entry: AuditEntry) -> None: ...
    def since(self, sequence: int, limit: int) -> Sequence[AuditEntry]: ...


class EndEntities(Repository[EndEntity], Protocol):
    """The announced charging stations."""

    def of_owner(self, owner: str) -> Sequence[EndEntity]: ...


class Registry(Protocol):
    """The vehicle registry. All identifiers are in upper case."""

    def by_vin(self, vin: str) -> RegisteredVehicle | None: ...
    def by_plate(self, plate: str) -> RegisteredVehicle | None: ...
    def by_pcid(self, pcid: str) -> RegisteredVehicle | None: ...
    def put(self, vehicle: RegisteredVehicle) -> None: ...


class FailedAttempts(Protocol):
    """The counts of wrong proofs."""

    def get(self, who: str, subject: str) -> FailedAttemptCount | None: ...
    def put(self, attempts: FailedAttemptCount) -> None: ...
    def delete(self, who: str, subject: str) -> None: ...
    def forget(self, before: float, limit: int) -> int:
        """Delete counts whose latest attempt was not after `before`. Return their number."""
        ...


class Jobs(Repository[Job], Protocol):
    """The jobs of workers."""

    def claim(self, now: float, until: float) -> Job | None:
        """One waiting job that no worker has leased, leased until `until`. None without one."""
        ...

    def end_leases(self, lease: float) -> None:
        """End leases of waiting jobs that end later than `lease`."""
        ...


class Times(Protocol):
    """The time of the last run of periodic tasks, Unix seconds, by their names."""

    def get(self, name: str) -> int | None: ...
    def put(self, name: str, time: int) -> None: ...


class Records(Protocol):
    """One transaction over all repositories of the ecosystem."""

    def lock(self, *names: str) -> None:
        """Hold these names until this transaction ends; another transaction that locks one of them
        waits.

        Needed where a write depends on what was read. A vehicle's name is its PCID in upper case.
        Lock several names in one call: two transactions that lock in different orders would wait
        for each other, and both fail.
        """
        ...

    def vehicle_with_contracts(
        self, vehicle: str, namespace: str
    ) -> tuple[Provisioning | None, Sequence[Contract]]:
        """The results of `vehicles.get` and `contracts.of_vehicle` in one query. An unknown
        vehicle has no contracts."""
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
    def failed_attempts(self) -> FailedAttempts: ...
    @property
    def providers(self) -> Repository[Provider]: ...
    @property
    def peers(self) -> Repository[Peer]: ...
    @property
    def jobs(self) -> Jobs: ...
    @property
    def times(self) -> Times: ...


class Store(Protocol):
    """Opens transactions. `write` is atomic: an exception inside undoes all of it. `is_local`: the
    database is a file of this machine, which answers without waiting for a server.

    Both raise PoolError("unavailable") when the database cannot be used.
    """

    @property
    def is_local(self) -> bool: ...
    def read(self) -> AbstractContextManager[Records]: ...
    def write(self) -> AbstractContextManager[Records]: ...
