"""Operators and their customers over HTTP: the right to a contract, and its later states."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures.backend import Backend, Vehicle
from fixtures.fleet import until
from plugvault.roles import customers as book
from plugvault.roles.customers import Customers
from plugvault.roles.mo import EntitlementError, Operator

DOCUMENT = "12345678901"


@pytest.fixture
def vehicle(backend: Backend) -> Vehicle:
    """A vehicle in PCP and in the vehicle registry."""
    registered = backend.vehicle()
    number = registered.pcid[-6:]
    backend.ecosystem.oem.enter(f"PVTZZZ8V1KA{number}", f"ON{number}", registered.pcid, DOCUMENT)
    return registered


@pytest.fixture(params=["own PKI", "the ecosystem's PKI"])
def customers(
    request: pytest.FixtureRequest, backend: Backend, tmp_path: Path
) -> Iterator[Customers]:
    """The book of each of the two kinds of operator, following its events."""
    world = backend.ecosystem
    operator: Operator = world.mo if request.param == "own PKI" else world.mo_v2g
    opened = Customers(operator, tmp_path / "customers.sqlite")
    opened.follow()
    yield opened
    opened.close()


def pool(backend: Backend, vehicle: Vehicle) -> list[str]:
    """The EMAIDs that CCP holds for the vehicle."""
    return [contract["emaid"] for contract in backend.ecosystem.oem.contracts(vehicle.pcid)]


def named(vehicle: Vehicle) -> dict[str, str]:
    number = vehicle.pcid[-6:]
    return {"pcid": vehicle.pcid, "vin": f"PVTZZZ8V1KA{number}", "plate": f"on {number}"}


@pytest.mark.parametrize("kind", ["pcid", "vin", "plate"])
def test_a_customer_with_the_document_gets_a_contract(
    backend: Backend, vehicle: Vehicle, customers: Customers, kind: str
):
    emaid = customers.onboard(kind, named(vehicle)[kind], DOCUMENT)
    assert pool(backend, vehicle) == [emaid]
    assert customers.get(emaid).pcid == vehicle.pcid


def test_a_customer_without_the_document_is_refused_and_nothing_is_made(
    backend: Backend, vehicle: Vehicle, customers: Customers
):
    for kind, text in named(vehicle).items():
        with pytest.raises(EntitlementError):
            customers.onboard(kind, text, "55555555")
    assert pool(backend, vehicle) == []
    assert customers.all() == []


def test_a_contract_is_renewed_replaced_and_terminated(
    backend: Backend, vehicle: Vehicle, customers: Customers
):
    first = customers.onboard("plate", named(vehicle)["plate"], DOCUMENT)
    certificate = backend.ecosystem.oem.contracts(vehicle.pcid)[0]["contractCertificate"]
    customers.renew(first)
    (renewed,) = backend.ecosystem.oem.contracts(vehicle.pcid)
    assert renewed["emaid"] == first
    assert renewed["contractCertificate"] != certificate
    second = customers.replace(first)
    assert pool(backend, vehicle) == [second]
    customers.terminate(second)
    assert pool(backend, vehicle) == []


def test_a_new_provisioning_key_asks_the_customer(
    backend: Backend, vehicle: Vehicle, customers: Customers
):
    emaid = customers.onboard("plate", named(vehicle)["plate"], DOCUMENT)
    new_key = Vehicle(vehicle.pcid)
    leaf, subs = backend.ecosystem.oem.enrol(new_key.csr())
    backend.ecosystem.oem.register(leaf, subs)
    until(lambda: customers.get(emaid).state == book.ASK, "the operator knows")
    assert pool(backend, vehicle) == []
    customers.answer(emaid, accepted=True)
    assert pool(backend, vehicle) == [emaid]


def test_a_factory_reset_makes_no_new_contract(
    backend: Backend, vehicle: Vehicle, customers: Customers
):
    emaid = customers.onboard("plate", named(vehicle)["plate"], DOCUMENT)
    path = f"/v1/oem/provCerts/{vehicle.pcid}/factoryReset"
    assert backend.ask("OEM", "POST", path).status_code == 200
    until(lambda: customers.get(emaid).state == book.RESET, "the operator knows")
    assert pool(backend, vehicle) == []
    again = customers.onboard("plate", named(vehicle)["plate"], DOCUMENT)  # a new customer may
    assert pool(backend, vehicle) == [again]


def test_the_operator_learns_that_the_maker_has_it(
    backend: Backend, vehicle: Vehicle, customers: Customers
):
    emaid = customers.onboard("plate", named(vehicle)["plate"], DOCUMENT)
    backend.ecosystem.oem.pull(emaid, vehicle.pcid)
    until(lambda: customers.get(emaid).state == book.DELIVERED, "delivered")
