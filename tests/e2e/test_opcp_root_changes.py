"""Two people for a root, over HTTP: one asks, another one with the fingerprint agrees."""

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
    found = answer["RootCertificateCollection"]["rootCertificates"]
    return next((one for one in found if base64.b64decode(one["caCertificate"]) == der), None)


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
    found: list[Json] = answer.json()
    return found


def agree(backend: Backend, change: Json, said: str, role: str = "Ben") -> httpx.Response:
    path = f"{CHANGES}/{change['changeId']}/approve"
    return backend.ask(role, "POST", path, json={"fingerprint": said})


def test_a_root_waits_for_a_second_administrator_with_the_fingerprint(careful: Backend):
    der = new_root()
    answer = put(careful, der)
    assert answer.status_code == 202
    asked = answer.json()
    assert (asked["action"], asked["state"], asked["rootType"]) == ("add", "pending", "MO")
    assert asked["fingerprint"] == fingerprint(der)
    assert waiting(careful) == [asked]
    assert entry(careful, der) is None
    refused(agree(careful, asked, fingerprint(der), "ADMIN"), 403, "Another administrator")
    refused(agree(careful, asked, "00" * 32), 400, "fingerprint : is not the SHA-256")
    refused(agree(careful, asked, fingerprint(der), "OEM"), 403, "This call is for")
    assert entry(careful, der) is None
    done = agree(careful, asked, fingerprint(der))
    assert (done.status_code, done.json()["state"]) == (200, "done")
    one = entry(careful, der)
    assert one
    assert one["rootCertificateId"] == done.json()["rootCertificateId"]
    assert waiting(careful) == []
    refused(agree(careful, asked, fingerprint(der)), 400, "done already")

    answer = careful.ask("Ben", "DELETE", f"{ROOTS}/{one['rootCertificateId']}")
    assert (answer.status_code, answer.json()["action"]) == (202, "delete")
    assert entry(careful, der)
    refused(agree(careful, answer.json(), fingerprint(der)), 403, "Another administrator")
    assert agree(careful, answer.json(), fingerprint(der), "ADMIN").status_code == 200
    assert entry(careful, der) is None


def test_a_root_that_a_second_administrator_refuses_stays_out(careful: Backend):
    der = new_root("Unwanted")
    asked = put(careful, der).json()
    answer = careful.ask("Ben", "POST", f"{CHANGES}/{asked['changeId']}/refuse")
    assert (answer.status_code, answer.json()["state"]) == (200, "refused")
    refused(agree(careful, asked, fingerprint(der)), 400, "refused already")
    assert entry(careful, der) is None
    refused(careful.ask("Ben", "POST", f"{CHANGES}/{UUID0}/refuse"), 404, "no change of RCP")


def test_the_trail_says_who_asked_and_who_agreed(careful: Backend):
    der = new_root("Noted")
    asked = put(careful, der).json()
    agree(careful, asked, fingerprint(der))
    with careful.ecosystem.store.read() as records:
        lines = records.audit.since(0, 1000)
    noted = [(line.who, line.action) for line in lines if fingerprint(der) in line.detail]
    (first, asking), (second, adding), (third, deciding) = noted
    assert (asking, adding, deciding) == ("root add asked for", "root added", "root add done")
    assert re.fullmatch(r"Administrator \(.+\)", first)
    assert second.startswith(third)
    assert re.fullmatch(r"Ben \(.+\)", third)
