"""What others have is not told: neither that a vehicle or a contract of theirs exists, nor that it
does not.

Each call is made by a stranger in the right role, once about what another has and once about what
was there and is gone. The answers must be the same, to the last word.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from fixtures.backend import ISO2, Backend, Json, Vehicle, b64, certificates
from plugvault.pools.caller import Caller

OEM, MO, HOSTED, CPO = "OEM", "MO_EXTERNAL_PKI", "MO_HUBJECT_PKI", "CPO"
OURS = "XXXP0000000000001"  # a vehicle of the stranger's own
HOOK = {"url": "https://example.com/", "enabledEvents": ["root.cert.added"]}


@dataclass(frozen=True)
class Thing:
    """One of each that another has. `names`: what to put into a path; `bodies`: by their kind."""

    names: dict[str, str]
    bodies: dict[str, Json] = field(default_factory=dict)


Body = Callable[[Thing], Json]


def body(kind: str) -> Body:
    return lambda thing: thing.bodies[kind]


def lookup(thing: Thing) -> Json:
    return {"pcid": thing.names["pcid"], "registrationDocument": "00000000"}


# Every call that names what somebody has, and the role of the stranger who makes it.
CALLS: list[tuple[str, str, Body | None]] = [
    ("GET /v1/oem/provCerts/{pcid}", OEM, None),
    ("HEAD /v1/oem/provCerts/{pcid}", OEM, None),
    ("GET /v1/oem/provCerts/lookupVehicle/{pcid}", OEM, None),
    ("GET /v1/oem/provCertSigntureAlgorithms/{pcid}", OEM, None),
    ("DELETE /v1/oem/provCerts/{pcid}", OEM, None),
    ("POST /v1/oem/provCerts/{pcid}/factoryReset", OEM, None),
    ("PUT /v1/oem/provCerts", OEM, body("vehicle")),
    ("PUT /v1/oem/provCerts", OEM, body("previous")),
    ("GET /v1/ccp/signedContractData/{pcid}", OEM, None),
    ("GET /v1/ccp/lookupContract/{emaid}", OEM, None),
    ("GET /v1/ccp/lookupContract/{emaid}", MO, None),
    ("GET /v1/ccp/lookupContract/{emaid}", HOSTED, None),
    ("GET /v1/ccp/provideSignedContractData/{emaid}/{pcid}", OEM, None),
    (f"GET /v1/ccp/provideSignedContractData/{{emaid}}/{OURS}", OEM, None),
    ("POST /v1/ccp/signedContractData/{pcid}/{emaid}/default", OEM, None),
    (f"POST /v1/ccp/signedContractData/{OURS}/{{emaid}}/default", OEM, None),
    ("DELETE /v1/ccp/signedContractData/{emaid}", MO, None),
    ("DELETE /v1/ccp/signedContractData/{emaid}", HOSTED, None),
    ("PUT /v1/ccp/signedContractData", MO, body("bundle")),
    ("PUT /v1/cps/contractData/signed", MO, body("signed")),
    ("PUT /v1/cps/signedContractData", MO, body("deprecated")),
    ("PUT /v1/cps/forward/signedContractData", MO, body("deprecated")),
    ("PUT /v1/cps/generate/signedContractData", HOSTED, body("generate")),
    ("POST /v1/ccp/terminate/DEPVA", MO, None),
    ("GET /v1/ccp/terminate/DEPVA/{jobId}", MO, None),
    ("GET /v1/ccp/terminate/FRXYZ/{jobId}", MO, None),
    ("PUT /v1/registry/vehicles", OEM, body("registry")),
    ("POST /v1/registry/vehicles/lookup", MO, lookup),
    ("POST /.well-known/est/oem/simpleenroll/ISO15118-2", OEM, body("csr")),
    ("POST /v1/webhook/endpoints/{id}/deliveries/replay", OEM, None),
    ("POST /v1/webhook/endpoints/{id}/deliveries/{eventId}/replay", OEM, None),
    ("GET /v1/webhook/endpoints/{id}/deliveries", OEM, None),
    ("GET /v1/webhook/endpoints/{id}", OEM, None),
    ("PUT /v1/webhook/endpoints/{id}", OEM, lambda _: HOOK),
    ("DELETE /v1/webhook/endpoints/{id}", OEM, None),
]

# What is no secret from who may ask, or names nothing that somebody has.
OPEN = {
    "POST /v1/ccp/signedContractData": "a vehicle signs, and a station may ask for any",
    "GET /v1/root/rootCerts/{rootCertificateId}": "roots are everybody's",
    "DELETE /v1/root/rootCerts/{rootCertificateId}": "an administrator's",
    "POST /v1/root/changes/{changeId}/approve": "an administrator's",
    "POST /v1/root/changes/{changeId}/refuse": "an administrator's",
    "GET /{ca}/cacerts/{iso}/{algorithm}/": "names a CA",
    "POST /.well-known/est/{ca}/simplereenroll/{iso}": "names a CA",
    "GET /v1/registry/providers/{provider}": "whose an identifier is, is public",
    "PUT /v1/registry/providers/{provider}": "an administrator's",
    "PUT /v1/root/rootCerts": "an administrator's",
    "PUT /v1/vra/cpo/endEntities": "its answer is the same whether it replaces or not",
    "POST /opnc/v1/pki/pki/revokeCertificate": "who shows a certificate knows of it",
    "POST /v1/webhook/endpoints": "names nothing",
    "GET /ocsp/{request}": "public: the status of a certificate, by its number",
    "POST /ocsp": "public: the status of a certificate, by its number",
    "GET /crl/{name}.crl": "public",
    "POST /oauth/token": "tests/attacks/test_backend_oauth.py",
}


def enrolled(backend: Backend, role: str, pcid: str) -> Vehicle:
    vehicle = Vehicle(pcid)
    path = "/.well-known/est/oem/simpleenroll/ISO15118-2"
    (leaf,) = certificates(backend.ask(role, "POST", path, content=b64(vehicle.csr())))
    vehicle.leaf, vehicle.subs = leaf.public_bytes(Encoding.DER), backend.vehicle().subs
    return vehicle


@pytest.fixture(scope="module")
def strangers(backend: Backend) -> dict[str, str]:
    scopes: dict[str, dict[str, frozenset[str]]] = {
        OEM: {"wmis": frozenset({"XXX"})},
        MO: {"providers": frozenset({"FRXYZ"})},
        HOSTED: {"providers": frozenset({"FRXYY"})},
    }
    for role, theirs in scopes.items():
        backend.enter(f"stranger {role}", Caller(f"stranger {role}", frozenset({role}), **theirs))
    own = enrolled(backend, f"stranger {OEM}", OURS)
    body = backend.registration(own)
    put = backend.ask(f"stranger {OEM}", "PUT", "/v1/oem/provCerts", json=body)
    assert put.status_code == 200, put.text
    return {role: f"stranger {role}" for role in scopes}


@pytest.fixture(scope="module")
def things(backend: Backend, strangers: dict[str, str]) -> tuple[Thing, Thing]:
    """What another has, and what it had."""
    assert strangers
    there, gone = (thing(backend) for _ in range(2))
    put = backend.ask(OEM, "PUT", "/v1/registry/vehicles", json=there.bodies["registry"])
    assert put.status_code == 200
    names = gone.names
    for role, path in (
        (MO, f"/v1/ccp/signedContractData/{names['emaid']}"),
        (OEM, f"/v1/oem/provCerts/{names['pcid']}"),
        (OEM, f"/v1/webhook/endpoints/{names['id']}"),
    ):
        assert backend.ask(role, "DELETE", path).status_code == 200
    return there, Thing({**names, "jobId": names["id"]}, gone.bodies)


def thing(backend: Backend) -> Thing:
    vehicle, other = backend.vehicle(), backend.vehicle()
    data = backend.contract_data(vehicle)
    signed = backend.sign(data, vehicle.pcid).json()
    emaid, pcid = signed["emaid"], vehicle.pcid
    hook = backend.ask(OEM, "POST", "/v1/webhook/endpoints", json=HOOK).json()
    job = backend.ask("ADMIN", "POST", "/v1/ccp/terminate/DEPVA").json()  # nobody works here
    row = {"vin": f"PVTZZZ8V1KA{pcid[-6:]}", "pcid": pcid, "registrationDocument": "12345678"}
    nested = {
        "contractSignatureCertChain": {
            "contractSignatureCertChainCertificate": data["contractCertificate"],
            "contractSignatureCertChainSubCertificates": [
                data["contractSubCa2Certificate"],
                data["contractSubCa1Certificate"],
            ],
        },
        "contractSignatureEncryptedPrivateKey": data["contractSignatureEncryptedPrivateKey"],
        "dHpublickey": data["dHpublickey"],
    }
    named = {"xsdMsgDefNamespace": ISO2, "pcid": other.pcid, "emaid": emaid}
    own = enrolled(backend, f"stranger {OEM}", OURS)
    return Thing(
        {"pcid": pcid, "emaid": emaid, "id": hook["id"], "jobId": job["jobId"], "eventId": "e"},
        {
            "vehicle": backend.registration(vehicle),
            "previous": {**backend.registration(own), "previousPcid": pcid},
            "signed": {**named, "contractData": data},
            "deprecated": {**named, "contractData": nested},
            "bundle": {**named, "signedContractDataXML": signed["signedData"]},
            "generate": {
                **named,
                "contractBegins": "2026-01-01T00:00:00Z",
                "contractEnds": "2099-01-01T00:00:00Z",
            },
            "registry": row,
            "csr": {"content": b64(vehicle.csr())},
        },
    )


def answer(backend: Backend, who: str, operation: str, one: Thing, make: Body | None) -> Any:
    """All that the caller sees, but for what it has said itself and the number of the answer."""
    method, path = operation.format(**one.names).split()
    given = make(one) if make else None
    options: dict[str, Any] = {}
    if given is not None:
        options = given if "content" in given else {"json": given}
    seen = backend.ask(who, method, path, **options)
    said = seen.json() if seen.content else {}
    words = repr({**said, "traceId": ""})
    for name, value in one.names.items():
        words = words.replace(value, name)
    headers = {k: v for k, v in seen.headers.items() if k not in ("date", "content-length")}
    return seen.status_code, words, headers


@pytest.mark.parametrize(
    ("operation", "role", "make"), CALLS, ids=[f"{call} {role}" for call, role, _ in CALLS]
)
def test_existence_of_others_contracts_is_not_told(
    backend: Backend,
    strangers: dict[str, str],
    things: tuple[Thing, Thing],
    operation: str,
    role: str,
    make: Body | None,
):
    there, gone = (answer(backend, strangers[role], operation, one, make) for one in things)
    assert there == gone
    assert there[0] in (403, 404), there


def test_every_call_that_names_something_is_in_the_table(backend: Backend):
    listed = backend.http.get("/openapi.json").json()["paths"]
    served = {f"{method.upper()} {path}" for path, methods in listed.items() for method in methods}
    naming = {one for one in served if "{" in one or one.startswith(("PUT", "POST"))}
    looked_at = {plain(operation) for operation, _, _ in CALLS}
    assert naming - looked_at - set(OPEN) == set()


def plain(operation: str) -> str:
    """As the page of the API has it."""
    for written, name in (
        (OURS, "{pcid}"),
        ("/oem/simpleenroll/ISO15118-2", "/{ca}/simpleenroll/{iso}"),
        ("DEPVA", "{provider}"),
        ("FRXYZ", "{provider}"),
    ):
        operation = operation.replace(written, name)
    return operation


def test_a_maker_still_finds_its_own_and_a_station_any(
    backend: Backend, things: tuple[Thing, Thing]
):
    path = f"/v1/ccp/lookupContract/{things[0].names['emaid']}"
    for role in (OEM, CPO, MO):
        assert backend.ask(role, "GET", path).status_code == 200
