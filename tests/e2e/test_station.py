"""A car with a real token at a real station: TCP between them, SoftHSM behind the car."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from evcc.link import v2gtp
from fixtures.vehicle import Vehicle, operator
from fixtures.vehicle import station as station_of
from plugvault.roles.customers import CustomerError, Customers
from plugvault.station import Station
from plugvault.station.events import Authorized
from plugvault.station.limits import Limits
from world import EMAID, NOW, PCID, World


def station(world: World, fetch: Any = None, **changes: Any) -> Station:
    return station_of(world, fetch, insecure_contract=True, **changes)


PAID = [("authorized", EMAID), ("closed", "")]


def test_a_contract_is_installed_and_pays_then_pays_again(world: World, vehicle: Vehicle) -> None:
    seen: list[tuple[str, str, int, float]] = []
    station_ = station(world, observe=lambda *message: seen.append(message))
    with station_.in_thread() as address:
        assert vehicle.charge(address) == [("installed", EMAID), *PAID]
        first = [name for _, name, _, _ in seen]
        assert vehicle.charge(address) == PAID
    assert len(first) == 18
    assert "CertificateInstallationRes" in first
    assert first.count("AuthorizationReq") == 1
    assert [name for _, name, _, _ in seen[18:]].count("CertificateInstallationReq") == 0
    assert all(size > 8 and took >= 0 for _, _, size, took in seen)
    first_record, second_record = station_.records
    assert (first_record.emaid, first_record.evseid, first_record.time) == (
        EMAID,
        "DE*PVT*E0001",
        NOW,
    )
    assert first_record.contract_serial == world.contract.certificate.serial_number
    assert first_record.session_id != second_record.session_id


def test_a_session_comes_onto_the_account_of_the_contracts_customer(
    world: World, vehicle: Vehicle, tmp_path: Path
) -> None:
    class Mobility:
        """An operator with the world's contract as its only one."""

        def identify(self, *proof: str) -> str:
            return PCID

        def new_emaid(self) -> str:
            return EMAID

        def contract(self, pcid: str, emaid: str) -> str:
            return emaid

    mobility: Any = Mobility()
    with closing(Customers(mobility, tmp_path / "book.sqlite")) as customers:
        with pytest.raises(
            CustomerError, match="unknown"
        ):  # an unknown contract bills no customer
            customers.bill(Authorized(EMAID, b"1", "DE*PVT*E0001", NOW, 1))
        customers.onboard("plate", "AB12", "123456")
        station_ = station(world, bill=customers.bill)
        with station_.in_thread() as address:
            vehicle.charge(address)
            vehicle.charge(address)
        account = [(NOW, "DE*PVT*E0001")] * 2
        assert customers.account(EMAID) == account
        assert [customers.bill(record) for record in station_.records] == [False, False]
        assert customers.account(EMAID) == account


def test_an_asynchronous_operator_will_do(world: World, vehicle: Vehicle) -> None:
    fetch = operator(world)

    async def later(request: bytes) -> bytes:
        await asyncio.sleep(0.01)
        response: bytes = fetch(request)
        return response

    with station(world, later).in_thread() as address:
        assert vehicle.charge(address)[0] == ("installed", EMAID)


def test_a_slow_operator_is_a_failed_installation_in_time(world: World, vehicle: Vehicle) -> None:
    over = threading.Event()
    station_ = station(world, lambda _: over.wait(30) and b"", limits=Limits(fetch_seconds=0.2))
    with station_.in_thread() as address:
        assert vehicle.charge(address) == [("failed", "response-code"), ("closed", "")]
        assert not over.is_set()  # and the operator is still at it
        over.set()
        assert station_.records == []


def test_an_operator_out_of_order_is_a_failed_installation(
    world: World, vehicle: Vehicle, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(request: bytes) -> bytes:
        raise RuntimeError("the backend is on fire")

    with station(world, broken).in_thread() as address:
        assert vehicle.charge(address) == [("failed", "response-code"), ("closed", "")]
    assert "on fire" in caplog.text


def test_a_tampered_answer_is_rejected_and_only_the_car_knows_the_reason(
    world: World, vehicle: Vehicle
) -> None:
    seen: list[str] = []

    def tampered(request: bytes) -> bytes:
        point = vehicle.vault.public(b"provisioning")
        return world.response(point, cps=world.cpo)

    station_ = station(world, tampered, observe=lambda way, name, *_: seen.append(name))
    with station_.in_thread() as address:
        events = vehicle.charge(address)
    assert events == [("rejected", "cps-path"), ("closed", "")]
    assert seen[-2:] == ["SessionStopReq", "SessionStopRes"]
    assert vehicle.contracts.all() == []


def bad_clients(address: tuple[str, int]) -> None:
    for data in (
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x01\xfe\x80\x01\xff\xff\xff\xff",
        b"\x01\xfe\x80\x01\x00\x00\x10\x00half",
        v2gtp.encode(b"\x80" * 4000),
    ):
        with socket.create_connection(address, timeout=5) as connection:
            connection.sendall(data)


def test_bad_clients_never_take_the_station_down(
    world: World, vehicle: Vehicle, caplog: pytest.LogCaptureFixture
) -> None:
    with station(world).in_thread() as address:
        bad_clients(address)
        assert vehicle.charge(address)[-2:] == PAID
        bad_clients(address)
        assert vehicle.charge(address) == PAID
    assert not [r for r in caplog.records if r.levelno >= logging.ERROR], caplog.text


def test_slow_drip_sender_times_out(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with (
        station(world, limits=Limits(sequence_timeout_ms=300)).in_thread() as address,
        socket.create_connection(address, timeout=5) as connection,
    ):
        try:
            for byte in b"\x01\xfe\x80\x01\x00\x00\x00\x40" + bytes(64):
                connection.sendall(bytes([byte]))
                time.sleep(0.05)
        except OSError:
            hung_up = True
        else:
            hung_up = False
        assert hung_up
    assert "sequence timeout" in caplog.text


@pytest.mark.parametrize("places", [8, 20])
def test_more_connections_than_a_station_takes_are_turned_away_and_logged(
    world: World, places: int, caplog: pytest.LogCaptureFixture
) -> None:
    with station(world, limits=Limits(places)).in_thread() as address, ExitStack() as stack:
        for _ in range(places):
            stack.enter_context(socket.create_connection(address, timeout=5))
        with socket.create_connection(address, timeout=5) as one_more:
            assert one_more.recv(1) == b""
            port = one_more.getsockname()[1]
    assert f"127.0.0.1:{port} is turned away" in caplog.text


def test_a_station_listens_where_every_vehicle_connects(world: World) -> None:
    with station(world).in_thread() as (_, port):
        assert port >= 49152


def test_a_taken_port_is_reported_at_once(world: World) -> None:
    with station(world).in_thread() as (_, port):
        second = station(world, port=port)
        with pytest.raises(OSError, match="in use"), second.in_thread():
            pass
