"""Our module, on CPython and on MicroPython, at EcoG's station, unmodified: it finds the station
by SDP, checks its TLS, pays with a contract of ours or installs one of EcoG's, and charges."""

from __future__ import annotations

import base64
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingUnixStreamServer
from typing import Any

import pytest

from e2e.test_car_link import over_the_air, runtime
from fixtures.backend import Backend
from fixtures.ecog import Ecog
from fixtures.ecog_ends import EcogPki, EcogStation, Pki, ecog_station
from fixtures.namespaces import Cable, plugged
from plugvault.car import Car
from plugvault.link.bench import BenchError
from plugvault.tokens import Token, TokenKey
from plugvault.tokens.location import TokenLocation
from plugvault.tokens.selection import TokenConfiguration
from plugvault.tokens.softhsm import TokenStore
from world import EMAID, PCID, World

PATIENCE = 20  # times the standard's time: a Java process that has just started is slow
AC = {"mode": "AC", "loops": 2}
# EcoG's simulated station has at most 40 V, and always tells a present voltage of 1 V.
DC = {"mode": "DC", "loops": 2, "voltage": 20}
STOPPED = "EV requested to terminate the communication session\n"  # EcoG's log, once a session
RESUMED = "UDP server has been resumed"  # it answers searches again


@pytest.fixture(scope="module")
def ecog_pki(ecog: Ecog, tmp_path_factory: pytest.TempPathFactory) -> EcogPki:
    return EcogPki(ecog, tmp_path_factory.mktemp("ecog") / "pki")


@pytest.fixture(scope="module")
def cable(namespaces: None) -> Iterator[Cable]:
    """One cable for this file, as there is one station."""
    with plugged() as cable_:
        yield cable_


@pytest.fixture(scope="module")
def station(ecog_stack: Ecog, ecog_pki: EcogPki, cable: Cable) -> Iterator[EcogStation]:
    with ecog_station(ecog_stack, cable.station, ecog_pki.folder) as station_:
        yield station_


@contextmanager
def our_car(
    name: str, cable: Cable, folder: Path, key: TokenKey, token: Any, pki: EcogPki, world: World
) -> Iterator[tuple[Car, Any]]:
    """A car of EcoG's PKI that also trusts the operator of ours; and its maker's channel."""
    network = {"interface": cable.car.interface}
    with cable.car.entered():
        car = Car(runtime(name), "tcp", folder, maker=key.point, token=token, network=network)
        with car:
            maker = car.maker(key)
            point = maker.connect()
            maker.csr(PCID, "Plug Test", "DE")
            maker.install_trust("EU", [*pki.anchors, *world.anchors])
            maker.install_certificate(pki.provision(point))
            yield car, maker


def charge(car: Car, station: EcogStation, **wishes: Any) -> dict[str, str]:
    """One session from the search to the stop that the car asked for: its events."""
    resumed, ended = (station.log.count(text) for text in (RESUMED, STOPPED))
    try:
        events = car.find_and_charge(time_factor=PATIENCE, **wishes)
    except BenchError as error:
        raise AssertionError(f"{car.bench.events} {station.log[-6000:]}") from error
    assert "failed" not in dict(events), (events, car.bench.log, station.log[-3000:])
    for text, before in ((STOPPED, ended), (RESUMED, resumed)):
        station.wait_for(text, before + 1)
    return dict(events)


@pytest.mark.xdist_group("exificient")  # not many Java processes at once
@pytest.mark.parametrize(("name", "energy"), [("cpython", AC), ("debian", DC)])
def test_a_car_pays_with_our_contract_and_installs_one_of_ecogs(
    name: str,
    energy: dict[str, Any],
    cable: Cable,
    station: EcogStation,
    ecog_pki: EcogPki,
    makers: Token,
    car_token: Any,
    tmp_path: Path,
) -> None:
    world, key = World(int(time.time())), makers.generate("telematics")
    with our_car(name, cable, tmp_path / "car", key, car_token, ecog_pki, world) as (car, maker):
        over_the_air(maker, world)
        events = charge(car, station, charge=energy)
        assert (events["authorized"], events["charged"]) == (EMAID, "2 exchanges")
        assert "SECCCert" in events["secured"]
        events = charge(car, station, charge=energy, want_contract=True)
        assert (events["installed"], events["authorized"]) == (ecog_pki.emaid,) * 2
        assert events["charging"].startswith(energy["mode"])
        assert events["charged"] == "2 exchanges"
        assert car.stderr == ""


@contextmanager
def operator(file: Path, fetch: Callable[[bytes], bytes]) -> Iterator[None]:
    """A Unix socket that answers vehicles' requests; a network namespace does not separate it."""

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            answer = fetch(base64.b64decode(self.rfile.readline()))
            self.wfile.write(base64.b64encode(answer) + b"\n")

    with ThreadingUnixStreamServer(str(file), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield
        server.shutdown()
        thread.join()


@pytest.mark.xdist_group("exificient")  # not many Java processes at once
def test_a_car_installs_from_our_pools_through_ecogs_station(
    ecog_stack: Ecog,
    ecog_pki: EcogPki,
    backend: Backend,
    tmp_path: Path,
) -> None:
    """The station's own hook hands the car's request on to our operator, and our answer back."""
    world, pcid = backend.ecosystem, "PVTPECOGSTATION01"
    store, pin = TokenStore(tmp_path / "hsm"), secrets.token_hex(8)
    store.init_token("car", pin, secrets.token_hex(8))
    token = TokenConfiguration(TokenLocation(store.module, "car", store.conf), pin)
    folder = shutil.copytree(ecog_pki.folder, tmp_path / "pki")
    settings = {"USE_CPO_BACKEND": "true", "OPERATOR": str(tmp_path / "operator")}
    with ExitStack() as stack:
        stack.enter_context(operator(tmp_path / "operator", world.cpo.fetch_contract))
        cable = stack.enter_context(plugged())
        with cable.car.entered():
            car = Car(
                runtime("cpython"),
                "tcp",
                tmp_path / "car",
                maker=world.telematics_key.point,
                token=token,
                network={"interface": cable.car.interface},
            )
            stack.enter_context(car)
        maker = car.maker(world.telematics_key)
        maker.connect()
        leaf, subs = world.oem.enrol(maker.csr(pcid, "Plug Test", "DE"))
        maker.install_trust("EU", [*ecog_pki.anchors[:1], *world.oem.anchors("EU", leaf, subs)])
        maker.install_certificate([leaf, *subs])
        world.oem.register(leaf, subs, [world.v2g_root])
        emaid = world.mo.contract(pcid)
        pki = Pki(folder)  # by which the station checks the signature of the car's request
        for name, der in zip(("oemSubCA2Cert", "oemSubCA1Cert"), subs, strict=True):
            pki.certificate(name, der)
        pki.certificate("oemRootCACert", world.oem_root)
        station = stack.enter_context(ecog_station(ecog_stack, cable.station, folder, settings))
        events = charge(car, station, charge=AC, want_contract=True)
    assert (events["installed"], events["authorized"]) == (emaid, emaid)
    assert "Using CPO backend" in station.log
