"""No request makes the database read a table from end to end: its plans say so, on both."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from plugvault.pools.records import (
    ISO2,
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
    RootChange,
    Seen,
    Status,
)
from plugvault.store import SqlStore
from plugvault.store import transaction as transaction_module
from plugvault.store.records import SqlRecords
from plugvault.store.transaction import Transaction

VEHICLE = Provisioning("V", ISO2, "v", b"c", None, b"s", b"r", not_after=9, issuer="a", serial="1")
CONTRACT = Contract("DEPVT", ISO2, "V", "v", b"c", b"m", "f", True, 1, 9, None, None, "a", "2")
EVENT = Event("e", "oem.contract.created", 1, "PVT", "{}", "V", ISO2)
DELIVERY = Delivery("e", "w", "V")
ENDPOINT = Endpoint("w", "me", "Me", "OEM", "PVT,PVU", "https://w.example", "", 1)
SEEN = Seen(b"point", b"envelope", b"key", 9)
GOOD = Status("a", "1", "CN=v", 9)


def forget(records: SqlRecords) -> None:
    records.events.add(replace(EVENT, event_id="later"))
    records.events.forget(0, 9, 10)


CALLS: dict[str, Callable[[SqlRecords], Any]] = {
    "vehicle": lambda r: r.vehicles.get("V", ISO2),
    "vehicle with contracts": lambda r: r.vehicle_with_contracts("V", ISO2),
    "vehicle put": lambda r: r.vehicles.put(VEHICLE),
    "vehicle deleted": lambda r: r.vehicles.delete("V", ISO2),
    "vehicles ended": lambda r: r.vehicles.ended(5, 10),
    "contract": lambda r: r.contracts.get("DEPVT", ISO2),
    "contract put": lambda r: r.contracts.put(CONTRACT),
    "contract deleted": lambda r: r.contracts.delete("DEPVT", ISO2),
    "contracts deleted": lambda r: r.contracts.delete_all([CONTRACT]),
    "contracts of a vehicle": lambda r: r.contracts.of_vehicle("V", ISO2),
    "contracts of a provider": lambda r: r.contracts.of_provider("DEPVT", 10),
    "contracts ended": lambda r: r.contracts.ended(5, 10),
    "status": lambda r: r.statuses.get("a", "1"),
    "status put": lambda r: r.statuses.put(GOOD),
    "a path's statuses": lambda r: r.statuses.revoked([("a", "1"), ("b", "2"), ("c", "3")]),
    "what is known of a path": lambda r: r.statuses.known([("a", "1"), ("b", "2"), ("c", "3")]),
    "statuses revoked": lambda r: r.statuses.revoke([("a", "1")], "superseded", 5),
    "statuses of a CRL": lambda r: r.statuses.revoked_by("a"),
    "what was seen": lambda r: r.seen.known([b"point", b"key"]),
    "what was seen put": lambda r: r.seen.add([SEEN]),
    "what was seen kept on": lambda r: r.seen.extend(b"key", 9),
    "what was seen forgotten": lambda r: r.seen.forget(5, 10),
    "roots": lambda r: r.roots.by_fingerprint("f"),
    "client": lambda r: r.clients.get("me"),
    "client put": lambda r: r.clients.put(Client("me", b"d", "Me", "OEM")),
    "endpoint": lambda r: r.endpoints.get("w"),
    "endpoint put": lambda r: r.endpoints.put(ENDPOINT),
    "endpoint deleted": lambda r: r.endpoints.delete("w"),
    "endpoints of an owner": lambda r: r.endpoints.of_owner("me"),
    "endpoints that listen": lambda r: r.endpoints.listening("PVT"),
    "event": lambda r: r.events.get("e"),
    "events of some": lambda r: r.events.since(0, ["PVT", "*"], 10),
    "events of all": lambda r: r.events.since(0, None, 10),
    "last event": lambda r: r.events.last(),
    "events forgotten": forget,
    "delivery": lambda r: r.deliveries.get("e", "w"),
    "delivery put": lambda r: r.deliveries.put(DELIVERY),
    "delivery settled": lambda r: r.deliveries.settle(DELIVERY, DELIVERY),
    "deliveries claimed": lambda r: r.deliveries.claim("w", 5, 9, 10),
    "deliveries due": lambda r: r.deliveries.due(5),
    "waits ended": lambda r: r.deliveries.end_waits(5, 9, 9),
    "deliveries of an endpoint": lambda r: r.deliveries.of_endpoint("w", None, 10),
    "dead deliveries": lambda r: r.deliveries.of_endpoint("w", "dead", 10),
    "deliveries without an endpoint": lambda r: r.deliveries.forget_deleted(),
    "line put": lambda r: r.audit.add(AuditEntry(1, "me", "did", "it")),
    "lines": lambda r: r.audit.since(0, 10),
    "change": lambda r: r.changes.get("c"),
    "change put": lambda r: r.changes.put(RootChange("c", "add", "V2G", b"", "", "me", 1)),
    "end entity": lambda r: r.entities.get("DEPVC"),
    "end entity put": lambda r: r.entities.put(EndEntity("DEPVC", "me", "{}", 1)),
    "end entities of an owner": lambda r: r.entities.of_owner("me"),
    "vin": lambda r: r.registry.by_vin("x"),
    "plate": lambda r: r.registry.by_plate("x"),
    "pcid": lambda r: r.registry.by_pcid("x"),
    "registered": lambda r: r.registry.put(RegisteredVehicle("x", "p", "v", b"d")),
    "guesses": lambda r: r.failed_attempts.get("me", "x"),
    "guesses put": lambda r: r.failed_attempts.put(FailedAttemptCount("me", "x", 1, 1)),
    "guesses deleted": lambda r: r.failed_attempts.delete("me", "x"),
    "provider": lambda r: r.providers.get("DEPVT"),
    "provider put": lambda r: r.providers.put(Provider("DEPVT", "P", "R")),
    "peer": lambda r: r.peers.get("b"),
    "peer put": lambda r: r.peers.put(Peer("b", "https://b.example", "active", 1)),
    "job": lambda r: r.jobs.get("j"),
    "job put": lambda r: r.jobs.put(Job("j", "terminate", "DEPVT", "me", 1)),
    "job claimed": lambda r: r.jobs.claim(5, 9),
    "leases of jobs ended": lambda r: r.jobs.end_leases(9),
}

# Tables that stay small are read whole where all of them are wanted.
WHOLE = {
    "roots": {"roots"},  # after a change of them, once in a process
    "vehicles ended": {"chains"},
    "contracts ended": {"chains"},
    "deliveries due": {"endpoints"},
    "events forgotten": {"endpoints"},
    "waits ended": {"endpoints"},
    "deliveries without an endpoint": {"ids"},  # made in the statement, one for each endpoint
    "job claimed": {"jobs"},  # the waiting ones, by the index that holds no others
    "leases of jobs ended": {"jobs"},
}


def full_scans(records: SqlRecords, text: str, row: Any) -> set[str]:
    """The tables that one statement reads from end to end."""
    connection = records._transaction.connection
    if records._transaction.database == "sqlite":
        plan = connection.execute(f"EXPLAIN QUERY PLAN {text}", row).fetchall()
        scans = [line[3].split()[1] for line in plan if line[3].startswith("SCAN")]
        return set(scans) - {"CONSTANT"}
    connection.execute("SET LOCAL enable_seqscan = off")  # where there is another way, take it
    plan = connection.execute(f"EXPLAIN {text}", row).fetchall()
    return {scan[1] for (line,) in plan if (scan := re.search(r"Seq Scan on (\w+)", line))}


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Every statement with a row of its parameters."""
    statements: list[tuple[str, Any]] = []
    real_run, real_many = Transaction.run, Transaction.many

    def note(transaction: Transaction, statement: Any, values: Any) -> None:
        compiled = transaction_module.compiled(transaction._dialect, statement)
        row = values if isinstance(values, tuple) else compiled.row(values)
        statements.append((compiled.text, row))

    def run(self: Transaction, statement: Any, values: Any) -> Any:
        note(self, statement, values)
        return real_run(self, statement, values)

    def many(self: Transaction, statement: Any, values: Any) -> None:
        rows = list(values)
        for row in rows[:1]:
            note(self, statement, row)
        real_many(self, statement, rows)

    monkeypatch.setattr(Transaction, "run", run)
    monkeypatch.setattr(Transaction, "many", many)
    return statements


@pytest.mark.parametrize("call", CALLS)
def test_a_call_reads_by_an_index(call: str, store: SqlStore, ran: list[tuple[str, Any]]):
    with store.write() as records:
        records.statuses.put(GOOD)
        records.vehicles.put(VEHICLE)
        records.contracts.put(CONTRACT)
        records.endpoints.put(ENDPOINT)
        records.events.add(EVENT)
        records.deliveries.put(DELIVERY)
    ran.clear()
    with store.write() as records:
        CALLS[call](records)
        records.finish()
        assert ran
        for text, row in list(ran):
            scans = full_scans(records, text, row)
            assert scans <= WHOLE.get(call, set()), text


def test_a_scan_is_seen(store: SqlStore):
    with store.read() as records:
        assert full_scans(records, "SELECT * FROM contracts WHERE pcid = 'v'", []) == {"contracts"}
