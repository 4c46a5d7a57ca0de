"""A real session, the module through TLS at the station, captured at both ends and told alike."""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from captured import followed
from e2e.test_car_link import provision, runtime
from e2e.test_car_network import Bay, _sign
from evcc import exi, x509
from fixtures import tls_stations
from fixtures.namespaces import Cable
from plugvault.capture import Capture
from plugvault.capture.trace import convert
from plugvault.car import Car
from plugvault.inspection import inspect
from plugvault.inspection.report import FAILED, Report, Scope
from plugvault.station import Offer, Station, StationSettings, Supply
from plugvault.tls import Identity, StationTls
from plugvault.tokens import Token
from world import EMAID, World

TIMED = "responses in time"  # other load of this machine would decide


@pytest.mark.parametrize(
    ("name", "mode", "message"),
    [("cpython", "AC", "MeteringReceiptRes"), ("debian", "DC", "WeldingDetectionRes")],
)
def test_a_session_is_told_alike_from_the_captures_of_both_ends(
    name: str, mode: str, message: str, tmp_path: Path, makers: Token, car_token: Any
) -> None:
    world = World(now=int(time.time()))
    with Capture(tmp_path / "station.pcapng") as capture:
        station = _station(world, capture, tls_stations.answer(world.cpo, world.now))
        with station.in_thread() as (_, port):
            events = _charge(name, world, port, tmp_path, makers, car_token, charge={"mode": mode})
    assert ("authorized", EMAID) in events
    assert convert(tmp_path / "trace", tmp_path / "car.pcapng", "::1") == ""
    told = []
    for end in ("station", "car"):
        report = _report(tmp_path / f"{end}.pcapng", world)
        failed = [check for check in report.checks if check.verdict == FAILED]
        assert [check for check in failed if not check.check.endswith(TIMED)] == []
        told += report.content["sessions"]
        assert told[-1]["tls"]["ocsp"] == "good"
        assert told[-1]["tls"]["trustedCaKeys"] is True
    names = [[message["name"] for message in session["messages"]] for session in told]
    assert names[0] == names[1]
    assert {"CertificateInstallationRes", message} <= set(names[0])
    assert names[0][-1] == "SessionStopRes"
    sizes = [[message["bytes"] for message in session["messages"]] for session in told]
    if shutil.which("tshark"):
        for end in ("station", "car"):
            followed_bytes = followed(tmp_path / f"{end}.pcapng", "tls")
            assert [len(data) for _, data in followed_bytes] == sizes[0]


def test_a_station_that_is_revoked_and_the_cars_alert_are_told(
    tmp_path: Path, makers: Token, car_token: Any
) -> None:
    world = World(now=int(time.time()))
    revoked = tls_stations.answer(world.cpo, world.now, tls_stations.REVOKED)
    with (
        Capture(tmp_path / "c.pcapng") as capture,
        _station(world, capture, revoked).in_thread() as (_, port),
    ):
        events = _charge("cpython", world, port, tmp_path, makers, car_token)
    assert events[-1] == ("failed", "tls")
    report = _report(tmp_path / "c.pcapng", world)
    failed = {check.check: check.detail for check in report.checks if check.verdict == FAILED}
    assert failed["session 1: TLS: OCSP answer of the station"] == "revoked"
    assert failed["session 1: TLS: no alert"].startswith("car: ")


def test_the_capture_of_another_program_is_told_from_the_search_on(
    cable: Cable, tmp_path: Path, makers: Token, car_token: Any
) -> None:
    """Ethernet frames of a real network stack, by Wireshark's `dumpcap`."""
    world, trace = World(now=int(time.time())), tmp_path / "trace"
    bay, key = Bay(cable, world, tmp_path), makers.generate("telematics")
    with (
        dumpcap(cable, tmp_path / "c.pcapng"),
        bay.open(tls_stations.answer(world.cpo, world.now)),
        bay.car("cpython", key, car_token, trace=str(trace)) as car,
    ):
        events = car.find_and_charge(want_contract=True)
        assert events[-1][0] == "authorized", car.bench.log
        entries = [json.loads(line) for line in trace.read_text().splitlines()]
        keys = "\n".join(entry["data"] for entry in entries if entry["kind"] == "keys")
        session = _until_closed(tmp_path / "c.pcapng", world, keys.encode())
    assert [search["security"] for search in session["sdp"]] == ["TLS", "TLS"]
    assert session["car"].startswith(f"[{ipaddress.ip_address(cable.car.address)}]:")
    assert session["messages"][-1]["name"] == "SessionStopRes"
    assert session["end"].startswith("closed by ")


def _until_closed(path: Path, world: World, keylog: bytes) -> dict[str, Any]:
    """The session, once the capture that is being written has its end."""
    deadline = time.monotonic() + 60
    while True:
        sessions = inspect(path.read_bytes(), Scope(world.now, keylog=keylog)).content["sessions"]
        if sessions and sessions[0]["end"].startswith("closed"):
            (session,) = sessions
            return dict(session)
        assert time.monotonic() < deadline, sessions
        time.sleep(0.1)


@contextlib.contextmanager
def dumpcap(cable: Cable, path: Path) -> Iterator[None]:
    """A capture of the cable's station end, complete when the context ends."""
    if shutil.which("dumpcap") is None:
        pytest.skip("no dumpcap here: `apt-get install tshark`")
    command = cable.station.command("dumpcap", "-q", "-i", cable.station.interface, "-w", path)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            while "File:" not in (line := process.stderr.readline()):
                assert line, "dumpcap has not started"
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate()


def _station(world: World, capture: Capture, status: bytes) -> Station:
    def fetch(request: bytes) -> bytes:
        body = exi.decode(request)["V2G_Message"]["Body"]["CertificateInstallationReq"]
        leaf = x509.parse(body["OEMProvisioningCert"])
        return world.response(leaf.point, contract=world.new_contract(EMAID))

    assert world.cpo.key is not None
    key, root = world.cpo.key, world.v2g_root.der
    subs = tuple(world.cpo.chain[1:])
    sign = functools.partial(_sign, key)
    identity = Identity(world.cpo.der, subs, root, sign, lambda: status)
    roots = [root, world.mo_root.der]
    tls = StationTls([identity])
    supply = Supply(ongoing=1, receipts=True, notices={2: "ReNegotiation"})
    offer = Offer(supply=supply)
    return Station(offer, roots, fetch, StationSettings(host="::1", tls=tls, capture=capture))


def _charge(
    name: str, world: World, port: int, folder: Path, makers: Token, car_token: Any, **wishes: Any
) -> list[tuple[str, str]]:
    """The events of one session of a new car that wants a contract. Its module writes a trace."""
    key = makers.generate("telematics")
    network = {
        "interface": "lo",
        "address": "::1",
        "port": port,
        "trace": str(folder / "trace"),
    }
    car = Car(
        runtime(name), "serial", folder / "car", maker=key.point, token=car_token, network=network
    )
    with car:
        provision(car, key, world)
        return car.find_and_charge(want_contract=True, **wishes)


def _report(path: Path, world: World) -> Report:
    anchors = tuple(x509.parse(der) for _, der in world.anchors)
    report = inspect(path.read_bytes(), Scope(world.now, anchors))
    assert len(report.content["sessions"]) == 1
    return report
