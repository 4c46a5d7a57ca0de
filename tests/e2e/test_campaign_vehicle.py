"""A campaign at a station: COMMAND is `plugvault vehicle`, at the other end of a cable."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest

from fixtures.namespaces import Cable
from plugvault.campaign import station_adapter
from plugvault.cli.app import main


def vehicle(cable: Cable, kept: Path, *options: str | Path) -> list[str]:
    """The command of a vehicle at the car's end, in the folder `kept`."""
    words = ("vehicle", "--interface", cable.car.interface, "--keep", kept, *options)
    return cable.car.command(sys.executable, "-m", "plugvault.cli.app", *words)


def run(*words: str | Path) -> int:
    """The exit status of a plugvault command in this process."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)


def test_a_vehicle_in_a_process_of_its_own_is_judged_by_its_payments(
    cable: Cable, tmp_path: Path
) -> None:
    """It finds the station by SDP and asks over TLS; the good twin, then the case, then a good
    message as heartbeat."""
    kept, cases, report = tmp_path / "vehicle", tmp_path / "cases", tmp_path / "report.json"
    no_station = f"[{cable.station.address}]:9"
    made = vehicle(cable, kept, "--station", no_station)
    subprocess.run(made, stdout=subprocess.DEVNULL, check=False)
    only = ("--only", "KT-040")
    make = ("cases", "make", "--vehicle", kept / "chain.pem", "--out", cases)
    assert run(*make, *only) == 0
    plug_in = vehicle(cable, kept, "--install", "--trust", cases / "trust/V2G.der")
    module = f"station:{cable.station.interface}:{shlex.join(plug_in)}"
    with (
        patch.multiple(station_adapter, BY_COMMAND=200.0, _END_SECONDS=200.0),  # a slow machine
        cable.station.entered(),
    ):
        status = run("campaign", cases, "--module", module, "--timeout", "600", "--json", report)
    (case,) = json.loads(report.read_text())["cases"]
    assert (case["verdict"], case["why"]) == ("pass", "")
    assert (case["message"]["kind"], case["message"]["reason"]) == ("refused", "SessionStop")
    assert status == 0
