"""The module at a network: it finds a station by SDP, checks its TLS, and charges, by itself."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature

from e2e.test_car_link import over_the_air, provision, runtime
from evcc import exi, x509
from evcc.network import sdp
from fixtures import tls_stations
from fixtures.namespaces import Cable
from plugvault import interfaces
from plugvault.campaign import cases as campaign_cases
from plugvault.campaign.run import run
from plugvault.campaign.station_adapter import StationModule, Times, identity
from plugvault.car import Car
from plugvault.cases import catalogue, files
from plugvault.link.bench import BenchError
from plugvault.link.station_socket import Way
from plugvault.station import Offer, Station, StationSettings
from plugvault.tls import Identity, StationTls
from plugvault.tokens import Token, TokenKey
from world import World

SECOND = "DEPVT0000000X19"
RUNTIMES = ("cpython", "debian", "wheel", "debian32")


@pytest.fixture(scope="module")
def today() -> World:
    """A world of certificates valid now: the module looks at the computer's clock."""
    return World(now=int(time.time()))


@pytest.fixture
def key(makers: Token) -> TokenKey:
    """The maker's telematics key."""
    return makers.generate("telematics")


@dataclass
class Bay:
    """A charging station at the cable's end."""

    cable: Cable
    world: World
    folder: Path

    @contextlib.contextmanager
    def open(self, staple: bytes | None = None, secure: bool = True) -> Iterator[tls_stations.Sdp]:
        """The station, and its answers to searches. staple: an OCSP answer."""

        def fetch(request: bytes) -> bytes:
            body = exi.decode(request)["V2G_Message"]["Body"]["CertificateInstallationReq"]
            leaf = x509.parse(body["OEMProvisioningCert"])
            return self.world.response(leaf.point, contract=self.world.new_contract(SECOND))

        cpo, root = self.world.cpo, self.world.v2g_root.der
        assert cpo.key is not None
        sign = functools.partial(_sign, cpo.key)
        identity = Identity(cpo.der, cpo.chain[1:], root, sign, lambda: staple)
        tls = StationTls([identity]) if secure else None
        roots = [root, self.world.mo_root.der]
        end = self.cable.station
        with end.entered():
            station = Station(Offer(), roots, fetch, StationSettings(host=end.scoped, tls=tls))
            with station.in_thread() as (_, port), self.found(port, secure) as searches:
                yield searches

    @contextlib.contextmanager
    def found(self, port: int, secure: bool = True) -> Iterator[tls_stations.Sdp]:
        """Answers to searches that name this port."""
        security = sdp.TLS if secure else sdp.NO_TLS
        with tls_stations.Sdp(self.cable.station, port, security) as searches:
            yield searches

    @contextlib.contextmanager
    def car(self, name: str, key: TokenKey, token: Any, **network: Any) -> Iterator[Car]:
        """A car that has left the factory, at its end of the cable. network: its settings; with
        interface=None the module has no network."""
        network = {"interface": self.cable.car.interface, **network}
        with self.cable.car.entered():
            car = Car(
                runtime(name),
                "serial",
                self.folder / "car",
                maker=key.point,
                token=token,
                network=network if network["interface"] else None,
                vault="link" if name == "debian32" else None,  # no token for 32 bits here
            )
            with car:
                self.maker = provision(car, key, self.world)
                yield car


def _sign(key: ec.EllipticCurvePrivateKey, digest: bytes) -> bytes:
    """As a key in a token signs: r and s, 32 bytes each."""
    r, s = decode_dss_signature(key.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256()))))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


@pytest.fixture
def bay(cable: Cable, today: World, tmp_path: Path) -> Bay:
    return Bay(cable, today, tmp_path)


def but_checks(events: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [event for event in events if event[0] != "check"]


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_car_finds_a_station_installs_a_contract_and_pays_through_tls(
    name: str, bay: Bay, key: TokenKey, car_token: Any
) -> None:
    status = tls_stations.answer(bay.world.cpo, int(time.time()))
    verdict = "good" if name in ("cpython", "debian") else "not checked"
    with bay.open(status) as searches, bay.car(name, key, car_token) as car:
        events = but_checks(car.find_and_charge(want_contract=True))
        names = [event for event, _ in events]
        assert names == ["station", "secured", "installed", "authorized"], car.bench.log
        assert events[0][1].startswith("fe80:0:0:0:0:0:0:57a%car0, port ")
        assert f"DE*PVT*E0001; revocation: {verdict}" in events[1][1]
        assert events[-1] == ("authorized", SECOND)
        assert searches.asked[0] == sdp.TLS
        assert car.find_and_charge()[-1] == ("authorized", SECOND)
        assert car.stderr == ""


def test_a_station_with_a_wrong_certificate_gets_no_message(
    bay: Bay, key: TokenKey, car_token: Any
) -> None:
    end = bay.cable.station
    with contextlib.ExitStack() as stack:
        car = stack.enter_context(bay.car("debian", key, car_token))
        over_the_air(bay.maker, bay.world)
        stack.enter_context(end.entered())
        server = tls_stations.context(bay.folder, bay.world.cps)
        station = tls_stations.TlsStation(server, end.scoped)
        station.start()
        stack.callback(station.close)
        stack.enter_context(bay.found(station.port))
        (_, *events) = car.find_and_charge()
        assert events == [("failed", "tls")]
        assert "role" in car.bench.log[-1]
        assert station.received == []
        assert car.status()["charging"] is False


def test_a_station_without_tls_is_used_only_as_the_settings_say(
    bay: Bay, key: TokenKey, car_token: Any
) -> None:
    with bay.open(secure=False), bay.car("debian", key, car_token, tls="optional") as car:
        over_the_air(bay.maker, bay.world)
        assert car.find_and_charge()[1:] == [("failed", "insecure")]
        # The station does not take a contract either; the car's setting alone is not enough.
        events = car.find_and_charge(insecure_contract=True)
        assert events[1:] == [("failed", "no-contract-payment")]


def test_the_link_is_served_while_the_module_searches(
    bay: Bay, key: TokenKey, car_token: Any
) -> None:
    with bay.car("cpython", key, car_token) as car:
        number = car.request("plug", network=True)["session"]
        with pytest.raises(BenchError, match="a session is running"):
            car.request("plug", network=True)
        assert car.status()["charging"] is True
        car.request("unplug")
        assert car.status()["charging"] is False
        assert car.request("plug", network=True)["session"] == number + 1
        car.request("unplug")
        assert "failed" not in [name for name, _ in car.bench.events]


def test_a_port_that_refuses_is_unreachable(bay: Bay, key: TokenKey, car_token: Any) -> None:
    at = {"address": bay.cable.station.address, "port": 49152}
    with bay.car("debian", key, car_token, **at) as car:
        assert car.find_and_charge()[1:] == [("failed", "unreachable")]


def test_a_vehicle_computer_does_sdp_and_tls_for_a_module_that_has_only_a_line(
    bay: Bay, key: TokenKey, car_token: Any
) -> None:
    root, interface = bay.world.v2g_root.der, bay.cable.car.interface
    car_end = bay.cable.car
    with bay.open(), bay.car("wheel", key, car_token, interface=None) as car, car_end.entered():
        events = but_checks(car.charge_by(Way([root], interface), want_contract=True))
        assert events == [("installed", SECOND), ("authorized", SECOND)]
        stranger = Way([bay.world.mo_root.der], interface)
        with pytest.raises(BenchError, match="station: tls: certificate: untrusted"):
            car.charge_by(stranger)
        assert car.status()["charging"] is False
        with pytest.raises(BenchError, match="tls: revocation: the station sends no OCSP"):
            car.charge_by(Way([root], interface, needs_ocsp=True))


def test_a_module_passes_cases_at_the_station_of_a_campaign(
    bay: Bay, key: TokenKey, car_token: Any
) -> None:
    """The module as it is, with its token: SDP, TLS, installation, authorization."""
    today, folder = int(time.time()) // 86_400 * 86_400, bay.folder / "cases"
    with bay.car("debian", key, car_token) as car:
        leaf = files.vehicle_of(bay.world.provisioning(bay.maker.car).der)
        files.make(folder, leaf, catalogue.select("EN-001", "PA-040", "SE-004"), 1, today)
        campaign = campaign_cases.read(folder)
        bay.maker.install_trust("EU", list(campaign.trust))
        end = bay.cable.station
        with end.entered():
            local = interfaces.wait(end.interface)
            station = StationModule(
                local,
                identity(campaign),
                lambda case: car.find_and_charge(want_contract=True),
                Times(arrival=20.0, silence=20.0),
            )
        result = run(campaign, lambda: station)
    assert [(case.id, case.verdict, case.why) for case in result.cases if case.why] == []
    assert result.counts["pass"] == 3
