"""Attacks on events: forged deliveries, and webhooks to addresses only the backend reaches."""

from __future__ import annotations

import dataclasses
import hmac
import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from fixtures.receiver import Receiver, receiving
from plugvault.delivery import Worker, signature
from plugvault.net import Outbound
from plugvault.opcp.services import Settings
from plugvault.pools import clients, events, webhooks
from plugvault.pools.caller import OEM, Caller
from plugvault.pools.errors import PoolError
from plugvault.pools.events import OEM_EVENTS
from plugvault.pools.records import Delivery, Endpoint
from plugvault.pools.webhooks import EndpointChange
from plugvault.roles import receiver as maker
from plugvault.store import SqlStore

NOW = 1_790_000_000.0
SECRET = "the webhook's"
MAKER = Caller("maker", frozenset({OEM}), wmis=frozenset({"PVT"}), client_id="m")
BODY = json.dumps({"eventId": "1", "eventType": "oem.contract.created", "payload": {}}).encode()
OURS = "127.0.0.2"  # where a receiver may be in these tests; the victim is on 127.0.0.1


@pytest.fixture
def victim() -> Iterator[Receiver]:
    with receiving() as receiver_:
        yield receiver_


def attack(store: SqlStore, url: str, networks: tuple[str, ...] = ()) -> Delivery:
    """Store a webhook for `url` past the checks of its creation, and deliver an event."""
    with store.write() as records:
        webhook = EndpointChange("https://maker.example/", OEM_EVENTS)
        endpoint = webhooks.create(records, MAKER, webhook, Outbound(networks), NOW)
        records.endpoints.put(dataclasses.replace(endpoint, url=url))
        event = events.publish(records, "oem.contract.created", "PVT", {"emaid": "E" * 14}, NOW)
    Worker(store, lambda _: SECRET, Settings(networks=networks), lambda: NOW).step()
    with store.read() as records:
        delivery = records.deliveries.get(event.event_id, endpoint.endpoint_id)
    assert delivery
    return delivery


class Resolver:
    """Answers for "maker.example"; each question gets the next of `answers`, then the last."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> None:
        self.answers, self.asked = list(answers), 0
        self._real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self)

    def __call__(self, host: str, port: int, *arguments: Any, **more: Any) -> list[Any]:
        numeric = more.get("flags", 0) & socket.AI_NUMERICHOST
        if host != "maker.example" or numeric:
            return self._real(host, port, *arguments, **more)
        self.asked += 1
        now = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            (
                socket.AF_INET6 if ":" in address else socket.AF_INET,
                socket.SOCK_STREAM,
                6,
                "",
                (address, port),
            )
            for address in now
        ]


def test_a_locked_out_client_gets_no_events(sqlite_store: SqlStore, victim: Receiver):
    """It gets neither new nor waiting events; after its return it gets the waiting ones."""
    with sqlite_store.write() as records:
        client = clients.register(records, MAKER, ("m", "s"), "test", NOW)
        outbound = Outbound(["127.0.0.0/8"])
        webhooks.create(records, MAKER, EndpointChange(victim.url, OEM_EVENTS), outbound, NOW)
        events.publish(records, "oem.contract.created", "PVT", {"emaid": "E" * 14}, NOW)
        clients.set_active(records, client.client_id, False, "test", NOW)
        events.publish(records, "oem.contract.deleted", "PVT", {"emaid": "E" * 14}, NOW)
    settings = Settings(networks=("127.0.0.0/8",))
    worker = Worker(sqlite_store, lambda _: SECRET, settings, lambda: NOW)
    assert worker.step() == 0
    with sqlite_store.write() as records:
        clients.set_active(records, client.client_id, True, "test", NOW)
    assert worker.step() == 1
    assert worker.step() == 0


# -- 62 --


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"payload-signature": ""},
        {"payload-signature": "0" * 64},
        signature.headers("another's", BODY),
        signature.headers(SECRET, BODY + b" "),
        {"payload-signature": signature.headers(SECRET, BODY)["payload-signature"][:32]},
        {
            **signature.headers(SECRET, BODY),
            "X-Hubject-Signature": signature.headers("another's", BODY)["X-Hubject-Signature"],
        },
    ],
    ids=["none", "empty", "guess", "other secret", "other body", "half", "one of three"],
)
def test_webhook_hmac_required_and_constant_time(
    headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    compared: list[tuple[bytes, bytes]] = []
    real = hmac.compare_digest

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return real(a, b)

    monkeypatch.setattr(maker.hmac, "compare_digest", compare)
    events: list[object] = []

    def take(event: object) -> str:
        events.append(event)
        return ""

    lowercase = {name.lower(): value for name, value in headers.items()}
    status, _ = maker.answer(take, SECRET, BODY, lowercase)
    assert (status, events) == (401, [])
    assert len(compared) == len(headers), "each header is compared as a whole"
    right = {name.lower(): value for name, value in signature.headers(SECRET, BODY).items()}
    assert maker.answer(take, SECRET, BODY, right) == (200, "")
    assert len(events) == 1


def test_forged_delivery_to_a_running_receiver_is_not_taken(sqlite_store: SqlStore):
    events: list[Any] = []

    def take(event: Any) -> str:
        events.append(event)
        return ""

    with maker.receiving(take, lambda: SECRET) as url:
        assert httpx.post(url, content=BODY, trust_env=False).status_code == 401
        delivery = attack(sqlite_store, url, ("127.0.0.0/8",))
    assert delivery.state == "sent"
    assert [event["eventId"] for event in events] == [delivery.event_id]


# -- 63 --


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "017700000001",
        "0177.0.0.1", "0", "0.0.0.0", "localhost", "LOCALHOST", "localhost.", "any.localhost",
        "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]",
        "[64:ff9b::127.0.0.1]", "[2002:7f00:1::]", "[0:0:0:0:0:ffff:127.0.0.1]",
    ],
)  # fmt: skip
def test_webhook_url_cannot_reach_loopback_or_metadata(
    sqlite_store: SqlStore, victim: Receiver, host: str
):
    url = f"http://{host}:{victim.port}/"
    with sqlite_store.write() as records, pytest.raises(PoolError, match="not public"):
        webhooks.create(records, MAKER, EndpointChange(url, OEM_EVENTS), Outbound(), NOW)
    assert attack(sqlite_store, url).outcome.startswith("refused: ")
    assert victim.got == []


@pytest.mark.parametrize(
    "host",
    ["169.254.169.254", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "[fd00:ec2::254]",
     "[::ffff:169.254.169.254]", "[64:ff9b::a9fe:a9fe]", "100.100.100.200", "168.63.129.16",
     "192.0.0.192", "10.0.0.1", "192.168.0.1", "172.31.0.1", "[fe80::1]"],
)  # fmt: skip
def test_webhook_url_cannot_reach_metadata_or_the_network_of_the_backend(
    sqlite_store: SqlStore, host: str, monkeypatch: pytest.MonkeyPatch
):
    connected: list[object] = []
    monkeypatch.setattr(socket, "create_connection", lambda *a, **_: connected.append(a))
    url = f"http://{host}/latest/meta-data/"
    with sqlite_store.write() as records, pytest.raises(PoolError, match="not public"):
        webhooks.create(records, MAKER, EndpointChange(url, OEM_EVENTS), Outbound(), NOW)
    assert attack(sqlite_store, url).outcome.startswith("refused: ")
    assert connected == []


def test_url_of_an_endpoint_cannot_be_changed_to_a_forbidden_one(sqlite_store: SqlStore):
    def hook(endpoint: Endpoint | None, url: str) -> Endpoint:
        with sqlite_store.write() as records:
            if endpoint is None:
                webhook = EndpointChange(url, OEM_EVENTS)
                return webhooks.create(records, MAKER, webhook, Outbound(), NOW)
            return webhooks.update(
                records, MAKER, endpoint.endpoint_id, EndpointChange(url), Outbound()
            )

    created = hook(None, "https://maker.example/")
    with pytest.raises(PoolError, match="not public"):
        hook(created, "http://127.0.0.1/")
    with sqlite_store.read() as records:
        assert webhooks.get(records, MAKER, created.endpoint_id) == created


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "169.254.169.254", "::ffff:127.0.0.1", "fd00:ec2::254", "::1"]
)
def test_name_that_resolves_to_an_internal_address_is_refused_at_the_call(
    sqlite_store: SqlStore, victim: Receiver, monkeypatch: pytest.MonkeyPatch, address: str
):
    Resolver(monkeypatch, [address])
    delivery = attack(sqlite_store, f"http://maker.example:{victim.port}/")
    assert delivery.outcome.startswith("refused: ")
    assert address not in delivery.outcome
    assert victim.got == []


def test_name_that_resolves_differently_the_second_time_gains_nothing(
    sqlite_store: SqlStore, victim: Receiver, monkeypatch: pytest.MonkeyPatch
):
    with receiving(host=OURS) as mine:
        names = Resolver(monkeypatch, [OURS], ["127.0.0.1"])
        delivery = attack(sqlite_store, f"http://maker.example:{mine.port}/", (f"{OURS}/32",))
        assert delivery.state == "sent"
        assert len(mine.got) == names.asked == 1
    assert victim.got == []


def test_of_many_addresses_only_the_permitted_are_tried(
    sqlite_store: SqlStore, monkeypatch: pytest.MonkeyPatch
):
    with receiving(host=OURS) as mine, receiving(mine.port) as inside:
        Resolver(monkeypatch, ["127.0.0.1", "::1", OURS])
        delivery = attack(sqlite_store, f"http://maker.example:{mine.port}/", (f"{OURS}/32",))
        assert delivery.state == "sent"
        assert len(mine.got) == 1
        assert inside.got == []


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirect_is_not_followed(sqlite_store: SqlStore, victim: Receiver, status: int):
    with receiving(host=OURS) as mine:
        mine.answer, mine.redirect = lambda _: status, victim.url
        delivery = attack(sqlite_store, mine.url, (f"{OURS}/32",))
    assert len(mine.got) == 1
    assert (delivery.state, delivery.outcome) == ("pending", f"The receiver answered {status}.")
    assert victim.got == []
