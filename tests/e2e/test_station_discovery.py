"""Vehicles find a station by SDP: a real interface, multicast, link-local addresses."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from evcc.network import sdp
from fixtures.namespaces import Cable
from plugvault import interfaces
from plugvault.interfaces import InterfaceError
from plugvault.station.discovery import Discovery

pytestmark = pytest.mark.xdist_group("sdp")  # one station alone answers on an interface


@contextmanager
def answering(cable: Cable, ports: dict[int, int]) -> Iterator[None]:
    """An SDP server at the station's end of the cable, in a thread of its own."""
    started, loop = threading.Event(), asyncio.new_event_loop()
    errors: list[Exception] = []

    def run() -> None:
        try:
            with cable.station.entered():
                local = interfaces.wait(cable.station.interface)
                discovery = Discovery(local, ports)
                loop.run_until_complete(discovery.start())
        except Exception as error:  # noqa: BLE001 - raised in the test's thread
            errors.append(error)
            started.set()
            return
        started.set()
        loop.run_forever()
        discovery.close()
        loop.run_until_complete(asyncio.sleep(0))

    thread = threading.Thread(target=run)
    thread.start()
    started.wait()
    try:
        if errors:
            raise errors[0]
        yield
    finally:
        if not errors:
            loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def car_socket(cable: Cable) -> Iterator[tuple[socket.socket, tuple[str, int, int, int]]]:
    """A vehicle's socket, and the address of its search."""
    with cable.car.entered(), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as searcher:
        searcher.settimeout(5)
        yield searcher, (sdp.GROUP, sdp.PORT, 0, socket.if_nametoindex(cable.car.interface))


def test_vehicles_find_the_station_by_multicast(cable: Cable) -> None:
    with answering(cable, {sdp.TLS: 50_001, sdp.NO_TLS: 50_002}):
        for security, port in ((sdp.TLS, 50_001), (sdp.NO_TLS, 50_002)):
            with car_socket(cable) as (searcher, group):
                searcher.sendto(sdp.request(security), group)
                datagram, source = searcher.recvfrom(100)
            station = sdp.read_response(datagram, security)
            assert (station.port, station.security) == (port, security)
            assert socket.inet_ntop(socket.AF_INET6, station.address) == cable.station.address
            assert source[:2] == (cable.station.address, sdp.PORT)


def test_after_garbage_the_next_search_is_answered(cable: Cable) -> None:
    with answering(cable, {sdp.TLS: 50_001}), car_socket(cable) as (searcher, group):
        for garbage in (b"", b"\xff" * 1400, sdp.request(sdp.TLS)[:9]):
            searcher.sendto(garbage, group)
        searcher.sendto(sdp.request(sdp.TLS), group)
        assert sdp.read_response(searcher.recv(100)).port == 50_001


def test_a_second_station_on_the_interface_is_an_error_at_once(cable: Cable) -> None:
    with (
        answering(cable, {sdp.TLS: 50_001}),
        pytest.raises(OSError, match="in use"),
        answering(cable, {sdp.TLS: 50_002}),
    ):
        pass


def test_an_interface_that_cannot_be_used_says_what_to_do(cable: Cable) -> None:
    name = cable.station.interface

    def refused(*command: str) -> InterfaceError:
        with cable.station.entered():
            subprocess.run(["ip", *command], check=True)
            with pytest.raises(InterfaceError) as caught:
                interfaces.wait(name, 0.0)
        return caught.value

    with cable.station.entered():
        assert interfaces.wait(name).scoped == cable.station.scoped
        with pytest.raises(InterfaceError, match=r"use one of: .*station0"):
            interfaces.wait("eth99")
    address = f"{cable.station.address}/64"
    gone = refused("address", "delete", address, "dev", name)
    assert (gone.reason, "addrgenmode" in gone.remedy) == ("address", True)
    assert refused("address", "add", address, "dev", name).reason == "tentative"
    multicast = refused("link", "set", name, "multicast", "off")
    assert (multicast.reason, multicast.remedy) == (
        "multicast",
        f"sudo ip link set {name} multicast on",
    )
    down = refused("link", "set", name, "down")
    assert (down.reason, down.remedy) == ("down", f"sudo ip link set {name} up")


def test_the_address_is_waited_for_until_it_is_checked_for_duplicates(cable: Cable) -> None:
    name, address = cable.station.interface, f"{cable.station.address}/64"
    with cable.station.entered():
        subprocess.run(["ip", "address", "delete", address, "dev", name], check=True)
        subprocess.run(["ip", "address", "add", address, "dev", name], check=True)
        with pytest.raises(InterfaceError, match="tentative"):
            interfaces.link_local(name)
        assert interfaces.wait(name).scoped == cable.station.scoped


def test_an_address_that_another_device_has_is_named(cable: Cable) -> None:
    own, taken = (f"{end.address}/64" for end in (cable.car, cable.station))
    with cable.car.entered():
        for change in (("add", taken), ("delete", own)):
            command = ["ip", "address", *change, "dev", cable.car.interface]
            subprocess.run(command, check=True)
        with pytest.raises(InterfaceError, match="another device") as caught:
            interfaces.wait(cable.car.interface)
    assert caught.value.reason == "duplicate"
