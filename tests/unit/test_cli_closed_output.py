"""A stdout without a reader ends `station` and `vehicle`, and no session of a vehicle."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from evcc.network import sdp
from plugvault.cli import app, station, vehicle
from plugvault.cli.station import run as station_run
from plugvault.cli.station.options import Security
from plugvault.cli.vehicle import _Shown
from plugvault.station import Faults
from plugvault.station.reports import Connected


class ClosedView:
    """A display whose output has no reader."""

    def __init__(self) -> None:
        self.attempts = 0

    def ready(self, facts: dict[str, Any]) -> None:
        """It is shown while the reader is still there."""

    def _fail(self, *facts: object) -> None:
        self.attempts += 1
        raise BrokenPipeError(32, "Broken pipe")

    observe = searched = report = _fail


def test_vehicle_ends_after_a_session_whose_display_has_failed() -> None:
    view: Any = ClosedView()
    shown = _Shown(view)

    def session() -> None:
        with shown:
            for text in ("station fe80::1", "authorized DEPVAC000000012", "closed"):
                with contextlib.suppress(BrokenPipeError):  # the link's thread would log it
                    shown.observe("event", text)

    with pytest.raises(BrokenPipeError):
        session()
    assert view.attempts == 1


def run_of_a_station(view: Any) -> station_run.Run:
    options: Any = SimpleNamespace(
        tls=Security.OFF,
        offer=None,
        insecure_contract=False,
        clients=4,
        timeouts=1,
        once=False,
        evse="",
        interface="lo",
    )
    supplied: Any = SimpleNamespace(anchors=[], fetch=None, v2g_root=Path("root"))
    local: Any = SimpleNamespace(scoped="::1")
    return station_run.Run(options, Faults(), local, supplied, view, None)


def test_station_ends_when_its_display_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    class Discovery:
        """A vehicle searches as soon as it is started."""

        def __init__(self, local: Any, ports: Any, searched: Callable[..., None], _: Any) -> None:
            self._searched = searched

        async def start(self) -> None:
            asyncio.get_running_loop().call_soon(self._searched, "fe80::1", True, True)

        def close(self) -> None:
            pass

    monkeypatch.setattr(station_run, "Discovery", Discovery)

    async def serve() -> None:
        run = run_of_a_station(ClosedView())
        await asyncio.wait_for(run.until_the_end(), 10)

    with pytest.raises(BrokenPipeError):
        asyncio.run(serve())


def test_session_of_a_vehicle_goes_on_when_the_stations_display_fails() -> None:
    view = ClosedView()
    run_of_a_station(view)._report(sdp.NO_TLS, 1, Connected("fe80::1"))
    assert view.attempts == 1


@pytest.mark.parametrize("name", ["station", "vehicle"])
def test_command_without_a_reader_of_its_output_ends_without_a_word(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def closed(*_: object) -> Any:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(station, "wait", closed)
    monkeypatch.setattr(vehicle, "_run", closed)
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # typer replaces it
    with pytest.raises(SystemExit) as ended:
        app.main([name, "--interface", "lo", "--json"])
    assert ended.value.code == 1
    assert capsys.readouterr().err == ""
