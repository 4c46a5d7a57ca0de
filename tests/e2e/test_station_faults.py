"""Each fault of a station, on a real socket, with a car and its real token at the other end."""

from __future__ import annotations

import logging
import re
import time
from typing import Any

import pytest

from evcc import exi, x509
from evcc.iso15118_2 import charging, messages, session, update
from evcc.link import v2gtp
from fixtures.vehicle import Vehicle, operator
from fixtures.vehicle import station as station_of
from plugvault.cases import catalogue
from plugvault.cases.scene import Scene
from plugvault.contract.iso15118_2.response import negative
from plugvault.station import Faults, Offer, Station, large_bundle
from plugvault.station.faults import CLOSE, PAIRS, RESET, SILENCE, Pace, checked_code, pair_of
from plugvault.station.iso15118_2.performance import PERFORMANCE_MS
from plugvault.station.limits import FETCH_SECONDS
from plugvault.station.reports import Ended, Report
from world import EMAID, World

INSTALLED_AND_PAID = [("installed", EMAID), ("authorized", EMAID), ("closed", "")]
Seen = list[tuple[str, str, int, float]]


def station(world: World, faults: Faults, **changes: Any) -> Station:
    return station_of(world, insecure_contract=True, faults=faults, **changes)


def ends(reports: list[tuple[int, Report]]) -> list[str]:
    return [report.reason for _, report in reports if isinstance(report, Ended)]


def test_without_faults_the_session_is_as_it_should_be(world: World, vehicle: Vehicle) -> None:
    with station(world, Faults()).in_thread() as address:
        assert vehicle.charge(address) == INSTALLED_AND_PAID


def test_a_delayed_response_comes_later(world: World, vehicle: Vehicle) -> None:
    seen: Seen = []
    faults = Faults(delay={"SessionSetup": 0.4})
    observe = {"observe": lambda *message: seen.append(message)}
    with station(world, faults, **observe).in_thread() as address:
        started = time.monotonic()
        assert vehicle.charge(address) == INSTALLED_AND_PAID
    assert time.monotonic() - started >= 0.4


def test_a_response_that_is_too_late_ends_the_vehicles_session(
    world: World, vehicle: Vehicle
) -> None:
    faults = Faults(delay={"SessionSetup": 30.0})
    with station(world, faults).in_thread() as address:
        assert vehicle.charge(address) == [("failed", "timeout"), ("closed", "")]


def test_a_drop_ends_the_connection_in_place_of_the_response(
    world: World, vehicle: Vehicle
) -> None:
    reports: list[tuple[int, Report]] = []
    faults = Faults(drop=frozenset({"PaymentDetails"}))
    report = {"report": lambda number, it: reports.append((number, it))}
    with (
        station(world, faults, **report).in_thread() as address,
        pytest.raises(ConnectionResetError),
    ):
        vehicle.charge(address)
    assert ends(reports) == ["dropped in place of PaymentDetailsRes: a fault"]
    assert [contract.emaid for contract in vehicle.contracts.all()] == [EMAID]


@pytest.mark.parametrize("code", ["FAILED", "FAILED_ChallengeInvalid"])
def test_a_vehicle_gets_the_response_code_that_was_asked_for(
    world: World, vehicle: Vehicle, code: str
) -> None:
    reports: list[tuple[int, Report]] = []
    report = {"report": lambda number, it: reports.append((number, it))}
    faults = Faults(answer={"Authorization": code})
    with station(world, faults, **report).in_thread() as address:
        events = vehicle.charge(address)
    assert events[:2] == [("installed", EMAID), ("failed", "response-code")]
    assert ends(reports) == [f"AuthorizationRes with {code}: a fault"]


def test_a_good_code_of_another_kind_leaves_the_session_alone(
    world: World, vehicle: Vehicle
) -> None:
    faults = Faults(answer={"PaymentDetails": "OK_CertificateExpiresSoon"})
    with station(world, faults).in_thread() as address:
        assert vehicle.charge(address) == INSTALLED_AND_PAID


def test_no_common_protocol_can_be_asked_for(world: World, vehicle: Vehicle) -> None:
    faults = Faults(answer={"supportedAppProtocol": "Failed_NoNegotiation"})
    with station(world, faults).in_thread() as address:
        assert vehicle.charge(address)[-2][0] == "failed"


def test_a_station_without_the_certificate_service_installs_nothing(
    world: World, vehicle: Vehicle
) -> None:
    offer = Offer(certificate_service=False)
    with station(world, Faults(), offer=offer).in_thread() as address:
        events = vehicle.charge(address)
    assert ("installed", EMAID) not in events
    assert vehicle.contracts.all() == []


def test_a_large_bundle_is_as_large_as_asked_for_and_installs(
    world: World, vehicle: Vehicle
) -> None:
    seen: Seen = []
    faults = Faults(large_bundle=5000)
    observe = {"observe": lambda *message: seen.append(message)}
    with station(world, faults, **observe).in_thread() as address:
        assert vehicle.charge(address) == INSTALLED_AND_PAID
    (size,) = [size for _, name, size, _ in seen if name == "CertificateInstallationRes"]
    assert 5000 <= size - 8 <= 5020


def test_the_largest_bundle_that_the_standard_has_room_for_installs(
    world: World, vehicle: Vehicle
) -> None:
    bundles: list[bytes] = []
    fetch = operator(world)

    def keep(request: bytes) -> bytes:
        bundles.append(fetch(request))
        return bundles[-1]

    seen: Seen = []
    faults = Faults(large_bundle=8000)
    observe = {"observe": lambda *message: seen.append(message)}
    with station(world, faults, fetch=keep, **observe).in_thread() as address:
        assert vehicle.charge(address) == INSTALLED_AND_PAID
    (size,) = [size for _, name, size, _ in seen if name == "CertificateInstallationRes"]
    assert size - len(bundles[0]) > 2 * 780  # two certificates of 800 bytes


def test_a_valid_response_of_more_than_six_kilobytes_installs(
    world: World, vehicle: Vehicle
) -> None:
    """With certificates that have nearly 800 bytes themselves."""
    case = catalogue.BY_ID["EN-007"]

    def fetch(request: bytes) -> bytes:
        _, _, body, _ = messages.opened(exi.decode(request))
        scene = Scene(world, x509.parse(body["OEMProvisioningCert"]).point, case.id, 0)
        return case.build(scene).message

    seen: Seen = []
    faults = Faults(large_bundle=8000)
    observe = {"observe": lambda *message: seen.append(message)}
    with station(world, faults, fetch=fetch, **observe).in_thread() as address:
        assert vehicle.charge(address) == INSTALLED_AND_PAID
    (size,) = [size for _, name, size, _ in seen if name == "CertificateInstallationRes"]
    assert size > 6500


@pytest.mark.parametrize(
    ("end", "outcome"), [(CLOSE, ("lost", "")), (RESET, ("reset", "")), (SILENCE, ("closed", ""))]
)
def test_a_response_that_is_not_whole_ends_as_asked_for(
    end: str, outcome: tuple[str, str], world: World, vehicle: Vehicle
) -> None:
    pace = {"ServiceDiscovery": Pace(part=0.5, end=end)}
    with station(world, Faults(pace=pace)).in_thread() as address:
        try:
            last = vehicle.charge(address)[-1]
        except ConnectionResetError:
            last = ("reset", "")
    assert last == outcome


def test_a_negative_answer_is_not_enlarged(world: World) -> None:

    frame = v2gtp.encode(negative(bytes(8)))
    faults = Faults(large_bundle=6000)
    changed = faults.changed("CertificateInstallationRes", frame)
    body = messages.opened(exi.decode(changed[v2gtp.HEADER_BYTES :]))[2]
    assert body["ResponseCode"] == "FAILED_NoCertificateAvailable"
    assert len(changed) < 200


def test_a_padding_certificate_is_never_longer_than_the_standard_allows() -> None:
    for size in (1, 400, 790, 799, 800, 5000):
        assert len(large_bundle._certificate(size)) <= 800


def test_6_kb_over_20_kb_a_second_with_300_ms_more_still_installs(
    world: World, vehicle: Vehicle
) -> None:
    seen: Seen = []
    faults = Faults(
        delay={"CertificateInstallation": 0.3, "Authorization": 0.3, "PaymentDetails": 0.3},
        bandwidth=20_000,
        large_bundle=6000,
    )
    observe = {"observe": lambda *message: seen.append(message)}
    with station(world, faults, **observe).in_thread() as address:
        assert vehicle.charge(address) == INSTALLED_AND_PAID
    (size,) = [size for _, name, size, _ in seen if name == "CertificateInstallationRes"]
    assert size > 5000


def test_the_bandwidth_is_not_exceeded(world: World, vehicle: Vehicle) -> None:
    seen: Seen = []
    observe = {"observe": lambda *message: seen.append(message)}
    with station(world, Faults(bandwidth=5000), **observe).in_thread() as address:
        started = time.monotonic()
        assert vehicle.charge(address) == INSTALLED_AND_PAID
        seconds = time.monotonic() - started
    assert seconds >= sum(size for way, _, size, _ in seen if way == "out") / 5000


def test_the_operator_has_less_time_than_the_vehicle_waits() -> None:
    assert FETCH_SECONDS < 5.0  # CertificateInstallationReq's time-out in the vehicle


def test_every_response_has_its_time_within_the_vehicles_time_out() -> None:
    vehicle = {**session.PAIRS, **charging.PAIRS, **update.PAIRS}
    assert set(PERFORMANCE_MS) == set(vehicle) == set(PAIRS)
    for pair, performance in PERFORMANCE_MS.items():
        margin = 225 if pair == "CurrentDemand" else 500
        assert vehicle[pair].timeout_ms - performance == margin, pair


def test_a_response_later_than_the_standard_has_it_is_logged(
    world: World, vehicle: Vehicle, caplog: pytest.LogCaptureFixture, monkeypatch: Any
) -> None:
    caplog.set_level(logging.INFO, "plugvault.station")
    monkeypatch.setitem(PERFORMANCE_MS, "CertificateInstallation", 0)
    with station(world, Faults()).in_thread() as address:
        assert vehicle.charge(address) == INSTALLED_AND_PAID
    assert re.search(r"CertificateInstallationRes after \d+ ms", caplog.text)


@pytest.mark.parametrize(
    "name", ["Authorization", "authorizationreq", "AuthorizationRes", "AUTHORIZATION"]
)
def test_a_message_is_named_with_or_without_its_end(name: str) -> None:
    assert pair_of(name) == "Authorization"


@pytest.mark.parametrize("name", ["", "Req", "Authorisation", "AuthorizationReqRes"])
def test_an_unknown_message_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(ValueError, match=r"no message .* there are supportedAppProtocol"):
        pair_of(name)


def test_a_code_that_the_message_cannot_have_is_refused() -> None:
    assert checked_code("supportedAppProtocol", "Failed_NoNegotiation") == "Failed_NoNegotiation"
    for pair, code in (("Authorization", "Failed_NoNegotiation"), ("SessionSetup", "failed")):
        with pytest.raises(ValueError, match="no ResponseCode"):
            checked_code(pair, code)
