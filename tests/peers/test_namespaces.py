"""The cable of the tests with foreign stacks: multicast and TCP over link-local addresses."""

from __future__ import annotations

import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fixtures.namespaces import Cable, Namespace, plugged

ALL_NODES = "ff02::1"


@contextmanager
def listener(end: Namespace, kind: int) -> Iterator[socket.socket]:
    """A socket on an unused port of all the addresses of one end."""
    with end.entered(), socket.socket(socket.AF_INET6, kind) as listening:
        listening.settimeout(5)
        listening.bind(("::", 0))
        yield listening


def test_a_multicast_of_the_car_reaches_the_station(cable: Cable) -> None:
    with listener(cable.station, socket.SOCK_DGRAM) as station:
        index = socket.if_nametoindex(cable.station.interface)
        group = socket.inet_pton(socket.AF_INET6, ALL_NODES) + struct.pack("@I", index)
        station.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)
        port = station.getsockname()[1]
        with listener(cable.car, socket.SOCK_DGRAM) as car:
            scope = socket.if_nametoindex(cable.car.interface)
            car.sendto(b"discovery", (ALL_NODES, port, 0, scope))
        data, sender = station.recvfrom(100)
        assert (data, sender[0].split("%")[0]) == (b"discovery", cable.car.address)


def test_a_process_at_the_cars_end_connects_to_the_station(cable: Cable) -> None:
    with listener(cable.station, socket.SOCK_STREAM) as station:
        station.listen()
        target = f"{cable.station.address}%{cable.car.interface}", station.getsockname()[1]
        program = f"import socket; socket.create_connection({target!r})"
        subprocess.run(cable.car.command("python3", "-c", program), check=True, timeout=30)
        _, (address, *_) = station.accept()
        assert address.split("%")[0] == cable.car.address


def test_a_process_sees_only_the_interfaces_of_its_end(cable: Cable) -> None:
    listed = subprocess.run(
        cable.car.command("ls", "/sys/class/net"), check=True, capture_output=True, text=True
    )
    assert set(listed.stdout.split()) - {cable.car.interface, "lo"} == set()


def test_two_cables_do_not_meet_and_leave_nothing_behind(cable: Cable) -> None:
    with plugged() as second:
        assert {second.car.name, second.station.name}.isdisjoint(
            {cable.car.name, cable.station.name}
        )
    assert not Path("/run/netns", second.car.name).exists()
    assert Path("/run/netns", cable.car.name).exists()


def test_namespaces_of_a_killed_test_run_are_removed(cable: Cable) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    name = f"plugvault-{ended.pid}-0-car"
    subprocess.run(["ip", "netns", "add", name], check=True)
    with plugged():
        assert not Path("/run/netns", name).exists()
