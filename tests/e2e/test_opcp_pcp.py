"""PCP over HTTP: a maker's vehicles, read by every caller with the PCID except other makers."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from fixtures.backend import Backend, Json, Vehicle, refused
from plugvault.pki import path
from plugvault.pools.caller import OEM, Caller
from plugvault.pools.records import Status

CERTS = "/v1/oem/provCerts"
UNKNOWN = "PVTP9999999999999"
MISSING = "The OEM provisioning certificate with given PCID is not found."


@pytest.fixture(scope="module")
def vehicle(backend: Backend) -> Vehicle:
    return backend.vehicle()


@pytest.fixture(scope="module")
def rival(backend: Backend) -> str:
    return backend.enter("rival maker", Caller("Rival", frozenset({OEM}), wmis=frozenset({"XXX"})))


def put(backend: Backend, vehicle: Vehicle, role: str = "OEM", **more: object) -> httpx.Response:
    return backend.ask(role, "PUT", CERTS, json={**backend.registration(vehicle), **more})


def contracts(backend: Backend, vehicle: Vehicle) -> list[Json]:
    answer = backend.ask("OEM", "GET", f"/v1/ccp/signedContractData/{vehicle.pcid}")
    rows: list[Json] = answer.json()["XMLContracts"]
    return rows


def with_contract(backend: Backend) -> Vehicle:
    vehicle = backend.vehicle()
    answer = backend.sign(backend.contract_data(vehicle), vehicle.pcid)
    assert answer.status_code == 201, answer.text
    return vehicle


def told(backend: Backend, vehicle: Vehicle) -> list[tuple[str, str]]:
    with backend.ecosystem.store.read() as records:
        events = records.events.since(0, None, 10_000)
    return [
        (event.kind, event.audience) for event in events if event.vehicle == vehicle.pcid.upper()
    ]


def revoke(backend: Backend, der: bytes) -> None:
    certificate = path.read(der)
    with backend.ecosystem.store.write() as records:
        records.statuses.put(
            Status(*path.identity(certificate), "", certificate.not_after, 1, "keyCompromise")
        )


def test_the_answer_has_the_documented_members(backend: Backend, vehicle: Vehicle):
    roots = ["45:b8:40:9e:e1:38:f8:bf"]
    optional = {"v2gRootAuthorityKeyIdentifiers": roots, "previousPcid": "PVTP0000000009999"}
    answer = put(backend, vehicle, **optional)
    assert answer.status_code == 200, answer.text
    stored = answer.json()
    root = path.read(backend.ecosystem.oem_root)
    assert stored == {
        **backend.registration(vehicle),
        **optional,
        "xsdMsgDefNamespace": "urn:iso:15118:2:2013:MsgDef",
        "rootIssuerDistinguishedName": "CN=OEM Root CA, DC=OEM, O=Example Cars, C=DE",
        "rootIssuerSerialNumber": f"{root.serial:x}",
        "rootAuthorityKeyIdentifier": (root.ski or b"").hex(":"),
        "fingerprint": path.fingerprint(vehicle.leaf),
    }
    for role in ("OEM", "MO_EXTERNAL_PKI", "MO_HUBJECT_PKI", "CPS"):
        answer = backend.ask(role, "GET", f"{CERTS}/{vehicle.pcid.lower()}")
        assert answer.json() == {"OEMMessage": stored}


def test_deprecated_fields_are_ignored(backend: Backend, vehicle: Vehicle):
    old = {
        "rootAuthorityKeyIdentifier": "no hex",
        "rootIssuerDistinguishedName": "CN=Another",
        "rootIssuerSerialNumber": "1",
    }
    stored = put(backend, vehicle, **old).json()
    assert stored["rootIssuerDistinguishedName"].startswith("CN=OEM Root CA")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"v2gRootAuthorityKeyIdentifiers": []}, "v2gRootAuthorityKeyIdentifiers"),
        ({"v2gRootAuthorityKeyIdentifiers": ["45:b"]}, "v2gRootAuthorityKeyIdentifiers"),
        ({"v2gRootAuthorityKeyIdentifiers": ["45:B8", "45b8"]}, "each key identifier once"),
        ({"previousPcid": "PVT1"}, "previousPcid : must match"),
        ({"xsdMsgDefNamespace": "urn:other"}, "xsdMsgDefNamespace"),
    ],
)
def test_values_outside_the_schema_are_refused(
    backend: Backend, vehicle: Vehicle, more: Json, words: str
):
    refused(put(backend, vehicle, **more), 400, words)


def test_the_previous_pcid_must_be_the_callers_own(backend: Backend, vehicle: Vehicle):
    refused(put(backend, vehicle, previousPcid="XXXP0000000000001"), 403, "WMI")


CALLS: dict[str, Callable[[str], tuple[str, str]]] = {
    "get": lambda pcid: ("GET", f"{CERTS}/{pcid}"),
    "lookup": lambda pcid: ("GET", f"{CERTS}/lookupVehicle/{pcid}"),
    "algorithms": lambda pcid: ("GET", f"/v1/oem/provCertSigntureAlgorithms/{pcid}"),
    "delete": lambda pcid: ("DELETE", f"{CERTS}/{pcid}"),
    "reset": lambda pcid: ("POST", f"{CERTS}/{pcid}/factoryReset"),
}


@pytest.mark.parametrize("name", CALLS)
def test_another_maker_learns_nothing_of_a_vehicle(
    backend: Backend, vehicle: Vehicle, rival: str, name: str
):
    answers = [backend.ask(rival, *CALLS[name](pcid)) for pcid in (vehicle.pcid, UNKNOWN)]
    for answer in answers:
        refused(answer, 403, r"^The WMI of the PCID does not belong to the caller\.$")
    assert answers[0].headers.keys() == answers[1].headers.keys()
    assert backend.ask("OEM", "GET", f"{CERTS}/{vehicle.pcid}").status_code == 200


@pytest.mark.parametrize("name", CALLS)
def test_an_unknown_vehicle_is_not_found_in_the_published_words(backend: Backend, name: str):
    answer = backend.ask("OEM", *CALLS[name](UNKNOWN))
    refused(answer, 404, "not found")
    assert answer.json()["errorMessages"] == [MISSING]


@pytest.mark.parametrize("name", CALLS)
def test_a_malformed_pcid_is_refused(backend: Backend, name: str):
    refused(backend.ask("OEM", *CALLS[name]("PVT_000000000000")), 400, r"^pcid : must match")


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_vehicles_are_not_listed(backend: Backend, method: str):
    answer = backend.ask("OEM", method, CERTS)
    assert answer.status_code == 405
    assert backend.ask("OEM", "GET", f"{CERTS}/").status_code == 404


def test_head_answers_like_get_without_the_certificate(backend: Backend, vehicle: Vehicle):
    for pcid, status in ((vehicle.pcid, 200), (UNKNOWN, 404)):
        answer = backend.ask("MO_EXTERNAL_PKI", "HEAD", f"{CERTS}/{pcid}")
        assert (answer.status_code, answer.content) == (status, b"")
    answer = backend.ask("OEM", "GET", f"{CERTS}/lookupVehicle/{vehicle.pcid}")
    assert (answer.status_code, answer.content) == (200, b"")


def test_the_algorithms_of_a_vehicle_are_those_it_has(backend: Backend, vehicle: Vehicle):
    answer = backend.ask(
        "MO_EXTERNAL_PKI", "GET", f"/v1/oem/provCertSigntureAlgorithms/{vehicle.pcid}"
    )
    assert answer.json() == ["secp256r1"]
    for algorithm, status in (("secp256r1", 200), ("secp521r1", 404), ("rsa", 400)):
        parameters = {"signatureAlgorithm": algorithm}
        answer = backend.ask("OEM", "GET", f"{CERTS}/{vehicle.pcid}", params=parameters)
        assert answer.status_code == status


def test_a_deleted_vehicle_is_gone_with_its_contracts(backend: Backend):
    vehicle = with_contract(backend)
    both_filters = {
        "signatureAlgorithm": "secp256r1",
        "xsdMsgDefNamespace": "urn:iso:15118:2:2013:MsgDef",
    }
    answer = backend.ask("OEM", "DELETE", f"{CERTS}/{vehicle.pcid}", params=both_filters)
    refused(answer, 400, "not both")
    ed448 = {"signatureAlgorithm": "ed448"}
    answer = backend.ask("OEM", "DELETE", f"{CERTS}/{vehicle.pcid}", params=ed448)
    assert answer.status_code == 404
    assert len(contracts(backend, vehicle)) == 1
    answer = backend.ask("OEM", "DELETE", f"{CERTS}/{vehicle.pcid.lower()}")
    assert (answer.status_code, answer.content) == (200, b"")
    assert contracts(backend, vehicle) == []
    refused(backend.ask("MO_EXTERNAL_PKI", "GET", f"{CERTS}/{vehicle.pcid}"), 404, "not found")
    refused(backend.ask("OEM", "DELETE", f"{CERTS}/{vehicle.pcid}"), 404, "not found")
    assert backend.install(vehicle.request(backend.ecosystem.v2g_root)).status_code == 404
    kinds = told(backend, vehicle)
    assert kinds.count(("mo.prov.cert.deleted", "DEPVA")) == 1
    assert kinds.count(("oem.contract.deleted", "PVT")) == 1


def test_a_factory_reset_keeps_the_vehicle(backend: Backend):
    vehicle = with_contract(backend)
    for _ in range(2):
        answer = backend.ask("OEM", "POST", f"{CERTS}/{vehicle.pcid}/factoryReset")
        assert (answer.status_code, answer.content) == (200, b"")
    assert contracts(backend, vehicle) == []
    assert backend.ask("OEM", "GET", f"{CERTS}/{vehicle.pcid}").status_code == 200
    assert told(backend, vehicle).count(("mo.prov.cert.factory.reset", "DEPVA")) == 1
    assert backend.sign(backend.contract_data(vehicle), vehicle.pcid).status_code == 201


@pytest.mark.parametrize("call", ["delete", "reset"])
def test_only_makers_end_things(backend: Backend, vehicle: Vehicle, call: str):
    for role in ("MO_EXTERNAL_PKI", "CPO", "CPS", "ADMIN"):
        refused(backend.ask(role, *CALLS[call](vehicle.pcid)), 403, "This call is for")


def test_a_revoked_vehicle_is_neither_taken_nor_given_and_the_answer_says_why(backend: Backend):
    vehicle = backend.vehicle()
    revoke(backend, vehicle.leaf)
    why = r"The OCSP status of the vehicleCertificate is revoked\."
    refused(put(backend, vehicle), 400, f"^{why}$")
    answer = backend.ask("MO_EXTERNAL_PKI", "GET", f"{CERTS}/{vehicle.pcid}")
    refused(answer, 404, why)
    assert answer.json()["errorMessages"][0] == MISSING
    body = backend.contract_data(backend.vehicle())
    refused(backend.sign(body, vehicle.pcid), 400, "with the given PCID is not available")


def test_an_expired_vehicle_is_refused_on_read(backend: Backend, vehicle: Vehicle):
    backend.clock.ahead = 5 * 365 * 86_400
    try:
        backend.bearers.clear()
        answer = backend.ask("MO_EXTERNAL_PKI", "GET", f"{CERTS}/{vehicle.pcid}")
        refused(answer, 404, "in the past")
    finally:
        backend.clock.ahead = 0
        backend.bearers.clear()


def test_changes_of_a_vehicle_are_in_the_trail(backend: Backend):
    vehicle = with_contract(backend)
    backend.ask("OEM", "POST", f"{CERTS}/{vehicle.pcid}/factoryReset")
    backend.ask("OEM", "DELETE", f"{CERTS}/{vehicle.pcid}")
    with backend.ecosystem.store.read() as records:
        lines = [
            entry for entry in records.audit.since(0, 10_000) if entry.subject == vehicle.pcid
        ]
    assert [line.action for line in lines] == ["factory reset", "vehicle deleted"]
    assert all(line.who.startswith("Example Cars (") for line in lines)
    assert [line.detail for line in lines] == ["1 contracts", ""]
