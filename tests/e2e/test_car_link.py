"""The real module in a process of its own, on every interpreter here, over a real line."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from evcc import exi, x509
from fixtures.tokens import CarToken
from plugvault import runtimes
from plugvault.car import Car, CarError
from plugvault.link.bench import BenchError
from plugvault.link.endpoint import LinkEndpoint, open_serial
from plugvault.link.nullmodem import NullModem
from plugvault.station import Offer, Station, StationSettings
from plugvault.telematics import TelematicsError
from plugvault.tokens import Token, TokenKey
from plugvault.tokens.location import TokenLocation
from plugvault.tokens.selection import TokenConfiguration
from world import EMAID, PCID, World

SECOND = "DEPVT0000000X19"
INSECURE = StationSettings(insecure_contract=True)
MAKER = b"\4" + bytes(64)  # a point without a private key
SESSION_ID = bytes(range(8))


@pytest.fixture(scope="module")
def today() -> World:
    """A world of certificates valid now: the module looks at the computer's clock."""
    return World(now=int(time.time()))


@pytest.fixture
def key(makers: Token) -> TokenKey:
    """The maker's telematics key."""
    return makers.generate("telematics")


def runtime(name: str) -> runtimes.Runtime:
    interpreter = runtimes.get(name)
    if interpreter is None:
        pytest.skip(f"no {name} interpreter here; `make` fetches it")
    return interpreter


def noise(per_thousand: int) -> Any:
    """Changes, drops and repeats so many bytes in a thousand."""
    chance = random.Random(per_thousand)

    def spoil(data: bytes) -> bytes:
        out = bytearray()
        for byte in data:
            kind = chance.randrange(3) if chance.randrange(1000) < per_thousand else None
            out += bytes({None: [byte], 0: [], 1: [byte, byte], 2: [byte ^ 0x55]}[kind])
        return bytes(out)

    return spoil


def provision(car: Car, key: TokenKey, world: World) -> Any:
    """The factory: a key, a certificate for it, trust anchors. Returns the maker's end."""
    maker = car.maker(key)
    point = maker.connect()
    csr = maker.csr(PCID, "Plug Test", "DE")
    assert point in csr
    maker.install_trust("EU", world.anchors)
    maker.install_certificate(world.provisioning(point).chain)
    return maker


def over_the_air(maker: Any, world: World, emaid: str = EMAID) -> str:
    response = world.response(maker.car, contract=world.new_contract(emaid), session_id=SESSION_ID)
    maker.offer_contract(emaid, SESSION_ID)
    return str(maker.install_contract(response))


@pytest.fixture(scope="module")
def bytecode(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a board that does not freeze the module: .mpy, and the two files beside."""
    folder = tmp_path_factory.mktemp("mpy")
    subprocess.run(
        [sys.executable, SIZES, "--keep", folder], check=True, stdout=subprocess.DEVNULL
    )
    of_linux = ("evcc/ports/exclusive.py", "evcc/ports/serial.py")  # here a tty is a board's UART
    for name in ("boot.py", "main.py", *of_linux):
        shutil.copy(runtimes.firmware() / name, folder / name)
    return folder


SIZES = Path(__file__).parents[2] / "tools/sizes.py"
BUDGETS = json.loads((runtimes.firmware() / "budgets.json").read_text())

WAYS = [
    ("cpython", "serial", "service", 0),
    ("cpython", "tcp", "service", 0),
    ("cpython", "serial", "link", 3),
    ("wheel", "serial", "service", 3),
    ("wheel", "tcp", "link", 0),
    ("debian", "serial", "token", 10),
    ("debian", "tcp", "token", 0),
    ("debian", "serial", "service", 0),
    ("debian32", "serial", "link", 0),
]


@pytest.mark.parametrize("name, link, vault, per_thousand", WAYS)
def test_a_car_is_made_gets_two_contracts_and_pays_with_each(
    name: str,
    link: str,
    vault: str,
    per_thousand: int,
    tmp_path: Path,
    car_token: Any,
    key: TokenKey,
    today: World,
    bytecode: Path,
) -> None:
    def fetch(request: bytes) -> bytes:
        body = exi.decode(request)["V2G_Message"]["Body"]["CertificateInstallationReq"]
        leaf = x509.parse(body["OEMProvisioningCert"])
        return today.response(leaf.point, contract=today.new_contract(SECOND))

    station = Station(
        Offer(),
        [today.v2g_root.der, today.mo_root.der],
        fetch,
        INSECURE,
    )
    how: dict[str, Any] = {"vault": vault, "noise": noise(per_thousand) if per_thousand else None}
    if name == "debian32":  # as wide as a board, so with a board's heap, files and vault
        how |= {"code": bytecode, "heap": str(BUDGETS["heap_of_a_life"])}
    with (
        station.in_thread() as (host, port),
        Car(runtime(name), link, tmp_path / "car", maker=key.point, token=car_token, **how) as car,
    ):
        maker = provision(car, key, today)
        assert over_the_air(maker, today) == "L1+"
        events = car.charge(host, port, insecure_contract=True)
        assert events == [("authorized", EMAID)]
        events = car.charge(host, port, want_contract=True, insecure_contract=True)
        assert [event for event in events if event[0] != "check"] == [
            ("installed", SECOND),
            ("authorized", SECOND),
        ]
        assert ("check", "cps-path") in events
        maker.choose_contract(SECOND)
        assert [(contract_.emaid, contract_.active) for contract_ in maker.contracts()] == [
            (EMAID, False),
            (SECOND, True),
        ]
        maker.remove_contract(EMAID)
        status = car.status()
        assert [contract["emaid"] for contract in status["contracts"]] == [SECOND]
        assert status["pcid"] == PCID
        assert status["runtime"].startswith("cpython" if name == "cpython" else "micropython")
        traffic = car.traffic()
        assert traffic["session"]["in"] > 4000 < traffic["session"]["out"]
        assert traffic["wire"]["in"] > sum(t["in"] for n, t in traffic.items() if n != "wire")
        if per_thousand:  # on a clean line a busy machine's late answer is asked for again as well
            assert traffic["wire"]["resent"] > 0
        assert [record.emaid for record in station.records] == [EMAID, SECOND]
        assert car.stderr == ""


def test_the_same_car_after_a_restart(
    tmp_path: Path, car_token: Any, key: TokenKey, today: World
) -> None:
    arguments = ("serial", tmp_path / "car")
    with Car(runtime("cpython"), *arguments, maker=key.point, token=car_token) as car:
        point = provision(car, key, today).car
    with Car(runtime("cpython"), *arguments, maker=key.point, token=car_token) as car:
        maker = car.maker(key, car=point)
        assert maker.connect() == point
        assert over_the_air(maker, today) == "L1+"
        assert maker.status().pcid == PCID


def relative(location: TokenLocation) -> TokenLocation:
    """The same location, as seen from the working directory."""
    here = Path.cwd()
    module = Path(os.path.relpath(location.module, here))
    conf = Path(os.path.relpath(location.conf, here)) if location.conf else None
    return dataclasses.replace(location, module=module, conf=conf)


@pytest.mark.parametrize("name", ["cpython", "debian"])
def test_paths_from_the_working_directory_are_good_in_the_cars_folder(
    tmp_path: Path,
    car_token: CarToken,
    key: TokenKey,
    today: World,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code = Path(os.path.relpath(runtimes.program()))
    token = TokenConfiguration(relative(car_token.location), car_token.pin)
    with Car(
        runtime(name), "tcp", Path("cars/one"), maker=key.point, token=token, code=code
    ) as car:
        maker = provision(car, key, today)
        assert over_the_air(maker, today) == "L1+"
    assert (tmp_path / "cars/one/config.json").is_file()


def test_a_killed_module_is_reported_at_once_with_its_last_output(
    tmp_path: Path, car_token: Any, key: TokenKey
) -> None:
    with Car(
        runtime("cpython"), "serial", tmp_path / "car", maker=key.point, token=car_token
    ) as car:
        os.kill(car.pid, signal.SIGKILL)
        started = time.monotonic()
        with pytest.raises(CarError, match="exit code -9"):
            car.status()
        assert time.monotonic() - started < 10  # and not the 30 s of an answer that never comes


def test_a_module_that_cannot_start_reports_the_reason(tmp_path: Path, car_token: Any) -> None:
    folder = tmp_path / "car"
    folder.mkdir()
    (folder / "store").write_text("not a folder")
    with (
        pytest.raises(CarError, match="store") as caught,
        Car(runtime("cpython"), "tcp", folder, maker=MAKER, token=car_token),
    ):
        pass
    assert caught.value.reason == "died"


def test_a_missing_interpreter_is_a_clear_error(tmp_path: Path, car_token: Any) -> None:
    gone = dataclasses.replace(runtime("cpython"), argv=("/no/such/python",))
    with (
        pytest.raises(CarError, match="No such file") as caught,
        Car(
            gone,
            "serial",
            tmp_path / "car",
            maker=MAKER,
            token=car_token,
            vault="token",
        ),
    ):
        pass
    assert caught.value.reason == "start"
    assert not (tmp_path / "car/pin").exists()


@pytest.mark.parametrize("name", ["cpython", "wheel", "debian"])
def test_a_wrong_pin_is_a_clear_error_and_tried_once(
    name: str, tmp_path: Path, car_token: Any
) -> None:
    how = runtime(name)
    car_token.pin = "0" * 8
    with (
        pytest.raises(Exception, match="pin"),
        Car(how, "tcp", tmp_path / "car", maker=MAKER, token=car_token),
    ):
        pass


def test_another_maker_learns_at_once_that_it_is_not_the_cars_and_nothing_else(
    tmp_path: Path, car_token: Any, key: TokenKey, makers: Token
) -> None:
    other_maker = makers.generate("other")
    with Car(runtime("cpython"), "tcp", tmp_path / "car", maker=key.point, token=car_token) as car:
        with pytest.raises(TelematicsError) as caught:
            car.maker(other_maker).connect()
        assert str(caught.value) == "unable: the peer is not the maker"
        assert car.status()["custody"] == ""  # not even a key was made
        assert "not the maker" in car.bench.log[0]


def test_another_car_is_noticed_by_the_maker(
    tmp_path: Path, car_token: Any, key: TokenKey
) -> None:
    with Car(runtime("cpython"), "tcp", tmp_path / "car", maker=key.point, token=car_token) as car:
        with pytest.raises(TelematicsError) as caught:
            car.maker(key, car=key.point).connect()
        assert caught.value.reason == "stranger"


@pytest.mark.parametrize(
    ("name", "vault"), [("cpython", "service"), ("debian", "token"), ("debian32", "link")]
)
def test_a_car_charges_pauses_and_goes_on(
    name: str,
    vault: str,
    tmp_path: Path,
    car_token: Any,
    key: TokenKey,
    today: World,
    bytecode: Path,
) -> None:
    station = Station(
        Offer(),
        [today.v2g_root.der, today.mo_root.der],
        lambda _: b"",
        INSECURE,
    )
    how: dict[str, Any] = {"vault": vault}
    if name == "debian32":
        how |= {"code": bytecode, "heap": str(BUDGETS["heap_of_a_charge"])}
    with (
        station.in_thread() as (host, port),
        Car(
            runtime(name), "serial", tmp_path / "car", maker=key.point, token=car_token, **how
        ) as car,
    ):
        over_the_air(provision(car, key, today), today)
        wishes: dict[str, Any] = {"insecure_contract": True, "time_factor": 20}
        charge = {"mode": "DC", "loops": 2, "pause": True}
        events = car.charge(host, port, charge=charge, **wishes)
        charged = [("charging", "DC_extended"), ("charged", "2 exchanges")]
        assert events == [("authorized", EMAID), *charged, ("paused", "")]
        events = car.charge(host, port, charge={"loops": 1}, resume=True, **wishes)
        assert events[:2] == [("resumed", ""), ("authorized", EMAID)]
    assert [record.emaid for record in station.records] == [EMAID, EMAID]


def test_the_bench_reports_impossible_requests(
    tmp_path: Path, car_token: Any, key: TokenKey, today: World
) -> None:
    station = Station(Offer(), [today.v2g_root.der], lambda request: b"")
    with Car(runtime("cpython"), "tcp", tmp_path / "car", maker=key.point, token=car_token) as car:
        with pytest.raises(BenchError, match="not a request"):
            car.request("fly", timeout=1)
        with pytest.raises(BenchError, match="station"):
            car.charge("127.0.0.1", 1)
        with station.in_thread() as (host, port):
            assert car.charge(host, port)[-1] == ("failed", "insecure")
        assert car.status()["charging"] is False


def test_no_secret_in_the_configuration_the_command_line_or_the_log(
    tmp_path: Path, car_token: Any, key: TokenKey, today: World
) -> None:
    how = runtime("debian")
    with Car(how, "serial", tmp_path / "car", maker=key.point, token=car_token) as car:
        provision(car, key, today)
        command = Path(f"/proc/{car.pid}/cmdline").read_bytes()
        environment = Path(f"/proc/{car.pid}/environ").read_bytes()
        config = (tmp_path / "car" / "config.json").read_bytes()
        for place in (command, environment, config, repr(vars(car)).encode()):
            assert car_token.pin.encode() not in place
        for name in ("config.json", "pin"):
            assert (tmp_path / "car" / name).stat().st_mode & 0o777 == 0o600
        assert car_token.pin not in "".join(car.bench.log)
    assert not (tmp_path / "car" / "pin").exists()


def test_noise_on_a_pty_never_loses_a_message() -> None:
    received: list[list[bytes]] = [[], []]
    with NullModem(noise(10)) as cable:
        ends = [
            LinkEndpoint(open_serial(path), {1: heard.append})
            for path, heard in zip((cable.a, cable.b), received, strict=True)
        ]
        with ends[0], ends[1]:
            sent = [os.urandom(1 + 97 * i % 4000) for i in range(30)]
            for message in sent:
                ends[0].send(1, message)
                ends[1].send(1, message[::-1])
            deadline = time.monotonic() + 60
            while (
                min(len(received[0]), len(received[1])) < len(sent) and time.monotonic() < deadline
            ):
                time.sleep(0.01)
            assert received == [[message[::-1] for message in sent], sent]
            assert ends[0].resent > 0


def test_a_cable_of_115200_baud_keeps_to_its_speed() -> None:
    received: list[bytes] = []
    with NullModem(baud=115_200) as cable:
        far = LinkEndpoint(open_serial(cable.b), {1: received.append})
        with LinkEndpoint(open_serial(cable.a), {}) as near, far:
            near.send(1, b"x")
            while not received:
                time.sleep(0.001)
            started = time.monotonic()
            near.send(1, bytes(4424))
            while len(received) < 2:
                time.sleep(0.001)
            took = time.monotonic() - started
    assert 0.38 < took < 3  # tests/both/test_mux.py has the exact figure, on a simulated clock
