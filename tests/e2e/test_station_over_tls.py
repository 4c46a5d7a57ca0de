"""A car with a real token at a station over TLS, the station's key in another token."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from evcc.link import v2gtp
from evcc.vault import VaultError
from fixtures.station_tls import TlsClient, responder, station_leaf
from fixtures.vehicle import Vehicle
from fixtures.vehicle import station as station_of
from plugvault.capture import Capture
from plugvault.station import Station
from plugvault.station.limits import Limits
from plugvault.station.reports import Connected, Ended, Listener, Report, Secured
from plugvault.tls import Identity, Staple, StationTls
from plugvault.tokens import TokenKey
from world import EMAID, World

PAID = [("authorized", EMAID), ("closed", "")]


def station(world: World, tls: StationTls, **changes: Any) -> Station:
    return station_of(world, tls=tls, **changes)


class Reports(list[tuple[int, Report]]):
    """The reports of a station."""

    @property
    def listener(self) -> Listener:
        return lambda number, report: self.append((number, report))

    def of(self, kind: type) -> list[Any]:
        return [report for _, report in self if isinstance(report, kind)]


def test_a_contract_is_installed_and_pays_over_tls(
    world: World, today: World, station_tls: StationTls, vehicle: Vehicle
) -> None:
    reports = Reports()
    client = TlsClient(today.v2g_root.der)
    with station(world, station_tls, report=reports.listener).in_thread() as address:
        assert vehicle.charge(address, client.context) == [("installed", EMAID), *PAID]
        assert vehicle.charge(address, client.context) == PAID
    assert [type(report) for _, report in reports[:2]] == [Connected, Secured]
    assert reports.of(Ended) == [Ended("", True)] * 2
    assert {number for number, _ in reports} == {1, 2}


def test_a_plain_connection_gets_nothing_at_a_port_with_tls(
    world: World, station_tls: StationTls, vehicle: Vehicle
) -> None:
    reports = Reports()
    with station(world, station_tls, report=reports.listener).in_thread() as address:
        assert vehicle.charge(address)[-1] == ("lost", "")
    (ended,) = reports.of(Ended)
    assert (ended.reason, ended.authorized) == ("handshake: wrong version number", False)


def test_a_client_that_never_completes_its_handshake_is_dropped(
    world: World, station_tls: StationTls, vehicle: Vehicle
) -> None:
    reports = Reports()
    station_ = station(
        world, station_tls, report=reports.listener, limits=Limits(2, handshake_seconds=0.3)
    )
    with station_.in_thread() as address, ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(address)) for _ in range(2)]
        for connection in silent:
            connection.settimeout(10)
            assert connection.recv(100) == b""
        assert vehicle.charge(address, TlsClient().context)[-2:] == PAID
    assert [report.reason for report in reports.of(Ended)[:2]] == [
        "no TLS handshake within 0.3 s"
    ] * 2


def test_slow_drip_sender_times_out(world: World, station_tls: StationTls) -> None:
    from_server, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    hello = TlsClient().context.wrap_bio(from_server, to_server)
    with pytest.raises(ssl.SSLWantReadError):
        hello.do_handshake()
    with (
        station(world, station_tls, limits=Limits(handshake_seconds=0.3)).in_thread() as address,
        socket.create_connection(address, timeout=5) as connection,
    ):
        try:
            for byte in to_server.read():
                connection.sendall(bytes([byte]))
                time.sleep(0.05)
        except OSError:
            hung_up = True
        else:
            hung_up = False
    assert hung_up


def test_half_open_connections_take_no_place_of_a_session(
    world: World, station_tls: StationTls, vehicle: Vehicle
) -> None:
    station_ = station(world, station_tls, limits=Limits(2))
    with station_.in_thread() as address, ExitStack() as stack:
        session = stack.enter_context(
            TlsClient().context.wrap_socket(stack.enter_context(socket.create_connection(address)))
        )
        stack.enter_context(socket.create_connection(address))  # never says anything
        assert vehicle.charge(address, TlsClient().context)[-2:] == PAID
        session.sendall(v2gtp.encode(b"\x80"))


def test_a_slow_token_does_not_hold_up_a_running_session(
    world: World, today: World, cpo_key: TokenKey, vehicle: Vehicle
) -> None:
    signing, may_sign = threading.Event(), threading.Event()
    may_sign.set()

    def sign(digest: bytes) -> bytes:
        signing.set()
        may_sign.wait(60)
        return cpo_key.sign_digest(digest)

    leaf = station_leaf(today, cpo_key)
    slow = Identity(leaf.der, tuple(leaf.chain[1:]), today.v2g_root.der, sign)
    tls = StationTls([slow])
    with (
        station(world, tls, limits=Limits(sequence_timeout_ms=200)).in_thread() as address,
        ExitStack() as stack,
    ):
        first = stack.enter_context(socket.create_connection(address, timeout=60))
        session = stack.enter_context(TlsClient().context.wrap_socket(first))
        may_sign.clear()
        signing.clear()
        second = stack.enter_context(socket.create_connection(address, timeout=60))
        thread = threading.Thread(
            target=lambda: TlsClient().context.wrap_socket(second, do_handshake_on_connect=True)
        )
        thread.start()
        assert signing.wait(60)
        assert session.recv(1) == b""  # the loop goes on: its sequence timeout has come
        may_sign.set()
        thread.join()


def test_a_token_that_fails_ends_that_connection_and_is_named(
    world: World, today: World, cpo_key: TokenKey, vehicle: Vehicle
) -> None:
    failures = iter([False, True])

    def sign(digest: bytes) -> bytes:
        if next(failures, False):
            raise VaultError("unavailable", "the token is gone")
        return cpo_key.sign_digest(digest)

    leaf = station_leaf(today, cpo_key)
    subs = tuple(leaf.chain[1:])
    tls = StationTls([Identity(leaf.der, subs, today.v2g_root.der, sign)])
    reports = Reports()
    with station(world, tls, report=reports.listener).in_thread() as address:
        with pytest.raises(ssl.SSLError, match="ALERT"):
            vehicle.charge(address, TlsClient().context)
        assert vehicle.charge(address, TlsClient().context)[-2:] == PAID
    assert "the token is gone" in reports.of(Ended)[0].reason


def test_bad_bytes_inside_tls_end_their_connection_alone(
    world: World, station_tls: StationTls, vehicle: Vehicle, caplog: pytest.LogCaptureFixture
) -> None:
    with station(world, station_tls).in_thread() as address:
        for data in (b"", b"GET / HTTP/1.1\r\n\r\n", v2gtp.encode(b"\x80" * 4000)):
            with (
                socket.create_connection(address, timeout=5) as connection,
                TlsClient().context.wrap_socket(connection) as secured,
            ):
                secured.sendall(data)
        with socket.create_connection(address, timeout=5) as connection:
            connection.sendall(b"\x16\x03\x01\xff\xff" + bytes(1000))
        assert vehicle.charge(address, TlsClient().context)[-2:] == PAID
    assert not [r for r in caplog.records if r.levelno >= logging.ERROR], caplog.text


def test_a_capture_gets_the_wire_and_the_keys_of_tls(
    world: World, station_tls: StationTls, vehicle: Vehicle, tmp_path: Path
) -> None:
    with Capture(tmp_path / "session.pcapng") as capture:
        with station(world, station_tls, capture=capture).in_thread() as address:
            vehicle.charge(address, TlsClient().context)
        assert capture.packets > 20
        assert capture.keys.read_text().startswith("CLIENT_RANDOM ")
    wire = capture.path.read_bytes()
    assert b"\x16\x03" in wire
    assert b"\x01\xfe\x80\x01" not in wire


def test_a_vehicle_that_names_other_roots_is_logged(
    world: World, today: World, station_tls: StationTls, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    other_root = b"\x00\x15\x03" + bytes(20)
    client = TlsClient(today.v2g_root.der, trusted_ca_keys=other_root)
    with station(world, station_tls).in_thread() as address:  # noqa: SIM117 - the socket is the client's
        with socket.create_connection(address, timeout=5) as connection:
            client.context.wrap_socket(connection).close()
    assert "names V2G roots, and none is above" in caplog.text


def test_a_stapled_answer_is_sent_over_the_socket(
    world: World, today: World, cpo_key: TokenKey
) -> None:
    leaf = station_leaf(today, cpo_key)
    client = TlsClient(ocsp=True)
    with Staple(leaf.der, leaf.chain[1], responder(today, time.time), time.time) as staple:
        subs, root = tuple(leaf.chain[1:]), today.v2g_root.der
        tls = StationTls([Identity(leaf.der, subs, root, cpo_key.sign_digest, staple)])
        with (
            station(world, tls).in_thread() as address,
            socket.create_connection(address, 5) as end,
        ):
            client.context.wrap_socket(end).close()
        assert client.answer == staple()
    assert client.answer is not None
