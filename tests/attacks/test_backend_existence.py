"""No answer discloses whether a vehicle or a contract of another company exists.

Each call is made by a foreign caller in the right role, once about an existing record of another
company and once about a deleted one. The answers must be the same, to the last word.
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
OURS = "XXXP0000000000001"  # the foreign caller's own vehicle
HOOK = {"url": "https://example.com/", "enabledEvents": ["root.cert.added"]}


@dataclass(frozen=True)
class Thing:
    """One of each that another has. `names`: what to put into a path; `bodies`: by their kind."""

    names: dict[str, str]
    bodies: dict[str, Json] = field(default_factory=dict)


Body = Callable[[Thing], Json]


def body(kind: str) -> Body:
    return lambda record: record.bodies[kind]


def lookup(record: Thing) -> Json:
    return {"pcid": record.names["pcid"], "registrationDocument": "00000000"}


# Every call that names a company's record, and the role of the foreign caller.
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

# Calls about public data, or without the name of a company's record.
OPEN = {
    "POST /v1/ccp/signedContractData": "a vehicle signs, and a station may ask for any",
    "GET /v1/root/rootCerts/{rootCertificateId}": "roots are everybody's",
    "DELETE /v1/root/rootCerts/{rootCertificateId}": "an administrator's",
    "POST /v1/root/changes/{changeId}/approve": "an administrator's",
    "POST /v1/root/changes/{changeId}/refuse": "an administrator's",
    "GET /{ca}/cacerts/{iso}/{algorithm}/": "names a CA",
    "POST /.well-known/est/{ca}/simplereenroll/{iso}": "names a CA",
    "GET /v1/registry/providers/{provider}": "the owner of an identifier is public",
    "PUT /v1/registry/providers/{provider}": "an administrator's",
    "PUT /v1/root/rootCerts": "an administrator's",
    "PUT /v1/vra/cpo/endEntities": "its answer is the same whether it replaces or not",
    "POST /opnc/v1/pki/pki/revokeCertificate": "a caller with the certificate knows of it",
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
def foreign_callers(backend: Backend) -> dict[str, str]:
    scopes: dict[str, dict[str, frozenset[str]]] = {
        OEM: {"wmis": frozenset({"XXX"})},
        MO: {"providers": frozenset({"FRXYZ"})},
        HOSTED: {"providers": frozenset({"FRXYY"})},
    }
    for role, theirs in scopes.items():
        backend.enter(f"foreign {role}", Caller(f"foreign {role}", frozenset({role}), **theirs))
    own = enrolled(backend, f"foreign {OEM}", OURS)
    body = backend.registration(own)
    put = backend.ask(f"foreign {OEM}", "PUT", "/v1/oem/provCerts", json=body)
    assert put.status_code == 200, put.text
    return {role: f"foreign {role}" for role in scopes}


@pytest.fixture(scope="module")
def targets(backend: Backend, foreign_callers: dict[str, str]) -> tuple[Thing, Thing]:
    """Return an existing and a deleted record of another company."""
    assert foreign_callers
    present, gone = (record(backend) for _ in range(2))
    put = backend.ask(OEM, "PUT", "/v1/registry/vehicles", json=present.bodies["registry"])
    assert put.status_code == 200
    names = gone.names
    for role, path in (
        (MO, f"/v1/ccp/signedContractData/{names['emaid']}"),
        (OEM, f"/v1/oem/provCerts/{names['pcid']}"),
        (OEM, f"/v1/webhook/endpoints/{names['id']}"),
    ):
        assert backend.ask(role, "DELETE", path).status_code == 200
    return present, Thing({**names, "jobId": names["id"]}, gone.bodies)


def record(backend: Backend) -> Thing:
    vehicle, other_vehicle = backend.vehicle(), backend.vehicle()
    data = backend.contract_data(vehicle)
    signed = backend.sign(data, vehicle.pcid).json()
    emaid, pcid = signed["emaid"], vehicle.pcid
    hook = backend.ask(OEM, "POST", "/v1/webhook/endpoints", json=HOOK).json()
    job = backend.ask("ADMIN", "POST", "/v1/ccp/terminate/DEPVA").json()  # no worker runs
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
    named = {"xsdMsgDefNamespace": ISO2, "pcid": other_vehicle.pcid, "emaid": emaid}
    own = enrolled(backend, f"foreign {OEM}", OURS)
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


def answer(backend: Backend, caller: str, operation: str, target: Thing, make: Body | None) -> Any:
    """Return the whole answer, without the caller's own names and the trace identifier."""
    method, path = operation.format(**target.names).split()
    request = make(target) if make else None
    options: dict[str, Any] = {}
    if request is not None:
        options = request if "content" in request else {"json": request}
    response_ = backend.ask(caller, method, path, **options)
    content = response_.json() if response_.content else {}
    words = repr({**content, "traceId": ""})
    for name, value in target.names.items():
        words = words.replace(value, name)
    headers = {k: v for k, v in response_.headers.items() if k not in ("date", "content-length")}
    return response_.status_code, words, headers


@pytest.mark.parametrize(
    ("operation", "role", "make"), CALLS, ids=[f"{call} {role}" for call, role, _ in CALLS]
)
def test_existence_of_anothers_contract_is_not_disclosed(
    backend: Backend,
    foreign_callers: dict[str, str],
    targets: tuple[Thing, Thing],
    operation: str,
    role: str,
    make: Body | None,
):
    present, gone = (
        answer(backend, foreign_callers[role], operation, target, make) for target in targets
    )
    assert present == gone
    assert present[0] in (403, 404), present


def test_every_call_that_names_something_is_in_the_table(backend: Backend):
    listed = backend.http.get("/openapi.json").json()["paths"]
    served = {f"{method.upper()} {path}" for path, methods in listed.items() for method in methods}
    naming = {call_ for call_ in served if "{" in call_ or call_.startswith(("PUT", "POST"))}
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


def test_a_maker_finds_its_own_contracts_and_a_station_any(
    backend: Backend, targets: tuple[Thing, Thing]
):
    path = f"/v1/ccp/lookupContract/{targets[0].names['emaid']}"
    for role in (OEM, CPO, MO):
        assert backend.ask(role, "GET", path).status_code == 200
