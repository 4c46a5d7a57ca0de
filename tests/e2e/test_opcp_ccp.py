"""CCP over HTTP: contracts are brought, ended, and handed out to their owners."""

from __future__ import annotations

import base64
import json
import logging
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from evcc import exi
from evcc.iso15118_2 import messages
from fixtures.backend import ISO2, Backend, Json, Vehicle, b64, refused
from plugvault.contract.iso15118_2 import response
from plugvault.opcp import ccp as opcp_ccp
from plugvault.opcp.budget import Budget
from plugvault.pki import path
from plugvault.pools import termination
from plugvault.pools.caller import CPS, MO_EXTERNAL_PKI, MO_HUBJECT_PKI, OEM, Caller
from plugvault.pools.events import ADMINISTRATORS
from plugvault.pools.refusals import CAUSES

POOL = "/v1/ccp/signedContractData"
MISSING = r"^The contract for the given EMAID not found\.$"


@pytest.fixture
def vehicle(backend: Backend) -> Vehicle:
    return backend.vehicle()


@pytest.fixture(scope="module")
def rival(backend: Backend) -> str:
    caller = Caller("Rival", frozenset({MO_EXTERNAL_PKI}), providers=frozenset({"FRXYZ"}))
    return backend.enter("rival operator", caller)


@pytest.fixture(scope="module")
def rival_maker(backend: Backend) -> str:
    return backend.enter("rival maker", Caller("Rival", frozenset({OEM}), frozenset({"XXX"})))


def stored(backend: Backend, vehicle: Vehicle) -> str:
    """The EMAID of a new contract for it."""
    answer = backend.sign(backend.contract_data(vehicle), vehicle.pcid)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["emaid"])


def generated(backend: Backend, vehicle: Vehicle) -> str:
    """The same from the ecosystem's own MO CA."""
    return backend.ecosystem.mo_v2g.contract(vehicle.pcid)


def signed(backend: Backend, vehicle: Vehicle, **changes: Any) -> Json:
    """The bundle of a CPS."""
    answer = backend.sign(backend.contract_data(vehicle), None).json()
    return {
        "xsdMsgDefNamespace": ISO2,
        "emaid": answer["emaid"],
        "pcid": vehicle.pcid,
        "signedContractDataXML": answer["signedData"],
        **changes,
    }


def put(backend: Backend, body: Json, role: str = CPS) -> httpx.Response:
    return backend.ask(role, "PUT", POOL, json=body)


def listed(backend: Backend, vehicle: Vehicle) -> list[Json]:
    answer = backend.ask(OEM, "GET", f"{POOL}/{vehicle.pcid}")
    assert answer.status_code == 200, answer.text
    rows: list[Json] = answer.json()["XMLContracts"]
    return rows


def events(backend: Backend, vehicle: Vehicle) -> list[tuple[str, str]]:
    with backend.ecosystem.store.read() as records:
        every = records.events.since(0, None, 10_000)
    return [(event.kind, event.audience) for event in every if event.vehicle == vehicle.pcid]


# Brought


@pytest.mark.parametrize("role", [CPS, MO_EXTERNAL_PKI])
def test_a_signed_contract_is_brought(backend: Backend, vehicle: Vehicle, role: str):
    body = signed(backend, vehicle, metadata="seven")
    answer = put(backend, body, role)
    assert (answer.status_code, answer.content) == (201, b"")
    (contract,) = listed(backend, vehicle)
    assert (contract["emaid"], contract["defaultContract"]) == (body["emaid"], True)
    installed = backend.install(vehicle.request(backend.ecosystem.v2g_root)).json()
    assert installed["CCPResponse"]["emaidContent"][0]["messageDef"]["metaData"] == "seven"
    assert events(backend, vehicle)[0] == ("oem.contract.created", "PVT")


def test_an_operator_brings_its_own_emaids_only(backend: Backend, vehicle: Vehicle, rival: str):
    refused(put(backend, signed(backend, vehicle), rival), 403, "provider")
    lying = signed(backend, vehicle, emaid="FRXYZC00000001")
    refused(put(backend, lying, rival), 403, "provider")
    refused(put(backend, lying), 400, "emaid : must be the one in")
    assert listed(backend, vehicle) == []


def tampered(body: Json) -> Json:
    """One character of the wrapped key is another."""
    text = base64.b64decode(body["signedContractDataXML"]).decode()
    name = "ContractSignatureEncryptedPrivateKey"
    at = text.index(">", text.index(f":{name} ")) + 3
    replacement = "B" if text[at] == "A" else "A"
    return {
        **body,
        "signedContractDataXML": b64(f"{text[:at]}{replacement}{text[at + 1 :]}".encode()),
    }


def test_a_bundle_that_was_changed_is_refused(backend: Backend, vehicle: Vehicle):
    words = r"^signedContractDataXML is not valid \(.*digest"
    refused(put(backend, tampered(signed(backend, vehicle))), 400, words)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"signedContractDataXML": "%"}, "^signedContractDataXML : must match"),
        ({"signedContractDataXML": b64(b"<nothing/>")}, "^signedContractDataXML is not valid"),
        ({"signedContractDataXML": b64(b"\xff")}, "^signedContractDataXML is not valid"),
        ({"pcid": "PVTP9999999999999"}, "PCID is not available"),
        ({"pcid": "1"}, "^pcid : must match"),
        ({"emaid": "1"}, "^emaid : must match"),
        ({"emaid": "DEPVAC99999999"}, "^emaid : must be the one in"),
        ({"cpsV2GRootCertificateFingerprint": "0" * 64}, "not available in RCP"),
        ({"xsdMsgDefNamespace": "urn:iso:15118:20:2022:MsgDef"}, "15118-20 is not served"),
    ],
)
def test_an_invalid_bundle_gets_a_precise_error(
    backend: Backend, vehicle: Vehicle, changes: Json, words: str
):
    refused(put(backend, {**signed(backend, vehicle), **changes}), 400, words)


def test_the_root_may_be_named_and_must_then_be_right(backend: Backend, vehicle: Vehicle):
    right = path.fingerprint(backend.ecosystem.v2g_root)
    body = signed(backend, vehicle, cpsV2GRootCertificateFingerprint=right)
    assert put(backend, body).status_code == 201


def test_an_emaid_of_another_vehicle_is_refused(backend: Backend, vehicle: Vehicle):
    body = signed(backend, vehicle)
    assert put(backend, body).status_code == 201
    other_vehicle = backend.vehicle()
    words = r"^Invalid Tupple - EMAID is already used by other PCID\.$"
    refused(put(backend, {**body, "pcid": other_vehicle.pcid}), 400, words)


# Ended


def test_the_checks_of_a_deletion_come_in_order(backend: Backend, vehicle: Vehicle, rival: str):
    emaid = stored(backend, vehicle)
    refused(backend.ask(rival, "DELETE", f"{POOL}/{emaid}"), 403, "provider")
    refused(backend.ask(rival, "DELETE", f"{POOL}/DEPVAC99999999"), 403, "provider")
    refused(backend.ask(MO_EXTERNAL_PKI, "DELETE", f"{POOL}/1"), 400, "^emaid : must match")
    refused(backend.ask(MO_EXTERNAL_PKI, "DELETE", f"{POOL}/DEPVAC99999999"), 404, MISSING)
    answer = backend.ask(MO_EXTERNAL_PKI, "DELETE", f"{POOL}/{emaid}")
    assert (answer.status_code, answer.content) == (200, b"")
    assert listed(backend, vehicle) == []
    assert events(backend, vehicle)[-1] == ("oem.contract.deleted", "PVT")
    refused(backend.ask(MO_EXTERNAL_PKI, "DELETE", f"{POOL}/{emaid}"), 404, MISSING)


@pytest.mark.parametrize(("header", "revoked"), [(None, True), ("false", True), ("true", False)])
def test_a_certificate_of_the_ecosystem_is_revoked_unless_that_is_skipped(
    backend: Backend, vehicle: Vehicle, header: str | None, revoked: bool
):
    emaid = generated(backend, vehicle)
    leaf = path.read(base64.b64decode(listed(backend, vehicle)[0]["contractCertificate"]))
    headers = {"X-Skip-Revocation": header} if header else {}
    answer = backend.ask(MO_HUBJECT_PKI, "DELETE", f"{POOL}/{emaid}", headers=headers)
    assert answer.status_code == 200, answer.text
    with backend.ecosystem.store.read() as records:
        status = records.statuses.get(*path.identity(leaf))
    assert status, "what our own CA issues is recorded"
    assert (status.revoked is not None) == revoked


def test_a_deleted_default_has_no_successor_but_the_makers_choice(
    backend: Backend, vehicle: Vehicle
):
    first, second = (stored(backend, vehicle) for _ in range(2))
    backend.ask(MO_EXTERNAL_PKI, "DELETE", f"{POOL}/{first}")
    assert [row["defaultContract"] for row in listed(backend, vehicle)] == [False]
    request = vehicle.request(backend.ecosystem.v2g_root)
    assert backend.install(request).status_code == 404
    third = stored(backend, vehicle)
    assert [row["defaultContract"] for row in listed(backend, vehicle)] == [False, False]
    chosen = f"{POOL}/{vehicle.pcid}/{second}/default"
    assert backend.ask(OEM, "POST", chosen).status_code == 200
    assert {row["emaid"]: row["defaultContract"] for row in listed(backend, vehicle)} == {
        second: True,
        third: False,
    }
    assert backend.install(request).status_code == 200


# Handed out


def test_a_bundle_is_delivered_once_and_its_operator_told(backend: Backend, vehicle: Vehicle):
    emaid = stored(backend, vehicle)
    request = vehicle.request(backend.ecosystem.v2g_root)
    pull = f"/v1/ccp/provideSignedContractData/{emaid}/{vehicle.pcid}"
    for _ in range(2):
        assert backend.install(request).status_code == 200
        assert backend.ask(OEM, "GET", pull).status_code == 200
    delivered = ("mo.contract.delivered.to.oem", "DEPVA")
    assert events(backend, vehicle) == [("oem.contract.created", "PVT"), delivered]
    again = backend.contract_data(vehicle, emaid)
    assert backend.sign(again, vehicle.pcid).status_code == 201
    assert backend.ask(OEM, "GET", pull).status_code == 200
    assert events(backend, vehicle)[2:] == [("oem.contract.updated", "PVT"), delivered]


def negative(answer: httpx.Response) -> str:
    (content,) = answer.json()["CCPResponse"]["emaidContent"]
    assert set(content["messageDef"]) == {"certificateInstallationRes"}
    message = exi.decode(base64.b64decode(content["messageDef"]["certificateInstallationRes"]))
    code: str = message["V2G_Message"]["Body"]["CertificateInstallationRes"]["ResponseCode"]
    return code


@pytest.mark.parametrize(("header", "is_exi"), [(None, True), ("true", True), ("false", False)])
def test_without_a_contract_the_caller_chooses_the_form_of_the_answer(
    backend: Backend, vehicle: Vehicle, header: str | None, is_exi: bool
):
    headers = {"alwaysReturnEXI": header} if header else {}
    request = vehicle.request(backend.ecosystem.v2g_root)
    answer = backend.install(request, headers=headers)
    if is_exi:
        assert (answer.status_code, negative(answer)) == (404, "FAILED_NoCertificateAvailable")
    else:
        refused(answer, 404, r"^Contract or Vehicle not found\.$")


def told(backend: Backend, vehicle: Vehicle) -> list[Json]:
    """The causes that the administrators were told about this vehicle."""
    with backend.ecosystem.store.read() as records:
        every = records.events.since(0, [ADMINISTRATORS], 10_000)
    return [json.loads(event.payload) for event in every if event.vehicle == vehicle.pcid]


def test_every_cause_has_the_same_answer_and_only_the_administrators_learn_it(
    backend: Backend, vehicle: Vehicle, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, "plugvault.opcp")
    root = backend.ecosystem.v2g_root
    unknown, without_root = backend.vehicle(), backend.vehicle()
    gone = backend.ask(OEM, "DELETE", f"/v1/oem/provCerts/{unknown.pcid}")
    assert gone.status_code == 200
    stored(backend, without_root)
    answers = {
        "no-contract": (vehicle, backend.install(vehicle.request(root))),
        "unknown-vehicle": (unknown, backend.install(unknown.request(root))),
        "root-not-listed": (
            without_root,
            backend.install(without_root.request(backend.ecosystem.mo_root)),
        ),
    }
    assert {answer.status_code for _, answer in answers.values()} == {404}
    assert len({answer.content for _, answer in answers.values()}) == 1
    for cause, (car, _) in answers.items():
        (payload,) = told(backend, car)
        assert (payload["cause"], payload["pcid"]) == (cause, car.pcid)
        assert payload["remedy"] == CAUSES[cause].remedy
        assert f"no contract for {car.pcid}: {cause}: {CAUSES[cause].meaning}" in caplog.text
    cause = CAUSES["no-contract"]  # it has no circumstances
    assert f"no-contract: {cause.meaning} {cause.remedy}\n" in caplog.text
    assert "''" not in caplog.text


def test_a_flood_of_refusals_is_a_bounded_number_of_events(
    backend: Backend, vehicle: Vehicle, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(opcp_ccp, "_REFUSALS", Budget(at_once=2, per_second=0.001))
    request = vehicle.request(backend.ecosystem.v2g_root)
    assert {backend.install(request).status_code for _ in range(4)} == {404}
    assert len(told(backend, vehicle)) == 2


def test_a_partner_that_asks_for_an_unknown_vehicle_is_no_event(
    backend: Backend, vehicle: Vehicle
):
    request = vehicle.request(backend.ecosystem.v2g_root)
    backend.ask(OEM, "DELETE", f"/v1/oem/provCerts/{vehicle.pcid}")
    assert backend.install(request, headers={"broadcast": "true"}).status_code == 404
    assert told(backend, vehicle) == []


def update_request(session_id: bytes) -> str:
    body = {
        "Id": "id1",
        "ContractSignatureCertChain": {"Certificate": b"leaf"},
        "eMAID": "DEPVAC00000000",
        "ListOfRootCertificateIDs": {
            "RootCertificateID": [{"X509IssuerName": "CN=Root", "X509SerialNumber": 1}]
        },
    }
    return b64(exi.encode(messages.envelope(session_id, "CertificateUpdateReq", body)))


@pytest.mark.parametrize("length", [1, 8])
def test_an_update_is_answered_as_an_update_that_is_not_available(backend: Backend, length: int):
    session_id = b"\x07" * length
    answer = backend.install(update_request(session_id))
    assert answer.status_code == 404
    (content,) = answer.json()["CCPResponse"]["emaidContent"]
    raw = base64.b64decode(content["messageDef"]["certificateInstallationRes"])
    assert raw == response.negative_update(session_id)


def test_an_update_is_refused_in_words_where_no_exi_is_wanted(backend: Backend):
    answer = backend.install(update_request(b"1"), headers={"alwaysReturnEXI": "false"})
    refused(answer, 404, r"^A contract is not updated here: .* CertificateInstallationReq\.$")
    refused(backend.install(update_request(bytes(9))), 400, "EXI format is invalid!")


@pytest.mark.parametrize("header", ["true", "false"])
def test_a_request_without_its_vehicles_signature_is_refused_in_words(
    backend: Backend, vehicle: Vehicle, header: str
):
    stored(backend, vehicle)
    other_key = ec.generate_private_key(ec.SECP256R1())
    request = vehicle.request(backend.ecosystem.v2g_root, other_key)
    answer = backend.install(request, headers={"alwaysReturnEXI": header})
    refused(answer, 400, r"^The signature of the certificateInstallationReq is invalid\.$")


def test_a_revoked_contract_is_never_handed_out(backend: Backend, vehicle: Vehicle):
    emaid = generated(backend, vehicle)
    leaf = path.read(base64.b64decode(listed(backend, vehicle)[0]["contractCertificate"]))
    with backend.ecosystem.store.write() as records:
        status = records.statuses.get(*path.identity(leaf))
        assert status
        records.statuses.put(type(status)(*path.identity(leaf), "", status.not_after, 1, "x"))
    assert listed(backend, vehicle) == []
    pull = f"/v1/ccp/provideSignedContractData/{emaid}/{vehicle.pcid}"
    refused(backend.ask(OEM, "GET", pull), 404, MISSING)
    refused(backend.ask(MO_HUBJECT_PKI, "GET", f"/v1/ccp/lookupContract/{emaid}"), 404, MISSING)
    answer = backend.install(vehicle.request(backend.ecosystem.v2g_root))
    assert (answer.status_code, negative(answer)) == (404, "FAILED_NoCertificateAvailable")


def test_an_expired_contract_is_never_handed_out(backend: Backend, vehicle: Vehicle):
    emaid = generated(backend, vehicle)
    path_of_it = f"/v1/ccp/lookupContract/{emaid}"
    with backend.ecosystem.store.write() as records:
        contract = records.contracts.get(emaid, ISO2)
        assert contract
        ended = {**vars(contract), "not_after": int(backend.clock()) - 1}
        records.contracts.put(type(contract)(**ended))
    assert [entry["emaid"] for entry in listed(backend, vehicle)] == [emaid]  # until it is deleted
    pull = f"/v1/ccp/provideSignedContractData/{emaid}/{vehicle.pcid}"
    refused(backend.ask(OEM, "GET", pull), 404, MISSING)
    refused(backend.ask(MO_HUBJECT_PKI, "GET", path_of_it), 404, MISSING)


def test_each_sees_its_own_contracts(
    backend: Backend, vehicle: Vehicle, rival: str, rival_maker: str
):
    emaid = stored(backend, vehicle)
    lookup = f"/v1/ccp/lookupContract/{emaid}"
    for role in (MO_EXTERNAL_PKI, OEM, "CPO"):
        (contract,) = backend.ask(role, "GET", lookup).json()["XMLContracts"]
        assert set(contract) == {
            "pcid",
            "emaid",
            "xsdMsgDefNamespace",
            "contractCertificate",
            "defaultContract",
            "certValidFrom",
            "certValidTo",
            "cpsRootCertificateDN",
            "cpsV2GRootCertificateFingerprint",
        }
    for role in (rival, MO_HUBJECT_PKI):
        refused(backend.ask(role, "GET", lookup), 403, "provider")
    refused(backend.ask(rival_maker, "GET", lookup), 404, "not found")
    for method, call in (
        ("GET", f"{POOL}/{vehicle.pcid}"),
        ("GET", f"/v1/ccp/provideSignedContractData/{emaid}/{vehicle.pcid}"),
        ("POST", f"{POOL}/{vehicle.pcid}/{emaid}/default"),
    ):
        refused(backend.ask(rival_maker, method, call), 403, "WMI")


def test_a_contract_is_asked_for_under_a_root(backend: Backend, vehicle: Vehicle):
    emaid = stored(backend, vehicle)
    (signer,) = backend.ask("CPO", "GET", "/cps/signer").json()["cpsCertificates"]
    name = "cpsV2GRootCertificateFingerprint"
    for call in (
        f"/v1/ccp/lookupContract/{emaid}",
        f"/v1/ccp/provideSignedContractData/{emaid}/{vehicle.pcid}",
    ):
        for right in (signer[name], signer["cpsRootCertificateId"]):
            assert backend.ask(OEM, "GET", call, params={name: right}).status_code == 200
        refused(backend.ask(OEM, "GET", call, params={name: "0" * 64}), 404, MISSING)
        refused(backend.ask(OEM, "GET", call, params={name: "0"}), 400, f"^{name} : must match")


@pytest.mark.parametrize("namespace", ["urn:iso:15118:20:2020:MsgDef", "urn:x"])
def test_contracts_of_another_edition_are_refused_in_clear_words(
    backend: Backend, vehicle: Vehicle, namespace: str
):
    emaid = stored(backend, vehicle)
    for call in (
        f"/v1/ccp/lookupContract/{emaid}",
        f"/v1/ccp/provideSignedContractData/{emaid}/{vehicle.pcid}",
        f"{POOL}/{vehicle.pcid}",
    ):
        answer = backend.ask(OEM, "GET", call, params={"xsdMsgDefNamespace": namespace})
        refused(answer, 400, "^xsdMsgDefNamespace : ")


def test_the_session_is_the_stations_or_the_makers_or_none(backend: Backend, vehicle: Vehicle):
    emaid = stored(backend, vehicle)
    pull = f"/v1/ccp/provideSignedContractData/{emaid}/{vehicle.pcid}"
    for session_id, expected_id in (
        (None, b"\x00"),
        ("", b"\x00"),
        ("0A", b"\n"),
        ("0102030405060708", None),
    ):
        params = {} if session_id is None else {"sessionID": session_id}
        answer = backend.ask(OEM, "GET", pull, params=params).json()
        message = exi.decode(base64.b64decode(answer["certificateInstallationRes"]))
        expected = expected_id if expected_id is not None else bytes(range(1, 9))
        assert message["V2G_Message"]["Header"]["SessionID"] == expected


def test_two_contracts_that_differ_in_their_check_digit_are_one(
    backend: Backend, vehicle: Vehicle
):
    with_digit = backend.ecosystem.mo.new_emaid()
    assert len(with_digit) == 15
    without = with_digit[:14]
    for emaid in (with_digit, without):
        data = backend.contract_data(vehicle, emaid)
        assert backend.sign(data, vehicle.pcid).status_code == 201
    assert [row["emaid"] for row in listed(backend, vehicle)] == [without]
    for spelled in (with_digit, without.lower()):
        call = f"/v1/ccp/lookupContract/{spelled}"
        assert backend.ask(MO_EXTERNAL_PKI, "GET", call).status_code == 200
    other_vehicle = backend.vehicle()
    data = backend.contract_data(other_vehicle, with_digit)
    refused(backend.sign(data, other_vehicle.pcid), 400, "Invalid Tupple")


# An operator leaves


def test_an_operator_leaves_and_all_its_contracts_go(backend: Backend, vehicle: Vehicle):
    caller = Caller("Leaver", frozenset({MO_EXTERNAL_PKI}), providers=frozenset({"DELVR"}))
    leaver = backend.enter("leaver", caller)
    for number in range(3):
        data = backend.contract_data(vehicle, f"DELVRC{number:08}")
        assert backend.sign(data, vehicle.pcid, leaver).status_code == 201
    remaining = stored(backend, vehicle)
    accepted = backend.ask(leaver, "POST", "/v1/ccp/terminate/DE-LVR")
    assert accepted.status_code == 202, accepted.text
    location = accepted.headers["location"]
    assert accepted.json()["state"] == "waiting"
    assert backend.ask("ADMIN", "GET", location).json() == accepted.json()
    with backend.ecosystem.store.read() as records:
        job = records.jobs.get(accepted.json()["jobId"])
    while job and job.state == termination.WAITING:
        job = termination.step(backend.ecosystem.store, job, backend.clock(), 2)
    progress = backend.ask(leaver, "GET", location).json()
    assert (progress["state"], progress["contractsEnded"]) == ("done", 3)
    assert [row["emaid"] for row in listed(backend, vehicle)] == [remaining]


def test_a_termination_is_refused_to_other_callers(backend: Backend, rival: str):
    refused(backend.ask(rival, "POST", "/v1/ccp/terminate/DEPVA"), 403, "provider")
    refused(backend.ask("CPO", "POST", "/v1/ccp/terminate/DEPVA"), 403, "This call is for")
    refused(backend.ask("ADMIN", "POST", "/v1/ccp/terminate/DEP"), 400, "^provider : must match")
    nothing = "/v1/ccp/terminate/DEPVA/00000000-0000-0000-0000-000000000000"
    refused(backend.ask("ADMIN", "GET", nothing), 404, "no such termination")


def test_the_log_has_the_cause_for_a_maker_that_gets_nothing(
    backend: Backend, vehicle: Vehicle, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    emaid, other = stored(backend, vehicle), backend.vehicle()
    pull = f"/v1/ccp/provideSignedContractData/{emaid}/{other.pcid}"
    answer = backend.ask(OEM, "GET", pull)
    refused(answer, 404, MISSING)
    (line,) = [
        r.getMessage() for r in caplog.records if answer.json()["traceId"] in r.getMessage()
    ]
    assert line.endswith(f"other-vehicle '{emaid}'")
    assert "other-vehicle" not in answer.text
