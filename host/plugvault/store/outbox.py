"""Events, who hears of them, and how far each has come; the audit trail; long work.

Events and lines of the trail are numbered at the very end of a transaction, one transaction at a
time, so that numbers grow in the order in which transactions end: who has read up to a number
has missed none below it.
"""

from collections.abc import Sequence
from dataclasses import fields, replace
from functools import cache
from itertools import chain, takewhile
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
Mark = tuple[int, int, int]
_LIMIT: BindParameter[int] = bindparam("limit")


class Endpoints(Rows[records.Endpoint]):
    table, record = tables.endpoints, records.Endpoint

    def get(self, endpoint_id: str) -> records.Endpoint | None:
        return self._one(endpoint_id=endpoint_id)

    def of_owner(self, owner: str) -> Sequence[records.Endpoint]:
        return self._where(owner=owner)

    def listening(self, audience: str) -> Sequence[records.Endpoint]:
        """An endpoint listens to EVERYONE and, with that as a scope, to everything."""
        memo, wanted = self._transaction.memo, (Endpoints, audience)
        if wanted not in memo and audience == EVERYONE:
            memo[wanted] = self._rows(_ENABLED)
        elif wanted not in memo:
            memo[wanted] = self._rows(_LISTENING, audience=audience)
        found: Sequence[records.Endpoint] = memo[wanted]
        return found

    def put(self, record: records.Endpoint) -> None:
        super().put(record)
        self._transaction.run(_FORGET_LISTENER, vars(record))
        scopes = {scope for scope in record.scopes.split(",") if scope}
        listener = upsert(tables.listeners, self._transaction.database)
        rows = [{"scope": scope, "endpoint_id": record.endpoint_id} for scope in sorted(scopes)]
        self._transaction.many(listener, rows)

    def delete(self, endpoint_id: str) -> None:
        for table in (tables.endpoints, tables.listeners, tables.deliveries):
            key = {"endpoint_id": endpoint_id}
            self._transaction.run(delete_by(table, ("endpoint_id",)), key)


_endpoint = tables.endpoints.c
_FORGET_LISTENER = delete_by(tables.listeners, ("endpoint_id",))
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
    """What one transaction has to say, until it is numbered."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self.events: list[records.Event] = []
        self.deliveries: list[records.Delivery] = []
        self.lines: list[records.AuditEntry] = []

    def mark(self) -> Mark:
        """How much there is."""
        return len(self.events), len(self.deliveries), len(self.lines)

    def cut(self, mark: Mark) -> None:
        """Forget what came after that."""
        events, deliveries, lines = mark
        del self.events[events:], self.deliveries[deliveries:], self.lines[lines:]

    def flush(self) -> None:
        """Number all of it. From here on others wait until this transaction has ended."""
        if not (self.events or self.lines):
            return
        transaction = self._transaction
        transaction.lock_order()
        transaction.many(_NEW_EVENT, map(vars, self.events))
        transaction.many(_put_delivery(transaction.database), map(vars, self.deliveries))
        before = ""
        if self.lines:
            last = transaction.rows(_LAST_LINE, {})
            before = last[0][0] if last else ""
        for line in self.lines:
            before = audit.digest(before, line)
            transaction.run(_NEW_LINE, {**vars(line), "digest": before})
        self.events, self.deliveries, self.lines = [], [], []


def _numbered(table: Any) -> Executable:
    """A new row, whose number the database gives."""
    names = [column.name for column in table.columns if column.name != "sequence"]
    values: dict[str, Any] = {name: bindparam(name) for name in names}
    inserted: Executable = table.insert().inline().values(values)
    return inserted


_NEW_EVENT = _numbered(tables.events)
_NEW_LINE = _numbered(tables.audit)
_LAST_LINE = select(tables.audit.c.digest).where(
    tables.audit.c.sequence == select(func.max(tables.audit.c.sequence)).scalar_subquery()
)


class Events(Rows[records.Event]):
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
        found = [self._rows(_LATER_FOR, audience=one, **at) for one in dict.fromkeys(audiences)]
        return sorted(chain.from_iterable(found), key=lambda event: event.sequence)[:limit]

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
            self._transaction.run(_FORGET_DELIVERIES, between)
            kept = {sequence for (sequence,) in self._transaction.rows(_KEPT, between)}
            gone = [{"place": sequence} for sequence in old if sequence not in kept]
            self._transaction.many(_FORGET, gone)
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
_FORGET = tables.events.delete().where(_event.sequence == bindparam("place"))


class Deliveries(Rows[records.Delivery]):
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
        return Endpoints(self._transaction)._rows(_WAITED_FOR, now=now)

    def claim(
        self, endpoint_id: str, now: float, until: float, limit: int
    ) -> Sequence[tuple[records.Delivery, records.Event]]:
        self._outbox.flush()
        values = {"of_endpoint": endpoint_id, "now": now, "limit": limit}
        self._transaction.keep_index_order()
        rows = self._transaction.rows(_DUE, values)
        taken = [
            (replace(self._read(row[:_D]), lease=until), records.Event(*row[_D:])) for row in rows
        ]
        keys = [
            {"of_event": one.event_id, "of_endpoint": endpoint_id, "until": until}
            for one, _ in taken
        ]
        self._transaction.many(_LEASE, keys)
        return taken

    def settle(self, taken: records.Delivery, after: records.Delivery) -> bool:
        values = {**vars(after), "of_event": taken.event_id, "of_endpoint": taken.endpoint_id}
        done = self._transaction.run(_SETTLE, {**values, "in_hand": taken.lease})
        return bool(done.rowcount)

    def of_endpoint(
        self, endpoint_id: str, state: str | None, limit: int
    ) -> Sequence[tuple[records.Delivery, records.Event]]:
        self._outbox.flush()
        values = {"of_endpoint": endpoint_id, "limit": limit, "state": state}
        rows = self._transaction.rows(_IN_STATE if state else _LISTED, values)
        return [(self._read(row[:_D]), records.Event(*row[_D:])) for row in rows]


_delivery = tables.deliveries.c
_D = len(tables.deliveries.columns)  # where an event's columns begin
_PENDING: ColumnElement[str] = literal_column("'pending'")

# Of the same vehicle and endpoint. Said as one value, the database looks it up for each row that
# it comes to; said as "there is no earlier one" it may compare every row with every other.
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
_FREE = (
    _delivery.state == _PENDING,
    _delivery.due <= bindparam("now"),
    _delivery.lease <= bindparam("now"),
)
_WAITED_FOR = _ENABLED.where(
    exists().where(_delivery.endpoint_id == _endpoint.endpoint_id, *_FREE)
)
_DUE = (
    select(tables.deliveries, tables.events)
    .where(
        _delivery.endpoint_id == bindparam("of_endpoint"),
        *_FREE,
        _event.event_id == _delivery.event_id,
        or_(_delivery.vehicle == literal_column("''"), _delivery.sequence == _first),
    )
    .order_by(_delivery.due, _delivery.sequence)
    .limit(_LIMIT)
    .with_for_update(of=tables.deliveries, skip_locked=True)  # another worker has those in hand
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
        _delivery.lease == bindparam("in_hand"),
    )
    .values({name: bindparam(name) for name in ("state", "attempts", "due", "lease", "outcome")})
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

# By endpoint, as the index has them.
_OF_OLD = (
    _delivery.endpoint_id.in_(select(_endpoint.endpoint_id)),
    _delivery.sequence.between(bindparam("first"), bindparam("last")),
)
_UNFINISHED: tuple[ColumnElement[str], ...] = (_PENDING, literal_column("'dead'"))
_FORGET_DELIVERIES = tables.deliveries.delete().where(
    *_OF_OLD, _delivery.state.not_in(_UNFINISHED)
)
_KEPT = select(_delivery.sequence).where(*_OF_OLD)


@cache
def _put_delivery(database: str) -> Executable:
    """With its event's number beside it, by which a vehicle's deliveries keep their order."""
    number = select(_event.sequence).where(_event.event_id == bindparam("event_id"))
    names = [one.name for one in fields(records.Delivery)]
    insert = INSERT[database](tables.deliveries).values(
        {**{name: bindparam(name) for name in names}, "sequence": number.scalar_subquery()}
    )
    key = ("endpoint_id", "event_id")
    rest = {name: insert.excluded[name] for name in names if name not in key}
    made: Executable = insert.on_conflict_do_update(index_elements=key, set_=rest)
    return made


class Audit(Rows[records.AuditEntry]):
    """Lines only ever come to it: the database refuses to change or delete one."""

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


class Jobs(Rows[records.Job]):
    table, record = tables.jobs, records.Job

    def get(self, job_id: str) -> records.Job | None:
        return self._one(job_id=job_id)

    def claim(self, now: float, until: float) -> records.Job | None:
        found = self._rows(_FREE_JOB, now=now)
        if not found:
            return None
        job = replace(found[0], lease=until)
        self.put(job)
        return job


_job = tables.jobs.c
_FREE_JOB = (
    tables.jobs.select()
    .where(_job.state == literal_column("'waiting'"), _job.lease <= bindparam("now"))
    .order_by(_job.asked)
    .limit(literal_column("1"))
    .with_for_update(skip_locked=True)
)
