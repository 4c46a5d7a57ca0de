"""OPCP over HTTP, as a client written from the documents alone sees it: tokens, rights, limits.

The clients and the start of the server are in tests/fixtures/backend.py.
"""

from __future__ import annotations

import json
import re
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from jsonschema_rs import validator_for

from fixtures.backend import Backend, refused
from plugvault.opcp import health, openapi

# Token


def test_a_token_answer_has_the_documented_members(backend: Backend):
    answer = backend.login("OEM")
    assert answer.status_code == 200
    assert set(answer.json()) == {"access_token", "scope", "expires_in", "token_type"}
    assert (answer.json()["expires_in"], answer.json()["token_type"]) == (86_400, "Bearer")


def test_wrong_credentials_are_refused(backend: Backend):
    credentials = {"client_id": "a", "client_secret": "b", "audience": backend.ecosystem.url}
    answer = backend.http.post(
        "/oauth/token", json={**credentials, "grant_type": "client_credentials"}
    )
    both = {"error", "error_description", "errorMessages", "traceId"}
    assert (answer.status_code, set(answer.json())) == (401, both)
    answer = backend.http.post("/oauth/token", json={**credentials, "grant_type": "password"})
    assert (answer.status_code, answer.json()["error"]) == (400, "unsupported_grant_type")
    answer = backend.http.post("/oauth/token", json=credentials)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert answer.json()["errorMessages"] == ["grant_type : must be given"]


# Rights


CALLS: dict[str, tuple[str, str, set[str]]] = {
    "rcp all": ("GET", "/v1/root/rootCerts", {"all"}),
    "rcp one": ("GET", f"/v1/root/rootCerts/{uuid.UUID(int=0)}", {"all"}),
    "rcp put": ("PUT", "/v1/root/rootCerts", {"ADMIN"}),
    "pcp put": ("PUT", "/v1/oem/provCerts", {"OEM"}),
    "pcp get": (
        "GET",
        "/v1/oem/provCerts/PVTP9999999999999",
        {"OEM", "CPS", "MO_EXTERNAL_PKI", "MO_HUBJECT_PKI"},
    ),
    "pcp lookup": (
        "GET",
        "/v1/oem/provCerts/lookupVehicle/PVTP9999999999999",
        {"OEM", "CPS", "MO_EXTERNAL_PKI", "MO_HUBJECT_PKI"},
    ),
    "cps sign": ("PUT", "/v1/cps/contractData/signed", {"MO_EXTERNAL_PKI"}),
    "cps generate": ("PUT", "/v1/cps/generate/signedContractData", {"MO_HUBJECT_PKI"}),
    "cps signers": ("GET", "/cps/signer", {"all"}),
    "ccp install": ("POST", "/v1/ccp/signedContractData", {"CPO"}),
    "ccp provide": (
        "GET",
        "/v1/ccp/provideSignedContractData/DEPVAC00000001/PVTP9999999999999",
        {"OEM"},
    ),
    "ccp vehicle": ("GET", "/v1/ccp/signedContractData/PVTP9999999999999", {"OEM"}),
    "ccp default": (
        "POST",
        "/v1/ccp/signedContractData/PVTP9999999999999/DEPVAC00000001/default",
        {"OEM"},
    ),
    "ccp lookup": (
        "GET",
        "/v1/ccp/lookupContract/DEPVAC00000001",
        {"OEM", "CPO", "MO_EXTERNAL_PKI", "MO_HUBJECT_PKI"},
    ),
    "est enroll": ("POST", "/.well-known/est/oem/simpleenroll/ISO15118-2", {"OEM"}),
    "est cacerts": ("GET", "/oem/cacerts/ISO15118-2/secp256r1/", {"OEM"}),
}
ROLES = ("OEM", "CPO", "MO_EXTERNAL_PKI", "MO_HUBJECT_PKI", "CPS", "ADMIN")


@pytest.mark.parametrize("name", CALLS)
def test_each_call_is_for_its_roles_alone(backend: Backend, name: str):
    method, path, allowed = CALLS[name]
    for role in ROLES:
        answer = backend.ask(role, method, path)
        if role in allowed or "all" in allowed:
            # Scope or content may still refuse, but not the role.
            assert answer.status_code not in (401, 500, 503), answer.text
            assert "This call is for" not in answer.text
        else:
            refused(answer, 403, "This call is for")


@pytest.mark.parametrize("name", CALLS)
def test_each_call_needs_a_token(backend: Backend, name: str):
    method, path, _ = CALLS[name]
    answer = backend.ask(None, method, path)
    refused(answer, 401, "bearer token")
    assert answer.headers["www-authenticate"] == "Bearer"
    for bad in ("nonsense", backend.login("OEM").json()["access_token"][:-2] + "AA"):
        answer = backend.ask(None, method, path, headers={"Authorization": f"Bearer {bad}"})
        refused(answer, 401, "not valid")


def test_an_expired_token_is_refused(backend: Backend):
    assert backend.ask("OEM", "GET", "/v1/root/rootCerts").status_code == 200
    backend.clock.ahead = 86_401
    try:
        refused(backend.ask("OEM", "GET", "/v1/root/rootCerts"), 401, "expired")
    finally:
        backend.clock.ahead = 0


# Limits, the page for people, and what must not be kept


def test_an_oversized_body_is_refused_announced_or_not(backend: Backend):
    def pieces() -> Iterator[bytes]:
        for _ in range(40):
            yield b" " * 4096

    for content in (b" " * 70_000, pieces()):
        answer = backend.ask("OEM", "PUT", "/v1/oem/provCerts", content=content)
        refused(answer, 413, "larger than 65536 bytes")


def test_an_announced_oversized_body_is_refused_before_it_is_sent(backend: Backend):
    address = httpx.URL(backend.ecosystem.url)
    with socket.create_connection((address.host, address.port or 0), timeout=5) as connection:
        announced = "PUT /v1/oem/provCerts HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n"
        connection.sendall(announced.encode())
        assert connection.recv(64).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/nothing", 404), ("PATCH", "/v1/oem/provCerts", 405), ("GET", "/v2", 404)],
)
def test_every_refusal_has_the_one_shape(backend: Backend, method: str, path: str, status: int):
    refused(backend.ask("OEM", method, path), status, ".")


@pytest.mark.parametrize(
    ("method", "path", "methods"),
    [
        ("PATCH", "/v1/oem/provCerts/PVTP9999999999999", "DELETE, GET, HEAD"),
        ("PATCH", "/v1/ccp/signedContractData", "POST, PUT"),
        ("PUT", "/v1/ccp/signedContractData/DEPVAC00000001", "DELETE, GET"),
        ("DELETE", "/oauth/token", "POST"),
        ("POST", "/v1/root/rootCerts", "GET, PUT"),
        ("PATCH", "/v1/webhook/endpoints/x", "DELETE, GET, PUT"),
        ("PUT", "/healthz", "GET, HEAD"),
    ],
)
def test_allow_names_every_method_of_the_path(
    backend: Backend, method: str, path: str, methods: str
):
    answer = backend.ask("OEM", method, path)
    assert (answer.status_code, answer.headers["Allow"]) == (405, methods)


def test_every_success_answer_has_a_schema_and_every_call_its_name(backend: Backend):
    paths = backend.http.get("/openapi.json").json()["paths"]
    calls = {(method, path): call for path, row in paths.items() for method, call in row.items()}
    names = [call["operationId"] for call in calls.values()]
    assert len(set(names)) == len(names)
    assert openapi.IDS.items() <= {key: call["operationId"] for key, call in calls.items()}.items()
    assert set(openapi.BODIES) <= set(calls)
    for key, call in calls.items():
        answers = [row for code, row in call["responses"].items() if code.startswith("2")]
        assert answers, key
        bodies = [body for row in answers for body in row.get("content", {}).values()]
        assert all(body.get("schema") for body in bodies), key
        assert bodies or openapi.BODIES[key] == openapi.NO_BODY, key


def test_the_answers_that_endpoints_write_are_those_of_their_schemas(backend: Backend):
    vehicle = backend.vehicle()
    assert backend.sign(backend.contract_data(vehicle), vehicle.pcid).status_code == 201
    hook = {"url": "https://example.com/", "enabledEvents": ["root.cert.added"]}
    created = backend.ask("OEM", "POST", "/v1/webhook/endpoints", json=hook)
    one = f"/v1/webhook/endpoints/{created.json().get('id')}"
    generic = "/v1/webhook/endpoints/{id}"
    answers = {
        ("post", "/oauth/token"): backend.login("OEM"),
        ("post", "/v1/ccp/signedContractData"): backend.install(
            vehicle.request(backend.ecosystem.v2g_root)
        ),
        ("post", "/v1/webhook/endpoints"): created,
        ("get", "/v1/webhook/endpoints"): backend.ask("OEM", "GET", "/v1/webhook/endpoints"),
        ("get", generic): backend.ask("OEM", "GET", one),
        ("get", f"{generic}/deliveries"): backend.ask("OEM", "GET", f"{one}/deliveries"),
        ("post", f"{generic}/deliveries/replay"): backend.ask(
            "OEM", "POST", f"{one}/deliveries/replay"
        ),
    }
    for key, answer in answers.items():
        assert answer.status_code in (200, 201), (key, answer.text)
        judge = validator_for(openapi.BODIES[key]["application/json"])
        assert [error.message for error in judge.iter_errors(answer.json())] == [], key


def test_the_operation_ids_are_the_published_ones(shared: Path):
    published = {}
    for file in (shared / "opcp-1.0.0").glob("*.json"):
        for path, row in json.loads(file.read_text())["paths"].items():
            for method, call in row.items():
                if isinstance(call, dict) and "operationId" in call:
                    published[method, re.sub("{[^}]*}", "{}", path)] = call["operationId"]
    for (method, path), name in openapi.IDS.items():
        key = method, re.sub("{[^}]*}", "{}", path)
        assert published.get(key, name) == name


def test_health_is_told_without_a_token(backend: Backend, monkeypatch: pytest.MonkeyPatch):
    answer = backend.ask(None, "GET", "/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert backend.ask(None, "HEAD", "/healthz").content == b""

    def broken(_: object) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(health, "_ask", broken)
    refused(backend.ask(None, "GET", "/healthz"), 503, "database does not answer")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"text"', b"\xff"])
def test_a_body_that_is_no_json_object_is_refused(backend: Backend, body: bytes):
    headers = {"Content-Type": "application/json"}
    answer = backend.ask("OEM", "PUT", "/v1/oem/provCerts", content=body, headers=headers)
    refused(answer, 400, ".")


def test_the_page_for_people_shows_every_call_once(backend: Backend):
    page = backend.http.get("/docs").text
    for source in re.findall(r'(?:src|href)="([^"]+)"', page):
        assert source.startswith("/"), "the page must work without the Internet"
        assert backend.http.get(source).status_code == 200
    assert page.count("swagger-ui-bundle.js") == 1
    paths = backend.http.get("/openapi.json").json()["paths"]
    for call in (call for path in paths.values() for call in path.values()):
        assert call["summary"]
        assert call["tags"]
        assert {"4XX", "5XX"} < set(call["responses"])
        assert "422" not in call["responses"]
    assert set(paths) >= {  # OPCP's own; extensions have tests of theirs
        "/oauth/token",
        "/v1/root/rootCerts",
        "/v1/root/rootCerts/{rootCertificateId}",
        "/v1/oem/provCerts",
        "/v1/oem/provCerts/{pcid}",
        "/v1/oem/provCerts/lookupVehicle/{pcid}",
        "/v1/cps/contractData/signed",
        "/v1/cps/signedContractData",
        "/v1/cps/forward/signedContractData",
        "/v1/cps/generate/signedContractData",
        "/v1/cps/signer",
        "/v1/ccp/signedContractData",
        "/v1/ccp/signedContractData/{pcid}",
        "/v1/ccp/signedContractData/{pcid}/{emaid}/default",
        "/v1/ccp/provideSignedContractData/{emaid}/{pcid}",
        "/v1/ccp/lookupContract/{emaid}",
        "/v1/ccp/terminate/{provider}",
        "/v1/ccp/terminate/{provider}/{jobId}",
        "/.well-known/est/{ca}/simpleenroll/{iso}",
        "/.well-known/est/{ca}/simplereenroll/{iso}",
        "/{ca}/cacerts/{iso}/{algorithm}/",
    }


def test_each_role_has_a_token_of_its_own_and_no_file_for_others(backend: Backend):
    folder = backend.ecosystem.directory
    tokens = [path for path in (folder / "tokens" / "tokens").iterdir() if path.is_dir()]
    assert len(tokens) == len(backend.ecosystem.keys) == 6
    for path in (folder, *folder.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path
