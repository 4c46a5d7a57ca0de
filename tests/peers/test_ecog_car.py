"""EcoG's car, unmodified, at our station: it finds the station by SDP, speaks TLS with the CPO's
token, gets a contract from our pools, pays with it and charges."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash

from evcc import sdp
from fixtures.backend import Backend, Clock
from fixtures.ecog import Ecog
from fixtures.ecog_ends import ENDED, Pki, ecog_car
from fixtures.namespaces import Cable
from plugvault.contract.data import ContractData
from plugvault.ecosystem import Ecosystem
from plugvault.interfaces import link_local
from plugvault.station import Offer, Station
from plugvault.station.discovery import Discovery
from plugvault.tls import Identity, StationTls


def opened(data: ContractData, key: ec.EllipticCurvePrivateKey) -> ec.EllipticCurvePrivateKey:
    """The contract's key, as the car opens its envelope [ISO 15118-2, V2G2-818 to 822]."""
    point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), data.dh_point)
    secret = key.exchange(ec.ECDH(), point)
    content = ConcatKDFHash(hashes.SHA256(), 16, b"\x01\x55\x56").derive(secret)
    decryptor = Cipher(algorithms.AES(content), modes.CBC(data.wrapped[:16])).decryptor()
    scalar = decryptor.update(data.wrapped[16:]) + decryptor.finalize()
    return ec.derive_private_key(int.from_bytes(scalar, "big"), ec.SECP256R1())


def equip(backend: Backend, folder: Path) -> str:
    """Make EcoG's car of our maker, with its contract in our pool; the contract's EMAID.

    EcoG's simulator forgets the contract that it installs and pays with the one in its files, so
    they hold the same one.
    """
    world = backend.ecosystem
    vehicle = backend.vehicle()
    data = world.mo.issue(world.mo.vehicle(vehicle.pcid), world.mo.new_emaid())
    world.mo.sign(data, vehicle.pcid)
    pki = Pki(folder)
    pki.certificate("v2gRootCACert", world.v2g_root)
    pki.certificate("oemLeafCert", vehicle.leaf)
    pki.key("oemLeaf", vehicle.key)
    pki.certificate("contractLeafCert", data.certificate)
    for name, der in zip(("moSubCA2Cert", "moSubCA1Cert"), data.subs, strict=True):
        pki.certificate(name, der)
    pki.key("contractLeaf", opened(data, vehicle.key))
    return data.emaid


@contextmanager
def our_station(world: Ecosystem, interface: str) -> Iterator[Station]:
    """The CPO's station on an interface, with SDP."""
    leaf = world.station
    identity = Identity(leaf.certificate, leaf.subs, world.v2g_root, leaf.key.sign_digest)
    local = link_local(interface)
    station = Station(
        Offer(),
        [world.mo_root, world.v2g_root],
        world.cpo.fetch_contract,
        host=local.scoped,
        tls=StationTls([identity]),
    )

    async def serve(stop: asyncio.Event, started: threading.Event) -> None:
        await station.start()
        discovery = Discovery(local, {sdp.TLS: station.port})
        await discovery.start()
        started.set()
        await stop.wait()
        discovery.close()
        await station.close()

    loop, stop, started = asyncio.new_event_loop(), asyncio.Event(), threading.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve(stop, started)))
    thread.start()
    assert started.wait(20)
    try:
        yield station
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


CHARGING = {
    "AC": {"supportedEnergyServices": ["AC"], "energyTransferMode": "AC_three_phase_core"},
    "DC": {"supportedEnergyServices": ["DC"], "energyTransferMode": "DC_extended"},
}


@pytest.mark.xdist_group("exificient")  # not many Java processes at once
@pytest.mark.parametrize("energy", CHARGING)
def test_ecogs_car_installs_pays_and_charges(
    ecog: Ecog, cable: Cable, softhsm: Path, tmp_path: Path, energy: str
) -> None:
    clock, folder = Clock(), tmp_path / "ecog"
    with cable.station.entered(), ExitStack() as stack:
        world = stack.enter_context(Ecosystem(tmp_path / "world", softhsm, clock=clock))
        emaid = equip(Backend(world, clock), folder)
        station = stack.enter_context(our_station(world, cable.station.interface))
        car = stack.enter_context(ecog_car(ecog, cable.car, folder, **CHARGING[energy]))
        status = car.wait()
    states = car.states()
    assert (states[5], states[7]) == ("CertificateInstallation", "Authorization"), states
    assert [record.emaid for record in station.records] == [emaid]
    assert states[-1] == "SessionStop", car.log[-3000:]
    assert (status, ENDED in car.log) == (0, True), car.log[-3000:]
