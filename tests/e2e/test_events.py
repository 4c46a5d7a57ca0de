"""Events on their stream, over HTTP, as a subscriber meets them."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from fixtures.backend import Backend, refused
from fixtures.receiver import until
from plugvault.opcp import stream
from plugvault.pools import events
from plugvault.pools.caller import CPO, MO_EXTERNAL_PKI, OEM, Caller
from plugvault.roles.client import Credentials, OpcpClient, OpcpError
from plugvault.roles.events import EventStream

MAKER, OPERATOR = "PVT", "DEPVA"  # the audiences of OEM and MO_EXTERNAL_PKI
PAYLOAD = {"emaid": "DEPVAC12345678", "pcid": "PVTP0000000000001"}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "HEARTBEAT", 0.1)


def tell(backend: Backend, kind: str, audience: str, **more: Any) -> int:
    """The event's place."""
    with backend.ecosystem.store.write() as records:
        events.publish(records, kind, audience, {**PAYLOAD, **more}, backend.clock())
        return records.events.last()


class Listener:
    """The lines of one stream, as they come."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self._lines = answer.iter_lines()

    def block(self) -> dict[str, str]:
        lines = itertools.takewhile(bool, self._lines)
        return dict(line.split(": ", 1) if ": " in line else (line, "") for line in lines)

    def event(self) -> dict[str, str]:
        """Return the next message with data; heartbeats are skipped."""
        return next(block for block in iter(self.block, None) if "data" in block)


@contextlib.contextmanager
def listening(backend: Backend, role: str, **options: Any) -> Iterator[Listener]:
    backend.ask(role, "GET", "/v1/root/rootCerts")  # to have a token
    headers = {"Authorization": f"Bearer {backend.bearers[role]}", **options.pop("headers", {})}
    with backend.http.stream(
        "GET", "/v1/events", headers=headers, timeout=20, **options
    ) as response:
        assert response.status_code == 200, response.read()
        listener = Listener(response)
        assert set(listener.block()) == {"retry", "id"}
        yield listener


def test_stream_carries_the_events_of_the_caller_only(backend: Backend):
    with listening(backend, OEM) as mine, listening(backend, MO_EXTERNAL_PKI) as theirs:
        assert mine.answer.headers["content-type"].startswith("text/event-stream")
        tell(backend, "oem.contract.created", "XXX")
        first = tell(backend, "oem.contract.created", MAKER)
        second = tell(backend, "mo.contract.delivered.to.oem", OPERATOR)
        third = tell(backend, "root.cert.added", events.EVERYONE)
        message = mine.event()
        assert (message["id"], message["event"]) == (str(first), "oem.contract.created")
        body = json.loads(message["data"])
        assert body["eventType"] == "oem.contract.created"
        assert body["payload"] == PAYLOAD
        assert set(body) == {"timestamp", "eventId", "eventType", "xsdMsgDefNamespace", "payload"}
        assert mine.event()["id"] == str(third)
        assert [theirs.event()["id"], theirs.event()["id"]] == [str(second), str(third)]


def test_station_operator_hears_of_roots_alone(backend: Backend):
    with listening(backend, CPO) as listener:
        tell(backend, "oem.contract.deleted", MAKER)
        tell(backend, "root.cert.expired", events.EVERYONE)
        assert listener.event()["event"] == "root.cert.expired"


def test_stream_continues_after_the_last_event_seen(backend: Backend):
    places = [tell(backend, "oem.contract.updated", MAKER) for _ in range(3)]
    after = {"headers": {"Last-Event-ID": str(places[0])}}
    for option in (after, {"params": {"since": places[0]}}):
        with listening(backend, OEM, **option) as listener:
            assert [listener.event()["id"] for _ in range(2)] == [
                str(place) for place in places[1:]
            ]
    both = {"params": {"since": 0}, "headers": {"Last-Event-ID": str(places[1])}}
    with listening(backend, OEM, **both) as listener:
        assert listener.event()["id"] == str(places[2])


def test_a_silent_stream_shows_that_it_is_alive(backend: Backend):
    with listening(backend, OEM) as listener:
        assert listener.block() == {":": ""}


def test_stream_ends_with_the_access_token(backend: Backend):
    with listening(backend, OEM) as listener:
        backend.clock.ahead += 90_000
        try:
            assert not any("data" in block for block in iter(listener.block, {}))
        finally:
            backend.clock.ahead -= 90_000


@pytest.mark.parametrize("value", ["x", "-1", str(2**70)])
def test_malformed_position_is_refused(backend: Backend, value: str):
    refused(backend.ask(OEM, "GET", "/v1/events", params={"since": value}), 400, "since : ")
    headers = {"Last-Event-ID": value}
    refused(backend.ask(OEM, "GET", "/v1/events", headers=headers), 400, "Last-Event-ID : ")


def test_number_of_streams_of_a_client_is_limited(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(stream, "MOST", 2)
    with listening(backend, OEM), listening(backend, OEM):
        refused(backend.ask(OEM, "GET", "/v1/events"), 429, "close one first")
        with listening(backend, CPO):
            pass
    headers = {"Authorization": f"Bearer {backend.bearers[OEM]}"}

    def opens() -> bool:
        with backend.http.stream("GET", "/v1/events", headers=headers) as response:
            return response.status_code == 200

    until(opens, "the places of those that were closed are free")


def test_stream_needs_a_token(backend: Backend):
    refused(backend.ask(None, "GET", "/v1/events"), 401, "bearer token")


@pytest.fixture
def client(backend: Backend) -> Iterator[OpcpClient]:
    with OpcpClient(backend.ecosystem.url, backend.ecosystem.credentials(OEM)) as opened:
        yield opened


def test_client_loses_nothing_when_its_connection_breaks(backend: Backend, client: OpcpClient):
    first = tell(backend, "oem.contract.created", MAKER)
    places: list[str] = []
    with EventStream(client, str(first - 1)) as followed:
        for place, event in followed:
            assert event["payload"] == PAYLOAD
            places.append(place)
            if len(places) == 3:
                break
            assert followed._stream
            followed._stream.close()
            tell(backend, "oem.contract.created", MAKER)
    assert places == [str(first + number) for number in range(3)]


def test_client_cut_off_before_the_first_event_misses_none(backend: Backend, client: OpcpClient):
    followed = EventStream(client)
    positions: list[str] = []

    def follow() -> None:
        positions.extend(place for place, _ in itertools.islice(followed, 1))

    thread = threading.Thread(target=follow)
    thread.start()
    deadline = time.monotonic() + 20
    while not followed._since:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    before = followed._stream
    assert before
    before.close()
    place = tell(backend, "oem.contract.created", MAKER)
    thread.join(20)
    assert positions == [str(place)]


def test_closing_the_client_ends_its_wait(client: OpcpClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stream, "HEARTBEAT", 600.0)
    told: list[OpcpError | None] = []
    followed = EventStream(client, connected=told.append)
    thread = threading.Thread(target=lambda: list(followed))
    thread.start()
    deadline = time.monotonic() + 20
    while not followed._since:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    followed.close()
    thread.join(20)
    assert not thread.is_alive()
    assert told == [None]  # its end is no failure


def test_client_takes_a_new_token_when_the_old_one_ends(backend: Backend, client: OpcpClient):
    client.call("GET", "/v1/root/rootCerts")
    followed = iter(EventStream(client, "0"))
    next(followed)
    backend.clock.ahead += 90_000
    try:
        place = tell(backend, "oem.contract.created", MAKER)
        assert any(position == str(place) for position, _ in followed)
    finally:
        backend.clock.ahead -= 90_000


def test_refused_client_raises_the_refusal(backend: Backend):
    wrong = Credentials("unknown", "nothing", backend.ecosystem.url)
    with OpcpClient(backend.ecosystem.url, wrong) as unknown_client:
        with pytest.raises(OpcpError) as refusal:
            next(iter(EventStream(unknown_client)))
        assert refusal.value.status == 401


def test_peer_has_no_stream(backend: Backend):
    backend.enter("peer", Caller("peer", frozenset({"PEER"})))
    refused(backend.ask("peer", "GET", "/v1/events"), 403, "not for peer")
