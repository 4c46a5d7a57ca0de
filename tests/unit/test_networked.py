"""The module at a network, on the loopback, with a station that is slow, silent or gone."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evcc.contracts import Contract
from evcc.link import v2gtp
from evcc.link.line import Line
from evcc.link.mux import SESSION, Mux
from evcc.network.module import NetworkedModule
from evcc.ports import clock, network
from evcc.ports.files import Files
from evcc.ports.stream import PortError, of_socket
from plugvault.link.bench import Bench
from world import NOW

FASTER = 10  # the module's clock, so that its 20 s are 2


class Wired:
    """A networked module in a thread, and the bench it is wired to. It trusts no root."""

    def __init__(self, vault: Any, folder: Path, port: int, tls: str) -> None:
        near, far = socket.socketpair()
        line = Line(of_socket(far), Mux(1), lambda: clock.ticks_ms() * FASTER)
        table = {"interface": "lo", "tls": tls, "address": "::1", "port": port}
        settings = {"network": table, "insecure_contract": True}
        module = NetworkedModule(line, bytes(65), vault, Files(str(folder)), lambda: NOW, settings)
        module.connect_by(network)
        self.module = module
        self.thread = threading.Thread(target=self.run)
        self.bench = Bench(of_socket(near))

    def run(self) -> None:
        with contextlib.suppress(PortError):
            self.module.run()

    def plug(self, **wishes: Any) -> None:
        self.bench.request("plug", network=True, **wishes)

    def ends(self) -> str:
        """The reason of the session's failure."""
        self.bench.wait_event("closed")
        return next(text for name, text in self.bench.events if name == "failed")


Plugged = Callable[[str], tuple[Wired, socket.socket]]


@pytest.fixture
def plugged(car_token: Any, tmp_path: Path) -> Iterator[Plugged]:
    """(module, the station's socket) of a session that has just begun."""
    with contextlib.ExitStack() as stack:
        vault = car_token.open()
        stack.callback(vault.close)

        def begin(tls: str) -> tuple[Wired, socket.socket]:
            listener = stack.enter_context(
                socket.create_server(("::1", 0), family=socket.AF_INET6)
            )
            wired = Wired(vault, tmp_path / "store", listener.getsockname()[1], tls)
            stack.callback(wired.thread.join, 5)
            stack.enter_context(wired.bench)
            wired.thread.start()
            wired.plug()
            station, _ = listener.accept()
            return wired, stack.enter_context(station)

        yield begin


class Broken:
    """A connection that breaks as the first frame is sent."""

    def send(self, frame: bytes) -> None:
        raise PortError("closed", "reset")

    def close(self) -> None:
        pass


@pytest.fixture
def alone(car_token: Any, tmp_path: Path) -> Iterator[NetworkedModule]:
    """A module whose loop does not run."""
    vault = car_token.open()
    near, far = socket.socketpair()
    line = Line(of_socket(far), Mux(1), clock.ticks_ms)
    settings = {"network": {"interface": "lo"}, "renew_days": 30}
    module = NetworkedModule(
        line, bytes(65), vault, Files(str(tmp_path / "store")), lambda: NOW, settings
    )
    module.connect_by(network)
    with near, far:
        yield module
    vault.close()


def test_a_connection_that_breaks_as_the_session_begins_leaves_none(
    alone: NetworkedModule,
) -> None:
    assert alone._plug({"network": True}) == {"session": 1}
    alone._station = Broken()
    alone._opened(True)
    assert alone._status({})["charging"] is False
    assert alone._plug({"network": True}) == {"session": 2}


def test_a_contract_near_its_end_is_renewed_at_a_station_that_the_module_finds(
    alone: NetworkedModule,
) -> None:
    contract = Contract("DEPVT0000000012", bytes(16), bytes(32), "", "", 0, NOW + 86400, bytes(16))
    contract.active = True
    alone._car.contracts._contracts.append(contract)
    alone._plug({"network": True})
    alone._opened(True)
    session: Any = alone._session
    assert session.wants_contract
    alone._unplug({})
    alone._plug({"network": True})
    alone._opened(True)
    session = alone._session
    assert not session.wants_contract  # once a day


def test_bytes_of_the_bench_are_not_the_stations(plugged: Plugged) -> None:
    wired, station = plugged("none")
    assert station.recv(4096).startswith(b"\x01\xfe\x80\x01")  # supportedAppProtocolReq
    wired.bench.endpoint.send(SESSION, b"no V2GTP: it would end a session")
    wired.bench.endpoint.send(SESSION, b"")
    assert wired.bench.status()["charging"] is True
    assert wired.bench.traffic()["session"]["in"] == 0
    station.sendall(b"no V2GTP either")
    assert wired.ends() == "frame"
    assert wired.bench.status()["charging"] is False


def test_a_station_that_closes_is_lost(plugged: Plugged) -> None:
    wired, station = plugged("none")
    station.recv(4096)
    station.shutdown(socket.SHUT_RDWR)
    assert wired.ends() == "lost"


@pytest.mark.parametrize(
    ("tls", "data", "reason"),
    [
        ("none", v2gtp.encode(bytes(1000)), "timeout"),
        ("required", b"\x16\x03\x03\x10\x00" + bytes(4096), "setup-timeout"),
    ],
)
def test_slow_drip_sender_times_out(tls: str, data: bytes, reason: str, plugged: Plugged) -> None:
    wired, station = plugged(tls)
    dripping = threading.Event()

    def drip() -> None:
        with contextlib.suppress(OSError):
            for at in range(len(data)):
                station.sendall(data[at : at + 1])
                if dripping.wait(0.02):
                    return

    thread = threading.Thread(target=drip)
    thread.start()
    assert wired.ends() == reason
    assert wired.bench.status()["charging"] is False
    dripping.set()
    thread.join()


def test_a_station_that_is_silent_in_the_handshake_times_out(plugged: Plugged) -> None:
    wired, station = plugged("required")
    assert station.recv(4096)[:1] == b"\x16"
    assert wired.ends() == "setup-timeout"


def test_a_slow_station_gets_more_time_to_set_up(plugged: Plugged) -> None:
    wired, _ = plugged("required")
    standard = wired.module._setup_until - wired.module._line.ticks_ms()
    wired.bench.request("unplug")
    wired.plug(time_factor=10)
    assert wired.module._setup_until - wired.module._line.ticks_ms() > 9 * standard


def test_an_end_by_the_bench_closes_the_connection(plugged: Plugged) -> None:
    wired, station = plugged("none")
    station.recv(4096)
    wired.bench.request("unplug")
    assert station.recv(4096) == b""
    assert wired.bench.status()["charging"] is False
