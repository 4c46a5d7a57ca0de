"""CPS over HTTP: every call, every form of it, and its refusals."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from evcc import exi
from fixtures.backend import ISO2, Backend, Json, Vehicle, refused
from plugvault.contract.iso15118_2 import xml
from plugvault.pki import path
from plugvault.pools.caller import MO_EXTERNAL_PKI, MO_HUBJECT_PKI

SIGNED = "/v1/cps/contractData/signed"
ONLY = "/v1/cps/signedContractData"
FORWARD = "/v1/cps/forward/signedContractData"
GENERATE = "/v1/cps/generate/signedContractData"
ISO20 = ("urn:iso:15118:20:2020:MsgDef", "urn:iso:15118:20:2022:MsgDef")


@pytest.fixture(scope="module")
def vehicle(backend: Backend) -> Vehicle:
    return backend.vehicle()


def nested(flat: Json, **changes: Any) -> Json:
    """Contract data as the deprecated calls have it."""
    subs = [flat["contractSubCa2Certificate"], flat["contractSubCa1Certificate"]]
    chain = {
        "contractSignatureCertChainCertificate": flat["contractCertificate"],
        "contractSignatureCertChainSubCertificates": subs,
    }
    return {
        "contractSignatureCertChain": {**chain, **changes},
        "contractSignatureEncryptedPrivateKey": flat["contractSignatureEncryptedPrivateKey"],
        "dHpublickey": flat["dHpublickey"],
    }


def put(backend: Backend, call: str, body: Json) -> httpx.Response:
    return backend.ask(MO_EXTERNAL_PKI, "PUT", call, json=body)


def deprecated(backend: Backend, vehicle: Vehicle, **changes: Any) -> Json:
    emaid = backend.ecosystem.mo.new_emaid()
    return {
        "xsdMsgDefNamespace": ISO2,
        "pcid": vehicle.pcid,
        "emaid": emaid,
        "contractData": nested(backend.contract_data(vehicle, emaid)),
        **changes,
    }


def found(backend: Backend, emaid: str, role: str = MO_EXTERNAL_PKI) -> httpx.Response:
    return backend.ask(role, "GET", f"/v1/ccp/lookupContract/{emaid}")


def test_the_deprecated_call_signs_and_stores_nothing(backend: Backend, vehicle: Vehicle):
    request = deprecated(backend, vehicle, metaData="for me")
    answer = put(backend, ONLY, request)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["emaid"], body["pcid"], body["metaData"]) == (
        request["emaid"],
        vehicle.pcid,
        "for me",
    )
    message = xml.read(base64.b64decode(body["signedData"]))
    leaf = message["V2G_Message"]["Body"]["CertificateInstallationRes"]
    assert leaf["ContractSignatureCertChain"]["Certificate"] == base64.b64decode(
        request["contractData"]["contractSignatureCertChain"][
            "contractSignatureCertChainCertificate"
        ]
    )
    refused(found(backend, request["emaid"]), 404, "not found")


def test_the_deprecated_call_that_forwards_stores(backend: Backend, vehicle: Vehicle):
    request = deprecated(backend, vehicle)
    answer = put(backend, FORWARD, request)
    assert (answer.status_code, answer.json()) == (201, {})
    assert found(backend, request["emaid"]).status_code == 200


@pytest.mark.parametrize("call", [ONLY, FORWARD])
@pytest.mark.parametrize("missing", ["pcid", "emaid", "contractData", "xsdMsgDefNamespace"])
def test_the_deprecated_calls_need_all_four(
    backend: Backend, vehicle: Vehicle, call: str, missing: str
):
    request = deprecated(backend, vehicle)
    del request[missing]
    refused(put(backend, call, request), 400, f"^{missing} : must be given$")


NESTED = "contractData.contractSignatureCertChain.contractSignatureCertChainCertificate"


@pytest.mark.parametrize("call", [SIGNED, ONLY, FORWARD])
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"contractSignatureCertChainCertificate": "%"}, f"^{NESTED} : must match"),
        (
            {"contractSignatureCertChainSubCertificates": ["MIIB"]},
            "^Invalid certificate format on contractSignatureCertChainSubCertificates list$",
        ),
        (
            {"contractSignatureCertChainSubCertificates": ["%%%", "é"]},
            "^Invalid certificate format on contractSignatureCertChainSubCertificates list$",
        ),
        ({"contractSignatureCertChainSubCertificates": []}, "at least 1 item"),
        ({"contractSignatureCertChainSubCertificates": ["a", "b", "c"]}, "at most 2 items"),
    ],
)
def test_a_broken_nested_chain_is_refused_in_the_published_words(
    backend: Backend, vehicle: Vehicle, call: str, changes: Json, words: str
):
    request = deprecated(backend, vehicle)
    flat = backend.contract_data(vehicle, request["emaid"])
    refused(put(backend, call, {**request, "contractData": nested(flat, **changes)}), 400, words)


@pytest.mark.parametrize("call", [SIGNED, ONLY, FORWARD])
def test_broken_parts_of_the_nested_form_are_named(backend: Backend, vehicle: Vehicle, call: str):
    request = deprecated(backend, vehicle)
    for name in ("contractSignatureEncryptedPrivateKey", "dHpublickey"):
        data = {**request["contractData"], name: "%"}
        words = rf"^contractData\.{name} : must match"
        refused(put(backend, call, {**request, "contractData": data}), 400, words)


@pytest.mark.parametrize("where", ["body", "data"])
def test_an_emaid_beside_the_certificate_must_be_its_own(
    backend: Backend, vehicle: Vehicle, where: str
):
    request = deprecated(backend, vehicle)
    (request if where == "body" else request["contractData"])["emaid"] = "DEPVAC99999999"
    refused(put(backend, SIGNED, request), 400, "emaid : must be the CN")


def test_an_emaid_may_be_written_as_people_do(backend: Backend, vehicle: Vehicle):
    request = deprecated(backend, vehicle)
    emaid = request["emaid"]
    spelled = f"{emaid[:2]}-{emaid[2:5]}-{emaid[5:14]}-{emaid[14:]}".lower()
    answer = put(backend, ONLY, {**request, "emaid": spelled})
    assert (answer.status_code, answer.json()["emaid"]) == (200, emaid)


@pytest.mark.parametrize("name", ["metaData", "metadata"])
def test_metadata_may_be_written_either_way_and_comes_back(
    backend: Backend, vehicle: Vehicle, name: str
):
    answer = put(backend, SIGNED, deprecated(backend, vehicle, **{name: "tariff 7"}))
    assert answer.json()["metaData"] == "tariff 7"


@pytest.mark.parametrize("namespace", ISO20)
def test_the_other_edition_is_refused_in_clear_words(
    backend: Backend, vehicle: Vehicle, namespace: str
):
    words = f"xsdMsgDefNamespace : ISO 15118-20 is not served here; use {ISO2}"
    request = deprecated(backend, vehicle, xsdMsgDefNamespace=namespace)
    for call in (SIGNED, ONLY, FORWARD):
        refused(put(backend, call, request), 400, words)
    refused(generate(backend, generation(vehicle, xsdMsgDefNamespace=namespace)), 400, words)


def test_the_root_can_be_asked_for_by_fingerprint_or_identifier(
    backend: Backend, vehicle: Vehicle
):
    (signer,) = backend.ask(MO_EXTERNAL_PKI, "GET", "/cps/signer").json()["cpsCertificates"]
    fingerprint = path.fingerprint(backend.ecosystem.v2g_root)
    assert signer["cpsV2GRootCertificateFingerprint"] == fingerprint
    for name in (fingerprint, fingerprint.upper(), signer["cpsRootCertificateId"]):
        request = deprecated(backend, vehicle, cpsV2GRootCertificateFingerprint=name)
        assert (
            put(backend, SIGNED, request).json()["cpsV2GRootCertificateFingerprint"] == fingerprint
        )
    for name, words in (
        ("0" * 64, "not available in RCP"),
        (path.fingerprint(backend.ecosystem.mo_root), "not available in RCP"),
        ("0" * 63, "cpsV2GRootCertificateFingerprint : must match"),
    ):
        request = deprecated(backend, vehicle, cpsV2GRootCertificateFingerprint=name)
        refused(put(backend, SIGNED, request), 400, words)


@pytest.mark.parametrize("call", ["/cps/signer", "/v1/cps/signer"])
def test_a_signer_is_listed_with_all_its_names(backend: Backend, call: str):
    (signer,) = backend.ask(MO_HUBJECT_PKI, "GET", call).json()["cpsCertificates"]
    assert set(signer) == {
        "cpsDistinguishedName",
        "cpsCertificate",
        "validFrom",
        "validTo",
        "organizationName",
        "cpsV2GRootCertificateFingerprint",
        "cpsRootDistinguishedName",
        "cpsSubCa1Certificate",
        "cpsSubCa2Certificate",
        "cpsCa1Certificate",
        "cpsCa2Certificate",
        "cpsRootCertificateId",
        "xsdMsgDefNamespace",
    }


# Made by the ecosystem


def generation(vehicle: Vehicle, **changes: Any) -> Json:
    year = datetime.now(UTC).year
    return {
        "contractBegins": f"{year}-01-01T00:00:00Z",
        "contractEnds": f"{year + 1}-01-01T00:00:00Z",
        "emaid": f"DE-PVB-C{vehicle.pcid[-8:]}",
        "pcid": vehicle.pcid,
        "xsdMsgDefNamespace": ISO2,
        **changes,
    }


def generate(backend: Backend, body: Json) -> httpx.Response:
    return backend.ask(MO_HUBJECT_PKI, "PUT", GENERATE, json=body)


def as_xml(members: Json) -> bytes:
    inside = "".join(f"<{name}>{value}</{name}>" for name, value in members.items())
    return f'<request xmlns="urn:anything">{inside}</request>'.encode()


def send(backend: Backend, body: bytes, kind: str) -> httpx.Response:
    headers = {"Content-Type": kind}
    return backend.ask(MO_HUBJECT_PKI, "PUT", GENERATE, content=body, headers=headers)


@pytest.mark.parametrize("form", ["json", "xml", "multipart"])
def test_a_contract_is_made_in_whichever_form_it_is_asked_for(backend: Backend, form: str):
    vehicle = backend.vehicle()
    members = generation(
        vehicle, subscriptionUrl="https://mo.example/subscriptions/1", metaData="é"
    )
    if form == "json":
        answer = generate(backend, members)
    elif form == "xml":
        answer = send(backend, as_xml(members), "application/xml; charset=utf-8")
    else:
        parts = {name: (None, value) for name, value in members.items()}
        answer = backend.ask(MO_HUBJECT_PKI, "PUT", GENERATE, files=parts)
    assert (answer.status_code, answer.content) == (201, b""), answer.text
    installed = backend.install(vehicle.request(backend.ecosystem.v2g_root))
    (content,) = installed.json()["CCPResponse"]["emaidContent"]
    assert content["messageDef"]["metaData"] == "é"


def test_a_missing_field_is_named_in_every_form(backend: Backend, vehicle: Vehicle):
    members = generation(vehicle)
    del members["emaid"]
    words = "^emaid : must be given$"
    refused(generate(backend, members), 400, words)
    refused(send(backend, as_xml(members), "application/xml"), 400, words)
    parts = {name: (None, value) for name, value in members.items()}
    refused(backend.ask(MO_HUBJECT_PKI, "PUT", GENERATE, files=parts), 400, words)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<request>",
        b"\xff",
        b'<!DOCTYPE r [<!ENTITY a "DE">]><request><emaid>&a;</emaid></request>',
        b'<!DOCTYPE r SYSTEM "file:///etc/passwd"><request/>',
    ],
)
def test_a_body_that_is_no_plain_xml_is_refused(backend: Backend, body: bytes):
    refused(send(backend, body, "application/xml"), 400, r"^The body is not XML\.$")


@pytest.mark.parametrize(
    ("kind", "body", "words"),
    [
        ("text/plain", b"{}", "^Content-Type : must be one of application/json"),
        ("application/json", b"{", r"^The body is not JSON\.$"),
        ("application/json", b"[]", "."),
        ("multipart/form-data", b"--x", "."),
        ("multipart/form-data; boundary=x", b"nothing of it", "."),
    ],
)
def test_another_form_is_refused(backend: Backend, kind: str, body: bytes, words: str):
    refused(send(backend, body, kind), 400, words)


def test_a_file_is_no_part_of_the_multipart_form(backend: Backend, vehicle: Vehicle):
    parts = {name: (None, value) for name, value in generation(vehicle).items()}
    parts["metaData"] = ("a.txt", "text")
    refused(backend.ask(MO_HUBJECT_PKI, "PUT", GENERATE, files=parts), 400, "files")


def test_a_subscription_url_must_be_one(backend: Backend, vehicle: Vehicle):
    request = generation(vehicle, subscriptionUrl="file:///etc/passwd")
    refused(generate(backend, request), 400, "subscriptionUrl : must match")


def test_the_same_emaid_again_replaces_the_contract(backend: Backend):
    vehicle = backend.vehicle()
    before, after = [generate(backend, generation(vehicle)).status_code for _ in range(2)]
    assert (before, after) == (201, 201)
    listed = backend.ask("OEM", "GET", f"/v1/ccp/signedContractData/{vehicle.pcid}").json()
    (contract,) = listed["XMLContracts"]
    assert contract["defaultContract"]


def test_the_signed_data_equals_the_stored_data(backend: Backend):
    """CPS answers with XML, CCP with EXI, of the same message."""
    vehicle = backend.vehicle()
    request = deprecated(backend, vehicle)
    signed = put(backend, SIGNED, request).json()
    pull = f"/v1/ccp/provideSignedContractData/{request['emaid']}/{vehicle.pcid}"
    provided = backend.ask("OEM", "GET", pull).json()["certificateInstallationRes"]
    assert exi.decode(base64.b64decode(provided)) == xml.read(
        base64.b64decode(signed["signedData"])
    )
