"""Webhooks' rules, and how deliveries are handed to workers, on both databases."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import replace
from uuid import RFC_4122, UUID

import pytest

from plugvault.net import Outbound
from plugvault.pools import clients, events, providers, webhooks
from plugvault.pools.caller import (
    ADMIN,
    CPO,
    CPS,
    MO_EXTERNAL_PKI,
    MO_HUBJECT_PKI,
    OEM,
    Caller,
)
from plugvault.pools.cleansing import cleanse
from plugvault.pools.errors import PoolError
from plugvault.pools.events import ADMIN_EVENTS, KINDS, MO_EVENTS, OEM_EVENTS, ROOT_EVENTS
from plugvault.pools.records import Delivery, Endpoint, Event
from plugvault.pools.webhooks import EndpointChange
from plugvault.store import SqlStore

NOW = 1_790_000_000.0
URL = "https://maker.example/hook"
MAKER = Caller("maker", frozenset({OEM}), wmis=frozenset({"PVT", "PVU"}), client_id="m")
RIVAL = Caller("rival", frozenset({OEM}), wmis=frozenset({"XXX"}), client_id="r")
OPERATOR = Caller(
    "operator", frozenset({MO_HUBJECT_PKI}), providers=frozenset({"DEPVA"}), client_id="o"
)
ADMINISTRATOR = Caller("administrator", frozenset({ADMIN}), client_id="a")
NET = Outbound()


def create(
    store: SqlStore,
    caller: Caller = MAKER,
    kinds: Sequence[str] = OEM_EVENTS,
    url: str = URL,
    **more: object,
) -> Endpoint:
    with store.write() as records:
        return webhooks.create(records, caller, EndpointChange(url, kinds, **more), NET, NOW)  # type: ignore[arg-type]


def tell(
    store: SqlStore,
    kind: str = "oem.contract.created",
    audience: str = "PVT",
    vehicle: str = "PVTP0000000000001",
) -> Event:
    with store.write() as records:
        payload = {"emaid": "DEPVAC12345678", "pcid": vehicle}
        return events.publish(records, kind, audience, payload, NOW, vehicle)


def claim(
    store: SqlStore, endpoint: Endpoint, now: float = NOW, limit: int = 100
) -> list[Delivery]:
    with store.write() as records:
        claimed = records.deliveries.claim(endpoint.endpoint_id, now, now + 60, limit)
    return [delivery for delivery, _ in claimed]


def of(store: SqlStore, endpoint: Endpoint, state: str | None = None) -> list[Delivery]:
    with store.read() as records:
        rows = records.deliveries.of_endpoint(endpoint.endpoint_id, state, 100)
    return [delivery for delivery, _ in rows]


def settle(store: SqlStore, claimed: Delivery, state: str) -> bool:
    with store.write() as records:
        after = Delivery(claimed.event_id, claimed.endpoint_id, claimed.vehicle, state, 1, NOW)
        return records.deliveries.settle(claimed, after)


# -- rules --


@pytest.mark.parametrize(
    "roles, kinds",
    [
        ({OEM}, ROOT_EVENTS + OEM_EVENTS),
        ({MO_EXTERNAL_PKI}, ROOT_EVENTS + MO_EVENTS),
        ({MO_HUBJECT_PKI}, ROOT_EVENTS + MO_EVENTS),
        ({CPO}, ROOT_EVENTS),
        ({CPS}, ROOT_EVENTS),
        ({ADMIN}, ROOT_EVENTS),
        ({OEM, CPO}, ROOT_EVENTS + OEM_EVENTS),
    ],
)
def test_role_may_choose_the_events_that_concern_it(
    sqlite_store: SqlStore, roles: set[str], kinds: tuple[str, ...]
):
    caller = Caller("one", frozenset(roles), client_id="one")
    endpoint = create(sqlite_store, caller, kinds)
    assert set(endpoint.events.split(",")) == set(kinds)
    for kind in set(KINDS) - set(kinds):
        with pytest.raises(PoolError, match=f"{re.escape(kind)} does not concern the role"):
            create(sqlite_store, caller, [kind])


@pytest.mark.parametrize(
    "kinds, words",
    [
        ([], "at least one event"),
        (["contract.created"], "contract.created is not an event"),
        ([*OEM_EVENTS, "oem.contract.*"], "is not an event"),
    ],
)
def test_events_that_are_none_are_refused(sqlite_store: SqlStore, kinds: list[str], words: str):
    with pytest.raises(PoolError, match=words):
        create(sqlite_store, kinds=kinds)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/", "ftp://maker.example/", "https://a:b@maker.example/", ""]
)
def test_url_that_must_not_be_called_is_refused_at_once(sqlite_store: SqlStore, url: str):
    with pytest.raises(PoolError, match=r"^invalid: url : "):
        create(sqlite_store, url=url)
    endpoint = create(sqlite_store)
    with sqlite_store.write() as records, pytest.raises(PoolError, match=r"^invalid: url : "):
        webhooks.update(records, MAKER, endpoint.endpoint_id, EndpointChange(url), NET)


@pytest.mark.parametrize(
    "other_caller", [RIVAL, OPERATOR, replace(MAKER, client_id="its other one")]
)
def test_owner_alone_sees_changes_and_deletes_its_endpoint(store: SqlStore, other_caller: Caller):
    endpoint = create(store)
    identity = endpoint.endpoint_id
    with store.write() as records:
        assert webhooks.listed(records, other_caller) == []
        for act in (
            lambda: webhooks.get(records, other_caller, identity),
            lambda: webhooks.delete(records, other_caller, identity),
            lambda: webhooks.update(records, other_caller, identity, EndpointChange(URL), NET),
            lambda: webhooks.deliveries(records, other_caller, identity, None),
            lambda: webhooks.replay(records, other_caller, identity, NOW),
        ):
            with pytest.raises(PoolError) as refusal:
                act()
            assert refusal.value.reason == "not-found"
    with store.write() as records:
        assert webhooks.get(records, MAKER, identity) == endpoint
        webhooks.delete(records, MAKER, identity)
        assert webhooks.listed(records, MAKER) == []


def test_update_keeps_unnamed_fields(store: SqlStore):
    endpoint = create(store, description="mine", metadata={"a": 1}, enabled=False)
    with store.write() as records:
        changed = webhooks.update(
            records, MAKER, endpoint.endpoint_id, EndpointChange("https://other.example/"), NET
        )
    assert changed.url == "https://other.example/"
    assert (changed.events, changed.description, changed.metadata, changed.enabled) == (
        endpoint.events,
        "mine",
        '{"a": 1}',
        False,
    )


def test_a_webhook_gets_the_identifiers_of_its_client_and_not_of_a_cached_caller(store: SqlStore):
    """A server may know a caller for some seconds after a loss, or after the return."""
    lost = replace(OPERATOR, providers=frozenset())
    with store.write() as records:
        providers.enter(records, ADMINISTRATOR, "DEPVA", OPERATOR.name, NOW, registry="test")
        clients.register(records, OPERATOR, (OPERATOR.client_id, "secret"), "test", NOW)
    first = create(store, lost, MO_EVENTS)
    assert first.scopes == "DEPVA"
    with store.write() as records:
        providers.enter(records, ADMINISTRATOR, "DEPVA", "another", NOW, registry="test")
    assert create(store, OPERATOR, MO_EVENTS).scopes == ""
    with store.write() as records:
        webhooks.update(records, OPERATOR, first.endpoint_id, EndpointChange(URL), NET)
    with store.read() as records:
        assert records.endpoints.listening("DEPVA") == []
    with store.write() as records:
        providers.enter(records, ADMINISTRATOR, "DEPVA", OPERATOR.name, NOW, registry="test")
    with store.read() as records:
        assert len(records.endpoints.listening("DEPVA")) == 2


def test_owner_has_so_many_endpoints_and_no_more(sqlite_store: SqlStore):
    for _ in range(webhooks.MOST):
        create(sqlite_store)
    with pytest.raises(PoolError, match="delete one first"):
        create(sqlite_store)
    create(sqlite_store, RIVAL)


# -- recipients --


def test_event_goes_to_the_enabled_subscribed_endpoints_of_its_audience(store: SqlStore):
    wants = create(store)
    other_endpoints = [
        create(store, kinds=["oem.contract.deleted"]),
        create(store, enabled=False),
        create(store, RIVAL),
        create(store, OPERATOR, MO_EVENTS),
    ]
    event = tell(store)
    assert [delivery.event_id for delivery in of(store, wants)] == [event.event_id]
    assert [of(store, endpoint) for endpoint in other_endpoints] == [[]] * 4


@pytest.mark.parametrize("kind", ADMIN_EVENTS)
def test_an_event_for_administrators_reaches_no_other_client(store: SqlStore, kind: str):
    administrator = Caller("admin", frozenset({ADMIN}), client_id="a")
    for caller in (MAKER, OPERATOR, Caller("station", frozenset({CPO}))):
        assert events.ADMINISTRATORS not in (events.audiences(caller) or ())
    event = tell(store, kind, events.ADMINISTRATORS)
    with store.read() as records:
        of_admin = records.events.since(0, sorted(events.audiences(administrator) or ()), 10)
    assert [event.event_id for event in of_admin] == [event.event_id]
    for caller in (MAKER, administrator):
        with pytest.raises(PoolError, match="is not an event"):
            create(store, caller, [kind])


def test_ids_of_events_are_uuids_that_begin_with_the_time(sqlite_store: SqlStore):
    before = time.time_ns() // 1_000_000
    with sqlite_store.write() as records:
        ids = [
            events.publish(records, "root.cert.added", events.EVERYONE, {}, 0.0).event_id
            for _ in range(64)
        ]
    uuids = [UUID(text) for text in ids]
    assert len(set(ids)) == 64
    assert [str(uuid) for uuid in uuids] == ids
    assert {(uuid.version, uuid.variant) for uuid in uuids} == {(7, RFC_4122)}
    after = time.time_ns() // 1_000_000
    assert all(before <= uuid.int >> 80 <= after for uuid in uuids)


def test_event_for_everyone_goes_to_every_role(store: SqlStore):
    mine = create(store, kinds=ROOT_EVENTS)
    theirs = create(store, OPERATOR, ROOT_EVENTS)
    tell(store, "root.cert.added", events.EVERYONE, "")
    assert len(of(store, mine)) == len(of(store, theirs)) == 1


def test_event_of_a_transaction_that_fails_is_never_delivered(store: SqlStore):
    endpoint = create(store)

    def fail() -> None:
        with store.write() as records:
            events.publish(records, "oem.contract.created", "PVT", {}, NOW)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert of(store, endpoint) == []
    with store.read() as records:
        assert records.events.last() == 0


# -- claims --


def test_of_a_vehicle_only_the_first_unfinished_is_handed_out(store: SqlStore):
    endpoint = create(store)
    first, second = tell(store), tell(store)
    of_other_vehicle = tell(store, vehicle="PVTP0000000000002")
    claimed = claim(store, endpoint)
    assert [delivery.event_id for delivery in claimed] == [
        first.event_id,
        of_other_vehicle.event_id,
    ]
    assert claim(store, endpoint) == []
    assert settle(store, claimed[0], "sent")
    assert [delivery.event_id for delivery in claim(store, endpoint)] == [second.event_id]


def test_events_of_no_vehicle_wait_for_nothing(store: SqlStore):
    endpoint = create(store, kinds=ROOT_EVENTS)
    for _ in range(3):
        tell(store, "root.cert.added", events.EVERYONE, "")
    assert len(claim(store, endpoint)) == 3


def test_a_dropped_delivery_is_handed_out_again_and_its_old_claim_is_void(store: SqlStore):
    endpoint = create(store)
    tell(store)
    (dropped,) = claim(store, endpoint)
    assert claim(store, endpoint, NOW + 59) == []
    (again,) = claim(store, endpoint, NOW + 61)
    assert again.event_id == dropped.event_id
    assert not settle(store, dropped, "dead")
    assert of(store, endpoint)[0].state == "pending"
    assert settle(store, again, "sent")
    assert not settle(store, again, "dead")
    assert of(store, endpoint)[0].state == "sent"


def test_endpoints_with_due_deliveries_are_listed(store: SqlStore):
    first, second, idle = create(store), create(store, RIVAL), create(store)
    tell(store)
    tell(store, audience="XXX", vehicle="XXXP0000000000001")
    claim(store, idle)

    def due(now: float = NOW) -> set[str]:
        with store.read() as records:
            return {row.endpoint_id for row in records.deliveries.due(now)}

    assert due() == {first.endpoint_id, second.endpoint_id}
    claim(store, first)
    assert due() == {second.endpoint_id}
    assert due(NOW + 61) == {first.endpoint_id, second.endpoint_id, idle.endpoint_id}
    assert due(NOW - 1) == set()
    with store.write() as records:
        webhooks.update(
            records, RIVAL, second.endpoint_id, EndpointChange(URL, enabled=False), NET
        )
    assert due() == set()


# -- dead letters --


def test_dead_letters_are_listed_and_sent_again(store: SqlStore):
    endpoint = create(store)
    published = [tell(store, vehicle=f"PVTP000000000000{number}") for number in range(4)]
    for claimed, state in zip(
        claim(store, endpoint), ("dead", "dead", "rejected", "sent"), strict=True
    ):
        settle(store, claimed, state)
    with store.write() as records:
        listed = webhooks.deliveries(records, MAKER, endpoint.endpoint_id, "dead")
        assert [event.event_id for _, event in listed] == [
            published[1].event_id,
            published[0].event_id,
        ]
        assert (
            webhooks.replay(records, MAKER, endpoint.endpoint_id, NOW, published[2].event_id) == 1
        )
    assert [delivery.event_id for delivery in of(store, endpoint, "pending")] == [
        published[2].event_id
    ]
    with store.write() as records:
        assert webhooks.replay(records, MAKER, endpoint.endpoint_id, NOW) == 2
        assert webhooks.replay(records, MAKER, endpoint.endpoint_id, NOW) == 0
    assert len(claim(store, endpoint)) == 3
    with store.write() as records, pytest.raises(PoolError) as refusal:
        webhooks.replay(records, MAKER, endpoint.endpoint_id, NOW, "no such event")
    assert refusal.value.reason == "not-found"


def test_a_delivery_under_way_is_not_started_again(store: SqlStore):
    endpoint = create(store)
    event = tell(store)
    (claimed,) = claim(store, endpoint)
    with store.write() as records:
        assert webhooks.replay(records, MAKER, endpoint.endpoint_id, NOW, event.event_id) == 0
    assert of(store, endpoint) == [claimed]


def test_cleansing_deletes_the_deliveries_of_no_endpoint_alone(store: SqlStore):
    first, second = create(store), create(store)
    event = tell(store)
    with store.write() as records:
        for name in ("", "gone", "zzz"):
            records.deliveries.put(Delivery(event.event_id, name, ""))
    cleanse(store, NOW)
    assert len(of(store, first)) == len(of(store, second)) == 1
    with store.read() as records:
        for name in ("", "gone", "zzz"):
            assert records.deliveries.get(event.event_id, name) is None


def test_deliveries_go_with_their_endpoint(store: SqlStore):
    endpoint = create(store)
    tell(store)
    (claimed,) = claim(store, endpoint)
    with store.write() as records:
        webhooks.delete(records, MAKER, endpoint.endpoint_id)
    assert of(store, endpoint) == []
    assert not settle(store, claimed, "sent")
