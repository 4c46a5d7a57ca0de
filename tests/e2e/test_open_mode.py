"""Open mode: every role works without a token, and every answer says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures.backend import Backend, Clock, Vehicle, b64, certificates, refused
from plugvault.ecosystem import Ecosystem
from plugvault.opcp.open import HEADER, PREFIX, WARNING
from plugvault.opcp.services import Settings


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory, softhsm: Path) -> Iterator[Backend]:
    clock = Clock()
    folder = tmp_path_factory.mktemp("open")
    settings = Settings(open=True)
    with Ecosystem(folder / "world", softhsm, clock=clock, settings=settings) as ecosystem:
        yield Backend(ecosystem, clock)


def test_every_role_works_without_a_token(opened: Backend):
    vehicle = Vehicle("XYZP0000000000001")  # a WMI that no client here has
    enrolled = opened.ask(None, "POST", "/oem/simpleenroll", content=b64(vehicle.csr()))
    assert len(certificates(enrolled)) == 1
    assert opened.ask(None, "GET", "/v1/root/rootCerts").status_code == 200


def test_every_answer_says_that_it_is_open(opened: Backend):
    for path in ("/v1/root/rootCerts", "/", "/docs", "/openapi.json", "/nothing"):
        assert opened.ask(None, "GET", path).headers[HEADER] == WARNING
    assert WARNING in opened.http.get("/").text
    assert f"<title>{WARNING}" in opened.http.get("/docs").text


def test_a_bad_token_is_refused_although_none_is_needed(opened: Backend):
    headers = {"Authorization": "Bearer nonsense"}
    refused(opened.ask(None, "GET", "/v1/root/rootCerts", headers=headers), 401, "not valid")
    opened.clock.ahead = 86_401
    try:
        late = opened.login("OEM").json()["access_token"]
        opened.clock.ahead += 86_401
        headers = {"Authorization": f"Bearer {late}"}
        refused(opened.ask(None, "GET", "/v1/root/rootCerts", headers=headers), 401, "expired")
    finally:
        opened.clock.ahead = 0


def test_a_valid_token_still_identifies_the_caller(opened: Backend):
    refused(opened.ask("CPO", "PUT", "/v1/oem/provCerts", json={}), 403, "This call is for OEM")


def test_the_quick_starts_paths_work_and_answer_as_they_did(opened: Backend):
    vehicle = opened.vehicle()
    body = opened.registration(vehicle)
    at = f"{PREFIX}/v1/oem/provCerts"
    assert opened.ask(None, "PUT", at, json=body).status_code == 201
    refused(opened.ask(None, "PUT", at, json={}), 400, "vehicleCertificate : must be given")
    assert opened.ask(None, "GET", f"{at}/{vehicle.pcid}").status_code == 200
    refused(opened.ask(None, "GET", f"{PREFIX}2/v1/root/rootCerts"), 404, "Not Found")
