"""Three ecosystems with roots of their own, over real sockets: any vehicle, from any of them.

Hubject, Irdeto and Gireve are names here: each is an ecosystem of this project with its own V2G
root, tokens and database. A vehicle is registered with one of them; operators and charge points
are customers of others.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from evcc import exi
from fixtures.backend import ISO2, Backend, Clock, Vehicle, b64, refused
from plugvault.ecosystem import LABELS, Ecosystem
from plugvault.ecosystem.folder import Folder
from plugvault.federation import mesh
from plugvault.pki import path
from plugvault.pools import peers
from plugvault.pools.caller import CPO, MO_EXTERNAL_PKI, MO_HUBJECT_PKI, OEM

NAMES = ("hubject", "irdeto", "gireve")
INSTALL = "/v1/ccp/signedContractData"


class Ring(dict[str, Backend]):
    """The three ecosystems by name."""

    clock: Clock

    def state(self, at: str, of: str, *steps: str) -> None:
        """Change the state of the partner `of` at the ecosystem `at`."""
        store = self[at].ecosystem.store
        with store.write() as records:
            for step in steps:
                peers.move(records, of, step, "test", self.clock())

    def vehicle(self, home: str, trusts: str | None = None) -> Vehicle:
        """A vehicle registered at `home`, which has the V2G root of `trusts`."""
        backend = self[home]
        vehicle = backend.vehicle()
        root = path.read(self[trusts or home].ecosystem.v2g_root)
        body = {
            **backend.registration(vehicle),
            "v2gRootAuthorityKeyIdentifiers": [(root.ski or b"").hex(":")],
        }
        assert backend.ask(OEM, "PUT", "/v1/oem/provCerts", json=body).status_code == 200
        return vehicle

    def contract(self, at: str, vehicle: Vehicle) -> Any:
        """An operator that is a customer of `at` makes a contract for the vehicle."""
        backend = self[at]
        data = backend.contract_data(vehicle)
        return backend.sign(data, vehicle.pcid)

    def install(self, at: str, vehicle: Vehicle, trusts: str, **headers: str) -> Any:
        """The vehicle is plugged in where `at` serves the station."""
        request = vehicle.request(self[trusts].ecosystem.v2g_root)
        return self[at].install(request, headers=headers)


@pytest.fixture(scope="module")
def ring_of_three(tmp_path_factory: pytest.TempPathFactory, softhsm: Path) -> Iterator[Ring]:
    folder = tmp_path_factory.mktemp("ring")
    three = Ring()
    three.clock = Clock()
    for name in NAMES:  # all of them before the library is opened: it looks for tokens once
        Folder(folder / name, softhsm, folder / "tokens").make_tokens(*LABELS)
    with ExitStack() as stack:
        for name in NAMES:
            ecosystem = Ecosystem(
                folder / name,
                softhsm,
                clock=three.clock,
                pool=name.capitalize(),
                tokens=folder / "tokens",
            )
            backend = Backend(stack.enter_context(ecosystem), three.clock)
            backend.count = 1000 * len(three)  # no two of them have a vehicle of the same PCID
            three[name] = backend
        links = mesh.connect(
            [
                mesh.Partner(
                    name,
                    backend_.ecosystem.url,
                    backend_.ecosystem.store,
                    backend_.ecosystem.register,
                )
                for name, backend_ in three.items()
            ],
            three.clock(),
        )
        for name, backend_ in three.items():
            backend_.ecosystem.links.update(links[name])
        yield three


def test_a_provisioning_certificate_is_visible_in_every_ecosystem(ring_of_three: Ring):
    vehicle = ring_of_three.vehicle("irdeto")
    for name in NAMES:
        answer = ring_of_three[name].ask(
            MO_EXTERNAL_PKI, "GET", f"/v1/oem/provCerts/{vehicle.pcid}"
        )
        assert answer.status_code == 200, (name, answer.text)
        assert answer.json()["OEMMessage"]["vehicleCertificate"] == b64(vehicle.leaf)


def test_broadcast_true_is_not_forwarded(ring_of_three: Ring):
    vehicle = ring_of_three.vehicle("irdeto")
    answer = ring_of_three["hubject"].ask(
        MO_EXTERNAL_PKI,
        "GET",
        f"/v1/oem/provCerts/{vehicle.pcid}",
        headers={"broadcast": "true"},
    )
    refused(answer, 404, "not found")


def test_a_stations_request_with_broadcast_true_is_not_passed_on(ring_of_three: Ring):
    vehicle = ring_of_three.vehicle("irdeto")
    assert ring_of_three.contract("irdeto", vehicle).status_code == 201
    headers = {"trusts": "irdeto", "broadcast": "true", "alwaysReturnEXI": "false"}
    refused(ring_of_three.install("gireve", vehicle, **headers), 404, "not found")
    del headers["broadcast"]
    assert ring_of_three.install("gireve", vehicle, **headers).status_code == 200


def test_a_copy_is_not_given_to_a_partner(ring_of_three: Ring):
    """Hubject has a copy of Irdeto's vehicle, and gives it to no partner."""
    vehicle = ring_of_three.vehicle("irdeto")
    where = f"/v1/oem/provCerts/{vehicle.pcid}"
    assert ring_of_three["hubject"].ask(MO_EXTERNAL_PKI, "GET", where).status_code == 200
    answer = ring_of_three["hubject"].ask(
        MO_EXTERNAL_PKI, "GET", where, headers={"broadcast": "true"}
    )
    refused(answer, 404, "not found")


def test_an_unknown_vehicle_is_not_found(ring_of_three: Ring):
    answer = ring_of_three["hubject"].ask(
        MO_EXTERNAL_PKI, "GET", "/v1/oem/provCerts/PVTP9999999999999"
    )
    refused(answer, 404, "not found")


def test_a_contract_made_at_one_ecosystem_is_installed_through_another(ring_of_three: Ring):
    """The vehicle is Irdeto's and trusts Irdeto's root; its operator is a customer of Hubject, the
    charge point of Gireve. Irdeto's CPS signs, Hubject stores, Gireve's station delivers."""
    vehicle = ring_of_three.vehicle("irdeto")
    answer = ring_of_three.contract("hubject", vehicle)
    assert answer.status_code == 201, answer.text
    irdeto_root = path.fingerprint(ring_of_three["irdeto"].ecosystem.v2g_root)
    assert answer.json()["cpsV2GRootCertificateFingerprint"] == irdeto_root

    installed = ring_of_three.install("gireve", vehicle, trusts="irdeto")
    assert installed.status_code == 200, installed.text
    installed_contract = installed.json()["CCPResponse"]["emaidContent"][0]["messageDef"]
    assert installed_contract["emaid"] == answer.json()["emaid"]
    body = exi.decode(base64.b64decode(installed_contract["certificateInstallationRes"]))[
        "V2G_Message"
    ]
    assert body["Body"]["CertificateInstallationRes"]["ResponseCode"] == "OK"


def test_an_operator_without_a_pki_gets_the_cps_that_the_vehicle_trusts(ring_of_three: Ring):
    vehicle = ring_of_three.vehicle("gireve")
    hubject = ring_of_three["hubject"]
    emaid = hubject.ecosystem.mo_v2g.new_emaid()
    answer = hubject.ask(
        MO_HUBJECT_PKI,
        "PUT",
        "/v1/cps/generate/signedContractData",
        json={
            "contractBegins": "2021-05-11T00:00:00Z",
            "contractEnds": "2027-12-10T11:42:59Z",
            "emaid": emaid,
            "pcid": vehicle.pcid,
            "xsdMsgDefNamespace": ISO2,
        },
    )
    assert answer.status_code == 201, answer.text
    installed = ring_of_three.install("irdeto", vehicle, trusts="gireve")
    installed_contract = installed.json()["CCPResponse"]["emaidContent"][0]["messageDef"]
    assert installed_contract["emaid"] == emaid


def test_a_new_key_at_home_ends_the_contract_everywhere(ring_of_three: Ring):
    vehicle = ring_of_three.vehicle("irdeto")
    emaid = ring_of_three.contract("hubject", vehicle).json()["emaid"]
    old = vehicle.request(ring_of_three["irdeto"].ecosystem.v2g_root)
    answer = ring_of_three["irdeto"].ask(OEM, "DELETE", f"/v1/oem/provCerts/{vehicle.pcid}")
    assert answer.status_code == 200, answer.text

    refused(
        ring_of_three["hubject"].install(old, headers={"alwaysReturnEXI": "false"}),
        404,
        "Contract or Vehicle not found",
    )
    lookup = ring_of_three["hubject"].ask(
        MO_EXTERNAL_PKI, "GET", f"/v1/ccp/lookupContract/{emaid}"
    )
    assert lookup.status_code == 404


def test_a_suspended_partner_is_neither_asked_nor_answered(ring_of_three: Ring):
    vehicle = ring_of_three.vehicle("irdeto")
    where = f"/v1/oem/provCerts/{vehicle.pcid}"
    gireve = ring_of_three["gireve"]
    ring_of_three.state("gireve", "irdeto", peers.SUSPENDED)
    try:
        refused(gireve.ask(MO_EXTERNAL_PKI, "GET", where), 404, "not found")
        theirs = ring_of_three["irdeto"].ecosystem.links["gireve"]
        answer = gireve.login("irdeto", theirs)
        assert answer.status_code == 401
    finally:
        ring_of_three.state("gireve", "irdeto", peers.AUDITED, peers.ACTIVE)
    assert gireve.ask(MO_EXTERNAL_PKI, "GET", where).status_code == 200


def test_a_partner_has_no_rights_of_a_maker_or_an_operator(ring_of_three: Ring):
    hubject, irdeto = ring_of_three["hubject"], ring_of_three["irdeto"]
    hubject.bearers["irdeto"] = hubject.login("irdeto", irdeto.ecosystem.links["hubject"]).json()[
        "access_token"
    ]
    vehicle = ring_of_three.vehicle("hubject")
    for method, where in (
        ("DELETE", f"/v1/oem/provCerts/{vehicle.pcid}"),
        ("GET", f"/v1/ccp/signedContractData/{vehicle.pcid}"),
        ("DELETE", "/v1/ccp/signedContractData/DEPVAC1234567"),
        ("GET", "/v1/ccp/lookupContract/DEPVAC1234567"),
        ("GET", "/v1/events"),
    ):
        refused(hubject.ask("irdeto", method, where), 403, "not for irdeto")


def test_an_ecosystem_lists_partners_roots_and_gives_partners_only_its_own(ring_of_three: Ring):
    vehicle = ring_of_three.vehicle("irdeto")
    ring_of_three.contract("hubject", vehicle)
    listing = "/v1/root/rootCerts"

    def fingerprints(**headers: str) -> set[str]:
        answer = ring_of_three["hubject"].ask(CPO, "GET", listing, headers=headers).json()
        listed = answer["RootCertificateCollection"]["rootCertificates"]
        return {root["fingerprint"] for root in listed}

    irdeto_root = path.fingerprint(ring_of_three["irdeto"].ecosystem.v2g_root)
    assert irdeto_root in fingerprints()
    assert irdeto_root not in fingerprints(broadcast="true")


def test_a_silent_partner_delays_a_call_briefly_and_gives_no_answer(ring_of_three: Ring):
    gireve = ring_of_three["gireve"].ecosystem
    vehicle = ring_of_three.vehicle("hubject")
    links = dict(gireve.links)
    lost = links["irdeto"]
    gireve.links["irdeto"] = type(lost)(lost.client_id, lost.client_secret, "http://127.0.0.1:9")
    try:
        answer = ring_of_three["gireve"].ask(
            MO_EXTERNAL_PKI, "GET", f"/v1/oem/provCerts/{vehicle.pcid}"
        )
        assert answer.status_code == 200, answer.text
    finally:
        gireve.links.update(links)
