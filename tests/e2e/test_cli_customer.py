"""`plugvault customer`, as a customer's app would ask."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner, Result

from fixtures.backend import Backend, Vehicle
from plugvault.cli import customer as command


@pytest.fixture
def run(backend: Backend, monkeypatch: pytest.MonkeyPatch):
    credentials = backend.ecosystem.credentials("OEM")
    monkeypatch.setenv("PLUGVAULT_URL", credentials.audience)
    monkeypatch.setenv("PLUGVAULT_CLIENT_ID", credentials.client_id)
    monkeypatch.setenv(command.VARIABLE, credentials.client_secret)
    app = command.typer.Typer()
    app.command()(command.customer)

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(app, arguments)

    return invoke


def test_the_customer_sees_contracts_and_the_active_one(backend: Backend, run):
    vehicle: Vehicle = backend.vehicle()
    assert "No contracts" in run(vehicle.pcid).stdout
    first = backend.ecosystem.mo.contract(vehicle.pcid)
    second = backend.ecosystem.mo_v2g.contract(vehicle.pcid)
    report = json.loads(run(vehicle.pcid, "--json").stdout)
    assert report["pcid"] == vehicle.pcid
    assert [(contract["emaid"], contract["default"]) for contract in report["contracts"]] == [
        (first, True),
        (second, False),
    ]
    table = run(vehicle.pcid).stdout.splitlines()
    assert [line for line in table if "this one" in line and first in line]
    assert [line for line in table if "this one" not in line and second in line]


def test_another_makers_vehicle_is_refused(run):
    ended = run("XXXP0000000000001")
    assert ended.exit_code == 1
    assert "WMI" in ended.stderr


def test_without_the_secret_the_error_names_its_place(run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(command.VARIABLE)
    ended = run("PVTP0000000000001")
    assert ended.exit_code == 2
    assert command.VARIABLE in ended.stderr
