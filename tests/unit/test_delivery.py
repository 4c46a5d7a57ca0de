"""Deliveries to webhooks: their content, their outcome, and the events that follow."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import logging
import re
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from evcc.vault import VaultError
from fixtures.pools import Pools
from fixtures.receiver import Receiver, receiving, until
from plugvault.delivery import (
    PeriodicTask,
    PurgeEvents,
    RecheckRevocation,
    Worker,
    periodic,
    revocation,
    run,
)
from plugvault.net import Outbound
from plugvault.opcp.services import Settings
from plugvault.pools import events, termination, webhooks
from plugvault.pools.caller import MO_EXTERNAL_PKI, OEM, Caller
from plugvault.pools.errors import PoolError
from plugvault.pools.events import KINDS, MO_EVENTS, OEM_EVENTS, ROOT_EVENTS
from plugvault.pools.records import Delivery, Endpoint, Event
from plugvault.pools.webhooks import EndpointChange
from plugvault.store import SqlStore

NOW = 1_790_000_000.0
HERE = ("127.0.0.0/8",)
MAKER = Caller("maker", frozenset({OEM}), wmis=frozenset({"PVT"}), client_id="m")
OPERATOR = Caller(
    "operator", frozenset({MO_EXTERNAL_PKI}), providers=frozenset({"DEPVA"}), client_id="o"
)
EMAID, PCID = "DEPVAC12345678", "PVTP0000000000001"


def secret(endpoint_id: str) -> str:
    return f"secret of {endpoint_id}"


class Setup:
    """A store, a worker with the clock `now`, and the maker's webhook at `receiver`."""

    def __init__(self, store: SqlStore, receiver: Receiver, **settings: Any) -> None:
        self.store, self.receiver, self.now = store, receiver, NOW
        self.settings = Settings(networks=HERE, **settings)
        self.worker = Worker(store, secret, self.settings, lambda: self.now)
        self.endpoint = self.hook(receiver.url)

    def hook(
        self,
        url: str,
        caller: Caller = MAKER,
        kinds: tuple[str, ...] = OEM_EVENTS + ROOT_EVENTS,
    ) -> Endpoint:
        with self.store.write() as records:
            change = EndpointChange(url, kinds)
            return webhooks.create(records, caller, change, Outbound(HERE), self.now)

    def tell(
        self, kind: str = "oem.contract.created", vehicle: str = PCID, **payload: Any
    ) -> Event:
        with self.store.write() as records:
            payload = {"emaid": EMAID, "pcid": vehicle, **payload}
            return events.publish(records, kind, "PVT", payload, self.now, vehicle)

    def delivery(self, event: Event, endpoint: Endpoint | None = None) -> Delivery:
        with self.store.read() as records:
            endpoint_id = (endpoint or self.endpoint).endpoint_id
            delivery = records.deliveries.get(event.event_id, endpoint_id)
        assert delivery
        return delivery

    def told(self, audience: str = "DEPVA") -> list[Event]:
        with self.store.read() as records:
            return list(records.events.since(0, [audience], 100))


@pytest.fixture
def setup(store: SqlStore, receiver: Receiver) -> Setup:
    return Setup(store, receiver)


@pytest.fixture
def quick(sqlite_store: SqlStore, receiver: Receiver) -> Setup:
    """On one database, for what does not depend on it."""
    return Setup(sqlite_store, receiver)


# -- what is sent --


def test_body_and_signature_follow_opcp(quick: Setup):
    event = quick.tell(contractCert="MII=")
    assert quick.worker.step() == 1
    ((headers, body),) = quick.receiver.got
    assert json.loads(body) == {
        "timestamp": "2026-09-21T14:13:20Z",
        "eventId": event.event_id,
        "eventType": "oem.contract.created",
        "xsdMsgDefNamespace": "urn:iso:15118:2:2013:MsgDef",
        "payload": {"emaid": EMAID, "pcid": PCID, "contractCert": "MII="},
    }
    key = secret(quick.endpoint.endpoint_id).encode()
    expected = hmac.new(key, body, hashlib.sha256).hexdigest()
    assert headers["payload-signature"] == expected
    assert headers["x-hubject-signature"] == f"sha256={expected}"
    assert headers["x-operator-signature"] == f"sha256={expected}"
    assert headers["content-type"] == "application/json"


def test_each_webhook_gets_its_own_signature(quick: Setup):
    quick.hook(quick.receiver.url)
    quick.tell()
    assert quick.worker.step() == 2
    first, second = (headers["payload-signature"] for headers, _ in quick.receiver.got)
    assert first != second


def test_every_kind_of_event_is_delivered(quick: Setup):
    quick.hook(quick.receiver.url, OPERATOR, MO_EVENTS)
    for kind in KINDS:
        audience = {"o": "PVT", "m": "DEPVA"}.get(kind[0], events.EVERYONE)
        with quick.store.write() as records:
            events.publish(records, kind, audience, {"emaid": "", "pcid": PCID}, NOW)
    while quick.worker.step():
        pass
    assert {event["eventType"] for event in quick.receiver.events} == set(KINDS)


# -- what becomes of it --


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_delivery_that_is_taken_is_sent_once(quick: Setup, status: int):
    quick.receiver.answer = lambda _: status
    event = quick.tell()
    assert quick.worker.step() == 1
    assert quick.worker.step() == 0
    assert quick.delivery(event).state == "sent"
    assert len(quick.receiver.got) == 1


@pytest.mark.parametrize("status", [400, 409])
def test_delivery_that_is_rejected_is_not_tried_again(setup: Setup, status: int):
    setup.receiver.answer = lambda _: status
    event = setup.tell()
    setup.worker.step()
    setup.now += 10**6
    assert setup.worker.step() == 0
    assert setup.delivery(event).state == "rejected"
    assert [follow_up.kind for follow_up in setup.told()] == ["mo.contract.rejected.by.oem"]


@pytest.mark.parametrize("status", [302, 401, 404, 429, 500, 503])
def test_delivery_that_fails_is_tried_again_with_longer_waits_and_then_dead(
    quick: Setup, status: int
):
    quick.receiver.answer = lambda _: status
    event = quick.tell()
    waits = []
    while quick.delivery(event).state == "pending":
        assert quick.worker.step() == 1
        assert quick.worker.step() == 0
        waits.append(quick.delivery(event).due - quick.now)
        quick.now = max(quick.now, quick.delivery(event).due - 1)
        assert quick.worker.step() == 0
        quick.now += 1
    assert waits[:3] == [3600, 7200, 14400]
    dead = quick.delivery(event)
    assert (dead.state, dead.attempts) == ("dead", 4)
    assert dead.outcome == f"The receiver answered {status}."
    assert [follow_up.kind for follow_up in quick.told()] == ["mo.contract.queued.to.oem"]


def test_receiver_that_is_not_there_is_tried_again_and_the_reason_is_kept(
    quick: Setup, receiver: Receiver
):
    receiver.close()
    event = quick.tell()
    quick.worker.step()
    assert quick.delivery(event).state == "pending"
    assert re.search("unreachable: .*refused", quick.delivery(event).outcome)
    receiver.__init__(receiver.port)  # type: ignore[misc]
    quick.now += 3601
    quick.worker.step()
    assert quick.delivery(event).state == "sent"


def test_address_that_is_no_longer_allowed_is_not_called(quick: Setup):
    event = quick.tell()
    Worker(quick.store, secret, Settings(), lambda: quick.now).step()
    assert quick.delivery(event).outcome.startswith("refused: ")
    assert quick.receiver.got == []


def test_receiver_that_answers_gone_is_called_no_more(setup: Setup):
    setup.receiver.answer = lambda _: 410
    event, second = setup.tell(), setup.tell()
    setup.worker.step()
    assert setup.worker.step() == 0
    assert setup.delivery(event).state == "dead"
    with setup.store.write() as records:
        assert not webhooks.get(records, MAKER, setup.endpoint.endpoint_id).enabled
        change = EndpointChange(setup.receiver.url, enabled=True)
        webhooks.update(records, MAKER, setup.endpoint.endpoint_id, change, Outbound(HERE))
    setup.receiver.answer = lambda _: 200
    setup.worker.step()
    assert setup.delivery(second).state == "sent"


def test_receiver_gone_from_an_old_address_does_not_disable_the_new_one(setup: Setup):
    def moved_meanwhile(_: object) -> int:
        with setup.store.write() as records:
            change = EndpointChange(f"{setup.receiver.url}/new")
            webhooks.update(records, MAKER, setup.endpoint.endpoint_id, change, Outbound(HERE))
        return 410

    setup.receiver.answer = moved_meanwhile
    setup.tell()
    setup.worker.step()
    with setup.store.read() as records:
        assert webhooks.get(records, MAKER, setup.endpoint.endpoint_id).enabled


def test_dead_letter_that_is_sent_again_arrives(quick: Setup):
    quick.receiver.answer = lambda _: 500
    settings = Settings(networks=HERE, retries=0)
    event = quick.tell()
    Worker(quick.store, secret, settings, lambda: quick.now).step()
    assert quick.delivery(event).state == "dead"
    with quick.store.write() as records:
        webhooks.replay(records, MAKER, quick.endpoint.endpoint_id, quick.now)
    quick.receiver.answer = lambda _: 200
    assert quick.worker.step() == 1
    assert quick.delivery(event).state == "sent"
    assert [delivered["eventId"] for delivered in quick.receiver.events] == [event.event_id] * 2


# -- events that follow --


@pytest.mark.parametrize("change", ["created", "updated", "deleted"])
def test_operator_learns_that_the_maker_has_it(setup: Setup, change: str):
    setup.hook(setup.receiver.url, OPERATOR, MO_EVENTS)
    setup.tell(f"oem.contract.{change}", contractCert="MII=")
    while setup.worker.step():
        pass
    (follow_up,) = setup.told()
    assert (follow_up.kind, follow_up.vehicle) == (f"mo.contract.{change}.sent.to.oem", PCID)
    assert setup.receiver.events[1]["eventType"] == follow_up.kind
    assert setup.receiver.events[1]["payload"] == setup.receiver.events[0]["payload"]


def test_deliveries_to_operators_or_of_roots_make_no_follow_up_event(quick: Setup):
    quick.hook(quick.receiver.url, OPERATOR, MO_EVENTS)
    for status in (200, 400, 500):
        quick.receiver.answer = lambda _, status=status: status
        quick.tell("root.cert.added")
        with quick.store.write() as records:
            payload = {"emaid": EMAID, "pcid": PCID}
            events.publish(records, "mo.prov.cert.deleted", "DEPVA", payload, NOW)
        quick.worker.step()
    assert {event.kind for event in quick.told()} == {"mo.prov.cert.deleted"}


# -- order, and independent receivers --


def test_events_of_a_vehicle_wait_for_the_one_before(setup: Setup):
    setup.receiver.answer = lambda event: 500 if event["eventType"].endswith("created") else 200
    first, second = setup.tell(), setup.tell("oem.contract.deleted")
    of_other_vehicle = setup.tell("oem.contract.deleted", "PVTP0000000000002")
    while setup.worker.step():
        pass
    assert setup.delivery(second).state == "pending"
    assert setup.delivery(of_other_vehicle).state == "sent"
    setup.receiver.answer = lambda _: 200
    setup.now += 3600
    while setup.worker.step():
        pass
    of_vehicle = [
        delivered["eventId"]
        for delivered in setup.receiver.events
        if delivered["payload"]["pcid"] == PCID
    ]
    assert of_vehicle == [first.event_id, first.event_id, second.event_id]


def test_slow_receiver_delays_no_other_receiver(setup: Setup):
    released = threading.Event()
    with receiving() as slow:
        slow.answer = lambda _: 200 if released.wait(30) else 500
        slow_endpoint = setup.hook(slow.url)
        for number in range(100):
            setup.tell(vehicle=f"PVTP{number:013}")
        stop = threading.Event()
        thread = threading.Thread(target=setup.worker.run, args=(stop,))
        thread.start()
        try:
            until(lambda: len(setup.receiver.got) == 100, "the quick one")
            assert 0 < len(slow.got) <= 4
        finally:
            released.set()
        until(lambda: len(slow.got) == 100, "the slow one")
        stop.set()
        thread.join(30)
    with setup.store.read() as records:
        sent = records.deliveries.of_endpoint(slow_endpoint.endpoint_id, "sent", 200)
    assert len(sent) == 100


def test_a_stopping_worker_finishes_the_delivery_under_way(quick: Setup):
    """It takes no new delivery."""
    go_on, stop = threading.Event(), threading.Event()
    quick.receiver.answer = lambda _: 200 if go_on.wait(30) else 500
    under_way = quick.tell()
    thread = threading.Thread(target=quick.worker.run, args=(stop,))
    thread.start()
    until(lambda: quick.receiver.got, "the delivery")
    stop.set()
    later = quick.tell(vehicle="PVTP0000000000002")
    thread.join(0.5)
    assert thread.is_alive()
    go_on.set()
    thread.join(30)
    assert not thread.is_alive()
    assert quick.delivery(under_way).state == "sent"
    assert quick.delivery(later).state == "pending"
    assert not any(thread_.is_alive() for thread_ in quick.worker._threads._threads)


def test_answer_without_end_is_broken_off(quick: Setup, monkeypatch: pytest.MonkeyPatch):
    never = threading.Event()
    quick.receiver.answer = lambda _: 200 if never.wait(30) else 500
    quick.worker._outbound = Outbound(HERE, timeout=0.2)
    event = quick.tell()
    quick.worker.step()
    never.set()
    assert quick.delivery(event).state == "pending"
    assert "in time" in quick.delivery(event).outcome


def test_two_workers_share_the_work(setup: Setup):
    second_worker = Worker(setup.store, secret, setup.settings, lambda: setup.now)
    for number in range(60):
        setup.tell(vehicle=f"PVTP{number % 10:013}")
    stop = threading.Event()
    threads = [
        threading.Thread(target=worker.run, args=(stop,))
        for worker in (setup.worker, second_worker)
    ]
    for thread in threads:
        thread.start()
    until(lambda: len(setup.receiver.got) >= 60)
    stop.set()
    for thread in threads:
        thread.join(30)
    assert (
        len({event["eventId"] for event in setup.receiver.events}) == len(setup.receiver.got) == 60
    )


# -- when something is missing --


def test_without_its_secret_nothing_is_sent_and_nothing_lost(quick: Setup):
    def gone(_: str) -> str:
        raise VaultError("token-missing", "pulled out")

    event = quick.tell()
    Worker(quick.store, gone, quick.settings, lambda: quick.now).step()
    assert quick.receiver.got == []
    assert quick.delivery(event).state == "pending"
    quick.now += 61
    quick.worker.step()
    assert quick.delivery(event).state == "sent"


def test_worker_that_comes_too_late_sends_nothing(quick: Setup):
    quick.tell()
    late = iter([NOW, NOW + 55])
    Worker(quick.store, secret, quick.settings, lambda: next(late)).step()
    assert quick.receiver.got == []
    quick.now += 61
    assert quick.worker.step() == 1
    assert len(quick.receiver.got) == 1


def test_outcome_after_the_end_of_the_lease_does_not_count(quick: Setup):
    def slow(_: object) -> int:
        quick.now += 100
        quick.receiver.answer = lambda _: 200
        quick.worker.step()  # another worker took it meanwhile
        return 400

    event = quick.tell()
    quick.receiver.answer = slow
    Worker(quick.store, secret, quick.settings, lambda: quick.now).step()
    assert quick.delivery(event).state == "sent"
    assert [follow_up.kind for follow_up in quick.told()] == ["mo.contract.created.sent.to.oem"]


# -- running --


def test_periodic_tasks_run_beside_deliveries_and_survive_a_failure(quick: Setup, caplog: Any):
    stop, times = threading.Event(), []

    def task(store: object, now: float) -> None:
        assert store is quick.store
        times.append(now)
        if len(times) == 1:
            raise PoolError("unavailable", "for a moment")

    tasks = [PeriodicTask("counting", 0.01, task)]
    thread = threading.Thread(
        target=run,
        args=(quick.store, secret, quick.settings, lambda: quick.now, stop, tasks),
    )
    with caplog.at_level(logging.WARNING, "plugvault.failing"):
        thread.start()
        quick.tell()
        until(lambda: len(times) >= 3 and quick.receiver.got)
    stop.set()
    thread.join(30)
    assert set(times) == {NOW}
    assert caplog.messages == ["counting: failing: unavailable: for a moment", "counting: works"]


def test_events_are_forgotten_when_they_were_delivered_long_enough_ago(
    quick: Setup, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(periodic, "BATCH", 2)
    for _ in range(5):
        quick.tell()
    while quick.worker.step():
        pass
    quick.receiver.answer = lambda _: 500
    waiting = quick.tell()
    quick.worker.step()
    assert quick.delivery(waiting).state == "pending"
    quick.tell()
    forget = PurgeEvents(100.0)

    def left() -> int:
        while forget(quick.store, quick.now):
            pass
        with quick.store.read() as records:
            return len(records.events.since(0, None, 1000))

    everything = left()
    assert everything > 7
    quick.now += 101
    assert left() == 2
    assert quick.delivery(waiting).state == "pending"


def test_task_with_more_work_continues_immediately(quick: Setup):
    stop, remaining = threading.Event(), [5]

    def task(*_: object) -> bool:
        remaining[0] -= 1
        if not remaining[0]:
            stop.set()
        return bool(remaining[0])

    run(
        quick.store, secret, quick.settings, lambda: NOW, stop, [PeriodicTask("long", 600.0, task)]
    )
    assert remaining == [0]


def test_a_termination_is_carried_out_by_the_worker(quick: Setup):
    admin = Caller("admin", frozenset({"ADMIN"}), client_id="a")
    with quick.store.write() as records:
        job = termination.begin(records, admin, "DEPVA", NOW)
    stop = threading.Event()
    thread = threading.Thread(
        target=run, args=(quick.store, secret, quick.settings, lambda: NOW, stop)
    )
    thread.start()

    def done() -> bool:
        with quick.store.read() as records:
            stored_job = records.jobs.get(job.job_id)
        return stored_job is not None and stored_job.state == "done"

    until(done)
    stop.set()
    thread.join(30)


def test_a_bug_in_a_task_ends_the_process_for_a_restart(quick: Setup):
    def bug(*_: object) -> None:
        raise KeyError("bug")

    stop = threading.Event()
    with pytest.raises(KeyError):
        run(quick.store, secret, quick.settings, lambda: NOW, stop, [PeriodicTask("bug", 1, bug)])
    assert stop.is_set()


# -- what others have revoked --


def test_every_foreign_path_is_rechecked_and_no_path_of_ours(
    pools: Pools, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(revocation, "PAGE", 2)
    stored = []
    for number in range(5):
        pcid = f"PVTP{number:013}"
        vehicle = pools.register(pools.provisioning(pcid))
        stored.append((vehicle.certificate, *vehicle.subs))
    contract = pools.put(pools.sign(pools.data()), PCID)
    checked: list[Sequence[bytes]] = []
    recheck = RecheckRevocation(checked.append, frozenset({contract.issuer}))

    def round_of_pages() -> int:
        checked.clear()
        return next(number for number in itertools.count() if not recheck(pools.store, NOW))

    assert round_of_pages() == 3
    assert sorted(checked) == sorted(stored)
    assert round_of_pages() == 3, "and so on, round after round"
    everything = RecheckRevocation(checked.append)
    checked.clear()
    while everything(pools.store, NOW):
        pass
    assert sorted(checked) == sorted([*stored, (contract.certificate, *contract.subs)])


def test_an_interrupted_round_starts_again(pools: Pools):
    pools.register(pools.provisioning())
    failing = [True]

    def refresh(_: object) -> None:
        if failing.pop():
            raise PoolError("unavailable", "for a moment")
        failing.append(False)

    ask = RecheckRevocation(refresh)
    with pytest.raises(PoolError):
        ask(pools.store, NOW)
    failing.append(False)
    assert any(ask(pools.store, NOW) for _ in range(3))


class SlowClock:
    """Each recheck takes so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.now, self.seconds = 0.0, seconds
        self.checked: list[Sequence[bytes]] = []

    def update(self, certificates: Sequence[bytes]) -> None:
        self.checked.append(certificates)
        self.now += self.seconds

    def ask(self) -> RecheckRevocation:
        return RecheckRevocation(self.update, clock=lambda: self.now)


def test_an_issuer_with_slow_responders_waits_behind_the_others(pools: Pools):
    for number in range(3):
        pools.register(pools.provisioning(f"PVTP{number:013}"))
    pools.put(pools.sign(pools.data()), PCID)
    slow = SlowClock(revocation.STEP + 1)
    ask = slow.ask()
    assert ask(pools.store, NOW)
    assert len({certificates[1:] for certificates in slow.checked}) == 2, "each issuer in turn"
    assert len(slow.checked) == 2


def test_an_issuer_with_slow_responders_goes_on_in_the_next_round(pools: Pools):
    for number in range(3):
        pools.register(pools.provisioning(f"PVTP{number:013}"))
    slow = SlowClock(revocation.ROUND + 1)
    ask = slow.ask()
    for _ in range(3):
        while ask(pools.store, NOW):
            pass
    assert len(set(slow.checked)) == len(slow.checked) == 3


def test_a_silent_responder_of_one_issuer_delays_no_other(pools: Pools):
    pools.register(pools.provisioning())
    pools.put(pools.sign(pools.data()), PCID)
    together = threading.Barrier(2)
    ask = RecheckRevocation(lambda _: together.wait(20) and None)
    assert ask(pools.store, NOW)
