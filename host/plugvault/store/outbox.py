"""Webhook endpoints, events, their deliveries; the audit trail; long-running jobs.

Events and audit lines get their numbers at the very end of a transaction, one transaction at a
time. So numbers grow in the order in which transactions commit, and a reader that has read up to
a number has missed none below it.
"""

from collections.abc import Sequence
from dataclasses import fields, replace
from functools import cache
from itertools import takewhile
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Executable,
    bindparam,
    exists,
    func,
    literal_column,
    or_,
    select,
)

from plugvault.pools import audit, records
from plugvault.store import tables
from plugvault.store.rows import INSERT, Rows, delete_by, upsert
from plugvault.store.transaction import Row, Transaction

EVERYONE = "*"
_LIMIT: BindParameter[int] = bindparam("limit")


class SqlEndpoints(Rows[records.Endpoint]):
    table, record = tables.endpoints, records.Endpoint

    def get(self, endpoint_id: str) -> records.Endpoint | None:
        return self._one(endpoint_id=endpoint_id)

    def of_owner(self, owner: str) -> Sequence[records.Endpoint]:
        return self._where(owner=owner)

    def listening(self, audience: str) -> Sequence[records.Endpoint]:
        """An endpoint gets the events of EVERYONE. An endpoint with EVERYONE among its scopes gets
        all events."""
        if audience == EVERYONE:
            return self._rows(_ENABLED)
        return self._rows(_LISTENING, audience=audience)

    def put(self, record: records.Endpoint) -> None:
        super().put(record)
        self._transaction.run(_DELETE_LISTENERS, vars(record))
        scopes = {scope for scope in record.scopes.split(",") if scope}
        listener = upsert(tables.listeners, self._transaction.database)
        rows = [{"scope": scope, "endpoint_id": record.endpoint_id} for scope in sorted(scopes)]
        self._transaction.many(listener, rows)

    def delete(self, endpoint_id: str) -> None:
        for table in (tables.endpoints, tables.listeners, tables.deliveries):
            key = {"endpoint_id": endpoint_id}
            self._transaction.run(delete_by(table, ("endpoint_id",)), key)


_endpoint = tables.endpoints.c
_DELETE_LISTENERS = delete_by(tables.listeners, ("endpoint_id",))
_client = tables.clients.c
_LOCKED_OUT = exists().where(_client.client_id == _endpoint.owner, _client.active.is_(False))
_ENABLED = tables.endpoints.select().where(_endpoint.enabled.is_(True), ~_LOCKED_OUT)
_LISTENING = _ENABLED.where(
    _endpoint.endpoint_id.in_(
        select(tables.listeners.c.endpoint_id).where(
            tables.listeners.c.scope.in_([bindparam("audience"), literal_column("'*'")])
        )
    )
)


class Outbox:
    """Events, deliveries and audit lines of one transaction that have no number yet."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self.events: list[records.Event] = []
        self.deliveries: list[records.Delivery] = []
        self.lines: list[records.AuditEntry] = []

    def flush(self) -> None:
        """Write and number all of them. From this call on, other transactions that give numbers
        wait until this transaction has ended."""
        if not (self.events or self.lines):
            return
        transaction = self._transaction
        transaction.lock_order()
        transaction.many(_NEW_EVENT, map(vars, self.events))
        transaction.many(_put_delivery(transaction.database), map(vars, self.deliveries))
        digest = ""
        if self.lines:
            last = transaction.rows(_LAST_LINE, {})
            digest = last[0][0] if last else ""
        for line in self.lines:
            digest = audit.digest(digest, line)
            transaction.run(_NEW_LINE, {**vars(line), "digest": digest})
        self.events, self.deliveries, self.lines = [], [], []


def _numbered(table: Any) -> Executable:
    """Insert a row; the database gives its number."""
    names = [column.name for column in table.columns if column.name != "sequence"]
    values: dict[str, Any] = {name: bindparam(name) for name in names}
    statement: Executable = table.insert().inline().values(values)
    return statement


_NEW_EVENT = _numbered(tables.events)
_NEW_LINE = _numbered(tables.audit)
_LAST_LINE = select(tables.audit.c.digest).where(
    tables.audit.c.sequence == select(func.max(tables.audit.c.sequence)).scalar_subquery()
)


class SqlEvents(Rows[records.Event]):
    table, record = tables.events, records.Event

    def __init__(self, transaction: Transaction, outbox: Outbox) -> None:
        super().__init__(transaction)
        self._outbox = outbox

    def add(self, event: records.Event) -> None:
        self._outbox.events.append(event)

    def get(self, event_id: str) -> records.Event | None:
        self._outbox.flush()
        return self._one(event_id=event_id)

    def since(
        self, sequence: int, audiences: Sequence[str] | None, limit: int
    ) -> Sequence[records.Event]:
        self._outbox.flush()
        at = {"sequence": sequence, "limit": limit}
        if audiences is None:
            return self._rows(_LATER, **at)
        events: list[records.Event] = []
        for audience in dict.fromkeys(audiences):
            events += self._rows(_LATER_FOR, audience=audience, **at)
        return sorted(events, key=lambda event: event.sequence)[:limit]

    def last(self) -> int:
        self._outbox.flush()
        ((last,),) = self._transaction.rows(_LAST, {})
        return last or 0

    def forget(self, after: int, before: float, limit: int) -> int | None:
        self._transaction.lock("events.forget")
        latest = self.last()  # stays, so that no number is given twice
        page = self._rows(_LATER, sequence=after, limit=limit)
        old = [
            event.sequence
            for event in takewhile(lambda event: event.at < before, page)
            if event.sequence < latest
        ]
        if old:
            between = {"first": old[0], "last": old[-1]}
            self._transaction.run(_DELETE_FINISHED, between)
            unfinished = {sequence for (sequence,) in self._transaction.rows(_REMAINING, between)}
            purged = [{"number": sequence} for sequence in old if sequence not in unfinished]
            self._transaction.many(_DELETE_EVENT, purged)
        return old[-1] if len(old) == limit else None


_event = tables.events.c
_LAST = select(func.max(_event.sequence))
_LATER = (
    tables.events.select()
    .where(_event.sequence > bindparam("sequence"))
    .order_by(_event.sequence)
    .limit(_LIMIT)
)
_LATER_FOR = _LATER.where(_event.audience == bindparam("audience"))
_DELETE_EVENT = tables.events.delete().where(_event.sequence == bindparam("number"))


class SqlDeliveries(Rows[records.Delivery]):
    table, record = tables.deliveries, records.Delivery

    def __init__(self, transaction: Transaction, outbox: Outbox) -> None:
        super().__init__(transaction)
        self._outbox = outbox

    def _read(self, row: Row) -> records.Delivery:
        return records.Delivery(*row[:-1])

    def get(self, event_id: str, endpoint_id: str) -> records.Delivery | None:
        self._outbox.flush()
        return self._one(event_id=event_id, endpoint_id=endpoint_id)

    def put(self, record: records.Delivery) -> None:
        if any(event.event_id == record.event_id for event in self._outbox.events):
            self._outbox.deliveries.append(record)  # its event has no number yet
        else:
            self._transaction.run(_put_delivery(self._transaction.database), vars(record))

    def due(self, now: float) -> Sequence[records.Endpoint]:
        self._outbox.flush()
        return SqlEndpoints(self._transaction)._rows(_WITH_DUE, now=now)

    def claim(
        self, endpoint_id: str, now: float, until: float, limit: int
    ) -> Sequence[tuple[records.Delivery, records.Event]]:
        self._outbox.flush()
        values = {"of_endpoint": endpoint_id, "now": now, "limit": limit}
        self._transaction.keep_index_order()
        rows = self._transaction.rows(_DUE, values)
        due = [self._with_event(row) for row in rows]
        keys = [
            {"of_event": event.event_id, "of_endpoint": endpoint_id, "until": until}
            for _, event in due
        ]
        self._transaction.many(_LEASE, keys)
        return [(replace(delivery, lease=until), event) for delivery, event in due]

    def settle(self, taken: records.Delivery, after: records.Delivery) -> bool:
        values = {**vars(after), "of_event": taken.event_id, "of_endpoint": taken.endpoint_id}
        settled = {**values, "claimed_lease": taken.lease}
        return bool(self._transaction.change(_SETTLE, settled))

    def of_endpoint(
        self, endpoint_id: str, state: str | None, limit: int
    ) -> Sequence[tuple[records.Delivery, records.Event]]:
        self._outbox.flush()
        values = {"of_endpoint": endpoint_id, "limit": limit, "state": state}
        rows = self._transaction.rows(_IN_STATE if state else _LISTED, values)
        return [self._with_event(row) for row in rows]

    def end_waits(self, now: float, due: float, lease: float) -> None:
        self._outbox.flush()
        self._transaction.run(_END_DUE, {"now": now, "latest": due})
        self._transaction.run(_END_LEASE, {"now": now, "latest": lease})

    def forget_deleted(self) -> None:
        without_endpoint = self._transaction.rows(_WITHOUT_ENDPOINT, {})
        ids = [{"endpoint_id": endpoint_id} for (endpoint_id,) in without_endpoint]
        self._transaction.many(_DELETE_DELIVERIES, ids)

    def _with_event(self, row: Row) -> tuple[records.Delivery, records.Event]:
        return self._read(row[:_COLUMNS]), records.Event(*row[_COLUMNS:])


_delivery = tables.deliveries.c
_DELETE_DELIVERIES = delete_by(tables.deliveries, ("endpoint_id",))

# One look into the index for each endpoint: a SELECT DISTINCT would read every delivery.
_ids = select(func.min(_delivery.endpoint_id).label("endpoint_id")).cte("ids", recursive=True)
_next_id = select(func.min(_delivery.endpoint_id)).where(
    _delivery.endpoint_id > _ids.c.endpoint_id
)
_ids = _ids.union_all(select(_next_id.scalar_subquery()).where(_ids.c.endpoint_id.is_not(None)))
_WITHOUT_ENDPOINT = select(_ids.c.endpoint_id).where(
    _ids.c.endpoint_id.is_not(None),
    ~exists().where(_endpoint.endpoint_id == _ids.c.endpoint_id),
)
_COLUMNS = len(tables.deliveries.columns)  # an event's columns follow
_PENDING: ColumnElement[str] = literal_column("'pending'")

# The first pending delivery of the same vehicle and endpoint. As a scalar subquery the database
# looks it up in an index; as "no earlier one exists" it may compare every row with every other.
_other = tables.deliveries.alias("other")
_first = (
    select(_other.c.sequence)
    .where(
        _other.c.state == _PENDING,
        _other.c.endpoint_id == _delivery.endpoint_id,
        _other.c.vehicle == _delivery.vehicle,
    )
    .order_by(_other.c.sequence)
    .limit(literal_column("1"))
    .scalar_subquery()
)
_UNLEASED = (
    _delivery.state == _PENDING,
    _delivery.due <= bindparam("now"),
    _delivery.lease <= bindparam("now"),
)
_WITH_DUE = _ENABLED.where(
    exists().where(_delivery.endpoint_id == _endpoint.endpoint_id, *_UNLEASED)
)
_DUE = (
    select(tables.deliveries, tables.events)
    .where(
        _delivery.endpoint_id == bindparam("of_endpoint"),
        *_UNLEASED,
        _event.event_id == _delivery.event_id,
        or_(_delivery.vehicle == literal_column("''"), _delivery.sequence == _first),
    )
    .order_by(_delivery.due, _delivery.sequence)
    .limit(_LIMIT)
    .with_for_update(of=tables.deliveries, skip_locked=True)  # another worker claims those
)
_LEASE = (
    tables.deliveries.update()
    .where(
        _delivery.event_id == bindparam("of_event"),
        _delivery.endpoint_id == bindparam("of_endpoint"),
    )
    .values(lease=bindparam("until"))
)
_SETTLE = (
    tables.deliveries.update()
    .where(
        _delivery.event_id == bindparam("of_event"),
        _delivery.endpoint_id == bindparam("of_endpoint"),
        _delivery.state == _PENDING,
        _delivery.lease == bindparam("claimed_lease"),
    )
    .values({name: bindparam(name) for name in ("state", "attempts", "due", "lease", "outcome")})
)
# By endpoint first, as in the index of the pending deliveries.
_OF_ENDPOINTS = (_delivery.endpoint_id.in_(select(_endpoint.endpoint_id)), _UNLEASED[0])
_END_DUE = (
    tables.deliveries.update()
    .where(*_OF_ENDPOINTS, _delivery.due > bindparam("latest"))
    .values(due=bindparam("now"))
)
_END_LEASE = (
    tables.deliveries.update()
    .where(
        *_OF_ENDPOINTS,
        _delivery.due <= bindparam("now"),
        _delivery.lease > bindparam("latest"),
    )
    .values(lease=0.0)
)
_LISTED = (
    select(tables.deliveries, tables.events)
    .where(
        _delivery.endpoint_id == bindparam("of_endpoint"),
        _event.event_id == _delivery.event_id,
    )
    .order_by(_delivery.sequence.desc())
    .limit(_LIMIT)
)
_IN_STATE = _LISTED.where(_delivery.state == bindparam("state"))

# By endpoint first, as in the index that serves it.
_OF_OLD = (
    _delivery.endpoint_id.in_(select(_endpoint.endpoint_id)),
    _delivery.sequence.between(bindparam("first"), bindparam("last")),
)
_UNFINISHED: tuple[ColumnElement[str], ...] = (_PENDING, literal_column("'dead'"))
_DELETE_FINISHED = tables.deliveries.delete().where(*_OF_OLD, _delivery.state.not_in(_UNFINISHED))
_REMAINING = select(_delivery.sequence).where(*_OF_OLD)


@cache
def _put_delivery(database: str) -> Executable:
    """A delivery with its event's number, which keeps a vehicle's deliveries in order."""
    number = select(_event.sequence).where(_event.event_id == bindparam("event_id"))
    names = [field.name for field in fields(records.Delivery)]
    insert = INSERT[database](tables.deliveries).values(
        {**{name: bindparam(name) for name in names}, "sequence": number.scalar_subquery()}
    )
    key = ("endpoint_id", "event_id")
    updated = {name: insert.excluded[name] for name in names if name not in key}
    statement: Executable = insert.on_conflict_do_update(index_elements=key, set_=updated)
    return statement


class SqlAudit(Rows[records.AuditEntry]):
    """An append-only table: the database refuses to change or delete a line."""

    table, record = tables.audit, records.AuditEntry

    def __init__(self, transaction: Transaction, outbox: Outbox) -> None:
        super().__init__(transaction)
        self._outbox = outbox

    def add(self, entry: records.AuditEntry) -> None:
        self._outbox.lines.append(entry)

    def since(self, sequence: int, limit: int) -> Sequence[records.AuditEntry]:
        self._outbox.flush()
        return self._rows(_LINES, sequence=sequence, limit=limit)


_line = tables.audit.c
_LINES = (
    tables.audit.select()
    .where(_line.sequence > bindparam("sequence"))
    .order_by(_line.sequence)
    .limit(_LIMIT)
)


class SqlJobs(Rows[records.Job]):
    table, record = tables.jobs, records.Job

    def get(self, job_id: str) -> records.Job | None:
        return self._one(job_id=job_id)

    def claim(self, now: float, until: float) -> records.Job | None:
        waiting = self._rows(_WAITING_JOB, now=now)
        if not waiting:
            return None
        job = replace(waiting[0], lease=until)
        self.put(job)
        return job

    def end_leases(self, lease: float) -> None:
        self._transaction.run(_END_LEASES, {"latest": lease})


_job = tables.jobs.c
_WAITING_JOB = (
    tables.jobs.select()
    .where(_job.state == literal_column("'waiting'"), _job.lease <= bindparam("now"))
    .order_by(_job.asked)
    .limit(literal_column("1"))
    .with_for_update(skip_locked=True)
)
_END_LEASES = (
    tables.jobs.update()
    .where(_job.state == literal_column("'waiting'"), _job.lease > bindparam("latest"))
    .values(lease=0.0)
)
