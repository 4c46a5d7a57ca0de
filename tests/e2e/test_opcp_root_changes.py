"""A change of a root takes two administrators, over HTTP; the second gives the fingerprint."""

from __future__ import annotations

import base64
import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from fixtures.backend import Backend, Clock, Json, b64, refused
from plugvault.ecosystem import Ecosystem
from plugvault.opcp.services import Settings
from plugvault.pki.path import fingerprint
from plugvault.pools.caller import ADMIN, Caller
from world import root

ROOTS = "/v1/root/rootCerts"
CHANGES = "/v1/root/changes"
UUID0 = str(uuid.UUID(int=0))


def new_root(name: str = "Extra Root") -> bytes:
    return root(name, now=int(time.time()), dc="MO").der


def put(backend: Backend, der: bytes) -> httpx.Response:
    return backend.ask("ADMIN", "PUT", ROOTS, json={"caCertificate": b64(der), "rootType": "MO"})


def entry(backend: Backend, der: bytes) -> Json | None:
    answer = backend.ask("OEM", "GET", ROOTS).json()
    rows = answer["RootCertificateCollection"]["rootCertificates"]
    return next((row for row in rows if base64.b64decode(row["caCertificate"]) == der), None)


@pytest.fixture(scope="module")
def careful(tmp_path_factory: pytest.TempPathFactory, softhsm: Path) -> Iterator[Backend]:
    folder = tmp_path_factory.mktemp("careful") / "world"
    clock, settings = Clock(), Settings(dual_control=True)
    with Ecosystem(folder, softhsm, clock=clock, settings=settings) as ecosystem:
        backend = Backend(ecosystem, clock)
        backend.enter("Ben", Caller("Ben", frozenset({ADMIN})))
        yield backend


def waiting(backend: Backend) -> list[Json]:
    answer = backend.ask("Ben", "GET", CHANGES, params={"state": "pending"})
    rows: list[Json] = answer.json()
    return rows


def agree(backend: Backend, change: Json, value: str, role: str = "Ben") -> httpx.Response:
    path = f"{CHANGES}/{change['changeId']}/approve"
    return backend.ask(role, "POST", path, json={"fingerprint": value})


def test_a_root_waits_for_a_second_administrator_with_the_fingerprint(careful: Backend):
    der = new_root()
    answer = put(careful, der)
    assert answer.status_code == 202
    change = answer.json()
    assert (change["action"], change["state"], change["rootType"]) == ("add", "pending", "MO")
    assert change["fingerprint"] == fingerprint(der)
    assert waiting(careful) == [change]
    assert entry(careful, der) is None
    refused(agree(careful, change, fingerprint(der), "ADMIN"), 403, "Another administrator")
    refused(agree(careful, change, "00" * 32), 400, "fingerprint : is not the SHA-256")
    refused(agree(careful, change, fingerprint(der), "OEM"), 403, "This call is for")
    assert entry(careful, der) is None
    approved = agree(careful, change, fingerprint(der))
    assert (approved.status_code, approved.json()["state"]) == (200, "done")
    row = entry(careful, der)
    assert row
    assert row["rootCertificateId"] == approved.json()["rootCertificateId"]
    assert waiting(careful) == []
    refused(agree(careful, change, fingerprint(der)), 400, "done already")

    answer = careful.ask("Ben", "DELETE", f"{ROOTS}/{row['rootCertificateId']}")
    assert (answer.status_code, answer.json()["action"]) == (202, "delete")
    assert entry(careful, der)
    refused(agree(careful, answer.json(), fingerprint(der)), 403, "Another administrator")
    assert agree(careful, answer.json(), fingerprint(der), "ADMIN").status_code == 200
    assert entry(careful, der) is None


def test_a_root_that_a_second_administrator_refuses_stays_out(careful: Backend):
    der = new_root("Unwanted")
    change = put(careful, der).json()
    answer = careful.ask("Ben", "POST", f"{CHANGES}/{change['changeId']}/refuse")
    assert (answer.status_code, answer.json()["state"]) == (200, "refused")
    refused(agree(careful, change, fingerprint(der)), 400, "refused already")
    assert entry(careful, der) is None
    refused(careful.ask("Ben", "POST", f"{CHANGES}/{UUID0}/refuse"), 404, "no change of RCP")


def test_the_trail_names_requester_and_approver(careful: Backend):
    der = new_root("Noted")
    change = put(careful, der).json()
    agree(careful, change, fingerprint(der))
    with careful.ecosystem.store.read() as records:
        lines = records.audit.since(0, 1000)
    noted = [(line.who, line.action) for line in lines if fingerprint(der) in line.detail]
    (first, asking), (second, adding), (third, deciding) = noted
    assert (asking, adding, deciding) == ("root add asked for", "root added", "root add done")
    assert re.fullmatch(r"Administrator \(.+\)", first)
    assert second.startswith(third)
    assert re.fullmatch(r"Ben \(.+\)", third)
