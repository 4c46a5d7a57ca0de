"""A real session, the module through TLS at the station, captured at both ends and told alike."""

from __future__ import annotations

import functools
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from captured import followed
from e2e.test_car_link import provision, runtime
from e2e.test_car_network import _sign
from evcc import exi, x509
from fixtures import tls_stations
from plugvault.capture import Capture
from plugvault.capture.trace import convert
from plugvault.car import Car
from plugvault.inspection import inspect
from plugvault.inspection.report import FAILED, Report, Scope
from plugvault.station import Offer, Station, Supply
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
    return Station(offer, roots, fetch, host="::1", tls=tls, capture=capture)


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
