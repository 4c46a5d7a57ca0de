"""EcoG's car, unmodified, at our station: it finds the station by SDP, speaks TLS with the CPO's
token, gets a contract from our pools, pays with it and charges."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash

from fixtures.backend import Backend, Clock
from fixtures.ecog import Ecog
from fixtures.ecog_ends import ENDED, Pki, ecog_car
from fixtures.namespaces import Cable
from fixtures.station_process import StationProcess
from plugvault.contract.data import ContractData
from plugvault.ecosystem import Ecosystem


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


CHARGING = {
    "AC": {"supportedEnergyServices": ["AC"], "energyTransferMode": "AC_three_phase_core"},
    "DC": {"supportedEnergyServices": ["DC"], "energyTransferMode": "DC_extended"},
}


@pytest.mark.xdist_group("exificient")  # not many Java processes at once
@pytest.mark.parametrize("energy", CHARGING)
def test_ecogs_car_installs_pays_and_charges(
    ecog_stack: Ecog, cable: Cable, softhsm: Path, tmp_path: Path, energy: str
) -> None:
    clock, folder = Clock(), tmp_path / "ecog"
    with Ecosystem(tmp_path / "world", softhsm, clock=clock) as world:
        emaid = equip(Backend(world, clock), folder)
    with ExitStack() as stack:
        options = ["--interface", cable.station.interface, "--data", tmp_path / "world", "--once"]
        station = stack.enter_context(StationProcess(*options, command=cable.station.command()))
        car = stack.enter_context(ecog_car(ecog_stack, cable.car, folder, **CHARGING[energy]))
        status = car.wait()
        ended = station.end(None)
    states = car.states()
    assert (states[5], states[7]) == ("CertificateInstallation", "Authorization"), states
    assert states[-1] == "SessionStop", car.log[-3000:]
    assert (status, ENDED in car.log) == (0, True), car.log[-3000:]
    assert [event["emaid"] for event in station.of("authorized")] == [emaid]
    assert len(station.of("charged")) == 1
    assert ended == 0
