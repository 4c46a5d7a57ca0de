"""The maker's backend forwards each contract of an operator to the real car's token."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from evcc import exi
from fixtures.fleet import DOCUMENT, PCID, PLATE, Garage, until
from plugvault.contract.iso15118_2 import response
from plugvault.delivery import Worker
from plugvault.opcp.services import Settings
from plugvault.pools.events import OEM_EVENTS
from plugvault.roles.client import encode
from plugvault.roles.customers import DELIVERED, REJECTED, Customers
from plugvault.roles.oem import VehicleMaker
from plugvault.roles.receiver import receiving
from plugvault.store import SqlStore

INSTALL, REMOVE, CHOOSE = "install", "remove", "choose"


def test_a_contract_reaches_the_car_without_a_manual_call(garage: Garage):
    garage.arrives()
    emaid = garage.world.mo_v2g.contract(PCID)
    until(lambda: garage.work("done") == [(INSTALL, emaid)], "installed")
    contracts = garage.held()
    assert contracts[emaid].active
    assert contracts[emaid].custody == "L1+"


def test_a_contract_for_an_absent_car_waits_for_it(garage: Garage):
    emaid = garage.world.mo.contract(PCID)
    until(lambda: garage.work("waiting") == [(INSTALL, emaid)], "seen")
    assert garage.held() == {}
    garage.arrives()
    until(lambda: garage.work("done") == [(INSTALL, emaid)], "installed")
    assert set(garage.held()) == {emaid}


def test_a_restart_loses_nothing_and_does_nothing_twice(garage: Garage):
    first = garage.world.mo.contract(PCID)
    until(lambda: garage.work("waiting") == [(INSTALL, first)], "seen")
    garage.stop()
    second = garage.world.mo_v2g.contract(PCID)  # the backend does not listen
    garage.start()
    garage.arrives()
    expected = [(INSTALL, first), (INSTALL, second)]
    until(lambda: garage.work("done") == expected, "both are installed")
    assert set(garage.held()) == {first, second}
    garage.stop()
    garage.start()
    garage.arrives()
    third = garage.world.mo.contract(PCID)
    until(lambda: garage.work("done") == [*expected, (INSTALL, third)], "only the new one")
    assert garage.work() == [*expected, (INSTALL, third)]


def test_a_bundle_that_the_car_has_already_is_no_failure(garage: Garage):
    """As after a stop between the installation and the note of it."""
    garage.arrives()
    emaid = garage.world.mo.contract(PCID)
    until(lambda: garage.work("done") == [(INSTALL, emaid)], "installed")
    (work,) = garage.backend.queue.history(PCID)
    garage.leaves()
    garage.backend.queue.add(PCID, emaid, INSTALL, work.message)
    garage.arrives()
    until(lambda: garage.work("done") == [(INSTALL, emaid)] * 2, "found in the car")


def test_a_contract_that_ends_is_taken_out_of_the_car(garage: Garage):
    garage.arrives()
    emaid = garage.world.mo.contract(PCID)
    second_emaid = garage.world.mo_v2g.contract(PCID)
    until(lambda: len(garage.work("done")) == 2, "installed")
    garage.world.mo.terminate(emaid)
    until(lambda: (REMOVE, emaid) in garage.work("done"), "removed")
    assert set(garage.held()) == {second_emaid}


def test_a_contract_that_ends_before_the_car_comes_never_gets_in(garage: Garage):
    emaid = garage.world.mo.contract(PCID)
    garage.world.mo.terminate(emaid)
    until(lambda: (REMOVE, emaid) in garage.work(), "seen")
    garage.arrives()
    until(lambda: garage.work("done") == [(REMOVE, emaid)], "was not in the car")
    assert garage.held() == {}


def test_the_customer_chooses_and_sees(garage: Garage):
    garage.arrives()
    first, second = garage.world.mo.contract(PCID), garage.world.mo_v2g.contract(PCID)
    until(lambda: len(garage.work("done")) == 2, "installed")
    seen = garage.backend.customer_view(PCID)
    assert (seen.pcid, seen.reachable) == (PCID, True)
    assert [(c.emaid, c.default, c.in_vehicle, c.active) for c in seen.contracts] == [
        (first, True, True, True),
        (second, False, True, False),
    ]
    garage.leaves()
    garage.backend.choose(PCID, second)
    away = {c.emaid: c for c in garage.backend.customer_view(PCID).contracts}
    assert (away[second].default, away[second].active) == (True, None)
    assert away[second].waiting == (CHOOSE,)
    garage.arrives()
    until(lambda: (CHOOSE, second) in garage.work("done"), "chosen in the car")
    assert garage.held()[second].active


def test_a_contract_is_checked_again_when_it_has_waited(garage: Garage):
    emaid = garage.world.mo.contract(PCID)
    until(lambda: garage.work("waiting") == [(INSTALL, emaid)], "seen")
    (work,) = garage.backend.queue.waiting(PCID)
    changed = bytearray(work.message)
    changed[-200] ^= 1
    garage.backend.queue.finish(work, "replaced")
    garage.backend.queue.add(PCID, emaid, INSTALL, bytes(changed))
    garage.arrives()
    until(lambda: garage.work("rejected") == [(INSTALL, emaid)], "not forwarded")
    assert garage.held() == {}


def test_another_car_on_the_line_gets_nothing(garage: Garage):
    """A car that answers for the PCID must have the key of its provisioning certificate."""
    emaid = garage.world.mo.contract(PCID)
    until(lambda: garage.work("waiting") == [(INSTALL, emaid)], "seen")
    key = garage.world.telematics_key
    other_car = garage.world.station.key.point
    tried = []

    def connect(_: bytes):
        maker = garage.car.maker(key, other_car)
        tried.append(maker)
        return maker

    garage.backend.arrives(PCID, connect)
    until(lambda: tried and garage.backend.customer_view(PCID).reachable is False, "refused")
    assert garage.work("waiting") == [(INSTALL, emaid)]
    assert garage.held() == {}


# The same by webhook.


@contextmanager
def delivered(garage: Garage) -> Iterator[None]:
    """A webhook of the maker, and a worker of the ecosystem that delivers to it."""
    secrets: dict[str, str] = {}
    store = SqlStore.open(f"sqlite:///{garage.world.directory / 'ecosystem.sqlite'}")
    settings = Settings(networks=("127.0.0.0/8",), retry_after=0.1)
    stop = threading.Event()
    worker = Worker(store, secrets.__getitem__, settings, time.time)
    thread = threading.Thread(target=worker.run, args=(stop,))
    with receiving(garage.backend.take, lambda: "".join(secrets.values())) as url:
        webhook = {"url": url, "enabledEvents": list(OEM_EVENTS)}
        created = garage.world.oem.client.call("POST", "/v1/webhook/endpoints", json=webhook)
        secrets[created["id"]] = created["secret"]
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            store.close()


def test_a_webhook_works_like_the_stream(garage: Garage):
    garage.stop()
    garage.start(follow=False)
    garage.arrives()
    with delivered(garage):
        emaid = garage.world.mo.contract(PCID)
        until(lambda: garage.work("done") == [(INSTALL, emaid)], "installed")
        garage.world.mo.terminate(emaid)
        until(lambda: (REMOVE, emaid) in garage.work("done"), "removed")
    assert garage.held() == {}


def test_a_contract_that_the_maker_rejects_is_told_to_its_operator(garage: Garage):
    garage.stop()
    strict = VehicleMaker(garage.world.client("OEM"), revoked=lambda path: True)
    garage.start(strict, follow=False)
    garage.arrives()
    customers = Customers(garage.world.mo, garage.folder / "customers.sqlite")
    try:
        customers.follow()
        with delivered(garage):
            emaid = customers.onboard("plate", PLATE, DOCUMENT)
            until(lambda: customers.get(emaid).state == REJECTED, "the operator knows")
    finally:
        customers.close()
    assert garage.work() == []
    assert garage.held() == {}


def test_onboarding_by_number_plate_ends_in_the_cars_token(garage: Garage):
    garage.arrives()
    customers = Customers(garage.world.mo, garage.folder / "customers.sqlite")
    try:
        customers.follow()
        emaid = customers.onboard("plate", PLATE, DOCUMENT)
        until(lambda: customers.get(emaid).state == DELIVERED, "the operator knows")
    finally:
        customers.close()
    until(lambda: garage.work("done") == [(INSTALL, emaid)], "installed")
    assert garage.held()[emaid].custody == "L1+"


# Revocation, from the responder that the certificates name.


def revoke(garage: Garage, role: str, certificate: bytes) -> None:
    body = {"certificate": encode(certificate), "revocationReason": "keyCompromise"}
    client = garage.world.client(role)
    client.call("POST", "/opnc/v1/pki/pki/revokeCertificate", json=body)


@pytest.mark.parametrize("pki", ["own PKI", "the ecosystem's PKI"])
def test_a_contract_revoked_while_it_waited_is_not_forwarded(garage: Garage, pki: str):
    world = garage.world
    operator, role = (
        (world.mo, "MO_EXTERNAL_PKI") if pki == "own PKI" else (world.mo_v2g, "MO_HUBJECT_PKI")
    )
    emaid, second_emaid = operator.contract(PCID), operator.contract(PCID)
    until(lambda: len(garage.work("waiting")) == 2, "seen")
    listed = {
        contract["emaid"]: contract["contractCertificate"]
        for contract in world.oem.contracts(PCID)
    }
    revoke(garage, role, base64.b64decode(listed[emaid]))
    garage.arrives()
    until(lambda: garage.work("rejected") == [(INSTALL, emaid)], "not forwarded")
    until(lambda: (INSTALL, second_emaid) in garage.work("done"), "the other one is")
    assert set(garage.held()) == {second_emaid}


@pytest.mark.parametrize("position", ["the operator's Sub2", "the CPS", "the CPS's Sub2"])
def test_a_contract_with_a_revoked_path_is_not_forwarded(garage: Garage, position: str):
    emaid = garage.world.mo.contract(PCID)
    until(lambda: garage.work("waiting") == [(INSTALL, emaid)], "seen")
    (work,) = garage.backend.queue.waiting(PCID)
    bundle = response.read(exi.decode(work.message))
    above = {
        "the operator's Sub2": bundle.contract.subs[0],
        "the CPS": bundle.cps,
        "the CPS's Sub2": bundle.cps_subs[0],
    }
    revoke(garage, "ADMIN", above[position])
    garage.arrives()
    until(lambda: garage.work("rejected") == [(INSTALL, emaid)], "not forwarded")
    assert garage.held() == {}
