"""A campaign at a station: a vehicle with its own socket, and no adapter inside it."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

import wrong_modules
from evcc.iso15118_2 import session as evcc_session
from evcc.iso15118_2.session import Session
from evcc.network import sdp
from evcc.vault import PROVISIONING
from fixtures.station_tls import TlsClient
from fixtures.vehicle import Vehicle
from plugvault.campaign import adapters
from plugvault.campaign import cases as campaign_cases
from plugvault.campaign.adapters import open_module
from plugvault.campaign.case_session import Attempt
from plugvault.campaign.cases import Campaign, CampaignError
from plugvault.campaign.result import Result
from plugvault.campaign.run import run
from plugvault.campaign.station_adapter import Command, StationModule, Times, identity, judged
from plugvault.cases import catalogue, files
from plugvault.cases.case import Timing
from plugvault.cases.pki import CasePki
from plugvault.cases.seed import Seed
from plugvault.cli.app import main
from plugvault.interfaces import link_local

pytestmark = pytest.mark.xdist_group("sdp")  # one station alone answers on an interface

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


def tried(campaign: Campaign, folder: Path, charge: Charge = over_tcp, **times: float) -> Result:
    """The result of a vehicle that is plugged in for each message."""
    certificate = CasePki(Seed(9), NOW).oem_sub2.issue("PVTP0000000000001", dc="OEM")
    anchors = list(campaign.trust)
    vehicle = Vehicle(wrong_modules.Vault(), folder, anchors, certificate.der, campaign.at)

    def plug(case: str) -> None:
        with suppress(ConnectionError):
            charge(vehicle, station, dict(anchors)["V2G"])

    def opened() -> StationModule:
        nonlocal station
        seconds = Times(**{"arrival": 0.5, "silence": 20.0, **times})
        station = StationModule(link_local("lo"), identity(campaign), plug, seconds, False)
        return station

    station: StationModule
    return run(campaign, opened)


def verdicts(result: Result) -> dict[str, str]:
    return {case.id: case.verdict for case in result.cases}


@pytest.mark.parametrize("charge", [over_tls, over_tcp])
def test_a_good_vehicle_passes_at_a_station(
    charge: Charge, made: Callable[..., Campaign], tmp_path: Path
) -> None:
    campaign = made("EN-00[17]", "RC-010", "SE-00[1-5]", "SE-012", "KT-001", "KT-040")
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


@contextmanager
def waiting(seconds: float) -> Iterator[None]:
    """Vehicles give an installation this time, and all else the standard's."""
    pair = evcc_session.PAIRS[evcc_session.CERTIFICATE_INSTALLATION]
    with patch.object(pair, "timeout_ms", int(seconds * 1000)):
        yield


def impatient(seconds: float) -> Charge:
    """A vehicle that gives the message of the case, the second one, less time than others."""
    sessions: list[int] = []

    def charge(vehicle: Vehicle, station: StationModule, root: bytes) -> None:
        sessions.append(1)
        with waiting(seconds if len(sessions) % 3 == 2 else 60):
            over_tcp(vehicle, station, root)

    return charge


def test_a_response_in_its_time_is_accepted_however_slow_it_is(
    made: Callable[..., Campaign], tmp_path: Path
) -> None:
    with waiting(60):
        result = tried(made("TI-00[12]", "TI-010"), tmp_path / "store", factor=0.05)
    assert verdicts(result) == {"TI-001": "pass", "TI-002": "pass", "TI-010": "pass"}
    outcome = result.cases[1].message
    assert outcome is not None
    assert outcome.milliseconds >= 4500 * 0.05


def test_a_late_or_incomplete_response_is_refused(
    made: Callable[..., Campaign], tmp_path: Path
) -> None:
    """The vehicle waits 0.1 s; late bytes come after 0.3 s or more."""
    campaign = made("TI-003", "TI-011", "TI-02*", "TI-030")
    result = tried(campaign, tmp_path / "store", impatient(0.1), factor=0.05)
    assert [(case.id, case.verdict, case.why) for case in result.cases if case.why] == []
    assert len(result.cases) == 11


def test_a_vehicle_that_takes_a_late_response_fails(
    made: Callable[..., Campaign], tmp_path: Path
) -> None:
    with waiting(60):
        result = tried(made("TI-003", "TI-011"), tmp_path / "store", factor=0.01)
    assert verdicts(result) == {"TI-003": "fail", "TI-011": "fail"}


def test_a_vehicle_that_waits_for_the_rest_for_ever_fails(
    made: Callable[..., Campaign], tmp_path: Path
) -> None:
    with waiting(60):
        result = tried(made("TI-024"), tmp_path / "store", hang=0.2)
    assert verdicts(result) == {"TI-024": "fail"}
    assert "still waits after 0.2 s" in result.cases[0].why


def test_the_times_of_a_response_are_not_tried_without_a_station(
    made: Callable[..., Campaign], tmp_path: Path
) -> None:
    campaign, asked = made("TI-003"), []
    with patch.object(adapters, "importlib") as importlib:
        importlib.import_module.return_value.answer = lambda it: asked.append(it) or {"v": 1}
        result = run(campaign, lambda: open_module("py:module:answer", 5))
    assert verdicts(result) == {"TI-003": "not applicable"}
    assert [request["op"] for request in asked] == ["hello"]


def test_the_command_says_what_a_station_needs(
    made: Callable[..., Campaign], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made("EN-001")
    folder = str(tmp_path / "cases")
    for arguments, words in (
        ((folder, "--module", "station:none0"), "there is no interface 'none0'"),
        (("--vehicle", "chain.pem", "--module", "station:lo"), "the roots in DIR/trust first"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["campaign", *arguments])
        assert ended.value.code == 2
        assert words in capsys.readouterr().err


def test_a_command_plugs_the_vehicle_in(tmp_path: Path) -> None:
    file = tmp_path / "plugged"
    plug = Command(["sh", "-c", f"echo x >> {file}"])
    plug("EN-001")
    plug("EN-002")
    plug.close()
    assert file.read_text() == "x\nx\n"
    with pytest.raises(CampaignError, match="No such file"):
        Command(["./no-command"])("EN-001")


def test_a_command_that_fails_is_named_and_no_vehicle_is_waited_for(
    made: Callable[..., Campaign],
) -> None:
    campaign, asked = made("RC-010"), []

    def failure() -> str:
        """The command fails after the first look at it; without further looks it has not."""
        asked.append(None)
        return "" if len(asked) == 1 else "plug-in ended with exit status 7"

    times = Times(arrival=60.0, silence=20.0)
    lo, own = link_local("lo"), identity(campaign)
    result = run(
        campaign, lambda: StationModule(lo, own, lambda _: None, times, False, failure=failure)
    )
    assert verdicts(result) == {"RC-010": "inconclusive"}
    assert "plug-in ended with exit status 7" in result.cases[0].why


def test_a_command_that_has_failed_is_named_with_its_exit_status() -> None:
    for status, words in (("7", "sh ended with exit status 7"), ("0", "")):
        plug = Command(["sh", "-c", f"exit {status}"])
        assert plug.failure() == ""
        plug("EN-001")
        plug.close()  # waits for its end
        assert plug.failure() == words


@pytest.mark.parametrize(
    ("paid", "verified", "answer"),
    [
        (None, None, ("refused", None)),
        (b"old", True, ("refused", True)),
        (b"new", True, ("accepted", True)),
        (b"new", False, ("accepted", False)),
        (b"new", None, ("accepted", False)),  # it ended before its AuthorizationReq
    ],
)
@pytest.mark.parametrize("contract", [b"new", None])
def test_the_contract_that_pays_says_whether_a_message_was_taken(
    paid: bytes | None, verified: bool | None, answer: tuple[str, bool | None], contract: bytes
) -> None:
    """contract: of the message; None: it cannot be read, and a lenient vehicle reads it."""
    attempt = Attempt(b"", None, True, Timing(), 1.0, True, paid, verified)
    said = judged(attempt, contract, {b"old"})
    assert (said.verdict, said.signs) == answer


def test_a_vehicle_that_does_not_trust_the_station_proves_nothing(
    made: Callable[..., Campaign], tmp_path: Path
) -> None:
    def distrustful(vehicle: Vehicle, station: StationModule, root: bytes) -> None:
        with suppress(ssl.SSLError):
            over_tls(vehicle, station, CasePki(Seed(5), NOW).v2g_root.der)

    result = tried(made("EN-001"), tmp_path / "store", distrustful)
    assert verdicts(result) == {"EN-001": "inconclusive"}
    assert "handshake: tlsv1 alert unknown ca" in result.cases[0].why


def test_a_vehicle_between_two_cases_gets_no_session(
    made: Callable[..., Campaign], tmp_path: Path
) -> None:
    ends: list[object] = []

    def eager(vehicle: Vehicle, station: StationModule, root: bytes) -> None:
        over_tcp(vehicle, station, root)
        try:
            ends.append(vehicle.charge(("::1", station.ports[sdp.NO_TLS]), want_contract=True))
        except ConnectionError:  # the end came before the request
            ends.append([("lost", "")])

    result = tried(made("EN-001"), tmp_path / "store", eager)
    assert verdicts(result) == {"EN-001": "pass"}
    assert ends == [[("lost", "")]] * 3


def test_a_vehicle_whose_contract_signs_wrongly_fails_though_it_took_the_message(
    made: Callable[..., Campaign], tmp_path: Path
) -> None:
    signed = wrong_modules.Vault.sign

    def sign(vault: wrong_modules.Vault, key: bytes, digest: bytes) -> bytes:
        return bytes(signed(vault, key, digest if key == PROVISIONING else bytes(32)))

    with patch.object(wrong_modules.Vault, "sign", sign):
        result = tried(made("EN-001"), tmp_path / "store")
    assert verdicts(result) == {"EN-001": "fail"}
    assert "the contract's key does not sign" in result.cases[0].why
