"""The registries over HTTP: the rights of each role, and the contents of refusals."""

from __future__ import annotations

import pytest

from fixtures.backend import Backend, Json, refused

DOCUMENT = "12345678901"
ALL = {"OEM", "CPO", "MO_EXTERNAL_PKI", "MO_HUBJECT_PKI", "CPS", "ADMIN"}
OPERATORS = {"MO_EXTERNAL_PKI", "MO_HUBJECT_PKI"}
LOOKUP, VEHICLES, PROVIDERS = (
    "/v1/registry/vehicles/lookup",
    "/v1/registry/vehicles",
    "/v1/registry/providers",
)


def row(number: int, **changes: str) -> Json:
    return {
        "vin": f"PVTZZZ8V1KA{number:06}",
        "plate": f"PV {number:04}",
        "pcid": f"PVTP{number:013}",
        "registrationDocument": DOCUMENT,
        **changes,
    }


def test_a_maker_enters_a_vehicle_and_an_operator_finds_it_by_its_plate(backend: Backend):
    answer = backend.ask("OEM", "PUT", VEHICLES, json=row(1001))
    assert answer.json() == {
        "vin": "PVTZZZ8V1KA001001", "plate": "PV1001", "pcid": "PVTP0000000001001",
    }  # fmt: skip
    for question in ({"plate": "pv1001"}, {"vin": "PVTZZZ8V1KA001001"}):
        lookup = {**question, "registrationDocument": DOCUMENT}
        for role in OPERATORS:
            answer = backend.ask(role, "POST", LOOKUP, json=lookup)
            assert answer.json() == {"pcid": "PVTP0000000001001"}


def test_refusals_do_not_tell_whether_a_vehicle_exists(backend: Backend):
    backend.ask("OEM", "PUT", VEHICLES, json=row(1002))
    texts = set()
    for plate in ("PV1002", "PV9999"):
        lookup = {"plate": plate, "registrationDocument": "55555555"}
        for _ in range(3):
            answer = backend.ask("MO_EXTERNAL_PKI", "POST", LOOKUP, json=lookup)
            refused(answer, 403, "No vehicle with this identification")
            texts.add(answer.json()["errorMessages"][0])
        refused(
            backend.ask("MO_EXTERNAL_PKI", "POST", LOOKUP, json=lookup), 403, "ask again in 15"
        )
    assert len(texts) == 1
    lookup = {"plate": "PV1002", "registrationDocument": DOCUMENT}
    refused(backend.ask("MO_EXTERNAL_PKI", "POST", LOOKUP, json=lookup), 403, "ask again in 15")
    assert backend.ask("MO_HUBJECT_PKI", "POST", LOOKUP, json=lookup).status_code == 200


@pytest.mark.parametrize(
    "body, words",
    [
        ({}, "must have one of"),
        ({"plate": "PV1001", "vin": "PVTZZZ8V1KA001001"}, "must have one of"),
        ({"vin": "X"}, "vin : must match"),
        ({"plate": "''"}, "plate : must have"),
    ],
)
def test_an_invalid_lookup_gets_a_precise_error(backend: Backend, body: Json, words: str):
    lookup = {**body, "registrationDocument": DOCUMENT}
    refused(backend.ask("MO_EXTERNAL_PKI", "POST", LOOKUP, json=lookup), 400, words)


def test_another_makers_vehicle_cannot_be_entered(backend: Backend):
    for changes in ({"vin": "XXXZZZ8V1KA000001"}, {"pcid": "XXXP0000000001003"}):
        answer = backend.ask("OEM", "PUT", VEHICLES, json=row(1003, **changes))
        refused(answer, 403, "WMI")


def test_identifiers_are_entered_by_an_administrator_and_read_by_all(backend: Backend):
    answer = backend.ask("ADMIN", "PUT", f"{PROVIDERS}/GB-OCT", json={"name": "Octagon"})
    expected = {"provider": "GBOCT", "name": "Octagon", "registry": "EV Roam", "active": True}
    assert answer.json() == expected
    for role in ALL:
        assert backend.ask(role, "GET", f"{PROVIDERS}/gboct").json() == expected
        listed = backend.ask(role, "GET", PROVIDERS, params={"country": "GB"}).json()
        assert expected in listed["providers"]
    refused(backend.ask("OEM", "GET", f"{PROVIDERS}/GBXXX"), 404, "is not registered")
    refused(backend.ask("ADMIN", "PUT", f"{PROVIDERS}/FRXYZ", json={"name": "X"}), 400, "registry")


CALLS = [
    ("PUT", VEHICLES, {"OEM"}),
    ("POST", LOOKUP, OPERATORS),
    ("PUT", f"{PROVIDERS}/GBOCT", {"ADMIN"}),
    ("GET", PROVIDERS, ALL),
    ("GET", f"{PROVIDERS}/GBOCT", ALL),
]


@pytest.mark.parametrize("method, path, allowed", CALLS)
def test_each_role_may_make_its_own_calls_only(
    backend: Backend, method: str, path: str, allowed: set[str]
):
    for role in ALL:
        status = backend.ask(role, method, path, json={}).status_code
        assert (status == 403) == (role not in allowed), (role, status)
    assert backend.ask(None, method, path, json={}).status_code == 401
