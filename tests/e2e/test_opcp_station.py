"""OPCP: contracts for a vehicle at a station, and for the clients of the roles."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from evcc import exi
from evcc.check_digit import emaid_check_digit
from fixtures.backend import ISO2, SESSION, Backend, Json, Vehicle, b64, refused


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
