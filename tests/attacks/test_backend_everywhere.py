"""Every operation of the HTTP face, attacked in every way that needs no knowledge of it.

`MAY` holds the permitted roles, written from OPCP's own table and not from the code; an operation
without a row fails the first test. Then each one: without a token, with an expired, a forged, an
unsigned one, in a role that may not, and with a body that is too large. Fields that carry
certificates and keys get everything that is none.
"""

from __future__ import annotations

import base64
import datetime as dt
import hmac
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from joserfc import jwt
from joserfc.jwk import RSAKey

from fixtures.backend import ISO2, Backend, Vehicle, b64, refused
from plugvault.pools.caller import Caller

ALL = {"OEM", "CPO", "MO_EXTERNAL_PKI", "MO_HUBJECT_PKI", "CPS", "ADMIN"}
MO = {"MO_EXTERNAL_PKI", "MO_HUBJECT_PKI"}

MAY: dict[str, set[str]] = {
    "GET /v1/root/rootCerts": ALL,
    "PUT /v1/root/rootCerts": {"ADMIN"},
    "GET /v1/root/rootCerts/{rootCertificateId}": ALL,
    "DELETE /v1/root/rootCerts/{rootCertificateId}": {"ADMIN"},
    "GET /v1/root/ctl": ALL,
    "GET /v1/root/changes": {"ADMIN"},
    "POST /v1/root/changes/{changeId}/approve": {"ADMIN"},
    "POST /v1/root/changes/{changeId}/refuse": {"ADMIN"},
    "PUT /v1/oem/provCerts": {"OEM"},
    "GET /v1/oem/provCerts/{pcid}": MO | {"OEM", "CPS"},
    "HEAD /v1/oem/provCerts/{pcid}": MO | {"OEM", "CPS"},
    "DELETE /v1/oem/provCerts/{pcid}": {"OEM"},
    "GET /v1/oem/provCerts/lookupVehicle/{pcid}": MO | {"OEM", "CPS"},
    "GET /v1/oem/provCertSigntureAlgorithms/{pcid}": MO | {"OEM", "CPS"},
    "POST /v1/oem/provCerts/{pcid}/factoryReset": {"OEM"},
    "PUT /v1/cps/contractData/signed": {"MO_EXTERNAL_PKI"},
    "PUT /v1/cps/signedContractData": {"MO_EXTERNAL_PKI"},
    "PUT /v1/cps/forward/signedContractData": {"MO_EXTERNAL_PKI"},
    "PUT /v1/cps/generate/signedContractData": {"MO_HUBJECT_PKI"},
    "GET /v1/cps/signer": ALL,
    "POST /v1/ccp/signedContractData": {"CPO"},
    "PUT /v1/ccp/signedContractData": {"CPS", "MO_EXTERNAL_PKI"},
    "DELETE /v1/ccp/signedContractData/{emaid}": MO,
    "GET /v1/ccp/provideSignedContractData/{emaid}/{pcid}": {"OEM"},
    "GET /v1/ccp/signedContractData/{pcid}": {"OEM"},
    "GET /v1/ccp/lookupContract/{emaid}": MO | {"OEM", "CPO"},
    "POST /v1/ccp/signedContractData/{pcid}/{emaid}/default": {"OEM"},
    "POST /v1/ccp/terminate/{provider}": MO | {"ADMIN"},
    "GET /v1/ccp/terminate/{provider}/{jobId}": MO | {"ADMIN"},
    "POST /.well-known/est/{ca}/simpleenroll/{iso}": {"OEM"},
    "POST /.well-known/est/{ca}/simplereenroll/{iso}": {"OEM"},
    "GET /{ca}/cacerts/{iso}/{algorithm}/": {"OEM"},
    "PUT /v1/vra/cpo/endEntities": {"CPO"},
    "GET /v1/vra/cpo/endEntities": {"CPO"},
    "POST /opnc/v1/pki/pki/revokeCertificate": MO | {"OEM", "CPO", "ADMIN"},
    "PUT /v1/registry/vehicles": {"OEM"},
    "POST /v1/registry/vehicles/lookup": MO,
    "GET /v1/registry/providers": ALL,
    "GET /v1/registry/providers/{provider}": ALL,
    "PUT /v1/registry/providers/{provider}": {"ADMIN"},
    "GET /v1/webhook/endpoints": ALL,
    "POST /v1/webhook/endpoints": ALL,
    "GET /v1/webhook/endpoints/{id}": ALL,
    "PUT /v1/webhook/endpoints/{id}": ALL,
    "DELETE /v1/webhook/endpoints/{id}": ALL,
    "GET /v1/webhook/endpoints/{id}/deliveries": ALL,
    "POST /v1/webhook/endpoints/{id}/deliveries/replay": ALL,
    "POST /v1/webhook/endpoints/{id}/deliveries/{eventId}/replay": ALL,
    "GET /v1/events": ALL,
}

# For everybody, without a token.
PUBLIC = {
    "POST /oauth/token",
    "GET /.well-known/jwks.json",
    "GET /.well-known/oauth-authorization-server",
    "POST /ocsp",
    "GET /ocsp/{request}",
    "GET /crl",
    "GET /crl/{name}.crl",
}

VALUES = {
    "pcid": "PVTP9999999999999",
    "emaid": "DEPVAC99999999",
    "provider": "DEPVA",
    "ca": "oem",
    "iso": "ISO15118-2",
    "algorithm": "secp256r1",
}
UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"


def call(backend: Backend, operation: str, token: str | None, **options: Any) -> httpx.Response:
    """One operation with plausible names in its path."""
    method, path = operation.split()
    while "{" in path:
        name = path[path.index("{") + 1 : path.index("}")]
        path = path.replace(f"{{{name}}}", VALUES.get(name, UNKNOWN_ID))
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    if method in ("PUT", "POST") and not options:
        options = {"json": {}}
    return backend.http.request(method, path, headers=headers, **options)


def test_every_operation_has_its_row(backend: Backend):
    listed = backend.http.get("/openapi.json").json()["paths"]
    served = {f"{method.upper()} {path}" for path, methods in listed.items() for method in methods}
    assert served - PUBLIC == set(MAY)


@pytest.mark.parametrize("operation", MAY)
def test_no_operation_for_a_role_without_the_right(backend: Backend, operation: str):
    for role in sorted(ALL - MAY[operation]):
        answer = call(backend, operation, backend.bearer(role))
        assert answer.status_code == 403, (role, answer.status_code, answer.text)


# A stream does not end; tests/e2e/test_events.py reads it.
@pytest.mark.parametrize("operation", sorted(set(MAY) - {"GET /v1/events"}))
def test_an_operation_accepts_the_permitted_roles(backend: Backend, operation: str):
    """The refusals above are thus about the role."""
    for role in sorted(MAY[operation]):
        answer = call(backend, operation, backend.bearer(role))
        words = answer.text
        assert answer.status_code != 401, (role, words)
        assert "This call is for" not in words, (role, words)


def claims(backend: Backend, role: str) -> dict[str, Any]:
    middle = backend.bearer(role).split(".")[1]
    read: dict[str, Any] = json.loads(base64.urlsafe_b64decode(middle + "=="))
    return read


def written(header: dict[str, Any], claim: dict[str, Any], key: bytes = b"") -> str:
    """A JWT by hand, because no library writes these: unsigned, or HS256 with any bytes."""

    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    text = f"{part(json.dumps(header).encode())}.{part(json.dumps(claim).encode())}"
    return f"{text}.{part(hmac.digest(key, text.encode(), 'sha256')) if key else ''}"


@pytest.fixture(scope="module")
def forgeries(backend: Backend) -> dict[str, str]:
    """Tokens with an administrator's claims that the service has not made."""
    claim = {**claims(backend, "ADMIN"), "exp": int(time.time()) + 9_999_999}
    mine = RSAKey.generate_key(2048)
    public = backend.http.get("/.well-known/jwks.json").json()["keys"][0]
    pem = RSAKey.import_key(public).as_pem(private=False)
    return {
        "signed by another key": jwt.encode({"alg": "RS256", "kid": public["kid"]}, claim, mine),
        "unsigned": written({"alg": "none", "typ": "JWT"}, claim),
        "signed with the public key as a secret": written({"alg": "HS256"}, claim, pem),
    }


@pytest.mark.parametrize("operation", MAY)
def test_no_operation_with_a_forged_token(
    backend: Backend, forgeries: dict[str, str], operation: str
):
    for token in (None, "x.y.z", *forgeries.values()):
        answer = call(backend, operation, token)
        assert answer.status_code == 401, (token, answer.text)


@pytest.fixture
def tomorrow(backend: Backend) -> Iterator[None]:
    backend.clock.ahead += 86_401
    yield
    backend.clock.ahead -= 86_401


@pytest.mark.parametrize("operation", MAY)
@pytest.mark.usefixtures("tomorrow")
def test_no_operation_with_an_expired_token(
    backend: Backend, tokens_of_today: dict[str, str], operation: str
):
    role = sorted(MAY[operation])[0]
    answer = call(backend, operation, tokens_of_today[role])
    assert answer.status_code == 401, answer.text


@pytest.fixture(scope="module")
def tokens_of_today(backend: Backend) -> dict[str, str]:
    return {role: backend.bearer(role) for role in ALL}


@pytest.mark.parametrize("operation", [name for name in MAY if name[:4] in ("PUT ", "POST")])
def test_no_operation_with_an_oversized_body(backend: Backend, operation: str):
    role = sorted(MAY[operation])[0]
    body = json.dumps({"x": "A" * 70_000}).encode()
    announced = call(backend, operation, backend.bearer(role), content=body)
    refused(announced, 413, "larger than")
    pieces = call(backend, operation, backend.bearer(role), content=iter([body]))
    refused(pieces, 413, "larger than")


# Operations on records of another company, by a foreign caller in the right role.
@pytest.mark.parametrize(
    ("operation", "role"),
    [
        ("GET /v1/oem/provCerts/{pcid}", "OEM"),
        ("HEAD /v1/oem/provCerts/{pcid}", "OEM"),
        ("GET /v1/oem/provCerts/lookupVehicle/{pcid}", "OEM"),
        ("GET /v1/oem/provCertSigntureAlgorithms/{pcid}", "OEM"),
        ("DELETE /v1/oem/provCerts/{pcid}", "OEM"),
        ("POST /v1/oem/provCerts/{pcid}/factoryReset", "OEM"),
        ("GET /v1/ccp/signedContractData/{pcid}", "OEM"),
        ("GET /v1/ccp/provideSignedContractData/{emaid}/{pcid}", "OEM"),
        ("POST /v1/ccp/signedContractData/{pcid}/{emaid}/default", "OEM"),
        ("DELETE /v1/ccp/signedContractData/{emaid}", "MO_EXTERNAL_PKI"),
        ("DELETE /v1/ccp/signedContractData/{emaid}", "MO_HUBJECT_PKI"),
        ("GET /v1/ccp/lookupContract/{emaid}", "MO_EXTERNAL_PKI"),
        ("POST /v1/ccp/terminate/{provider}", "MO_HUBJECT_PKI"),
    ],
)
def test_no_operation_on_anothers_records(
    backend: Backend, foreign_tokens: dict[str, str], operation: str, role: str
):
    """The refusal is the same for existing and missing records: it tells nothing of a fleet."""
    vehicle = backend.vehicle()
    emaid = backend.sign(backend.contract_data(vehicle), vehicle.pcid).json()["emaid"]
    for pcid, contract in ((vehicle.pcid, emaid), (VALUES["pcid"], VALUES["emaid"])):
        path = operation.replace("{pcid}", pcid).replace("{emaid}", contract)
        answer = call(backend, path, foreign_tokens[role])
        assert answer.status_code == 403, (pcid, answer.text)


@pytest.fixture(scope="module")
def foreign_tokens(backend: Backend) -> dict[str, str]:
    tokens_ = {}
    for role, scopes in (
        ("OEM", {"wmis": frozenset({"XXX"})}),
        ("MO_EXTERNAL_PKI", {"providers": frozenset({"FRXYZ"})}),
        ("MO_HUBJECT_PKI", {"providers": frozenset({"FRXYY"})}),
    ):
        name = backend.enter(
            f"foreign {role}", Caller(f"foreign {role}", frozenset({role}), **scopes)
        )
        tokens_[role] = backend.bearers[name]
    return tokens_


def self_made(curve: ec.EllipticCurve) -> bytes:
    key = ec.generate_private_key(curve)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    start = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=99))
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )


NONSENSE = {
    "broken base64": "AAA*=",
    "base64 with spaces": "AA AA",
    "broken DER": b64(b"\x30\x82\xff\xff\x00"),
    "not DER": b64(b"certificate"),
    "DER with more behind it": b64(self_made(ec.SECP256R1()) + b"\x00"),
    "wrong curve": b64(self_made(ec.SECP384R1())),
    "old curve": b64(self_made(ec.SECP256K1())),
}


@pytest.fixture(scope="module")
def bodies(backend: Backend) -> dict[str, tuple[str, dict[str, Any]]]:
    """Good bodies, by operation, with the role that sends them."""
    vehicle: Vehicle = backend.vehicle()
    data = backend.contract_data(vehicle)
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
    emaid = x509.load_der_x509_certificate(base64.b64decode(data["contractCertificate"]))
    name = str(emaid.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
    signed = {"xsdMsgDefNamespace": ISO2, "pcid": vehicle.pcid}
    deprecated = {**signed, "emaid": name, "contractData": {**nested, "emaid": name}}
    root = b64(backend.ecosystem.v2g_root)
    return {
        "PUT /v1/root/rootCerts": ("ADMIN", {"caCertificate": root, "rootType": "V2G"}),
        "PUT /v1/oem/provCerts": ("OEM", backend.registration(vehicle)),
        "PUT /v1/cps/contractData/signed": ("MO_EXTERNAL_PKI", {**signed, "contractData": data}),
        "PUT /v1/cps/signedContractData": ("MO_EXTERNAL_PKI", deprecated),
        "PUT /v1/cps/forward/signedContractData": ("MO_EXTERNAL_PKI", deprecated),
        "PUT /v1/ccp/signedContractData": (
            "CPS",
            {**signed, "emaid": name, "signedContractDataXML": b64(b"<x/>")},
        ),
        "POST /v1/ccp/signedContractData": (
            "CPO",
            {
                "certificateInstallationReq": vehicle.request(backend.ecosystem.v2g_root),
                "xsdMsgDefNamespace": ISO2,
            },
        ),
        "POST /opnc/v1/pki/pki/revokeCertificate": (
            "OEM",
            {"certificate": b64(vehicle.leaf), "revocationReason": "superseded"},
        ),
    }


_CHAIN = ("contractData", "contractSignatureCertChain")
FIELDS = [
    ("PUT /v1/root/rootCerts", ("caCertificate",)),
    *(
        ("PUT /v1/oem/provCerts", (field,))
        for field in ("vehicleCertificate", "subCA1Certificate", "subCA2Certificate")
    ),
    *(
        ("PUT /v1/cps/contractData/signed", ("contractData", field))
        for field in (
            "contractCertificate",
            "contractSubCa1Certificate",
            "contractSubCa2Certificate",
            "contractSignatureEncryptedPrivateKey",
            "dHpublickey",
        )
    ),
    *(
        (f"PUT /v1/cps/{call}", where)
        for call in ("signedContractData", "forward/signedContractData")
        for where in (
            (*_CHAIN, "contractSignatureCertChainCertificate"),
            (*_CHAIN, "contractSignatureCertChainSubCertificates", 0),
            (*_CHAIN, "contractSignatureCertChainSubCertificates", 1),
            ("contractData", "contractSignatureEncryptedPrivateKey"),
            ("contractData", "dHpublickey"),
        )
    ),
    ("PUT /v1/ccp/signedContractData", ("signedContractDataXML",)),
    ("POST /v1/ccp/signedContractData", ("certificateInstallationReq",)),
    ("POST /opnc/v1/pki/pki/revokeCertificate", ("certificate",)),
]


@pytest.mark.parametrize(("operation", "where"), FIELDS)
@pytest.mark.parametrize("kind", NONSENSE)
def test_nonsense_in_a_field_is_refused_in_words(
    backend: Backend,
    bodies: dict[str, tuple[str, dict[str, Any]]],
    operation: str,
    where: tuple[Any, ...],
    kind: str,
):
    role, good = bodies[operation]
    body = json.loads(json.dumps(good))
    place = body
    for step in where[:-1]:
        place = place[step]
    assert place[where[-1]]
    place[where[-1]] = NONSENSE[kind]
    refused(call(backend, operation, backend.bearer(role), json=body), 400, "[a-z]")


@pytest.mark.parametrize("kind", NONSENSE)
def test_nonsense_is_no_signing_request(backend: Backend, kind: str):
    operation = "POST /.well-known/est/{ca}/simpleenroll/{iso}"
    answer = call(backend, operation, backend.bearer("OEM"), content=NONSENSE[kind])
    refused(answer, 400, "[a-z]")


def test_the_good_bodies_are_good(backend: Backend, bodies: dict[str, tuple[str, dict[str, Any]]]):
    """So that the refusals above are about the one field that was changed."""
    for operation, (role, body) in bodies.items():
        answer = call(backend, operation, backend.bearer(role), json=body)
        if operation == "PUT /v1/ccp/signedContractData":
            refused(answer, 400, "signedContractDataXML")
        elif operation == "POST /v1/ccp/signedContractData":
            assert answer.status_code in (200, 404)
        else:
            assert answer.status_code in (200, 201), (operation, answer.text)
