"""The outbox and the trail: numbered as transactions end, claimed once, never edited."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from plugvault.pools import audit
from plugvault.pools.errors import PoolError
from plugvault.pools.records import AuditEntry, Delivery, Endpoint, Event, Job
from plugvault.store import SqlStore
from plugvault.store.records import SqlRecords

Open = Callable[[str], SqlStore]
WAIT_TIMEOUT = 20.0


def event(name: str, vehicle: str = "", audience: str = "PVT") -> Event:
    return Event(name, "oem.contract.created", 1, audience, "{}", vehicle, "")


def endpoint(name: str, scopes: str = "PVT", enabled: bool = True) -> Endpoint:
    return Endpoint(name, "me", "Me", "OEM", scopes, "https://w.example", "", 1, enabled)


def add(store: SqlStore, *names: str, vehicle: str = "", to: str = "w") -> None:
    with store.write() as records:
        for name in names:
            records.events.add(event(name, vehicle))
            records.deliveries.put(Delivery(name, to, vehicle))


def claimed(store: SqlStore, now: float = 1, until: float = 9, limit: int = 10) -> list[str]:
    with store.write() as records:
        return [
            delivery.event_id for delivery, _ in records.deliveries.claim("w", now, until, limit)
        ]


def names(store: SqlStore, sequence: int = 0, audiences: list[str] | None = None) -> list[str]:
    with store.read() as records:
        return [event_.event_id for event_ in records.events.since(sequence, audiences, 100)]


def test_events_are_numbered_in_the_order_transactions_end(store: SqlStore):
    """The transaction that began first ends last: its event is the later one."""
    began, may_end = threading.Event(), threading.Event()

    def slow() -> None:
        with store.write() as records:
            records.events.add(event("slow"))
            began.set()
            assert may_end.wait(WAIT_TIMEOUT)

    if store._engine.dialect.name == "sqlite":
        may_end.set()  # it has one writer at a time
    thread = threading.Thread(target=slow)
    thread.start()
    assert began.wait(WAIT_TIMEOUT)
    add(store, "quick")
    may_end.set()
    thread.join(WAIT_TIMEOUT)
    order = ["slow", "quick"] if store._engine.dialect.name == "sqlite" else ["quick", "slow"]
    assert names(store) == order


def test_a_reader_that_continues_from_the_last_number_misses_nothing(store: SqlStore):
    """Concurrent writers, and a reader that asks only for the events after its last one."""
    writers, each = 4, 15
    seen: list[str] = []
    last = 0

    def write(number: int) -> None:
        for count in range(each):
            add(store, f"{number}.{count}")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    while True:
        over = not any(thread.is_alive() for thread in threads)
        with store.read() as records:
            for event_ in records.events.since(last, None, 1000):
                seen.append(event_.event_id)
                last = event_.sequence
        if over:
            break
    assert sorted(seen) == sorted(f"{n}.{c}" for n in range(writers) for c in range(each))
    for number in range(writers):
        own = [name for name in seen if name.startswith(f"{number}.")]
        assert own == [f"{number}.{count}" for count in range(each)]


def forget(store: SqlStore, before: float, after: int = 0, limit: int = 100) -> int | None:
    with store.write() as records:
        return records.events.forget(after, before, limit)


def test_only_old_and_finished_events_are_purged(store: SqlStore):
    states = ("sent", "rejected", "pending", "dead")
    with store.write() as records:
        for name in ("w", "x"):
            records.endpoints.put(endpoint(name))
        for at, age in enumerate(("old", "young"), 1):
            for state in states:
                records.events.add(replace(event(f"{age} {state}"), at=at))
                records.deliveries.put(Delivery(f"{age} {state}", "w", state="sent"))
                records.deliveries.put(Delivery(f"{age} {state}", "x", state=state))
            records.events.add(replace(event(f"{age} to nobody"), at=at))
    assert forget(store, before=2) is None
    young = [f"young {state}" for state in (*states, "to nobody")]
    assert names(store) == ["old pending", "old dead", *young]
    with store.read() as records:
        remaining = [
            delivery.event_id for delivery, _ in records.deliveries.of_endpoint("x", None, 100)
        ]
        assert remaining[::-1] == ["old pending", "old dead", *young[:-1]]
        assert records.deliveries.get("old sent", "w") is None
    with store.write() as records:  # the remaining deliveries end
        for state in ("pending", "dead"):
            records.deliveries.put(Delivery(f"old {state}", "x", state="sent"))
    forget(store, before=2)
    assert names(store) == young


def test_the_latest_event_is_never_purged(store: SqlStore):
    """Its number would be reused, and a reader of the old event would miss the new one."""
    add(store, "a", "b")
    with store.read() as records:
        last = records.events.last()
    forget(store, before=9)
    assert names(store) == ["b"]
    add(store, "c")
    assert names(store, last) == ["c"]


def test_purging_continues_after_events_that_must_stay(store: SqlStore):
    with store.write() as records:
        records.endpoints.put(endpoint("w"))
        for number in range(7):
            records.events.add(event(str(number)))
            if number < 2:
                records.deliveries.put(Delivery(str(number), "w", state="dead"))
    after: int | None = 0
    rounds = 0
    while after is not None:
        after = forget(store, before=9, after=after, limit=2)
        rounds += 1
    assert rounds == 4
    assert names(store) == ["0", "1", "6"]


def test_a_rolled_back_transaction_leaves_no_event_and_no_delivery(store: SqlStore):
    def fail() -> None:
        with store.write() as records:
            records.events.add(event("e"))
            records.deliveries.put(Delivery("e", "w"))
            assert records.events.get("e")  # the writer sees it
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with store.read() as records:
        assert records.events.get("e") is None
        assert records.deliveries.get("e", "w") is None
        assert records.events.last() == 0


def test_events_for_several_audiences_come_in_one_order(store: SqlStore):
    with store.write() as records:
        for number, audience in enumerate(["PVT", "*", "XXX", "PVT", "*"]):
            records.events.add(event(str(number), audience=audience))
    assert names(store, audiences=["*", "PVT", "PVT"]) == ["0", "1", "3", "4"]
    assert names(store) == ["0", "1", "2", "3", "4"]
    with store.read() as records:
        assert len(records.events.since(0, ["*", "PVT"], 3)) == 3
        assert [event_.event_id for event_ in records.events.since(0, ["*", "PVT"], 3)] == [
            "0",
            "1",
            "3",
        ]


def test_a_vehicles_deliveries_come_one_after_another(store: SqlStore):
    add(store, "a1", "a2", vehicle="A")
    add(store, "b1", vehicle="B")
    add(store, "n1", "n2")  # of no vehicle: in no order
    assert claimed(store) == ["a1", "b1", "n1", "n2"]
    assert claimed(store) == []
    with store.write() as records:
        delivery = records.deliveries.get("a1", "w")
        assert delivery
        assert records.deliveries.settle(delivery, replace(delivery, state="sent", lease=0.0))
    assert claimed(store) == ["a2"]


def test_a_replayed_delivery_comes_before_the_later_ones_of_its_vehicle(store: SqlStore):
    add(store, "a1", "a2", vehicle="A")
    with store.write() as records:
        records.deliveries.put(Delivery("a1", "w", "A", "dead", 3, due=1))
    with store.write() as records:
        records.deliveries.put(Delivery("a1", "w", "A", "pending", 3, due=1))
    assert claimed(store) == ["a1"]


def test_a_lease_that_ended_is_free_and_its_old_holder_settles_nothing(store: SqlStore):
    add(store, "a1", vehicle="A")
    with store.write() as records:
        ((first, _),) = records.deliveries.claim("w", 1, 5, 10)
    assert claimed(store, now=4) == []
    assert claimed(store, now=5) == ["a1"]
    with store.write() as records:
        assert not records.deliveries.settle(first, replace(first, state="sent"))


def test_two_workers_never_have_the_same_delivery(postgresql_url: str, open_store: Open):
    """The first claim has not ended: the second takes other deliveries, without waiting."""
    store = open_store(postgresql_url)
    add(store, "a1", "a2", vehicle="A")
    add(store, "n1", "n2", "n3")
    with store.write() as first_worker, store.write() as second_worker:
        first = [delivery.event_id for delivery, _ in first_worker.deliveries.claim("w", 1, 9, 2)]
        second = [
            delivery.event_id for delivery, _ in second_worker.deliveries.claim("w", 1, 9, 10)
        ]
    assert first == ["a1", "n1"]
    assert second == ["n2", "n3"]


def test_two_workers_never_have_the_same_job(postgresql_url: str, open_store: Open):
    store = open_store(postgresql_url)
    with store.write() as records:
        for name in ("j1", "j2"):
            records.jobs.put(Job(name, "terminate", "DEPVT", "me", 1))
    with store.write() as first_worker, store.write() as second_worker:
        assert {first_worker.jobs.claim(1, 9), second_worker.jobs.claim(1, 9)} == {
            Job(name, "terminate", "DEPVT", "me", 1, lease=9) for name in ("j1", "j2")
        }


def test_the_endpoints_of_an_audience_are_listed(store: SqlStore):
    with store.write() as records:
        records.endpoints.put(endpoint("both", "PVT,PVU"))
        records.endpoints.put(endpoint("other", "PVU"))
        records.endpoints.put(endpoint("off", "PVT", enabled=False))
        records.endpoints.put(endpoint("all", "*"))

    def listening(audience: str) -> set[str]:
        with store.read() as records:
            return {row.endpoint_id for row in records.endpoints.listening(audience)}

    assert listening("PVT") == {"both", "all"}
    assert listening("PVU") == {"both", "other", "all"}
    assert listening("PV") == {"all"}
    assert listening("*") == {"both", "other", "all"}
    with store.write() as records:
        records.endpoints.put(endpoint("both", "PVX"))
        records.endpoints.delete("all")
    assert listening("PVT") == set()
    assert listening("PVX") == {"both"}


def test_an_endpoint_takes_its_deliveries_with_it(store: SqlStore):
    with store.write() as records:
        records.endpoints.put(endpoint("w"))
    add(store, "a1")
    add(store, "b1", to="v")
    with store.write() as records:
        records.endpoints.delete("w")
        assert records.deliveries.get("a1", "w") is None
        assert records.deliveries.get("b1", "v")


def line(action: str) -> AuditEntry:
    return AuditEntry(1, "me", action, "root")


def test_lines_of_several_writers_make_one_chain(store: SqlStore):
    def write(number: int) -> None:
        for count in range(10):
            with store.write() as records:
                records.audit.add(line(f"{number}.{count}"))
                records.audit.add(line(f"{number}.{count} again"))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_TIMEOUT)
    with store.read() as records:
        verdict = audit.verify(records)
        assert (verdict.lines, verdict.broken) == (80, None)


REPLACE = """INSERT OR REPLACE INTO audit (at, who, action, subject, detail, sequence, digest)
    VALUES (1, 'x', 'x', 'x', 'x', 1, 'x')"""
EDITS = [
    ("sqlite", "UPDATE audit SET who = 'somebody else'"),
    ("sqlite", "DELETE FROM audit"),
    ("sqlite", REPLACE),
    ("postgresql", "UPDATE audit SET who = 'somebody else'"),
    ("postgresql", "DELETE FROM audit"),
    ("postgresql", "TRUNCATE audit"),
]


@pytest.mark.parametrize("database, edit", EDITS)
def test_the_trail_refuses_to_be_edited(
    database: str, edit: str, request: pytest.FixtureRequest, open_store: Open
):
    store = open_store(request.getfixturevalue(f"{database}_url"))
    with store.write() as records:
        records.audit.add(line("did"))

    def run(records: SqlRecords) -> None:
        records._transaction.connection.execute(edit)

    with pytest.raises(Exception, match="cannot be edited") as caught, store.write() as records:
        run(records)
    assert not isinstance(caught.value, PoolError)  # no request does this
    with store.read() as records:
        (entry,) = records.audit.since(0, 10)
        assert (entry.who, entry.action) == ("me", "did")
        assert audit.verify(records).broken is None
