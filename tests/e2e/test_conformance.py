"""Every operation of the published OpenAPI files, positive and negative, against the server.

schemathesis makes the requests from the files alone: valid by the schema, and broken in one way.
What must hold: no server error, only declared status codes and content types, bodies as declared,
broken requests refused, no operation without a token. Where a file contradicts its own text, its
examples or what live clients do, CORRECTIONS says where and why. The files are read where they are
there; the project does not hold them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fixtures.backend import Backend, b64, refused
from plugvault.pools import events
from plugvault.pools.caller import ADMIN, CPO, CPS, MO_EXTERNAL_PKI, MO_HUBJECT_PKI, OEM
from world import World

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
import jsonschema_rs  # noqa: E402 (schemathesis brings it)
from schemathesis.checks import CHECKS  # noqa: E402

EXAMPLES = 25  # requests of each kind for each operation

# The role of each call; None for a call without a token. The maker makes all others.
ROLE = {
    "POST /oauth/token": None,
    "PUT /v1/root/rootCerts": ADMIN,
    "DELETE /v1/root/rootCerts/{rootCertificateId}": ADMIN,
    "PUT /v1/cps/contractData/signed": MO_EXTERNAL_PKI,
    "PUT /v1/cps/forward/signedContractData": MO_EXTERNAL_PKI,
    "PUT /v1/cps/signedContractData": MO_EXTERNAL_PKI,
    "PUT /v1/cps/generate/signedContractData": MO_HUBJECT_PKI,
    "POST /v1/ccp/signedContractData": CPO,
    "PUT /v1/ccp/signedContractData": CPS,
    "DELETE /v1/ccp/signedContractData/{emaid}": MO_EXTERNAL_PKI,
}

OPERATIONS = {
    "accessToken": ["POST /oauth/token"],
    "rcp": [
        "GET /v1/root/rootCerts",
        "PUT /v1/root/rootCerts",
        "GET /v1/root/rootCerts/{rootCertificateId}",
        "DELETE /v1/root/rootCerts/{rootCertificateId}",
        "GET /v1/root/ctl",
    ],
    "pcp": [
        "PUT /v1/oem/provCerts",
        "GET /v1/oem/provCerts/{pcid}",
        "DELETE /v1/oem/provCerts/{pcid}",
        "GET /v1/oem/provCerts/lookupVehicle/{pcid}",
    ],
    "cps": [
        "PUT /v1/cps/contractData/signed",
        "PUT /v1/cps/forward/signedContractData",
        "PUT /v1/cps/signedContractData",
        "PUT /v1/cps/generate/signedContractData",
        "GET /cps/signer",
    ],
    "ccp": [
        "POST /v1/ccp/signedContractData",
        "PUT /v1/ccp/signedContractData",
        "DELETE /v1/ccp/signedContractData/{emaid}",
        "GET /v1/ccp/provideSignedContractData/{emaid}/{pcid}",
        "POST /v1/ccp/signedContractData/{pcid}/{emaid}/default",
        "GET /v1/ccp/lookupContract/{emaid}",
        "GET /v1/ccp/signedContractData/{pcid}",
    ],
    "est": [
        "POST /.well-known/est/{ca}/simpleenroll/{iso-version}",
        "GET /{ca}/cacerts/{iso-version}/{algorithm}/",
    ],
    "webhooks": [
        "POST /v1/webhook/endpoints",
        "GET /v1/webhook/endpoints",
        "GET /v1/webhook/endpoints/{id}",
        "PUT /v1/webhook/endpoints/{id}",
        "DELETE /v1/webhook/endpoints/{id}",
    ],
}

# Where a file is wrong by its own words, its own samples or what live clients do, and what it must
# say instead: (where, what; None takes it out, why).
INSTALL = "/v1/ccp/signedContractData"
ENROLL = "/.well-known/est/{ca}/simpleenroll/{iso-version}"
CACERTS = "/{ca}/cacerts/{iso-version}/{algorithm}/"
CERTS_ONLY = "application/pkcs7-mime"
_SCHEMA = ("content", "application/json", "schema")
DEFAULT = "/v1/ccp/signedContractData/{pcid}/{emaid}/default"
UNDECLARED = {"description": "refused"}
FINGERPRINT = "^[0-9a-fA-F]{64}$"
NAME = "^((CN|OU|O|C|DC|ST)=[^,]+,? ?)+$"
UUIDS = "described as a SHA-256, with the pattern of a UUID"
_LOOKUP = ("LookupContractResponse", "properties", "XMLContracts", "items")
_INSTALLED = ("GetSignedContractDataResponse", "properties", "CCPResponse", "properties")
_MESSAGE = ("emaidContent", "items", "properties", "messageDef")
_CPS_ROOT = "cpsV2GRootCertificateFingerprint"
CORRECTIONS: dict[str, list[tuple[tuple[Any, ...], Any, str]]] = {
    "rcp": [
        (
            ("components", "schemas", "RootCertV2", "maxProperties"),
            None,
            "at most one property, of an object that must have two and has fifteen in the samples",
        ),
        *(
            (
                ("paths", "/v1/root/rootCerts", "put", "responses", status),
                UNDECLARED,
                "only success is declared, and the text has it for administrators only",
            )
            for status in ("400", "401", "403")
        ),
    ],
    "cps": [
        (
            (
                "components",
                "schemas",
                "cpsSigner-data",
                "properties",
                "cpsV2GRootCertificateFingerprint",
                "pattern",
            ),
            FINGERPRINT,
            UUIDS,
        ),
    ],
    "ccp": [
        *(
            (
                ("components", "schemas", *schema, "properties", member, "pattern"),
                pattern,
                why,
            )
            for schema, member, pattern, why in (
                (_LOOKUP, _CPS_ROOT, FINGERPRINT, "a SHA-256, with the pattern of a name"),
                (_LOOKUP, "cpsRootCertificateDN", NAME, "a name, with the pattern of a UUID"),
                (("ProvideContractDataResponse",), _CPS_ROOT, FINGERPRINT, UUIDS),
                ((*_INSTALLED, *_MESSAGE), _CPS_ROOT, FINGERPRINT, UUIDS),
            )
        ),
        (
            ("paths", INSTALL, "post", "responses", "404", *_SCHEMA, "required"),
            None,
            "one of its own two examples is an error body",
        ),
        (
            ("paths", DEFAULT, "post", "responses", "404"),
            UNDECLARED,
            "every other call with an EMAID declares it for one that is not there",
        ),
        *(
            (
                ("paths", "/v1/ccp/signedContractData/{pcid}", "get", "responses", status),
                UNDECLARED,
                "only success is declared, and a maker may see its own vehicles only",
            )
            for status in ("400", "401", "403")
        ),
    ],
    "est": [
        *(
            (
                ("paths", path, method, "responses", "200", "content", CERTS_ONLY),
                {"schema": {"type": "string"}},
                "the type its own text names, and live servers send",
            )
            for path, method in ((ENROLL, "post"), (CACERTS, "get"))
        ),
        *(
            (
                ("paths", path, method, "responses", "404"),
                UNDECLARED,
                "not every CA that the file lists has every version and algorithm",
            )
            for path, method in ((ENROLL, "post"), (CACERTS, "get"))
        ),
        (
            ("paths", CACERTS, "get", "parameters", 0, "required"),
            False,
            "a header about a body, for a call that has none",
        ),
        (
            ("paths", CACERTS, "get", "responses", "400"),
            UNDECLARED,
            "a version or an algorithm that there is not",
        ),
    ],
}

PAYLOAD = "webhook.payload"
CORRECTIONS[PAYLOAD] = [
    (
        (
            *("paths", "/customer.defined.pcid.emaid.event.webhook.path", "post", "requestBody"),
            *(*_SCHEMA, "properties", "payload", "properties", "contractCert", "pattern"),
        ),
        None,
        "a sentence in the place of the pattern: that it is base64 of DER",
    ),
    (
        (
            *("paths", "/customer.defined.root.event.webhook.path", "post", "requestBody"),
            *(*_SCHEMA, "properties", "payload", "properties", "rootType", "enum"),
        ),
        ["MO", "OEM", "V2G", "PE"],
        "three of the four types that the file of RCP has",
    ),
]

# Nothing to break in them: no parameter, or one that is any text.
UNBREAKABLE = {
    "GET /v1/root/rootCerts/{rootCertificateId}",
    "DELETE /v1/root/rootCerts/{rootCertificateId}",
    "GET /cps/signer",
    "GET /v1/webhook/endpoints",
    "GET /v1/webhook/endpoints/{id}",
    "DELETE /v1/webhook/endpoints/{id}",
}

COMMON = ("not_a_server_error", "status_code_conformance", "content_type_conformance")
POSITIVE = (*COMMON, "response_schema_conformance")
NEGATIVE = (*COMMON, "negative_data_rejection")


@schemathesis.serializer("application/pkcs10")
def as_it_is(_: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def corrected(file: Path, corrections: list[tuple[tuple[Any, ...], Any, str]]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    for (*where, last), value, _why in corrections:
        place: Any = document
        for step in where:
            place = place[step]
        assert place.get(last) != value, f"{where} {last}: the file says so by now"
        if value is None:
            del place[last]
        else:
            place[last] = value
    return document


@pytest.fixture(scope="module")
def published(shared: Path) -> dict[str, Any]:
    """The operations of all files by their names."""
    operations = {}
    for name in OPERATIONS:
        document = corrected(shared / f"opcp-1.0.0/{name}.v1.json", CORRECTIONS.get(name, []))
        for each in schemathesis.openapi.from_dict(document).get_all_operations():
            operation = each.ok()
            operations[f"{operation.method.upper()} {operation.path}"] = operation
    return operations


@pytest.fixture(scope="module")
def known_names(backend: Backend) -> dict[str, Any]:
    """Values that are really there, for a part of the requests."""
    vehicle = backend.vehicle()
    emaid = backend.sign(backend.contract_data(vehicle), vehicle.pcid).json()["emaid"]
    spare = b64(World().v2g_root.der)  # one that nothing hangs under: it will be deleted
    body = {"caCertificate": spare, "rootType": "PE"}
    assert backend.ask(ADMIN, "PUT", "/v1/root/rootCerts", json=body).status_code == 200
    roots = backend.ask(CPO, "GET", "/v1/root/rootCerts?rootType=pe").json()
    (listed,) = roots["RootCertificateCollection"]["rootCertificates"]
    return {
        "pcid": vehicle.pcid,
        "emaid": emaid,
        "rootCertificateId": listed["rootCertificateId"],
        "ca": "oem",
    }


def test_every_operation_of_the_files_is_here(published: dict[str, Any]):
    assert set(published) == {name for names in OPERATIONS.values() for name in names}


def run(
    backend: Backend,
    operation: Any,
    name: str,
    mode: str,
    checks: tuple[str, ...],
    known_values: Any,
) -> None:
    role = ROLE.get(name, OEM)
    headers = {"Authorization": f"Bearer {backend.bearer(role)}"} if role else {}
    checks_ = [CHECKS.get_one(check) for check in checks]

    @given(case=operation.as_strategy(schemathesis.GenerationMode(mode)), real=st.booleans())
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def each(case: Any, real: bool) -> None:
        if mode == "positive" and real:
            for parameter in case.path_parameters or {}:
                case.path_parameters[parameter] = known_values.get(
                    parameter, case.path_parameters[parameter]
                )
        response = case.call(base_url=backend.ecosystem.url, headers=headers)
        case.validate_response(response, checks=checks_)

    each()


NAMES = [name for names in OPERATIONS.values() for name in names]


@pytest.mark.parametrize("name", NAMES)
def test_valid_requests_get_declared_answers(
    backend: Backend, published: dict[str, Any], known_names: dict[str, Any], name: str
):
    run(backend, published[name], name, "positive", POSITIVE, known_names)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in UNBREAKABLE])
def test_broken_requests_are_refused(
    backend: Backend, published: dict[str, Any], known_names: dict[str, Any], name: str
):
    run(backend, published[name], name, "negative", NEGATIVE, known_names)


@pytest.mark.parametrize("name", [name for name in NAMES if ROLE.get(name, OEM)])
@pytest.mark.parametrize("token", [None, "Bearer x.y.z", "Basic eDp5"])
def test_no_operation_without_a_token(
    backend: Backend, known_names: dict[str, Any], name: str, token: str | None
):
    method, path = name.split()
    values = {"iso-version": "ISO15118-2", "algorithm": "secp256r1", "id": "x", **known_names}
    path = re.sub("{([^}]+)}", lambda match: values[match[1]], path)
    headers = {"Authorization": token} if token else {}
    answer = backend.http.request(method, path, headers=headers, content=b"not JSON")
    refused(answer, 401, "token")
    assert answer.headers["www-authenticate"].startswith("Bearer")


def happenings(backend: Backend) -> set[str]:
    """Cause every event of the pools. Returns the kinds of events."""
    root = {"caCertificate": b64(World().oem_root.der), "rootType": "PE"}
    assert backend.ask(ADMIN, "PUT", "/v1/root/rootCerts", json=root).status_code == 200
    listed = backend.ask(CPO, "GET", "/v1/root/rootCerts?rootType=pe").json()
    for each in listed["RootCertificateCollection"]["rootCertificates"]:
        path_ = f"/v1/root/rootCerts/{each['rootCertificateId']}"
        assert backend.ask(ADMIN, "DELETE", path_).status_code == 200
    for ending in ("POST /v1/oem/provCerts/{}/factoryReset", "DELETE /v1/oem/provCerts/{}"):
        vehicle = backend.vehicle()
        data = backend.contract_data(vehicle)
        emaid = backend.sign(data, vehicle.pcid).json()["emaid"]
        assert backend.sign(data, vehicle.pcid).status_code == 201
        pull = f"/v1/ccp/provideSignedContractData/{emaid}/{vehicle.pcid}"
        assert backend.ask(OEM, "GET", pull).status_code == 200
        method, path = ending.format(vehicle.pcid).split()
        assert backend.ask(OEM, method, path).status_code == 200
    return {
        *("root.cert.added", "root.cert.revoked", "mo.contract.delivered.to.oem"),
        *("oem.contract.created", "oem.contract.updated", "oem.contract.deleted"),
        *("mo.prov.cert.factory.reset", "mo.prov.cert.deleted"),
    }


def test_events_are_as_the_file_has_them(backend: Backend, shared: Path):
    expected = happenings(backend)
    document = corrected(shared / f"opcp-1.0.0/{PAYLOAD}.v1.json", CORRECTIONS[PAYLOAD])
    schemas = {}
    for path in document["paths"].values():
        content = path["post"]["requestBody"]["content"]["application/json"]
        for kind in content["schema"]["properties"]["eventType"]["enum"]:
            schemas[kind] = content["schema"]
    with backend.ecosystem.store.read() as records:
        every = records.events.since(0, None, 10_000)
    happened = [event for event in every if event.kind in events.KINDS]
    assert expected <= {event.kind for event in happened}
    for event in happened:
        jsonschema_rs.validate(schemas[event.kind], events.envelope(event))
