"""The ecosystem inside a test process of its user, with deliveries."""

from __future__ import annotations

from pathlib import Path

from fixtures.backend import Backend, Clock
from fixtures.receiver import Receiver, until
from plugvault.ecosystem import Ecosystem
from plugvault.opcp.services import Settings
from plugvault.pools.caller import OEM


def test_a_webhook_is_called_by_an_ecosystem_that_delivers(
    tmp_path: Path, softhsm: Path, receiver: Receiver
):
    clock = Clock()
    settings = Settings(networks=("127.0.0.0/8",))
    with Ecosystem(tmp_path / "world", softhsm, clock=clock, settings=settings) as ecosystem:
        ecosystem.deliver()
        backend = Backend(ecosystem, clock)
        webhook = {"url": receiver.url, "enabledEvents": ["oem.contract.created"]}
        assert backend.ask(OEM, "POST", "/v1/webhook/endpoints", json=webhook).status_code == 201
        vehicle = backend.vehicle()
        assert backend.sign(backend.contract_data(vehicle), vehicle.pcid).status_code == 201
        until(lambda: receiver.got)
        assert receiver.events[0]["payload"]["pcid"] == vehicle.pcid
