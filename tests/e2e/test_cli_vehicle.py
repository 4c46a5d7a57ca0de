"""`plugvault vehicle` as a real process, at `plugvault station`, with one ecosystem for both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fixtures.namespaces import Cable
from fixtures.sandbox import Running
from fixtures.station_process import StationProcess
from plugvault.cli.app import main

pytestmark = pytest.mark.xdist_group("sdp")  # one station alone answers on an interface

Json = dict[str, Any]
NETWORK = "fd00:57a::"  # of the cable, for the two companies' ecosystem


def drive(
    *options: str | Path, command: Sequence[str] = (), **environment: str
) -> tuple[int, list[Json]]:
    """Exit status and events of one session."""
    arguments = [sys.executable, "-m", "plugvault.cli.app", "vehicle", "--json"]
    ended = subprocess.run(
        [*command, *arguments, *map(str, options)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
        timeout=200,
        check=False,
    )
    return ended.returncode, [json.loads(line) for line in ended.stdout.splitlines()]


def texts(events: Sequence[Json], name: str) -> list[str]:
    return [event["text"] for event in events if event["event"] == name]


class Served(NamedTuple):
    """An ecosystem's HTTPS address, and the file with its root."""

    url: str
    root: Path


@pytest.fixture
def sandbox(cable: Cable, tmp_path: Path) -> Iterator[Served]:
    """An ecosystem in open mode, at the station's end of the cable."""
    for end, number in ((cable.car, 1), (cable.station, 2)):
        address = (f"{NETWORK}{number}/64", "dev", end.interface, "nodad")
        subprocess.run(["ip", "-n", end.name, "address", "add", *address], check=True)
    with cable.station.entered():
        options = ("--open", "--tls", "--data", str(tmp_path / "world"), "--port", "0")
        running = Running(*options, "--host", f"{NETWORK}2")
    try:
        port = running.said["url"].rpartition(":")[2].rstrip("/")
        root = tmp_path / "world" / "certificates" / "v2g-root.pem"
        yield Served(f"https://[{NETWORK}2]:{port}", root)
    finally:
        running.end()


def test_a_vehicle_finds_a_station_installs_its_contract_and_charges(
    cable: Cable, sandbox: Served, tmp_path: Path
) -> None:
    # 6 kB over 20 kB/s, 300 ms late: the car waits 5 s for it.
    slow = ["--large-bundle", "6000", "--bandwidth", "20000", "--delay"]
    slow.append("CertificateInstallation=0.3")
    slow += ["--certificate-update", "--trust", sandbox.root]
    at_station = ["--interface", cable.station.interface, "--sandbox", sandbox.url, *slow]
    in_car = ["--interface", cable.car.interface, "--keep", tmp_path / "v"]
    in_car += ["--sandbox", sandbox.url, "--sandbox-trust", sandbox.root]
    capture = tmp_path / "session.pcapng"
    with StationProcess(*at_station, command=cable.station.command()) as station:
        car = cable.car.command()
        status, events = drive(*in_car, "--ocsp", "--pcap", capture, command=car)
        assert status == 0, events
        (emaid,) = texts(events, "installed")
        assert texts(events, "authorized") == [emaid]
        assert "%car0, port " in texts(events, "station")[0]
        assert "revocation: " in texts(events, "secured")[0]
        ready, over = events[0], events[-1]
        assert ready["contract"] == emaid
        assert (over["event"], over["ok"], over["authorized"]) == ("over", True, emaid)
        assert "CLIENT_RANDOM" in Path(f"{capture}.keys").read_text(encoding="utf-8")
        # The same vehicle again, without a search and with another interpreter: it has its
        # contract, and charges with it, twice.
        at = f"[{cable.station.address}]:{station.ready['ports']['tls']}"
        again = ["--charge", "DC", "--station", at, "--runtime", "cpython", "--sessions", "2"]
        status, events = drive(*in_car, *again, command=car)
        assert status == 0, events
        assert events[0]["pcid"] == ready["pcid"]
        assert texts(events, "installed") == []
        assert texts(events, "authorized") == [emaid] * 2
        assert len(texts(events, "charged")) == 2
        # The pool has no update for it, and the vehicle says so.
        status, events = drive(*in_car, "--update", "--station", at, command=car)
        assert status == 1
        assert texts(events, "failed") == ["response-code"]
        assert "CertificateUpdateReq" in [event["name"] for event in station.of("message")]
        assert station.end() == 1


def test_a_station_of_another_pki_is_talked_to_when_its_root_is_trusted(
    cable: Cable, tmp_path: Path
) -> None:
    at_station = ["--interface", cable.station.interface, "--data", tmp_path / "station"]
    in_car = ["--interface", cable.car.interface]
    with StationProcess(*at_station, command=cable.station.command()) as station:
        trusted = station.ready["v2g_root"]
        status, events = drive(*in_car, "--trust", trusted, command=cable.car.command())
        assert texts(events, "secured") != []
        # That station's operator does not know this vehicle's maker, nor its contract.
        assert status == 1
        assert texts(events, "authorized") == []
        assert (events[-1]["event"], events[-1]["ok"]) == ("over", False)


@pytest.mark.parametrize(
    "options",
    [
        ("--station", "fe80::1"),
        ("--station", "[::1]:0"),
        ("--ocsp", "--tls", "none"),
        ("--runtime", "quickjs"),
    ],
)
def test_a_wrong_option_is_refused_at_once(
    options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        sys.exit(main(["vehicle", "--interface", "lo", *options]))
    assert ended.value.code == 2
    assert options[0] in capsys.readouterr().err


def test_an_interface_that_is_not_here_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        sys.exit(main(["vehicle", "--interface", "nowhere7"]))
    assert ended.value.code == 1
    assert "nowhere7" in capsys.readouterr().out
