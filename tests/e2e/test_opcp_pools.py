"""OPCP: the root, provisioning and signing pools in the published words."""

from __future__ import annotations

import base64
import re
import uuid
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from fixtures.backend import ISO2, Backend, Json, Vehicle, b64, refused
from plugvault.pools.caller import CPS, MO_EXTERNAL_PKI, OEM, Caller


@pytest.fixture(scope="module")
def vehicle(backend: Backend) -> Vehicle:
    return backend.vehicle()


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
