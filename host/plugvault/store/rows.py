"""The records of one transaction, each kind a small class over its table.

What `plugvault.pools.records` states as protocols, in SQL that SQLite and PostgreSQL share.
"""

from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from functools import cached_property
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Select, Table, and_, exists, func, or_, select, tuple_

from plugvault.pools import audit, records
from plugvault.store import tables

T = TypeVar("T")


class Rows(Generic[T]):
    """Get, put and delete records of one type by the table's primary key."""

    def __init__(self, connection: Connection, table: Table, record: type[T]) -> None:
        self._connection = connection
        self._table = table
        self._record = record
        self._key = [column.name for column in table.primary_key]

    def _rows(self, query: Select[Any]) -> list[T]:
        return [self._record(**row) for row in self._connection.execute(query).mappings()]

    def _where(self, **wanted: Any) -> list[T]:
        query = self._table.select()
        for name, value in wanted.items():
            query = query.where(self._table.c[name] == value)
        return self._rows(query)

    def _one(self, **wanted: Any) -> T | None:
        found = self._where(**wanted)
        return found[0] if found else None

    def _delete(self, **wanted: Any) -> None:
        query = self._table.delete()
        for name, value in wanted.items():
            query = query.where(self._table.c[name] == value)
        self._connection.execute(query)

    def put(self, record: T) -> None:
        values = {column.name: getattr(record, column.name) for column in self._table.columns}
        update = self._table.update()
        for name in self._key:
            update = update.where(self._table.c[name] == values[name])
        if not self._connection.execute(update.values(values)).rowcount:
            self._connection.execute(self._table.insert().values(values))

    def all(self) -> Sequence[T]:
        return self._rows(self._table.select().order_by(*self._table.primary_key))


class Roots(Rows[records.Root]):
    def get(self, root_id: str) -> records.Root | None:
        return self._one(root_id=root_id)

    def all(self, kind: str | None = None) -> Sequence[records.Root]:
        return self._where(kind=kind) if kind else self._where()

    def by_fingerprint(self, fingerprint: str) -> records.Root | None:
        return self._one(fingerprint=fingerprint)

    def delete(self, root_id: str) -> None:
        self._delete(root_id=root_id)


class _Ending(Rows[T]):
    """What has a certificate that can expire or be revoked."""

    def ended(self, now: float, limit: int) -> Sequence[T]:
        table, status = self._table.c, tables.statuses.c
        revoked = exists().where(
            status.issuer == table.issuer,
            status.serial == table.serial,
            status.revoked.is_not(None),
        )
        query = self._table.select().where(or_(table.not_after < now, revoked)).limit(limit)
        return self._rows(query)


class Vehicles(_Ending[records.Provisioning]):
    def get(self, vehicle: str, namespace: str) -> records.Provisioning | None:
        return self._one(vehicle=vehicle, namespace=namespace)

    def delete(self, vehicle: str, namespace: str) -> None:
        self._delete(vehicle=vehicle, namespace=namespace)


class Contracts(_Ending[records.Contract]):
    def get(self, emaid: str, namespace: str) -> records.Contract | None:
        return self._one(emaid=emaid, namespace=namespace)

    def of_vehicle(self, vehicle: str, namespace: str) -> Sequence[records.Contract]:
        return self._where(vehicle=vehicle, namespace=namespace)

    def of_provider(self, provider: str, limit: int) -> Sequence[records.Contract]:
        emaid = self._table.c.emaid
        above = provider[:-1] + chr(ord(provider[-1]) + 1)  # a range, which an index serves
        query = self._table.select().where(emaid >= provider, emaid < above)
        return self._rows(query.order_by(emaid).limit(limit))

    def delete(self, emaid: str, namespace: str) -> None:
        self._delete(emaid=emaid, namespace=namespace)


class Statuses(Rows[records.Status]):
    def get(self, issuer: str, serial: str) -> records.Status | None:
        return self._one(issuer=issuer, serial=serial)

    def revoked(self, certificates: Sequence[tuple[str, str]]) -> bool:
        table = self._table.c
        query = select(table.serial).where(
            tuple_(table.issuer, table.serial).in_(list(certificates)),
            table.revoked.is_not(None),
        )
        return self._connection.execute(query.limit(1)).first() is not None

    def revoked_by(self, issuer: str) -> Sequence[records.Status]:
        table = self._table
        query = table.select().where(table.c.issuer == issuer, table.c.revoked.is_not(None))
        return self._rows(query)


class Clients(Rows[records.Client]):
    def get(self, client_id: str) -> records.Client | None:
        return self._one(client_id=client_id)


class Endpoints(Rows[records.Endpoint]):
    def get(self, endpoint_id: str) -> records.Endpoint | None:
        return self._one(endpoint_id=endpoint_id)

    def of_owner(self, owner: str) -> Sequence[records.Endpoint]:
        return self._where(owner=owner)

    def listening(self, audience: str) -> Sequence[records.Endpoint]:
        enabled = self._where(enabled=True)
        if audience == "*":
            return enabled
        return [one for one in enabled if audience in one.scopes.split(",")]

    def delete(self, endpoint_id: str) -> None:
        self._delete(endpoint_id=endpoint_id)
        table = tables.deliveries
        self._connection.execute(table.delete().where(table.c.endpoint_id == endpoint_id))


class Events(Rows[records.Event]):
    """`add` keeps events until `flush`, at the end of the transaction, gives them a sequence."""

    _new: list[records.Event]

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection, tables.events, records.Event)
        self._new = []

    def get(self, event_id: str) -> records.Event | None:
        return self._one(event_id=event_id)

    def add(self, event: records.Event) -> None:
        self._new.append(event)

    def flush(self) -> None:
        rows = [asdict(event) for event in self._new]
        for row in rows:
            del row["sequence"]
        if rows:
            self._connection.execute(self._table.insert(), rows)
        self._new = []

    def since(
        self, sequence: int, audiences: Sequence[str] | None, limit: int
    ) -> Sequence[records.Event]:
        table = self._table.c
        query = self._table.select().where(table.sequence > sequence)
        if audiences is not None:
            query = query.where(table.audience.in_(list(audiences)))
        return self._rows(query.order_by(table.sequence).limit(limit))

    def last(self) -> int:
        return self._connection.execute(select(func.max(self._table.c.sequence))).scalar() or 0


class Deliveries(Rows[records.Delivery]):
    def get(self, event_id: str, endpoint_id: str) -> records.Delivery | None:
        return self._one(event_id=event_id, endpoint_id=endpoint_id)

    def claim(
        self, now: float, until: float, limit: int
    ) -> Sequence[tuple[records.Delivery, records.Event, records.Endpoint]]:
        mine, event, endpoint = self._table.c, tables.events.c, tables.endpoints.c
        other, before = self._table.alias(), tables.events.alias()
        earlier = exists().where(
            other.c.endpoint_id == mine.endpoint_id,
            other.c.vehicle == mine.vehicle,
            other.c.vehicle != "",
            other.c.state == "pending",
            before.c.event_id == other.c.event_id,
            before.c.sequence < event.sequence,
        )
        query = (
            select(self._table, tables.events, tables.endpoints)
            .where(
                mine.state == "pending",
                mine.due <= now,
                mine.lease <= now,
                event.event_id == mine.event_id,
                endpoint.endpoint_id == mine.endpoint_id,
                ~earlier,
            )
            .order_by(event.sequence)
            .limit(limit)
        )
        taken = []
        for row in self._connection.execute(query).all():
            delivery = replace(_part(row, self._table, records.Delivery), lease=until)
            self.put(delivery)
            taken.append(
                (
                    delivery,
                    _part(row, tables.events, records.Event),
                    _part(row, tables.endpoints, records.Endpoint),
                )
            )
        return taken

    def listed(
        self, state: str | None, limit: int
    ) -> Sequence[tuple[records.Delivery, records.Event]]:
        event = tables.events.c
        query = select(self._table, tables.events).where(event.event_id == self._table.c.event_id)
        if state:
            query = query.where(self._table.c.state == state)
        rows = self._connection.execute(query.order_by(event.sequence.desc()).limit(limit)).all()
        return [
            (
                _part(row, self._table, records.Delivery),
                _part(row, tables.events, records.Event),
            )
            for row in rows
        ]


class Audit(Rows[records.AuditEntry]):
    def add(self, entry: records.AuditEntry) -> None:
        table = self._table
        last = select(table.c.digest).order_by(table.c.sequence.desc()).limit(1)
        before = self._connection.execute(last).scalar() or ""
        row = asdict(entry)
        del row["sequence"]
        row["digest"] = audit.digest(before, entry)
        self._connection.execute(table.insert().values(row))

    def since(self, sequence: int, limit: int) -> Sequence[records.AuditEntry]:
        table = self._table
        query = table.select().where(table.c.sequence > sequence)
        return self._rows(query.order_by(table.c.sequence).limit(limit))


class RootChanges(Rows[records.RootChange]):
    def get(self, change_id: str) -> records.RootChange | None:
        return self._one(change_id=change_id)


class EndEntities(Rows[records.EndEntity]):
    def get(self, common_name: str) -> records.EndEntity | None:
        return self._one(common_name=common_name)

    def of_owner(self, owner: str) -> Sequence[records.EndEntity]:
        return self._where(owner=owner)


class Registry(Rows[records.RegisteredVehicle]):
    def by_vin(self, vin: str) -> records.RegisteredVehicle | None:
        return self._one(vin=vin)

    def by_plate(self, plate: str) -> records.RegisteredVehicle | None:
        return self._one(plate=plate)

    def by_pcid(self, pcid: str) -> records.RegisteredVehicle | None:
        return self._one(pcid=pcid)


class GuessBook(Rows[records.Guesses]):
    def get(self, who: str, subject: str) -> records.Guesses | None:
        return self._one(who=who, subject=subject)

    def delete(self, who: str, subject: str) -> None:
        self._delete(who=who, subject=subject)


class Providers(Rows[records.Provider]):
    def get(self, provider: str) -> records.Provider | None:
        return self._one(provider=provider)


class Peers(Rows[records.Peer]):
    def get(self, name: str) -> records.Peer | None:
        return self._one(name=name)


class Jobs(Rows[records.Job]):
    def get(self, job_id: str) -> records.Job | None:
        return self._one(job_id=job_id)

    def claim(self, now: float, until: float) -> records.Job | None:
        table = self._table.c
        query = self._table.select().where(and_(table.state == "waiting", table.lease <= now))
        found = self._rows(query.order_by(table.asked).limit(1))
        if not found:
            return None
        job = replace(found[0], lease=until)
        self.put(job)
        return job


class SqlRecords:
    """One transaction over the ecosystem's tables."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def lock(self, *names: str) -> None:
        if self._connection.dialect.name == "postgresql":  # SQLite has one writer at a time
            for name in sorted(names):
                number = func.hashtextextended(name, 0)
                self._connection.execute(select(func.pg_advisory_xact_lock(number)))

    @cached_property
    def roots(self) -> Roots:
        return Roots(self._connection, tables.roots, records.Root)

    @cached_property
    def vehicles(self) -> Vehicles:
        return Vehicles(self._connection, tables.vehicles, records.Provisioning)

    @cached_property
    def contracts(self) -> Contracts:
        return Contracts(self._connection, tables.contracts, records.Contract)

    @cached_property
    def statuses(self) -> Statuses:
        return Statuses(self._connection, tables.statuses, records.Status)

    @cached_property
    def clients(self) -> Clients:
        return Clients(self._connection, tables.clients, records.Client)

    @cached_property
    def endpoints(self) -> Endpoints:
        return Endpoints(self._connection, tables.endpoints, records.Endpoint)

    @cached_property
    def events(self) -> Events:
        return Events(self._connection)

    @cached_property
    def deliveries(self) -> Deliveries:
        return Deliveries(self._connection, tables.deliveries, records.Delivery)

    @cached_property
    def audit(self) -> Audit:
        return Audit(self._connection, tables.audit, records.AuditEntry)

    @cached_property
    def changes(self) -> RootChanges:
        return RootChanges(self._connection, tables.changes, records.RootChange)

    @cached_property
    def entities(self) -> EndEntities:
        return EndEntities(self._connection, tables.entities, records.EndEntity)

    @cached_property
    def registry(self) -> Registry:
        return Registry(self._connection, tables.registry, records.RegisteredVehicle)

    @cached_property
    def guesses(self) -> GuessBook:
        return GuessBook(self._connection, tables.guesses, records.Guesses)

    @cached_property
    def providers(self) -> Providers:
        return Providers(self._connection, tables.providers, records.Provider)

    @cached_property
    def peers(self) -> Peers:
        return Peers(self._connection, tables.peers, records.Peer)

    @cached_property
    def jobs(self) -> Jobs:
        return Jobs(self._connection, tables.jobs, records.Job)

    def finish(self) -> None:
        """What a transaction does last: give the new events their places."""
        self.events.flush()


def _part(row: Any, table: Table, record: type[T]) -> T:
    return record(**{one.name: row._mapping[table.c[one.name]] for one in fields(record)})  # type: ignore[arg-type]
