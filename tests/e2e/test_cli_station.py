"""`plugvault station` as a real process: SDP, TLS, a contract, faults, its events and its end."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from both.softvault import SoftVault
from evcc import csr
from evcc.network import sdp
from evcc.vault import PROVISIONING
from fixtures.namespaces import Cable
from fixtures.sandbox import eventually
from fixtures.station_process import StationProcess
from fixtures.station_tls import TlsClient
from fixtures.tokens import CarToken
from fixtures.vehicle import Vehicle
from plugvault.cli.app import main
from plugvault.ecosystem import Ecosystem
from plugvault.ecosystem.companies import MAKER, OPERATOR_V2G, PROVIDER_V2G
from plugvault.opcp.services import Settings
from plugvault.pki import ocsp, path
from plugvault.pki.request import read_certs_only
from plugvault.pools.caller import CPO
from plugvault.roles.client import Credentials, OpcpClient
from plugvault.roles.mo import Operator
from plugvault.roles.oem import VehicleMaker
from world import EMAID, World

pytestmark = pytest.mark.xdist_group("sdp")  # one station alone answers on an interface


def trusted(station: StationProcess) -> bytes:
    """The V2G root that the station names, DER."""
    return ssl.PEM_cert_to_DER_cert(Path(station.ready["v2g_root"]).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an ecosystem, made by the first station."""
    return tmp_path_factory.mktemp("station") / "ecosystem"


def test_a_vehicle_finds_the_station_and_begins_a_session_over_tls(
    cable: Cable, vehicle: Vehicle, folder: Path, tmp_path: Path
) -> None:
    capture = tmp_path / "session.pcapng"
    options = ["--interface", cable.station.interface, "--data", folder, "--pcap", capture]
    with StationProcess(*options, "--once", command=cable.station.command()) as station:
        with cable.car.entered():
            found = search(cable)
            address = f"{cable.station.address}%{cable.car.interface}"
            client = TlsClient(trusted(station), ocsp=True)
            events = vehicle.charge((address, found.port), client.context)
        # The station does not know the world's operator: its contract is not accepted.
        assert events[-1][0] != "authorized"
        assert station.end(None) == 1
    assert found.security == sdp.TLS
    assert client.answer is not None
    assert station.of("search")[0]["asks_for_tls"] is True
    assert station.of("tls")[0]["ocsp"] == "sent"
    names = [event["name"] for event in station.of("message")]
    assert names[:2] == ["supportedAppProtocolReq", "supportedAppProtocolRes"]
    assert station.events[-1] == {"event": "over", "sessions": 1, "authorized": 0}
    assert capture.stat().st_size > 3000
    assert "CLIENT_RANDOM" in Path(f"{capture}.keys").read_text(encoding="utf-8")


class Companies:
    """The maker and an operator of the ecosystem in a folder, over HTTP."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        secrets = json.loads((folder / "secrets.json").read_text())
        url = f"http://127.0.0.1:{secrets['server']['port']}"
        maker, operator = (
            stack.enter_context(OpcpClient(url, Credentials(*secrets["clients"][name], url)))
            for name in (MAKER, OPERATOR_V2G)
        )
        self.maker, self.operator = VehicleMaker(maker), Operator(operator, PROVIDER_V2G)

    def vehicle(self, vault: Any, folder: Path) -> Vehicle:
        """A new vehicle of the maker, registered."""
        point, sign = vault.generate_provisioning_key(), partial(vault.sign, PROVISIONING)
        leaf, subs = self.maker.enrol(csr.build("PVTP0000000000077", MAKER, "DE", point, sign))
        self.maker.register(leaf, subs)
        anchors = self.maker.anchors("EU", leaf, subs)
        return Vehicle(vault, folder, anchors, leaf, int(time.time()))


def test_a_vehicle_installs_its_contract_from_the_pool_pays_and_the_station_ends_well(
    car_token: CarToken, folder: Path, tmp_path: Path
) -> None:
    options = ("--interface", "lo", "--data", folder, "--once", "--large-bundle", "6000")
    with StationProcess(*options) as station, ExitStack() as stack:
        companies = Companies(stack, folder)
        vault = stack.enter_context(closing(car_token.open()))
        vehicle = companies.vehicle(vault, tmp_path)
        emaid = companies.operator.contract("PVTP0000000000077")
        client = TlsClient(trusted(station))
        address = (station.host, station.ready["ports"]["tls"])
        events = vehicle.charge(address, client.context)
        assert events[:2] == [("installed", emaid), ("authorized", emaid)]
        assert station.end(None) == 0
    (authorized,) = station.of("authorized")
    assert (authorized["emaid"], authorized["evseid"]) == (emaid, "DE*PVC*E000001")
    (bundle,) = [it for it in station.events if it.get("name") == "CertificateInstallationRes"]
    assert bundle["bytes"] > 5000
    assert station.events[-1] == {"event": "over", "sessions": 1, "authorized": 1}


def search(cable: Cable) -> sdp.Found:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as searcher:
        searcher.settimeout(10)
        index = socket.if_nametoindex(cable.car.interface)
        searcher.sendto(sdp.request(sdp.TLS), (sdp.GROUP, sdp.PORT, 0, index))
        return sdp.read_response(searcher.recv(100))


def test_both_kinds_of_connection_are_served_side_by_side(
    folder: Path, world: World, vehicle: Vehicle
) -> None:
    options = ("--interface", "lo", "--data", folder, "--tls", "both")
    with StationProcess(*options, "--answer", "SessionSetup=FAILED") as station:
        ports = station.ready["ports"]
        assert set(ports) == {"tls", "tcp"}
        for port, tls in ((ports["tcp"], None), (ports["tls"], TlsClient().context)):
            events = vehicle.charge((station.host, port), tls)
            assert events[0] == ("failed", "response-code")
        eventually(lambda: len(station.of("ended")) == 2)
        assert station.end(signal.SIGTERM) == 1
    assert {event["session"] for event in station.of("ended")} == {1, 2}
    assert station.of("ended")[0]["reason"] == "SessionSetupRes with FAILED: a fault"


def test_a_station_that_no_vehicle_visits_ends_well_and_leaves_nothing(tmp_path: Path) -> None:
    with StationProcess("--interface", "lo", TMPDIR=str(tmp_path)) as station:
        assert Path(station.ready["v2g_root"]).is_relative_to(tmp_path)
        assert station.end() == 0
        assert station.events[-1] == {"event": "over", "sessions": 0, "authorized": 0}
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def open_ecosystem(tmp_path_factory: pytest.TempPathFactory, softhsm: Path) -> Iterator[Ecosystem]:
    folder, settings = tmp_path_factory.mktemp("open") / "world", Settings(open=True)
    with Ecosystem(folder, softhsm, settings=settings) as ecosystem:
        yield ecosystem


def test_an_open_ecosystem_certifies_the_stations_own_key(open_ecosystem: Ecosystem) -> None:
    url = open_ecosystem.url
    with StationProcess("--interface", "lo", "--sandbox", url) as station:
        client = TlsClient(trusted(station), ocsp=True)
        address = (station.host, station.ready["ports"]["tls"])
        with (
            socket.create_connection(address, timeout=10) as connection,
            client.context.wrap_socket(connection) as secured,
        ):
            leaf = secured.getpeercert(binary_form=True)
        assert leaf is not None
        assert client.answer is not None
        answer = ocsp.read(client.answer, leaf, issuer_of(leaf, url), time.time())
        assert answer.status == "good"
        assert station.end() == 1  # a connection without a session


def test_a_served_file_gets_the_id_of_the_session_and_installs(
    open_ecosystem: Ecosystem, tmp_path: Path
) -> None:
    world, vault = World(), SoftVault()
    certificate = world.provisioning(vault.generate_provisioning_key()).der
    vehicle = Vehicle(vault, tmp_path / "store", world.anchors, certificate)
    file = tmp_path / "response.exi"
    file.write_bytes(world.response(vault.public(PROVISIONING), session_id=b"\0"))
    credentials = open_ecosystem.credentials(CPO)
    options = ("--interface", "lo", "--sandbox", open_ecosystem.url, "--serve", file)
    with StationProcess(
        *options,
        PLUGVAULT_CLIENT_ID=credentials.client_id,
        PLUGVAULT_CLIENT_SECRET=credentials.client_secret,
    ) as station:
        client = TlsClient(trusted(station))
        events = vehicle.charge((station.host, station.ready["ports"]["tls"]), client.context)
        assert events[0] == ("installed", EMAID)
        eventually(lambda: station.of("ended"))
        assert station.end() == 1  # the contract's operator is not one of the station's
    assert station.of("ended")[0]["authorized"] is False
    assert "FAILED_CertChainError" in station.of("ended")[0]["reason"]


def issuer_of(leaf: bytes, url: str) -> bytes:
    """The sub-CA above a station's certificate, from the ecosystem's EST."""
    answer = httpx.get(f"{url}/cpo/cacerts/ISO15118-2/secp256r1/", trust_env=False)
    above = path.read(leaf).issuer
    return next(der for der in read_certs_only(answer.content) if path.read(der).subject == above)


def refused(capsys: pytest.CaptureFixture[str], *options: Any) -> tuple[int, str]:
    """Exit status and output of a station that does not start."""
    with pytest.raises(SystemExit) as ended:
        main(["station", *map(str, options)])
    output = capsys.readouterr()
    return int(ended.value.code or 0), " ".join((output.out + output.err).split())


def test_an_unusable_interface_ends_with_its_reason_and_what_to_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, text = refused(capsys, "--interface", "eth77")
    assert status == 1
    assert "there is no interface 'eth77'; use one of:" in text


@pytest.mark.parametrize(
    "options, words",
    [
        (("--delay", "Authorization=soon"), "no number of seconds"),
        (("--answer", "Authorization=FAILED_Nothing"), "no ResponseCode"),
        (("--drop", "Nothing"), "no message"),
    ],
)
def test_a_fault_that_does_not_exist_is_refused_with_the_existing_ones(
    options: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, text = refused(capsys, "--interface", "lo", *options)
    assert (status, words in text) == (2, True)


def test_a_file_that_is_no_response_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "request.exi"
    file.write_bytes(b"no EXI")
    status, text = refused(capsys, "--interface", "lo", "--serve", file)
    assert status == 1
    assert "is no CertificateInstallationRes" in text


def test_two_sources_of_contracts_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, text = refused(
        capsys, "--interface", "lo", "--data", tmp_path, "--sandbox", "http://[::1]"
    )
    assert status == 1
    assert "--sandbox or --data, not both" in text


RENEWED = """
import sys, time
from contextlib import ExitStack
from pathlib import Path
from plugvault.cli.station import supply
from plugvault.cli.station.options import Options

with ExitStack() as stack:
    supplied = supply.find(stack, Options("lo", data=Path(sys.argv[1])))
    renewed = supplied.renew()
    renewed.check(time.time())
    assert renewed.root == supplied.identity.root
    assert renewed.staple() not in (None, supplied.identity.staple())
    print(supplied.identity.leaf.hex(), renewed.leaf.hex())
"""


def test_a_station_gets_its_next_certificate_for_the_same_key(folder: Path) -> None:
    """In a process of its own: a process can have one SoftHSM store open."""
    ended = subprocess.run(
        [sys.executable, "-c", RENEWED, folder], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    before, after = (path.read_any(bytes.fromhex(word)) for word in ended.stdout.split())
    assert after.point == before.point
    assert after.serial != before.serial
