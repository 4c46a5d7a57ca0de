"""A campaign at a station: a vehicle with its own socket, and no adapter inside it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

import wrong_modules
from evcc.iso15118_2 import session as evcc_session
from evcc.iso15118_2.session import Session
from evcc.network import sdp
from fixtures.station_tls import TlsClient
from fixtures.vehicle import Vehicle
from plugvault.campaign import cases as campaign_cases
from plugvault.campaign.cases import Campaign
from plugvault.campaign.result import Result
from plugvault.campaign.run import run
from plugvault.campaign.station_adapter import StationModule, identity
from plugvault.cases import catalogue, files
from plugvault.cases.pki import CasePki
from plugvault.cases.seed import Seed
from plugvault.interfaces import link_local

DAY = 86_400
NOW = int(time.time()) // DAY * DAY
Charge = Callable[[Vehicle, StationModule, bytes], object]


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Campaign]:
    key = ec.derive_private_key(wrong_modules.PROVISIONING_SCALAR, ec.SECP256R1())
    leaf = CasePki(Seed(9), NOW).oem_sub2.issue("PVTP0000000000001", dc="OEM", key=key)

    def make(*patterns: str) -> Campaign:
        files.make(tmp_path / "cases", leaf.certificate, catalogue.select(*patterns), 1, NOW)
        return campaign_cases.read(tmp_path / "cases")

    return make


def over_tls(vehicle: Vehicle, station: StationModule, root: bytes) -> None:
    address = ("::1", station.ports[sdp.TLS])
    vehicle.charge(address, TlsClient(root).context, want_contract=True)


def over_tcp(vehicle: Vehicle, station: StationModule, root: bytes) -> None:
    vehicle.charge(("::1", station.ports[sdp.NO_TLS]), want_contract=True)


def tried(campaign: Campaign, folder: Path, charge: Charge = over_tcp) -> Result:
    """The result of a vehicle that is plugged in for each message."""
    certificate = CasePki(Seed(9), NOW).oem_sub2.issue("PVTP0000000000001", dc="OEM")
    anchors = list(campaign.trust)
    vehicle = Vehicle(wrong_modules.Vault(), folder, anchors, certificate.der, campaign.at)

    def plug(case: str) -> None:
        with suppress(ConnectionError):
            charge(vehicle, station, dict(anchors)["V2G"])

    station = StationModule(
        link_local("lo"), identity(campaign), plug, arrival=0.5, seconds=2.0, discovers=False
    )
    return run(campaign, lambda: station)


def verdicts(result: Result) -> dict[str, str]:
    return {case.id: case.verdict for case in result.cases}


@pytest.mark.parametrize("charge", [over_tls, over_tcp])
def test_a_good_vehicle_passes_at_a_station(
    charge: Charge, made: Callable[..., Campaign], tmp_path: Path
) -> None:
    campaign = made("EN-00[14]", "RC-010", "SE-00[1-5]", "SE-012", "KT-001", "KT-040")
    result = tried(campaign, tmp_path / "store", charge)
    assert [(case.id, case.verdict, case.why) for case in result.cases if case.why] == []
    assert len(result.cases) == 11
    assert set(verdicts(result).values()) == {"pass"}


@pytest.mark.parametrize(
    ("mistake", "case", "words"),
    [
        ("any leaf below a V2G root is a CPS", "PA-040", "accepted"),
        ("the EMAID is that of the certificate", "EM-010", "accepted"),
        ("the opened key is not compared", "KT-040", "not signed by this key"),
        ("leading zeros of the scalar are refused", "KT-001", "refused"),
    ],
)
def test_a_mistake_of_the_field_is_found_at_a_station(
    mistake: str, case: str, words: str, made: Callable[..., Campaign], tmp_path: Path
) -> None:
    with wrong_modules.MISTAKES[mistake][0]():
        result = tried(made(case), tmp_path / "store")
    assert verdicts(result) == {case: "fail"}
    assert words in result.cases[0].why


def test_a_vehicle_that_asks_for_no_contract_proves_nothing(
    made: Callable[..., Campaign], tmp_path: Path
) -> None:
    sessions: list[int] = []

    def content(vehicle: Vehicle, station: StationModule, root: bytes) -> None:
        """It asks once, and then pays with the contract that it has."""
        sessions.append(1)
        vehicle.charge(("::1", station.ports[sdp.NO_TLS]), want_contract=len(sessions) == 1)

    result = tried(made("RC-010"), tmp_path / "store", content)
    assert verdicts(result) == {"RC-010": "inconclusive"}
    assert "asks for no contract" in result.cases[0].why


def test_a_vehicle_that_does_not_come_proves_nothing(
    made: Callable[..., Campaign], tmp_path: Path
) -> None:
    result = tried(made("RC-010"), tmp_path / "store", lambda *_: None)
    assert verdicts(result) == {"RC-010": "inconclusive"}
    assert "no vehicle within 0.5 s" in result.cases[0].why


def test_a_vehicle_that_goes_on_with_its_earlier_contract_has_refused(
    made: Callable[..., Campaign], tmp_path: Path
) -> None:
    """It ignores a bad answer, and pays with the contract of the good twin."""

    def forgiving(session: Session, contract: Any) -> str:
        return "pay" if contract is None else installed(session, contract)

    installed = evcc_session._installed
    with patch.object(evcc_session, "_installed", forgiving):
        result = tried(made("KT-040"), tmp_path / "store")
    assert verdicts(result) == {"KT-040": "pass"}
    outcome = result.cases[0].message
    assert outcome is not None
    assert (outcome.reason, outcome.signs) == ("it pays with an earlier contract", True)


def test_a_request_at_a_station_names_no_contract(
    made: Callable[..., Campaign], tmp_path: Path
) -> None:
    result = tried(made("SE-007"), tmp_path / "store", lambda *_: None)
    assert verdicts(result) == {"SE-007": "not applicable"}
