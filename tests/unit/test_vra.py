"""Operators announce their stations before the stations ask for certificates."""

from __future__ import annotations

import pytest

from fixtures.backend import refused
from fixtures.office import KEYS, Office, certs, request

URL = "/v1/vra/cpo/endEntities"
EVSEID, SECCID = "DE*PVC*E000001", "DE-PVC-S-00003C4D557878675645330967543476-2"
STATION = {
    "commonName": EVSEID,
    "manufacture": "Example",
    "deviceName": "Charger",
    "deviceSWVersion": "1.0",
    "evseSerialNumber": "7",
    "evseID": ["DE*PVC*E000001*1", "DE*PVC*E000001*2"],
    "evseISOversion": "15118-2",
    "ocppVersion": "2.0.1",
    "chargeBoxSerialNumber": "9",
}


def test_an_announced_station_is_listed_unchanged(office: Office):
    assert office.ask("CPO", "GET", URL).json() == []
    assert office.ask("CPO", "PUT", URL, json=STATION).status_code == 200
    assert office.ask("CPO", "GET", URL).json() == [STATION]
    changed = {**STATION, "deviceSWVersion": "1.1"}
    assert office.ask("CPO", "PUT", URL, json=changed).status_code == 200
    assert office.ask("CPO", "GET", URL).json() == [changed]


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"commonName": "DE*XXX*E000001"}, 403, "operator"),
        ({"evseID": ["DE*PVC*E1", "DE*XXX*E1"]}, 403, "operator"),
        ({"commonName": "station 7"}, 400, "EVSEID : must match"),
        ({"commonName": None}, 400, "commonName"),
        ({"evseISOversion": "15118-8"}, 400, "evseISOversion : must match"),
    ],
)
def test_a_station_of_another_operator_or_without_one_is_refused(
    office: Office, changes: dict[str, object], status: int, words: str
):
    refused(office.ask("CPO", "PUT", URL, json={**STATION, **changes}), status, words)
    assert office.ask("CPO", "GET", URL).json() == []


def test_the_registry_is_for_charge_point_operators(office: Office):
    for method in ("PUT", "GET"):
        refused(office.ask("OEM", method, URL, json=STATION), 403, "This call is for CPO")
        refused(office.ask(None, method, URL, json=STATION), 401, "token")


@pytest.mark.parametrize(
    ("name", "curve", "iso"), [(EVSEID, "secp256r1", "2"), (SECCID, "secp521r1", "20")]
)
def test_only_an_announced_station_is_certified_where_that_is_asked(
    strict_office: Office, name: str, curve: str, iso: str
):
    enrolled = f"/cpo/simpleenroll/ISO15118-{iso}"
    body = request(name, KEYS[curve]())
    refused(strict_office.ask("CPO", "POST", enrolled, content=body), 403, "endEntities")
    announced = {**STATION, "commonName": name}
    assert strict_office.ask("CPO", "PUT", URL, json=announced).status_code == 200
    assert certs(strict_office.ask("CPO", "POST", enrolled, content=body))
