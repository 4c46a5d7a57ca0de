"""The module at a network: it finds a station by SDP, checks its TLS, and charges, by itself."""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from e2e.test_car_link import over_the_air, provision, runtime
from evcc import exi, sdp, x509
from fixtures import tls_stations
from fixtures.namespaces import Cable
from plugvault.car import Car
from plugvault.station import Offer, Station
from plugvault.tokens import Token, TokenKey
from world import EMAID, World

SECOND = "DEPVT0000000X19"
RUNTIMES = ("cpython", "debian", "wheel", "debian32")
UNCHECKED = "revocation: not checked"


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
    """A charging station at the cable's end, and the certificate of its TLS."""

    cable: Cable
    world: World
    folder: Path

    def context(self, leaf: Any = None, **settings: Any) -> ssl.SSLContext:
        return tls_stations.context(self.folder, leaf or self.world.cpo, **settings)

    @contextlib.contextmanager
    def open(
        self, server: ssl.SSLContext | None, before: tuple[bytes, ...] = ()
    ) -> Iterator[tls_stations.Sdp]:
        """server: None: a station without TLS."""

        def fetch(request: bytes) -> bytes:
            body = exi.decode(request)["V2G_Message"]["Body"]["CertificateInstallationReq"]
            leaf = x509.parse(body["OEMProvisioningCert"])
            return self.world.response(leaf.point, contract=self.world.new_contract(SECOND))

        roots = [self.world.v2g_root.der, self.world.mo_root.der]
        end = self.cable.station
        security = sdp.NO_TLS if server is None else sdp.TLS
        with contextlib.ExitStack() as stack, end.entered():
            station = Station(Offer(), roots, fetch, insecure_contract=True)
            target = stack.enter_context(station.in_thread())
            gate = stack.enter_context(tls_stations.Gate(server, end.scoped, target))
            yield stack.enter_context(tls_stations.Sdp(end, gate.port, security, before))

    @contextlib.contextmanager
    def car(self, name: str, key: TokenKey, token: Any, **network: Any) -> Iterator[Car]:
        network = {"interface": self.cable.car.interface, **network}
        with self.cable.car.entered():
            car = Car(
                runtime(name),
                "serial",
                self.folder / "car",
                maker=key.point,
                token=token,
                network=network,
                vault="link" if name == "debian32" else None,  # no token for 32 bits here
            )
            with car:
                yield car


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
    with (
        bay.open(bay.context(staple=status)) as searches,
        bay.car(name, key, car_token) as car,
    ):
        provision(car, key, bay.world)
        events = but_checks(car.find_and_charge(want_contract=True))
        assert [event for event, _ in events] == [
            "station",
            "secured",
            "installed",
            "authorized",
        ], car.bench.log
        assert events[0][1].startswith("fe80:0:0:0:0:0:0:57a%car0, port ")
        assert f"DE*PVT*E0001; revocation: {verdict}" in events[1][1]
        assert events[-1] == ("authorized", SECOND)
        assert searches.asked[0] == sdp.TLS
        assert car.find_and_charge()[-1] == ("authorized", SECOND)
        assert car.stderr == ""
