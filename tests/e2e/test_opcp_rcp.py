"""RCP over HTTP: an administrator changes roots; every role reads them and gets the events."""

from __future__ import annotations

import base64
import json
import time
import uuid

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448

from fixtures.backend import Backend, Json, b64, refused
from plugvault.pki import issue
from plugvault.pki.path import fingerprint
from world import root

ROOTS = "/v1/root/rootCerts"
CHANGES = "/v1/root/changes"
OTHERS = ("OEM", "CPO", "MO_EXTERNAL_PKI", "MO_HUBJECT_PKI", "CPS")  # than administrators
UUID0 = str(uuid.UUID(int=0))


def new_root(name: str = "Extra Root") -> bytes:
    return root(name, now=int(time.time()), dc="MO").der


def put(backend: Backend, der: bytes, kind: str = "MO", role: str = "ADMIN"):
    return backend.ask(role, "PUT", ROOTS, json={"caCertificate": b64(der), "rootType": kind})


def listed(backend: Backend, kind: str | None = None) -> list[Json]:
    answer = backend.ask("OEM", "GET", ROOTS, params={"rootType": kind} if kind else {})
    assert answer.status_code == 200, answer.text
    rows: list[Json] = answer.json()["RootCertificateCollection"]["rootCertificates"]
    return rows


def entry(backend: Backend, der: bytes) -> Json | None:
    rows = [row for row in listed(backend) if base64.b64decode(row["caCertificate"]) == der]
    return rows[0] if rows else None


def events(backend: Backend, kind: str) -> list[Json]:
    with backend.ecosystem.store.read() as records:
        published = records.events.since(0, ["*"], 1000)
    return [json.loads(event.payload) for event in published if event.kind == kind]


def test_a_root_comes_and_goes_and_everyone_is_told(backend: Backend):
    der = new_root()
    answer = put(backend, der)
    assert (answer.status_code, answer.content) == (200, b"")
    row = entry(backend, der)
    assert row
    assert (row["rootType"], row["fingerprint"]) == ("MO", fingerprint(der))
    assert row["rootAuthorityKeyIdentifierHex"] == (
        base64.b64decode(row["rootAuthorityKeyIdentifier"]).hex()
    )
    path = f"{ROOTS}/{row['rootCertificateId']}"
    assert backend.ask("CPO", "GET", path).json() == {"RootResponse": row}
    answer = backend.ask("ADMIN", "DELETE", f"{ROOTS}/{row['rootCertificateId'].upper()}")
    assert (answer.status_code, answer.content) == (200, b"")
    refused(backend.ask("CPO", "GET", path), 404, "^Root certificate with the given ID is not fou")
    refused(backend.ask("ADMIN", "DELETE", path), 404, "not found")
    identity = {
        "rootCertificateId": row["rootCertificateId"],
        "fingerprintSHA256": fingerprint(der),
    }
    for kind in ("root.cert.added", "root.cert.revoked"):
        (payload,) = [row for row in events(backend, kind) if identity.items() <= row.items()]
        assert payload["rootType"] == "MO"


def test_the_same_root_again_changes_nothing(backend: Backend):
    der = new_root("Again")
    put(backend, der)
    before = listed(backend), len(events(backend, "root.cert.added"))
    assert put(backend, der).status_code == 200
    assert (listed(backend), len(events(backend, "root.cert.added"))) == before
    refused(put(backend, der, "OEM"), 400, "in RCP as MO already")


@pytest.mark.parametrize("kind", ["mo", "MO", "v2g", "oem", "Oem"])
def test_roots_are_asked_for_by_type_in_any_case_and_answered_in_upper(
    backend: Backend, kind: str
):
    assert {row["rootType"] for row in listed(backend, kind)} == {kind.upper()}


def test_a_private_environments_root_is_read_by_its_type(backend: Backend):
    der = new_root("Private")
    assert put(backend, der, "PE").status_code == 200
    assert [row["fingerprint"] for row in listed(backend, "pe")] == [fingerprint(der)]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"rootType": "MO"}, "caCertificate : must be given"),
        ({"caCertificate": "AAAA"}, "rootType : must be given"),
        ({"caCertificate": "AAAA", "rootType": "mo"}, "rootType : must match"),
        ({"caCertificate": "AAAA", "rootType": "CPO"}, "rootType : must match"),
        ({"caCertificate": "%%%%", "rootType": "MO"}, "caCertificate : must match"),
        ({"caCertificate": "", "rootType": "MO"}, "caCertificate"),
        ({"caCertificate": "AAAA", "rootType": "MO"}, "caCertificate : not a root"),
    ],
)
def test_a_body_without_a_root_is_refused(backend: Backend, body: Json, words: str):
    refused(backend.ask("ADMIN", "PUT", ROOTS, json=body), 400, words)


@pytest.mark.parametrize("role", [*OTHERS, "ADMIN"])
def test_everyone_reads_roots(backend: Backend, role: str):
    answer = backend.ask(role, "GET", ROOTS).json()
    rows = answer["RootCertificateCollection"]["rootCertificates"]
    assert {row["rootType"] for row in rows} >= {"V2G", "OEM", "MO"}


@pytest.mark.parametrize("role", OTHERS)
def test_only_administrators_change_roots(backend: Backend, role: str):
    refused(put(backend, new_root(), role=role), 403, "This call is for ADMIN")
    refused(backend.ask(role, "DELETE", f"{ROOTS}/{UUID0}"), 403, "This call is for ADMIN")
    refused(backend.ask(role, "GET", CHANGES), 403, "This call is for ADMIN")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_an_id_that_is_no_uuid_is_refused(backend: Backend, method: str):
    refused(backend.ask("ADMIN", method, f"{ROOTS}/1"), 400, "rootCertificateId : must match")


def test_there_is_no_trust_list(backend: Backend):
    refused(backend.ask("CPO", "GET", "/v1/root/ctl"), 404, "no certificate trust list")
    refused(backend.ask(None, "GET", "/v1/root/ctl"), 401, "bearer token")


@pytest.mark.parametrize(
    ("curve", "key"),
    [
        ("secp521r1", lambda: ec.generate_private_key(ec.SECP521R1())),
        ("ed448", ed448.Ed448PrivateKey.generate),
    ],
)
def test_a_root_of_iso_15118_20_is_read_beside_the_others(backend: Backend, curve: str, key):
    names = {"C": "DE", "O": "Pool", "CN": f"V2G-20 Root {curve}"}
    der = issue.root("v2g", names, key(), backend.clock()).root
    answer = put(backend, der, "V2G")
    assert answer.status_code == 200, answer.text
    row = entry(backend, der)
    assert row
    assert row["signatureAlgorithm"] == curve
    assert row["xsdMsgDefNamespace"] == "urn:iso:15118:20:2022:MsgDef"
    assert row["distinguishedName"] == f"CN={names['CN']}, DC=V2G, O=Pool, C=DE"
    assert fingerprint(der) in [
        listed_root["fingerprint"] for listed_root in listed(backend, "v2g")
    ]
    assert der not in backend.ecosystem.client("OEM").roots("V2G"), "no use to such a vehicle"
    vehicle = backend.vehicle()
    assert backend.sign(backend.contract_data(vehicle), vehicle.pcid).status_code == 201
