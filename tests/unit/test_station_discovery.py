"""The station's answers to SDP, without a socket: which requests get one, and how many."""

from __future__ import annotations

import ipaddress

import pytest

from evcc.network import sdp
from plugvault.interfaces import LinkLocal
from plugvault.station import discovery
from plugvault.station.discovery import Answers

LOCAL = LinkLocal("eth1", ipaddress.IPv6Address("fe80::57a").packed, 3)
CAR = ("fe80::ca", 50_000, 0, 3)
BOTH = {sdp.TLS: 50_001, sdp.NO_TLS: 50_002}


def answers(ports: dict[int, int] = BOTH, local: LinkLocal = LOCAL) -> Answers:
    return Answers(local, ports, lambda *_: None)


def found(station: Answers, security: int) -> sdp.Found:
    answer = station.answer(sdp.request(security), CAR)
    assert answer is not None
    return sdp.read_response(answer, sdp.NO_TLS)


def test_a_vehicle_gets_the_address_and_the_port_of_the_security_that_it_asks_for() -> None:
    station = answers()
    assert found(station, sdp.TLS) == sdp.Found(LOCAL.address, 50_001, sdp.TLS)
    assert found(station, sdp.NO_TLS) == sdp.Found(LOCAL.address, 50_002, sdp.NO_TLS)


@pytest.mark.parametrize("only", [sdp.TLS, sdp.NO_TLS])
def test_a_station_with_one_security_tells_that_one(only: int) -> None:
    station = answers({only: 50_001})
    for asked in (sdp.TLS, sdp.NO_TLS):
        assert found(station, asked) == sdp.Found(LOCAL.address, 50_001, only)


def test_each_search_is_reported() -> None:
    seen: list[tuple[str, bool, bool]] = []
    station = Answers(LOCAL, {sdp.TLS: 50_001}, lambda *search: seen.append(search))
    station.answer(sdp.request(sdp.NO_TLS), CAR)
    assert seen == [("fe80::ca", False, True)]


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"\x00" * 1500,
        sdp.request(sdp.TLS)[:-1],
        sdp.request(sdp.TLS) + b"\x00",
        sdp.response(LOCAL.address, 50_001, sdp.TLS),
    ],
)
def test_garbage_gets_no_answer(datagram: bytes) -> None:
    assert answers().answer(datagram, CAR) is None


@pytest.mark.parametrize(
    "source",
    [("fe80::ca", 50_000, 0, 2), ("2001:db8::1", 50_000, 0, 3), ("::1", 50_000, 0, 1)],
)
def test_an_address_that_is_not_on_the_link_gets_no_answer(
    source: tuple[str, int, int, int],
) -> None:
    assert answers().answer(sdp.request(sdp.TLS), source) is None


def test_one_address_gets_a_limited_number_of_answers(caplog: pytest.LogCaptureFixture) -> None:
    station = answers()
    got = [station.answer(sdp.request(sdp.TLS), CAR) for _ in range(200)]
    assert 20 <= len([answer for answer in got if answer]) < 40
    assert caplog.messages == ["SDP: too many searches, no answer to fe80::ca"]
    other = ("fe80::cb", 50_000, 0, 3)
    assert station.answer(sdp.request(sdp.TLS), other) is not None


def test_many_addresses_together_get_a_limited_number_of_answers_and_no_memory() -> None:
    station = answers()
    got = [
        station.answer(sdp.request(sdp.TLS), (f"fe80::{number:x}", 50_000, 0, 3))
        for number in range(1, 3000)
    ]
    assert 100 <= len([answer for answer in got if answer]) < 300
    assert len(station._addresses) == discovery.ADDRESSES
