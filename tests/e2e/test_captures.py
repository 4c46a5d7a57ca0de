"""A real session, the module through TLS at the station, captured at both ends and told alike."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from captured import followed
from e2e.test_car_link import provision, runtime
from e2e.test_car_network import _sign
from evcc import exi, x509
from plugvault.capture import Capture
from plugvault.capture.trace import convert
from plugvault.car import Car
from plugvault.inspection import inspect
from plugvault.inspection.report import FAILED, Report, Scope
from plugvault.station import Offer, Station
from plugvault.tls import Identity, StationTls
from plugvault.tokens import Token
from world import EMAID, World


@pytest.mark.parametrize("name", ["cpython", "debian"])
def test_a_session_is_told_alike_from_the_captures_of_both_ends(
    name: str, tmp_path: Path, makers: Token, car_token: Any
) -> None:
    world = World(now=int(time.time()))
    with Capture(tmp_path / "station.pcapng") as capture:
        station = _station(world, capture)
        with station.in_thread() as (_, port):
            _charge(name, world, port, tmp_path, makers, car_token)
    assert convert(tmp_path / "trace", tmp_path / "car.pcapng", "::1") == ""
    told = [_told(tmp_path / f"{end}.pcapng", world) for end in ("station", "car")]
    names = [[message["name"] for message in session["messages"]] for session in told]
    assert names[0] == names[1]
    assert "CertificateInstallationRes" in names[0]
    assert names[0][-1] == "SessionStopRes"
    sizes = [[message["bytes"] for message in session["messages"]] for session in told]
    if shutil.which("tshark"):
        for end in ("station", "car"):
            followed_bytes = followed(tmp_path / f"{end}.pcapng", "tls")
            assert [len(data) for _, data in followed_bytes] == sizes[0]


def _station(world: World, capture: Capture) -> Station:
    def fetch(request: bytes) -> bytes:
        body = exi.decode(request)["V2G_Message"]["Body"]["CertificateInstallationReq"]
        leaf = x509.parse(body["OEMProvisioningCert"])
        return world.response(leaf.point, contract=world.new_contract(EMAID))

    assert world.cpo.key is not None
    key, root = world.cpo.key, world.v2g_root.der
    identity = Identity(
        world.cpo.der, tuple(world.cpo.chain[1:]), root, lambda digest: _sign(key, digest)
    )
    roots = [root, world.mo_root.der]
    tls = StationTls([identity])
    return Station(Offer(), roots, fetch, host="::1", tls=tls, capture=capture)


def _charge(
    name: str, world: World, port: int, folder: Path, makers: Token, car_token: Any
) -> None:
    """One session of a new car, with a live installation; its module writes a trace."""
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
        events = car.find_and_charge(want_contract=True)
        assert ("authorized", EMAID) in events, car.bench.log


def _told(path: Path, world: World) -> dict[str, Any]:
    """The one session of a capture, in which no check fails."""
    anchors = tuple(x509.parse(der) for _, der in world.anchors)
    report: Report = inspect(path.read_bytes(), Scope(world.now, anchors))
    assert [check for check in report.checks if check.verdict == FAILED] == []
    (session,) = report.content["sessions"]
    return session
