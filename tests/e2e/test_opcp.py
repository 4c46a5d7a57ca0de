"""The ecosystem over HTTP, as a client written from the OPCP documents alone sees it.

The clients and the start of the server are in tests/fixtures/backend.py.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from jsonschema_rs import validator_for

from evcc import csr, exi
from evcc.check_digit import emaid_check_digit
from fixtures.backend import ISO2, SESSION, Backend, Json, Vehicle, b64, certificates, refused
from plugvault.opcp import health, openapi
from plugvault.pki.keys import raw_signer
from plugvault.pools.caller import CPS, MO_EXTERNAL_PKI, OEM, Caller
from world import point


@pytest.fixture(scope="module")
def vehicle(backend: Backend) -> Vehicle:
    return backend.vehicle()


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


# EST


@pytest.mark.parametrize("prefix", ["/.well-known/est", "/.well-known", ""])
@pytest.mark.parametrize("suffix", ["", "/", "/ISO15118-2", "/ISO15118-2/"])
def test_enrolment_answers_under_published_and_live_paths(
    backend: Backend, prefix: str, suffix: str
):
    body = b64(Vehicle("PVTP0000000000999").csr())
    path = f"{prefix}/oem/simpleenroll{suffix}"
    assert len(certificates(backend.ask("OEM", "POST", path, content=body))) == 1


@pytest.mark.parametrize("prefix", ["/.well-known/est", "/.well-known", ""])
@pytest.mark.parametrize("suffix", ["", "/ISO15118-2", "/ISO15118-2/secp256r1/"])
def test_ca_certificates_answer_under_published_and_live_paths(
    backend: Backend, prefix: str, suffix: str
):
    chain_ = certificates(backend.ask("OEM", "GET", f"{prefix}/acme-oem/cacerts{suffix}"))
    assert len(chain_) == 3


def test_an_enrolled_certificate_is_for_the_requests_subject_and_key(backend: Backend):
    vehicle = Vehicle("PVTP0000000000998")
    answer = backend.ask("OEM", "POST", "/oem/simpleenroll", content=b64(vehicle.csr()))
    (leaf,) = certificates(answer)
    assert leaf.subject.rfc4514_string() == "DC=OEM,CN=PVTP0000000000998,O=Example Cars,C=DE"
    assert leaf.public_key() == vehicle.key.public_key()


def test_pem_and_base64_of_pem_are_tolerated(backend: Backend):
    request = x509.load_der_x509_csr(Vehicle("PVTP0000000000997").csr())
    pem = request.public_bytes(Encoding.PEM)
    for body in (pem, base64.b64encode(pem)):
        answer = backend.ask("OEM", "POST", "/oem/simpleenroll", content=body)
        assert len(certificates(answer)) == 1


def other_request(curve: ec.EllipticCurve, *names: tuple[x509.ObjectIdentifier, str]) -> bytes:
    subject = x509.Name([x509.NameAttribute(oid, value) for oid, value in names])
    key = ec.generate_private_key(curve)
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return request.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


CN, O = x509.NameOID.COMMON_NAME, x509.NameOID.ORGANIZATION_NAME  # noqa: E741 - the field's name


def not_its_own_signature() -> bytes:
    other_key = ec.generate_private_key(ec.SECP256R1())
    return csr.build(
        "PVTP0000000000996",
        "Example Cars",
        "DE",
        point(ec.generate_private_key(ec.SECP256R1())),
        raw_signer(other_key),
    )


@pytest.mark.parametrize(
    ("request_der", "status", "words"),
    [
        (b"", 400, "PKCS#10"),
        (b"0\x03\x02\x01\x00", 400, "PKCS#10"),
        (Vehicle("XXXP0000000000001").csr(), 403, "WMI"),
        (other_request(ec.SECP256R1(), (CN, "PVT1"), (O, "E")), 400, "pcid : must match"),
        (not_its_own_signature(), 400, "not signed by its own key"),
        (
            other_request(ec.SECP384R1(), (CN, "PVTP0000000000995"), (O, "E")),
            400,
            "secp256r1",
        ),
        (other_request(ec.SECP256R1(), (CN, "PVTP0000000000995")), 400, "CN and O"),
        (other_request(ec.SECP256R1(), (O, "E")), 400, "CN and O"),
    ],
)
def test_csr_proof_of_possession_and_subject_enforced_in_est(
    backend: Backend, request_der: bytes, status: int, words: str
):
    answer = backend.ask("OEM", "POST", "/oem/simpleenroll", content=b64(request_der))
    refused(answer, status, words)


@pytest.mark.parametrize("ca", ["veh", "root", "oem2", "acme-"])
def test_a_ca_that_is_not_served_is_not_found(backend: Backend, ca: str):
    refused(backend.ask("OEM", "GET", f"/{ca}/cacerts"), 404, "No CA named")


def test_broken_base64_is_no_request(backend: Backend):
    refused(backend.ask("OEM", "POST", "/oem/simpleenroll", content=b"%%%"), 400, "PKCS#10")


# RCP


def test_roots_are_listed_with_the_documented_members(backend: Backend):
    answer = backend.ask("CPO", "GET", "/v1/root/rootCerts", params={"rootType": "v2g"})
    (root,) = answer.json()["RootCertificateCollection"]["rootCertificates"]
    certificate = x509.load_der_x509_certificate(base64.b64decode(root["caCertificate"]))
    assert root["fingerprint"] == certificate.fingerprint(hashes.SHA256()).hex()
    assert root["rootIssuerSerialNumber"] == f"{certificate.serial_number:x}"
    assert root["distinguishedName"] == "CN=V2G Root CA, DC=V2G, O=Example Pool, C=DE"
    assert (root["rootType"], root["signatureAlgorithm"]) == ("V2G", "secp256r1")
    assert root["validTo"] == certificate.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ")
    answer_by_id = backend.ask("OEM", "GET", f"/v1/root/rootCerts/{root['rootCertificateId']}")
    assert answer_by_id.json() == {"RootResponse": root}


def test_an_unknown_root_is_not_found(backend: Backend):
    path = f"/v1/root/rootCerts/{uuid.UUID(int=0)}"
    words = r"^Root certificate with the given ID is not found\.$"
    refused(backend.ask("CPO", "GET", path), 404, words)


def test_an_administrator_adds_roots_and_only_roots(backend: Backend, vehicle: Vehicle):
    def put(body: Json) -> httpx.Response:
        return backend.ask("ADMIN", "PUT", "/v1/root/rootCerts", json=body)

    root = b64(backend.ecosystem.mo_root)
    assert put({"caCertificate": root, "rootType": "MO"}).status_code == 200
    refused(put({"caCertificate": b64(vehicle.leaf), "rootType": "OEM"}), 400, "not a root")
    refused(put({"caCertificate": "%%", "rootType": "OEM"}), 400, "caCertificate : must match")
    refused(put({"caCertificate": root, "rootType": "CPO"}), 400, "rootType : must match")
    refused(put({"rootType": "MO"}), 400, "caCertificate : must be given")


# PCP


def test_a_vehicle_is_found_by_its_pcid(backend: Backend, vehicle: Vehicle):
    answer = backend.ask(MO_EXTERNAL_PKI, "GET", f"/v1/oem/provCerts/{vehicle.pcid}")
    message = answer.json()["OEMMessage"]
    assert message.items() >= backend.registration(vehicle).items()
    assert message["rootIssuerDistinguishedName"] == "CN=OEM Root CA, DC=OEM, O=Example Cars, C=DE"
    assert re.fullmatch("([0-9a-f]{2}:){7}[0-9a-f]{2}", message["rootAuthorityKeyIdentifier"])
    lookup = backend.ask(CPS, "GET", f"/v1/oem/provCerts/lookupVehicle/{vehicle.pcid}")
    assert (lookup.status_code, lookup.content) == (200, b"")
    assert backend.ask("OEM", "HEAD", f"/v1/oem/provCerts/{vehicle.pcid}").status_code == 200


def test_an_unknown_vehicle_is_not_found_in_the_published_words(backend: Backend):
    for path in ("PVTP9999999999999", "lookupVehicle/PVTP9999999999999"):
        answer = backend.ask(MO_EXTERNAL_PKI, "GET", f"/v1/oem/provCerts/{path}")
        words = r"^The OEM provisioning certificate with given PCID is not found\.$"
        refused(answer, 404, words)


def test_a_malformed_pcid_is_refused_in_the_published_words(backend: Backend):
    answer = backend.ask(MO_EXTERNAL_PKI, "GET", "/v1/oem/provCerts/PVT-1")
    assert answer.json()["errorMessages"] == ['pcid : must match "^[a-zA-Z0-9]{17,18}$"']


def test_oem_of_other_wmi_cannot_read_or_replace(backend: Backend, vehicle: Vehicle):
    rival = backend.enter("rival maker", Caller("Rival", frozenset({OEM}), frozenset({"XXX"})))
    answer = backend.ask(rival, "GET", f"/v1/oem/provCerts/{vehicle.pcid}")
    refused(answer, 403, "WMI")
    registration = backend.registration(vehicle)
    refused(backend.ask(rival, "PUT", "/v1/oem/provCerts", json=registration), 403, "WMI")
    for path in (
        f"/v1/ccp/signedContractData/{vehicle.pcid}",
        f"/v1/ccp/provideSignedContractData/DEPVAC00000001/{vehicle.pcid}",
    ):
        refused(backend.ask(rival, "GET", path), 403, "WMI")


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("vehicleCertificate", "^Invalid certificate format on vehicleCertificate$"),
        ("subCA2Certificate", "^Invalid certificate format on subCa2Certificate$"),
        ("subCA1Certificate", "^Invalid certificate format on subCa1Certificate$"),
    ],
)
@pytest.mark.parametrize("bad", ["%%%", "MIIB", "é"])
def test_broken_base64_and_broken_der_are_named(
    backend: Backend, vehicle: Vehicle, field: str, words: str, bad: str
):
    body = {**backend.registration(vehicle), field: bad}
    refused(backend.ask("OEM", "PUT", "/v1/oem/provCerts", json=body), 400, words)


# CPS and CCP


def test_contract_data_is_signed_and_stored(backend: Backend, vehicle: Vehicle):
    answer = backend.sign(backend.contract_data(vehicle), vehicle.pcid)
    assert answer.status_code == 201, answer.text
    body = answer.json()
    assert set(body) == {
        "pcid",
        "emaid",
        "xsdMsgDefNamespace",
        "signedData",
        "cpsV2GRootCertificateFingerprint",
        "cpsRootDistinguishedName",
    }
    assert body["cpsRootDistinguishedName"] == "CN=V2G Root CA, DC=V2G, O=Example Pool, C=DE"
    assert base64.b64decode(body["signedData"]).startswith(b"<?xml")
    lookup = backend.ask(MO_EXTERNAL_PKI, "GET", f"/v1/ccp/lookupContract/{body['emaid']}")
    (contract,) = lookup.json()["XMLContracts"]
    assert (contract["pcid"], contract["emaid"]) == (vehicle.pcid, body["emaid"])


def test_without_a_pcid_it_is_signed_only(backend: Backend, vehicle: Vehicle):
    answer = backend.sign(backend.contract_data(vehicle), None)
    assert (answer.status_code, answer.json()["pcid"]) == (201, None)
    path = f"/v1/ccp/lookupContract/{answer.json()['emaid']}"
    refused(backend.ask(MO_EXTERNAL_PKI, "GET", path), 404, "not found")


def test_the_older_nested_form_is_taken(backend: Backend, vehicle: Vehicle):
    flat = backend.contract_data(vehicle)
    nested = {
        "contractSignatureCertChain": {
            "contractSignatureCertChainCertificate": flat.pop("contractCertificate"),
            "contractSignatureCertChainSubCertificates": [
                flat.pop("contractSubCa2Certificate"),
                flat.pop("contractSubCa1Certificate"),
            ],
        },
        **flat,
    }
    assert backend.sign(nested, vehicle.pcid).status_code == 201


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dHpublickey": "%"}, r"contractData\.dHpublickey : must match"),
        (
            {"contractSignatureEncryptedPrivateKey": "%"},
            r"contractData\.contractSignatureEncryptedPrivateKey : must match",
        ),
        ({"contractCertificate": "%"}, r"contractData\.contractCertificate : must match"),
        ({"contractCertificate": "MIIB"}, "Invalid certificate format on contractCertificate"),
        ({"contractSubCa1Certificate": "MIIB"}, "Invalid certificate format"),
        ({"contractSubCa1Certificate": None}, "contractSubCa1Certificate"),
        ({"contractSignatureEncryptedPrivateKey": "AAAA"}, "must have 48 bytes"),
        ({"dHpublickey": "AAAA"}, "uncompressed point"),
    ],
)
def test_broken_contract_data_is_named(
    backend: Backend, vehicle: Vehicle, changes: Json, words: str
):
    data = {**backend.contract_data(vehicle), **changes}
    refused(backend.sign(data, vehicle.pcid), 400, words)


def test_mo_of_other_provider_cannot_sign_or_look_up(backend: Backend, vehicle: Vehicle):
    rival = backend.enter(
        "rival", Caller("Rival", frozenset({MO_EXTERNAL_PKI}), providers=frozenset({"FRXYZ"}))
    )
    data = backend.contract_data(vehicle)
    refused(backend.sign(data, vehicle.pcid, rival), 403, "provider")
    emaid = backend.sign(data, vehicle.pcid).json()["emaid"]
    refused(backend.ask(rival, "GET", f"/v1/ccp/lookupContract/{emaid}"), 403, "provider")


def test_an_emaid_of_another_vehicle_is_refused(backend: Backend, vehicle: Vehicle):
    emaid = backend.ecosystem.mo.new_emaid()
    data = backend.contract_data(vehicle, emaid)
    assert backend.sign(data, vehicle.pcid).status_code == 201
    other_vehicle = backend.vehicle()
    words = r"^Invalid Tupple - EMAID is already used by other PCID\.$"
    refused(
        backend.sign(backend.contract_data(other_vehicle, emaid), other_vehicle.pcid), 400, words
    )


def generation(pcid: str, /, **changes: Any) -> Json:
    year = datetime.now(UTC).year
    return {
        "contractBegins": f"{year}-01-01T00:00:00Z",
        "contractEnds": f"{year + 1}-01-01T00:00:00Z",
        "emaid": "DE-PVB-C1234ABCD",
        "pcid": pcid,
        "xsdMsgDefNamespace": ISO2,
        **changes,
    }


def generate(backend: Backend, body: Json) -> httpx.Response:
    return backend.ask("MO_HUBJECT_PKI", "PUT", "/v1/cps/generate/signedContractData", json=body)


def test_a_contract_is_made_for_an_operator_without_a_pki(backend: Backend):
    vehicle = backend.vehicle()
    answer = generate(backend, generation(vehicle.pcid))
    assert (answer.status_code, answer.content) == (201, b"")
    listed = backend.ask("OEM", "GET", f"/v1/ccp/signedContractData/{vehicle.pcid}").json()
    (contract,) = listed["XMLContracts"]
    assert (contract["emaid"], contract["defaultContract"]) == ("DEPVBC1234ABCD", True)
    assert contract["certValidTo"] == f"{datetime.now(UTC).year + 1}-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        (
            {"contractEnds": "2022-12-10T11:42:59Z"},
            400,
            r"^The given contractEnds date is in the past\.$",
        ),
        (
            {"pcid": "PVTP9999999999999", "emaid": "DE-PVB-C00000008"},
            400,
            r"^The OEM provisioning certificate with the given PCID is not available\.$",
        ),
        ({"emaid": "DE-PVA-C1234ABCD"}, 403, "provider"),
        ({"emaid": "D-PVB-C1234ABCD"}, 400, r"^emaid : must match"),
        ({"emaid": "DE-PVB-C1234ABC_"}, 400, r"^emaid : must match"),
        ({"pcid": "1"}, 400, r"^pcid : must match"),
        ({"contractBegins": "yesterday"}, 400, "contractBegins"),
        ({"contractBegins": "0001-01-01T00:00:00Z", "emaid": "DE-PVB-C00000007"}, 400, "1970"),
        ({"contractEnds": "2099-01-01T00:00:00Z", "emaid": "DE-PVB-C00000009"}, 400, "outlive"),
        ({"xsdMsgDefNamespace": "urn:other"}, 400, "xsdMsgDefNamespace : must match"),
    ],
)
def test_a_generation_that_cannot_be_is_refused(
    backend: Backend, vehicle: Vehicle, changes: Json, status: int, words: str
):
    refused(generate(backend, generation(vehicle.pcid, **changes)), status, words)


def test_the_cps_signer_is_listed_under_both_sets_of_names(backend: Backend):
    for path in ("/cps/signer", "/v1/cps/signer"):
        (signer,) = backend.ask("OEM", "GET", path).json()["cpsCertificates"]
        assert signer["cpsSubCa1Certificate"] == signer["cpsCa1Certificate"]
        assert signer["cpsSubCa2Certificate"] == signer["cpsCa2Certificate"]
        assert signer["cpsDistinguishedName"] == "CN=CPS 1, DC=CPS, O=Example Pool, C=DE"
        assert base64.b64decode(signer["cpsCertificate"]) == backend.ecosystem.cps.certificate


@pytest.fixture(scope="module")
def owner(backend: Backend) -> Vehicle:
    """A vehicle with a default contract and a second one."""
    vehicle = backend.vehicle()
    for _ in range(2):
        backend.sign(backend.contract_data(vehicle), vehicle.pcid)
    return vehicle


def contracts(backend: Backend, vehicle: Vehicle) -> list[Json]:
    path = f"/v1/ccp/signedContractData/{vehicle.pcid}"
    rows: list[Json] = backend.ask("OEM", "GET", path).json()["XMLContracts"]
    return rows


def default(backend: Backend, vehicle: Vehicle) -> str:
    (emaid,) = [c["emaid"] for c in contracts(backend, vehicle) if c["defaultContract"]]
    return str(emaid)


def response(content: Json) -> Json:
    message = exi.decode(base64.b64decode(content["certificateInstallationRes"]))
    return dict(message["V2G_Message"])


def test_a_vehicle_at_a_station_gets_its_default_contract(backend: Backend, owner: Vehicle):
    answer = backend.install(owner.request(backend.ecosystem.v2g_root))
    assert answer.status_code == 200, answer.text
    (content,) = answer.json()["CCPResponse"]["emaidContent"]
    assert content["messageDef"]["emaid"] == default(backend, owner)
    message = response(content["messageDef"])
    assert message["Header"]["SessionID"] == SESSION
    body = message["Body"]["CertificateInstallationRes"]
    assert body["ResponseCode"] == "OK"
    assert body["eMAID"]["value"] == default(backend, owner)
    assert len(body["SAProvisioningCertificateChain"]["SubCertificates"]["Certificate"]) == 2


def test_the_maker_chooses_and_pulls(backend: Backend, owner: Vehicle):
    second = next(c["emaid"] for c in contracts(backend, owner) if not c["defaultContract"])
    path = f"/v1/ccp/signedContractData/{owner.pcid}/{second}/default"
    assert backend.ask("OEM", "POST", path).status_code == 200
    assert default(backend, owner) == second
    pull = f"/v1/ccp/provideSignedContractData/{second}/{owner.pcid}"
    answer = backend.ask("OEM", "GET", pull, params={"sessionID": "0102"}).json()
    assert response(answer)["Header"]["SessionID"] == b"\x01\x02"
    assert answer["xsdMsgDefNamespace"] == ISO2
    assert response(backend.ask("OEM", "GET", pull).json())["Header"]["SessionID"] == b"\x00"


@pytest.mark.parametrize("session_id", ["0", "xyz", "00" * 9])
def test_a_malformed_session_id_is_refused(backend: Backend, owner: Vehicle, session_id: str):
    path = f"/v1/ccp/provideSignedContractData/{default(backend, owner)}/{owner.pcid}"
    answer = backend.ask("OEM", "GET", path, params={"sessionID": session_id})
    refused(answer, 400, "^Invalid SessionID format, make sure")


def test_a_vehicle_without_contract_gets_the_negative_response(backend: Backend):
    vehicle = backend.vehicle()
    request = vehicle.request(backend.ecosystem.v2g_root)
    answer = backend.install(request)
    assert answer.status_code == 404
    (content,) = answer.json()["CCPResponse"]["emaidContent"]
    assert set(content["messageDef"]) == {"certificateInstallationRes"}
    message = base64.b64decode(content["messageDef"]["certificateInstallationRes"])
    body = exi.decode(message)["V2G_Message"]["Body"]["CertificateInstallationRes"]
    assert body["ResponseCode"] == "FAILED_NoCertificateAvailable"
    assert body["eMAID"]["value"] == "0" * 14, "valid by the schema, and no contract's"
    other = backend.vehicle()
    again = backend.install(other.request(backend.ecosystem.v2g_root)).json()
    (other_content,) = again["CCPResponse"]["emaidContent"]
    assert other_content == content, "the same bytes, whatever the cause"
    answer = backend.install(request, headers={"alwaysReturnEXI": "false"})
    refused(answer, 404, r"^Contract or Vehicle not found\.$")


def test_installation_req_with_bad_oem_signature_rejected(backend: Backend, owner: Vehicle):
    other_key = ec.generate_private_key(ec.SECP256R1())
    request = owner.request(backend.ecosystem.v2g_root, other_key)
    refused(backend.install(request), 400, "signature")


@pytest.mark.parametrize("garbage", ["", "%%", "AAAA", b64(b"\x80\x98" + bytes(99)), "é"])
def test_garbage_is_no_exi(backend: Backend, garbage: str):
    refused(backend.install(garbage), 400, r"^EXI format is invalid!$")


def test_a_new_provisioning_key_purges_the_contracts(backend: Backend):
    old = backend.vehicle()
    backend.sign(backend.contract_data(old), old.pcid)
    backend.count -= 1  # the same PCID again
    new = backend.vehicle()
    assert new.pcid == old.pcid
    assert contracts(backend, new) == []
    assert backend.install(old.request(backend.ecosystem.v2g_root)).status_code == 404


# The roles' own clients


def test_the_roles_clients_walk_the_whole_way(backend: Backend):
    world = backend.ecosystem
    vehicle = Vehicle("PVTP0000000000900")
    vehicle.leaf, vehicle.subs = world.oem.enrol(vehicle.csr())
    stored = world.oem.register(vehicle.leaf, vehicle.subs, [world.v2g_root])
    assert len(stored["v2gRootAuthorityKeyIdentifiers"]) == 1
    first, second = world.mo.contract(vehicle.pcid), world.mo_v2g.contract(vehicle.pcid)
    assert [emaid[:5] for emaid in (first, second)] == ["DEPVA", "DEPVB"]
    assert emaid_check_digit(first) == first[-1]
    request = base64.b64decode(vehicle.request(world.v2g_root))
    at_station = exi.decode(world.cpo.fetch_contract(request))["V2G_Message"]
    assert at_station["Header"]["SessionID"] == SESSION
    body = at_station["Body"]["CertificateInstallationRes"]
    assert body["eMAID"]["value"] == first
    pulled = world.oem.pull(second, vehicle.pcid)
    body = exi.decode(pulled.message)["V2G_Message"]["Body"]["CertificateInstallationRes"]
    assert body["eMAID"]["value"] == second
    world.oem.choose(vehicle.pcid, second)
    assert default(backend, vehicle) == second
    assert set(world.cpo.roots()) == {world.v2g_root, world.mo_root}


def test_a_negative_answer_reaches_the_station_as_exi(backend: Backend):
    vehicle = backend.vehicle()
    request = base64.b64decode(vehicle.request(backend.ecosystem.v2g_root))
    answer = exi.decode(backend.ecosystem.cpo.fetch_contract(request))["V2G_Message"]
    code = answer["Body"]["CertificateInstallationRes"]["ResponseCode"]
    assert code == "FAILED_NoCertificateAvailable"


def test_many_at_once_are_served(backend: Backend):
    world = backend.ecosystem
    vehicles = [backend.vehicle() for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        emaids = list(pool.map(world.mo.contract, [v.pcid for v in vehicles] * 4))
    assert len(set(emaids)) == 16
    for vehicle in vehicles:
        assert len(contracts(backend, vehicle)) == 4
        assert default(backend, vehicle)


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
