"""host/docs/opcp.md lists every call and its roles, as the application and OPCP's files do."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from plugvault.opcp.app import create_app
from plugvault.opcp.services import Settings
from plugvault.pki.issuer_names import TOLERANCES
from plugvault.pools import ccp, cps, installation, vehicle_request
from plugvault.pools.authorization import EVERYONE
from plugvault.pools.caller import OPERATORS, Caller

DOCUMENT = Path(__file__).parents[2] / "host/docs/opcp.md"
BY_CA = "by `ca`"
CAS = {"oem": "OEM", "veh": "OEM", "cpo": "CPO", "mo": "MO_HUBJECT_PKI", "cps": "CPS"}
WORDS = {"all": EVERYONE, "MO": OPERATORS, "public": frozenset()}
WITHOUT_ROLES = Caller("nobody", frozenset())

# Of RFC 6960: OPCP names the responder in certificates and not in a file.
RESPONDER = {"POST /ocsp", "GET /ocsp/{request}"}


def table() -> dict[str, tuple[str, str]]:
    """Return the roles of each call and its mark: "" (published), "live" or "+"."""
    rows = re.findall(r"^\| `([A-Z]+ /\S*)` \| (.+?) \| (.*) \|$", DOCUMENT.read_text(), re.M)
    calls = {}
    for call, roles_, words in rows:
        assert call not in calls, f"{call} is there twice"
        mark = re.match(r"(live|\+)", words)
        calls[call] = roles_, mark[1] if mark else ""
    return calls


def roles(cell: str) -> frozenset[str]:
    return frozenset().union(*(WORDS.get(word, {word}) for word in cell.split(", ")))


@pytest.fixture(scope="module")
def face() -> TestClient:
    """The application without services, called with the token of a caller without roles."""
    tokens = SimpleNamespace(known=lambda _: WITHOUT_ROLES, audience="http://testserver")
    store = SimpleNamespace(is_local=True)
    services: Any = SimpleNamespace(settings=Settings(), tokens=tokens, store=store)
    return TestClient(create_app(services), raise_server_exceptions=False)


def allowed(face: TestClient, call: str, ca: str = "oem") -> frozenset[str]:
    """The roles that a refusal names; none for a call that is not refused."""
    method, path = call.split()
    path = re.sub("{[^}]+}", "x", path.replace("{ca}", ca))
    answer = face.request(method, path, headers={"Authorization": "Bearer x"})
    if method == "HEAD":  # no words; it is the GET's dependency
        assert answer.status_code == 403
        answer = face.get(path, headers={"Authorization": "Bearer x"})
    refusal = re.search(r"This call is for (.+), not for nobody", answer.text)
    return frozenset(refusal[1].split(", ")) if refusal else frozenset()


def test_every_call_is_listed_and_every_row_is_served(face: TestClient):
    paths = face.get("/openapi.json").json()["paths"]
    served = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert set(table()) == served


@pytest.mark.parametrize("call", [call for call, (role, _) in table().items() if role != BY_CA])
def test_the_listed_roles_are_the_permitted_roles(face: TestClient, call: str):
    assert allowed(face, call) == roles(table()[call][0])


@pytest.mark.parametrize("call", [call for call, (role, _) in table().items() if role == BY_CA])
def test_each_ca_is_for_its_role(face: TestClient, call: str):
    assert {ca: allowed(face, call, ca) for ca in CAS} == {ca: {CAS[ca]} for ca in CAS}


def test_unmarked_calls_are_exactly_the_published_calls(shared: Path):
    published = {
        f"{method.upper()} {path}"
        for file in (shared / "opcp-1.0.0").glob("*.v1.json")
        if file.name != "webhook.payload.v1.json"  # what is sent, not what is served
        for path, methods in json.loads(file.read_text())["paths"].items()
        for method in methods
        if method in ("get", "put", "post", "delete", "head")
    }
    unmarked = {call for call, (_, mark) in table().items() if not mark}
    assert set(map(nameless, unmarked - RESPONDER)) == set(map(nameless, published))


def nameless(call: str) -> str:
    """Without the names of parameters, and with the prefix that one published path lacks."""
    return re.sub(r"{[^}]*}", "{}", call).replace(" /cps/signer", " /v1/cps/signer")


def listed_checks(heading: str) -> list[str]:
    """The rows of the table of checks below a heading."""
    section = DOCUMENT.read_text().partition(f"### {heading}")[2].partition("\n###")[0]
    return re.findall(r"^\| `([a-z0-9-]+)`(?: to `[a-z0-9-]+`)? \|", section, re.M)


def test_tolerances_of_names_are_those_of_the_table():
    section = (
        DOCUMENT.read_text().partition("spells the name of its root")[2].partition("\n###")[0]
    )
    cells = re.findall(r"^\| (`.*?) \|", section, re.M)
    listed = [name for cell in cells for name in re.findall("`([a-z-]+)`", cell)]
    assert set(listed) == set(TOLERANCES)


def test_rows_of_the_checks_are_those_of_the_tables():
    at_a_station = [name for name, _ in vehicle_request.REQUEST + installation.INSTALL]
    assert listed_checks("CCP: the contract of a vehicle") == at_a_station
    sign, store = ([name for name, _ in table] for table in (cps.SIGN, ccp.STORE))
    assert listed_checks("CPS: contract data") == sign
    *listed, shared = listed_checks("CCP: signed contracts")
    assert listed == store[: store.index(shared)]
    assert store[store.index(shared) :] == sign[sign.index(shared) : sign.index("envelope") + 1]
