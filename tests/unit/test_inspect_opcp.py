"""`plugvault inspect` of the bodies of OPCP."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from evcc import exi, x509
from inspected import as_json, body, failed, pool_rows, scope_of, verdicts
from plugvault.contract.iso15118_2 import xml
from plugvault.inspection import inspect, read_anchors
from plugvault.inspection.report import OK, Scope, UnreadableError
from plugvault.pools import checks, cps
from world import EMAID, NOW, PCID, World, point


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def vehicle() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_an_answer_of_ccp_is_judged(world: World, vehicle: ec.EllipticCurvePrivateKey) -> None:
    item = {
        "certificateInstallationRes": b64(world.response(point(vehicle))),
        "emaid": "DE-PVT-000000001-2",
        "cpsV2GRootCertificateFingerprint": x509.fingerprint(world.v2g_root.der).hex(),
    }
    document = {"CCPResponse": {"emaidContent": [{"messageDef": item}]}}
    report = inspect(as_json(document), scope_of(world))
    assert (report.kind, failed(report)) == ("CCP response", [])
    assert "CPS root is a trust anchor" in verdicts(report, OK)
    item["emaid"] = "DEPVT0000000023"
    item["cpsV2GRootCertificateFingerprint"] = "00" * 32
    report = inspect(as_json(document), scope_of(world))
    assert failed(report) == ["CPS root is a trust anchor", "EMAID is the message's"]
    bundle = {**item, "xsdMsgDefNamespace": "urn:iso:15118:2:2013:MsgDef", "emaid": EMAID}
    bundle["cpsV2GRootCertificateFingerprint"] = "b1b86334-7c74-4ccc-b78d-d4f773d3b559"
    assert inspect(as_json(bundle), scope_of(world)).ok
    bundle["xsdMsgDefNamespace"] = "urn:iso:15118:2:2010:MsgDef"
    assert failed(inspect(as_json(bundle), scope_of(world))) == ["message namespace"]
    bundle["certificateInstallationRes"] = b64(b"\x80\x00")
    assert "certificateInstallationRes readable" in failed(inspect(as_json(bundle), Scope(NOW)))


def test_contract_data_is_judged(world: World) -> None:
    leaf, sub2, sub1 = map(b64, world.contract.chain)
    data = {
        "contractCertificate": leaf,
        "contractSubCa2Certificate": sub2,
        "contractSubCa1Certificate": sub1,
        "contractSignatureEncryptedPrivateKey": b64(bytes(48)),
        "dHpublickey": b64(world.contract.point),
    }
    document = {
        "contractData": data,
        "pcid": PCID,
        "xsdMsgDefNamespace": "urn:iso:15118:2:2013:MsgDef",
    }
    report = inspect(as_json(document), scope_of(world))
    assert (report.kind, failed(report)) == ("contract data (CPS request)", [])
    assert "path to a trust anchor" in verdicts(report, OK)
    rows = [check.check for check in report.checks if check.check.startswith("CPS: ")]
    assert rows == [f"CPS: {name}" for name, _ in cps.SIGN]
    assert len(pool_rows(report, OK)) == len(checks.CONTRACT_DATA)
    document["pcid"] = "short"
    data["contractSignatureEncryptedPrivateKey"] = b64(bytes(32))
    assert failed(inspect(as_json(document), scope_of(world))) == [
        "PCID",
        "encrypted private key has 48 bytes",
    ]
    del data["contractSubCa1Certificate"]
    assert "path to a trust anchor" in failed(inspect(as_json(document), scope_of(world)))


def test_a_provisioning_certificate_of_pcp(
    world: World, vehicle: ec.EllipticCurvePrivateKey
) -> None:
    leaf = world.provisioning(point(vehicle))
    message = {
        "vehicleCertificate": b64(leaf.der),
        "subCA2Certificate": b64(world.oem_sub2.der),
        "subCA1Certificate": b64(world.oem_sub1.der),
        "fingerprint": x509.fingerprint(leaf.der).hex(),
        "xsdMsgDefNamespace": "urn:iso:15118:2:2013:MsgDef",
    }
    report = inspect(as_json({"OEMMessage": message}), scope_of(world))
    assert failed(report) == []
    assert {"role provisioning", "path to a trust anchor"} <= set(verdicts(report, OK))
    message["fingerprint"] = "00" * 32
    message["subCA2Certificate"] = message["subCA1Certificate"]
    report = inspect(as_json(message), scope_of(world))
    assert "fingerprint is the vehicle certificate's" in failed(report)
    assert "path to a trust anchor" in failed(report)


def test_roots_of_rcp(world: World) -> None:
    root = x509.parse(world.v2g_root.der)
    entry = {
        "caCertificate": b64(root.der),
        "commonName": "V2G Root",
        "fingerprint": x509.fingerprint(root.der).hex(),
        "rootIssuerSerialNumber": f"{root.serial:x}",
        "rootAuthorityKeyIdentifierHex": (root.ski or b"").hex(),
        "rootType": "V2G",
    }
    document = {"RootCertificateCollection": {"rootCertificates": [entry]}}
    assert inspect(as_json(document), Scope(NOW)).ok
    assert inspect(as_json({"RootResponse": entry}), Scope(NOW)).ok
    assert [a.der for a in read_anchors(as_json(document))] == [root.der]
    wrong = {**entry, "fingerprint": "00" * 32, "rootIssuerSerialNumber": "1"}
    assert failed(inspect(as_json({"RootResponse": wrong}), Scope(NOW))) == [
        "fingerprint is the certificate's",
        "serial number is the certificate's",
    ]
    sub = {"caCertificate": b64(world.cps_sub1.der)}
    report = inspect(as_json(sub), Scope(NOW))
    assert failed(report) == ["may be a trust anchor"]


def test_contracts_of_ccp(world: World) -> None:
    entry = {
        "pcid": PCID,
        "emaid": EMAID,
        "xsdMsgDefNamespace": "urn:iso:15118:2:2013:MsgDef",
        "contractCertificate": b64(world.contract.der),
        "defaultContract": True,
    }
    assert inspect(as_json({"XMLContracts": [entry]}), Scope(NOW)).ok
    entry["emaid"] = "DEPVT0000000023"
    report = inspect(as_json({"XMLContracts": [entry]}), Scope(NOW))
    assert failed(report) == ["DEPVT0000000023: EMAID is the certificate's"]


def test_signed_data_of_cps(world: World, vehicle: ec.EllipticCurvePrivateKey) -> None:
    message = exi.decode(world.response(point(vehicle)))
    document = {
        "pcid": PCID,
        "emaid": EMAID,
        "xsdMsgDefNamespace": "urn:iso:15118:2:2013:MsgDef",
        "signedData": b64(xml.write(message)),
        "metaData": "Süd",
    }
    report = inspect(json.dumps(document, ensure_ascii=False).encode(), scope_of(world))
    assert (report.kind, failed(report)) == ("signed contract data (CPS)", [])
    assert "digest of eMAID" in verdicts(report, OK)
    assert inspect(xml.write(message), scope_of(world)).kind == "CertificateInstallationRes"
    del body(message)["eMAID"]
    with pytest.raises(UnreadableError):
        inspect(xml.write(message), scope_of(world))
    body(message)["eMAID"] = {"Id": "id4", "value": "DEPVT0000000023"}
    document["signedData"] = b64(xml.write(message))
    assert "EMAID is the message's" in failed(inspect(as_json(document), scope_of(world)))


def test_signers_of_cps(world: World) -> None:
    leaf, sub2, sub1 = map(b64, world.cps.chain)
    entry = {"cpsCertificate": leaf, "cpsCa2Certificate": sub2, "cpsCa1Certificate": sub1}
    report = inspect(as_json({"cpsCertificates": [entry]}), scope_of(world))
    assert (report.kind, failed(report)) == ("signers (CPS)", [])
    entry["cpsCertificate"] = b64(world.contract.chain[0])
    assert failed(inspect(as_json({"cpsCertificates": [entry]}), scope_of(world))) != []


def test_a_contract_to_be_made_by_cps() -> None:
    contract = {
        "pcid": PCID,
        "emaid": EMAID,
        "contractBegins": "2026-01-01T00:00:00Z",
        "contractEnds": "2027-01-01T00:00:00Z",
        "xsdMsgDefNamespace": "urn:iso:15118:2:2013:MsgDef",
    }
    assert inspect(as_json(contract), Scope(NOW)).ok
    for member in ("pcid", "emaid", "xsdMsgDefNamespace"):
        report = inspect(as_json({**contract, member: "wrong"}), Scope(NOW))
        assert len(failed(report)) == 1, member


def test_an_error_answer_is_a_failed_check() -> None:
    report = inspect(as_json({"errorMessages": ["no"], "traceId": "x"}), Scope(NOW))
    assert (report.kind, report.ok) == ("OPCP error", False)
