"""host/docs/opcp.md lists every call and who may: held to the application, and to OPCP's files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from plugvault.opcp.app import create_app
from plugvault.opcp.rights import EVERYONE
from plugvault.opcp.services import Settings
from plugvault.pools.caller import OPERATORS, Caller

DOCUMENT = Path(__file__).parents[2] / "host/docs/opcp.md"
BY_CA = "by `ca`"
CAS = {"oem": "OEM", "veh": "OEM", "cpo": "CPO", "mo": "MO_HUBJECT_PKI", "cps": "CPS"}
WORDS = {"all": EVERYONE, "MO": OPERATORS, "public": frozenset()}
NOBODY = Caller("nobody", frozenset())

# Of RFC 6960: OPCP names the responder in certificates and not in a file.
RESPONDER = {"POST /ocsp", "GET /ocsp/{request}"}


def table() -> dict[str, tuple[str, str]]:
    """Of each call: who, and whether it is "" (published), "live" or "+"."""
    rows = re.findall(r"^\| `([A-Z]+ /\S*)` \| (.+?) \| (.*) \|$", DOCUMENT.read_text(), re.M)
    found = {}
    for call, who, words in rows:
        assert call not in found, f"{call} is there twice"
        mark = re.match(r"(live|\+)", words)
        found[call] = who, mark[1] if mark else ""
    return found


def roles(who: str) -> frozenset[str]:
    return frozenset().union(*(WORDS.get(word, {word}) for word in who.split(", ")))


@pytest.fixture(scope="module")
def face() -> TestClient:
    """The application with nothing behind it but a token of somebody who may do nothing."""
    tokens = SimpleNamespace(known=lambda _: NOBODY, audience="http://testserver")
    store = SimpleNamespace(at_hand=True)
    services: Any = SimpleNamespace(settings=Settings(), tokens=tokens, store=store)
    return TestClient(create_app(services), raise_server_exceptions=False)


def allowed(face: TestClient, call: str, ca: str = "oem") -> frozenset[str]:
    """The roles that a refusal names; none for a call that is not refused."""
    method, path = call.split()
    path = re.sub("{[^}]+}", "x", path.replace("{ca}", ca))
    said = face.request(method, path, headers={"Authorization": "Bearer x"})
    if method == "HEAD":  # no words; it is the GET's dependency
        assert said.status_code == 403
        said = face.get(path, headers={"Authorization": "Bearer x"})
    found = re.search(r"This call is for (.+), not for nobody", said.text)
    return frozenset(found[1].split(", ")) if found else frozenset()


def test_every_call_is_listed_and_every_row_is_served(face: TestClient):
    paths = face.get("/openapi.json").json()["paths"]
    served = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert set(table()) == served


@pytest.mark.parametrize("call", [call for call, (who, _) in table().items() if who != BY_CA])
def test_who_may_is_who_may(face: TestClient, call: str):
    assert allowed(face, call) == roles(table()[call][0])


@pytest.mark.parametrize("call", [call for call, (who, _) in table().items() if who == BY_CA])
def test_each_ca_is_for_its_role(face: TestClient, call: str):
    assert {ca: allowed(face, call, ca) for ca in CAS} == {ca: {CAS[ca]} for ca in CAS}


def test_what_is_not_marked_is_published_and_all_of_that_is_there(shared: Path):
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
