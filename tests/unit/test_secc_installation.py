"""The station's half of a session: contracts that it fetches for the vehicle."""

from __future__ import annotations

from typing import Any

import pytest

from evcc import exi
from evcc.iso15118_2 import messages
from evcc.link import v2gtp
from iso2_requests import REQUESTS
from plugvault.contract.iso15118_2 import response as pool_response
from plugvault.station import Offer
from plugvault.station.engine import CLOSED, FETCHING
from plugvault.station.events import Fetch
from plugvault.station.iso15118_2.secc import ALLOWED, NEXT
from secc_vehicle import SERVICES, SESSION, Vehicle, installation, refused
from world import EMAID, World


@pytest.fixture
def vehicle(world: World) -> Vehicle:
    return Vehicle(world)


def test_the_request_goes_to_the_operator_as_it_came(vehicle: Vehicle) -> None:
    vehicle.to_payment()
    assert installation(vehicle) is None
    (fetch,) = vehicle.of(Fetch)
    assert vehicle.secc.state == FETCHING
    assert vehicle.secc.deadline is None
    session_id, name, _, _ = messages.opened(exi.decode(fetch.request))
    assert (session_id, name) == (SESSION, "CertificateInstallationReq")


def test_the_operators_answer_gets_the_sessions_id_and_nothing_else(vehicle: Vehicle) -> None:
    vehicle.to_payment()
    installation(vehicle)
    response = vehicle.world.response(vehicle.world.cpo.point, session_id=b"\0")
    frames, _ = vehicle.secc.fetched(response, 5)
    (payload,) = v2gtp.PayloadReader().feed(frames[0])
    received, expected = exi.decode(payload), exi.decode(response)
    assert received["V2G_Message"]["Header"]["SessionID"] == SESSION
    expected["V2G_Message"]["Header"]["SessionID"] = SESSION
    assert received == expected
    assert vehicle.details()["ResponseCode"] == "OK"


def test_the_operators_no_is_relayed_and_ends_the_session(vehicle: Vehicle) -> None:
    vehicle.to_payment()
    installation(vehicle)
    body = vehicle.step(vehicle.secc.fetched(pool_response.negative(b"\0"), 5))
    refused(vehicle, body, "FAILED_NoCertificateAvailable")


@pytest.mark.parametrize(
    "response",
    [
        None,
        b"",
        b"\x80" * 100,
        exi.encode(messages.envelope(bytes(8), "ServiceDiscoveryRes", SERVICES)),
    ],
    ids=["nothing", "empty", "garbage", "another message"],
)
def test_without_a_usable_answer_installation_fails(
    vehicle: Vehicle, response: bytes | None
) -> None:
    vehicle.to_payment()
    installation(vehicle)
    refused(vehicle, vehicle.step(vehicle.secc.fetched(response, 5)), "FAILED")


def test_nothing_may_come_while_the_contract_is_fetched(vehicle: Vehicle) -> None:
    vehicle.to_payment()
    installation(vehicle)
    refused(vehicle, vehicle.details(), "FAILED_SequenceError")
    assert vehicle.answered == "CertificateInstallationRes"
    assert vehicle.secc.fetched(pool_response.negative(b"\0"), 5) == ([], [])


def update_response(code: str = "OK", **elements: Any) -> bytes:
    body = {
        "ResponseCode": code,
        "SAProvisioningCertificateChain": {"Certificate": b"\1"},
        "ContractSignatureCertChain": {"Id": "id1", "Certificate": b"\1"},
        "ContractSignatureEncryptedPrivateKey": {"Id": "id2", "value": b"\1"},
        "DHpublickey": {"Id": "id3", "value": b"\1"},
        "eMAID": {"Id": "id4", "value": EMAID},
        **elements,
    }
    return exi.encode(messages.envelope(b"\0", "CertificateUpdateRes", body))


def to_update(world: World) -> Vehicle:
    """A vehicle whose CertificateUpdateReq the operator has."""
    vehicle = Vehicle(world, offer=Offer(certificate_update=True))
    vehicle.set_up()
    vehicle.say("ServiceDiscoveryReq", {})
    detail = vehicle.say("ServiceDetailReq", {"ServiceID": 2})
    assert messages.parameter_set(detail, "Update") == 2
    vehicle.select(services=[(1, None), (2, 2)])
    assert vehicle.say("CertificateUpdateReq", REQUESTS["CertificateUpdateReq"]) is None
    (fetch,) = vehicle.of(Fetch)
    assert messages.opened(exi.decode(fetch.request))[1] == "CertificateUpdateReq"
    return vehicle


def test_an_update_goes_to_the_operator_and_its_answer_to_the_vehicle(world: World) -> None:
    vehicle = to_update(world)
    body = vehicle.step(vehicle.secc.fetched(update_response(RetryCounter=4), 5))
    assert (vehicle.answered, body["ResponseCode"]) == ("CertificateUpdateRes", "OK")
    assert body["RetryCounter"] == 4
    assert vehicle.details()["ResponseCode"] == "OK"


def test_a_refused_update_keeps_the_operators_code_and_retry_counter(world: World) -> None:
    vehicle = to_update(world)
    response = update_response(
        "FAILED_ContractCanceled", RetryCounter=-1, eMAID={"Id": "0", "value": "0"}
    )
    body = vehicle.step(vehicle.secc.fetched(response, 5))
    refused(vehicle, body, "FAILED_ContractCanceled")
    assert body["RetryCounter"] == -1
    assert len(body["eMAID"]["value"]) == 14


def test_an_installation_is_no_answer_to_an_update(world: World) -> None:
    vehicle = to_update(world)
    response = world.response(world.cpo.point, session_id=b"\0")
    refused(vehicle, vehicle.step(vehicle.secc.fetched(response, 5)), "FAILED")


def test_an_update_that_is_not_offered_is_refused(vehicle: Vehicle) -> None:
    body = vehicle.to_payment().say("CertificateUpdateReq", REQUESTS["CertificateUpdateReq"])
    refused(vehicle, body, "FAILED_SequenceError")


def test_every_transition_leads_to_a_state() -> None:
    for (state, _), following in NEXT.items():
        assert state in ALLOWED
        assert following in (*ALLOWED, FETCHING, CLOSED)
