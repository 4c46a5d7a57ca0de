"""Webhooks over HTTP as their owners use them, and a delivery from end to end."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from fixtures.backend import Backend, refused
from fixtures.receiver import Receiver
from plugvault.delivery import Worker
from plugvault.opcp.services import Settings
from plugvault.pools import webhooks as rules
from plugvault.pools.caller import CPO, MO_EXTERNAL_PKI, MO_HUBJECT_PKI, OEM, Caller
from plugvault.roles.receiver import is_signed

PATH = "/v1/webhook/endpoints"
URL = "https://maker.example/hook"
KINDS = ["oem.contract.created", "oem.contract.updated", "oem.contract.deleted"]
Json = dict[str, Any]


@pytest.fixture(autouse=True)
def _clean(backend: Backend) -> Iterator[None]:
    yield
    for role in (OEM, MO_EXTERNAL_PKI, CPO):
        for endpoint in backend.ask(role, "GET", PATH).json():
            backend.ask(role, "DELETE", f"{PATH}/{endpoint['id']}")


def create(backend: Backend, role: str = OEM, **body: Any) -> Json:
    answer = backend.ask(role, "POST", PATH, json={"url": URL, "enabledEvents": KINDS} | body)
    assert answer.status_code == 201, answer.text
    endpoint: Json = answer.json()
    return endpoint


def test_endpoint_is_created_shown_changed_and_deleted(backend: Backend):
    created = create(backend, description="mine", metadata={"team": 7})
    assert created == {
        "id": created["id"],
        "created": created["created"],
        "url": URL,
        "enabledEvents": KINDS,
        "events": KINDS,
        "apiVersion": "v1",
        "description": "mine",
        "metadata": {"team": 7},
        "status": "enabled",
        "wmis": ["PVT"],
        "userRole": "OEM",
        "userName": "Example Cars",
        "secret": created["secret"],
    }
    assert abs(created["created"] - time.time()) < 600
    assert isinstance(created["created"], int)
    assert len(created["secret"]) == 64
    endpoint_path = f"{PATH}/{created['id']}"
    assert backend.ask(OEM, "GET", endpoint_path).json() == created
    hidden = {name: value for name, value in created.items() if name != "secret"}
    assert backend.ask(OEM, "GET", PATH).json() == [hidden]
    body = {"url": "https://other.example/", "status": "disabled", "events": KINDS[:1]}
    changed = backend.ask(OEM, "PUT", endpoint_path, json=body)
    assert changed.status_code == 200
    assert changed.json() == hidden | {
        "url": "https://other.example/",
        "status": "disabled",
        "events": KINDS[:1],
        "enabledEvents": KINDS[:1],
    }
    assert backend.ask(OEM, "GET", endpoint_path).json()["secret"] == created["secret"]
    assert backend.ask(OEM, "DELETE", endpoint_path).status_code == 200
    refused(backend.ask(OEM, "GET", endpoint_path), 404, "not found")
    refused(backend.ask(OEM, "DELETE", endpoint_path), 404, "not found")


def test_list_of_events_goes_by_either_name(backend: Backend):
    for names in ({"events": KINDS}, {"enabledEvents": KINDS}, {"events": KINDS[::-1]}):
        body = {"url": URL, **names}
        assert backend.ask(OEM, "POST", PATH, json=body).json()["enabledEvents"] == KINDS
    body = {"url": URL, "events": KINDS, "enabledEvents": KINDS[:1]}
    refused(backend.ask(OEM, "POST", PATH, json=body), 400, "same as enabledEvents")


def test_operator_is_shown_with_its_providers(backend: Backend):
    created = create(backend, MO_EXTERNAL_PKI, enabledEvents=["mo.prov.cert.factory.reset"])
    assert (created["providerIds"], created["userRole"]) == (["DEPVA"], "MO")
    assert "wmis" not in created
    created = create(backend, CPO, enabledEvents=["root.cert.revoked"])
    assert "wmis" not in created
    assert "providerIds" not in created


@pytest.mark.parametrize(
    "body, words",
    [
        ({"enabledEvents": KINDS}, "url : must be given"),
        ({"url": URL}, "enabledEvents : must be given"),
        ({"url": URL, "enabledEvents": []}, "at least one"),
        ({"url": URL, "enabledEvents": ["contract.created"]}, "is not an event"),
        ({"url": URL, "enabledEvents": ["mo.prov.cert.updated"]}, "does not concern the role OEM"),
        ({"url": "maker.example", "enabledEvents": KINDS}, "url : .*https://"),
        ({"url": "http://127.0.0.1/", "enabledEvents": KINDS}, "url : .*not public"),
        ({"url": URL, "enabledEvents": KINDS, "status": "paused"}, "status : "),
        ({"url": URL, "enabledEvents": KINDS, "apiVersion": "v2"}, 'apiVersion : must be "v1"'),
        ({"url": URL, "enabledEvents": KINDS, "metadata": {"a": "b" * 5000}}, "metadata : "),
        ({"url": URL, "enabledEvents": KINDS, "description": "b" * 5000}, "description : "),
        ({"url": URL, "enabledEvents": "oem.contract.created"}, "enabledEvents : "),
        ({"url": URL, "enabledEvents": KINDS, "metadata": []}, "metadata : "),
    ],
)
def test_invalid_endpoint_is_refused_in_words(backend: Backend, body: Json, words: str):
    refused(backend.ask(OEM, "POST", PATH, json=body), 400, words)
    assert backend.ask(OEM, "GET", PATH).json() == []


def test_only_its_owner_reaches_an_endpoint(backend: Backend):
    created = create(backend)
    endpoint_path = f"{PATH}/{created['id']}"
    twin = Caller("Example Cars", frozenset({OEM}), wmis=frozenset({"PVT"}))
    backend.enter("twin", twin)
    for role in ("twin", MO_EXTERNAL_PKI, MO_HUBJECT_PKI, CPO, "CPS", "ADMIN"):
        assert backend.ask(role, "GET", PATH).json() == []
        calls = (
            ("GET", endpoint_path, {}),
            ("PUT", endpoint_path, {"json": {"url": URL}}),
            ("DELETE", endpoint_path, {}),
            ("GET", f"{endpoint_path}/deliveries", {}),
            ("POST", f"{endpoint_path}/deliveries/replay", {}),
            ("POST", f"{endpoint_path}/deliveries/{uuid.uuid4()}/replay", {}),
        )
        for method, path, options in calls:
            refused(backend.ask(role, method, path, **options), 404, "not found")
    refused(backend.ask(None, "GET", endpoint_path), 401, "bearer")
    assert backend.ask(OEM, "GET", endpoint_path).status_code == 200


def test_number_of_endpoints_of_an_owner_is_limited(backend: Backend):
    for _ in range(rules.MOST):
        create(backend)
    body = {"url": URL, "enabledEvents": KINDS}
    refused(backend.ask(OEM, "POST", PATH, json=body), 400, "already")


def test_maker_gets_the_contract_event_and_operator_the_delivery_event(
    backend: Backend, receiver: Receiver
):
    store = backend.ecosystem.store
    created = create(backend)
    with store.write() as records:  # a receiver of the tests is on loopback
        endpoint = records.endpoints.get(created["id"])
        assert endpoint
        records.endpoints.put(type(endpoint)(**vars(endpoint) | {"url": receiver.url}))
    operator = create(backend, MO_EXTERNAL_PKI, enabledEvents=["mo.contract.created.sent.to.oem"])
    settings = Settings(networks=("127.0.0.0/8",), retries=0)
    worker = Worker(store, lambda _: created["secret"], settings, backend.clock)

    vehicle = backend.vehicle()
    signed = backend.sign(backend.contract_data(vehicle), vehicle.pcid)
    assert signed.status_code == 201, signed.text
    emaid = signed.json()["emaid"]
    receiver.answer = lambda _: 503
    worker.step()
    ((headers, body),) = receiver.got
    assert is_signed(created["secret"], body, headers)
    (event,) = receiver.events
    assert event["eventType"] == "oem.contract.created"
    payload = event["payload"]
    assert (payload["emaid"], payload["pcid"]) == (emaid, vehicle.pcid)
    assert set(payload) == {
        "emaid", "pcid", "contractCert", "cpsSignerRootFingerprint", "cpsSignerRootCommonName",
        "signatureAlgorithm",
    }  # fmt: skip
    assert re.fullmatch("[0-9a-f]{64}", payload["cpsSignerRootFingerprint"])
    assert payload["cpsSignerRootCommonName"] == "V2G Root CA"
    assert payload["signatureAlgorithm"] == "secp256r1"

    deliveries_path = f"{PATH}/{created['id']}/deliveries"
    (dead,) = backend.ask(OEM, "GET", deliveries_path, params={"state": "dead"}).json()[
        "deliveries"
    ]
    assert dead == {
        "state": "dead",
        "attempts": 1,
        "outcome": "The receiver answered 503.",
        "nextAttempt": None,
        "event": event,
    }
    receiver.answer = lambda _: 200
    again = backend.ask(OEM, "POST", f"{deliveries_path}/{event['eventId']}/replay")
    assert (again.status_code, again.json()) == (200, {"replayed": 1})
    worker.step()
    states = [
        delivery["state"]
        for delivery in backend.ask(OEM, "GET", deliveries_path).json()["deliveries"]
    ]
    assert states == ["sent"]
    refused(
        backend.ask(OEM, "POST", f"{deliveries_path}/{uuid.uuid4()}/replay"), 404, "not for this"
    )
    assert backend.ask(OEM, "POST", f"{deliveries_path}/replay").json() == {"replayed": 0}
    refused(backend.ask(OEM, "GET", deliveries_path, params={"state": "lost"}), 400, "state : ")

    theirs = f"{PATH}/{operator['id']}/deliveries"
    (delivered,) = backend.ask(MO_EXTERNAL_PKI, "GET", theirs).json()["deliveries"]
    assert delivered["event"]["eventType"] == "mo.contract.created.sent.to.oem"
    assert delivered["event"]["payload"] == payload
