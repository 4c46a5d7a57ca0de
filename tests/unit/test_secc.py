"""The station's half of a session: its offer, the order of the messages, the response codes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from evcc import exi
from evcc.iso15118_2 import charging, messages, response_codes, session
from evcc.link import v2gtp
from iso2_requests import REQUESTS
from plugvault.station import Authorized, Offer
from plugvault.station.events import Closed, Fetch, Message
from plugvault.station.iso15118_2.answers import negative, supported_app_protocol
from plugvault.station.iso15118_2.secc import ALLOWED, Secc
from world import EMAID, NOW, World

sys.path.append(str(Path(__file__).parents[1] / "both"))

from scripted import RESPONSE_CODES
from secc_vehicle import CHALLENGE, SERVICES, SESSION, Vehicle, installation, refused


@pytest.fixture
def vehicle(world: World) -> Vehicle:
    return Vehicle(world)


def test_a_contract_is_authorized_and_billed_by_its_emaid(vehicle: Vehicle) -> None:
    body = vehicle.to_authorization().authorize()
    assert body == {"ResponseCode": "OK", "EVSEProcessing": "Finished"}
    (record,) = vehicle.of(Authorized)
    serial = vehicle.world.contract.certificate.serial_number
    assert record == Authorized(EMAID, SESSION, "DE*PVT*E0001", NOW, serial)
    assert vehicle.say("SessionStopReq", messages.session_stop_req()) == {"ResponseCode": "OK"}
    assert vehicle.of(Closed) == [Closed("")]


def test_every_message_is_reported_with_its_size(vehicle: Vehicle) -> None:
    vehicle.negotiate()
    first, second = vehicle.of(Message)
    assert (first.direction, first.name) == ("in", "supportedAppProtocolReq")
    assert (second.direction, second.name) == ("out", "supportedAppProtocolRes")
    assert second.size == 8 + 4


def test_the_session_id_is_new_each_time(world: World) -> None:
    ids = set()
    for _ in range(20):
        secc = Secc(Offer(), [], lambda: NOW, 0)
        vehicle = Vehicle(world)
        vehicle.secc = secc
        vehicle.negotiate()
        vehicle.say("SessionSetupReq", messages.session_setup_req(bytes(6)), b"\0")
        assert len(secc.session_id) == 8
        ids.add(secc.session_id)
    assert len(ids) == 20


def test_the_certificate_service_is_offered_with_installation(vehicle: Vehicle) -> None:
    vehicle.set_up()
    body = vehicle.say("ServiceDiscoveryReq", {})
    assert messages.services(body) == [2]
    assert body["PaymentOptionList"]["PaymentOption"] == ["Contract", "ExternalPayment"]
    detail = vehicle.say("ServiceDetailReq", {"ServiceID": 2})
    assert messages.parameter_set(detail, "Installation") == 1


def test_the_certificate_service_can_be_switched_off(world: World) -> None:
    offer = Offer(certificate_service=False)
    vehicle = Vehicle(world, offer=offer)
    vehicle.set_up()
    body = vehicle.say("ServiceDiscoveryReq", {})
    assert messages.services(body) == []
    refused(vehicle, vehicle.say("ServiceDetailReq", {"ServiceID": 2}), "FAILED_ServiceIDInvalid")
    vehicle = Vehicle(world, offer=offer)
    vehicle.set_up()
    vehicle.say("ServiceDiscoveryReq", {})
    refused(vehicle, vehicle.select(), "FAILED_ServiceSelectionInvalid")


def test_another_protocol_is_not_agreed_on(vehicle: Vehicle) -> None:
    body = vehicle.negotiate(ProtocolNamespace="urn:din:70121:2012:MsgDef")
    assert body == {"ResponseCode": "Failed_NoNegotiation"}
    assert vehicle.of(Closed)


def test_only_the_certificate_service_has_details(vehicle: Vehicle) -> None:
    vehicle.set_up()
    vehicle.say("ServiceDiscoveryReq", {})
    refused(vehicle, vehicle.say("ServiceDetailReq", {"ServiceID": 3}), "FAILED_ServiceIDInvalid")


def test_of_two_offers_the_vehicles_favourite_is_taken() -> None:
    first, second = (messages.supported_app_protocol_req(i)["AppProtocol"][0] for i in (1, 2))
    offers = {"AppProtocol": [{**first, "Priority": 2}, second]}
    assert supported_app_protocol(offers)["SchemaID"] == 2


def test_another_minor_version_will_do(vehicle: Vehicle) -> None:
    body = vehicle.negotiate(VersionNumberMinor=1, SchemaID=7)
    code = "OK_SuccessfulNegotiationWithMinorDeviation"
    assert body == {"ResponseCode": code, "SchemaID": 7}


def test_external_payment_needs_no_contract_and_bills_no_contract(vehicle: Vehicle) -> None:
    vehicle.set_up()
    vehicle.say("ServiceDiscoveryReq", {})
    vehicle.select("ExternalPayment", [(1, None)])
    assert vehicle.say("AuthorizationReq", {})["ResponseCode"] == "OK"
    assert not vehicle.of(Authorized)


def without_tls(world: World, **changes: Any) -> Vehicle:
    vehicle = Vehicle(world, secure=False, **changes)
    vehicle.set_up()
    return vehicle


def test_pnc_refused_without_tls(world: World) -> None:
    vehicle = without_tls(world)
    body = vehicle.say("ServiceDiscoveryReq", {})
    assert body["PaymentOptionList"]["PaymentOption"] == ["ExternalPayment"]
    assert messages.services(body) == []
    body = vehicle.select(services=[(1, None)])
    refused(vehicle, body, "FAILED_PaymentSelectionInvalid")

    vehicle = without_tls(world)
    vehicle.say("ServiceDiscoveryReq", {})
    body = vehicle.say("ServiceDetailReq", {"ServiceID": 2})
    refused(vehicle, body, "FAILED_ServiceIDInvalid")

    for ask in (Vehicle.details, installation):
        vehicle = without_tls(world)
        vehicle.say("ServiceDiscoveryReq", {})
        assert vehicle.select("ExternalPayment", [(1, None)])["ResponseCode"] == "OK"
        refused(vehicle, ask(vehicle), "FAILED_SequenceError")
        assert not vehicle.of(Fetch)


def test_a_station_without_tls_takes_other_payment_even_if_it_offers_none(world: World) -> None:
    vehicle = without_tls(world, offer=Offer(payment=["Contract"]))
    body = vehicle.say("ServiceDiscoveryReq", {})
    assert body["PaymentOptionList"]["PaymentOption"] == ["ExternalPayment"]


def test_a_station_offers_a_contract_without_tls_where_its_owner_says_so(world: World) -> None:
    vehicle = without_tls(world, insecure_contract=True)
    body = vehicle.say("ServiceDiscoveryReq", {})
    assert "Contract" in body["PaymentOptionList"]["PaymentOption"]
    assert messages.services(body) == [2]


def test_payment_not_offered_is_refused(world: World) -> None:
    vehicle = Vehicle(world, offer=Offer(payment=["Contract"]))
    vehicle.set_up()
    vehicle.say("ServiceDiscoveryReq", {})
    body = vehicle.select("ExternalPayment", [(1, None)])
    refused(vehicle, body, "FAILED_PaymentSelectionInvalid")


def test_charging_must_be_among_the_services(vehicle: Vehicle) -> None:
    vehicle.set_up()
    vehicle.say("ServiceDiscoveryReq", {})
    refused(vehicle, vehicle.select(services=[(2, 1)]), "FAILED_NoChargeServiceSelected")


# Sequence and session


def test_unknown_session_is_refused_in_every_state(world: World) -> None:
    unknown = bytes(7) + b"\1"
    details = messages.payment_details_req(EMAID, world.contract.chain)
    for reach, name, body in (
        (Vehicle.set_up, "ServiceDiscoveryReq", {}),
        (Vehicle.to_payment, "PaymentDetailsReq", details),
        (Vehicle.to_authorization, "AuthorizationReq", messages.authorization_req("i", CHALLENGE)),
    ):
        vehicle = Vehicle(world)
        reach(vehicle)
        refused(vehicle, vehicle.say(name, body, unknown), "FAILED_UnknownSession")


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_out_of_turn_is_a_sequence_error(world: World, name: str) -> None:
    for state in ALLOWED:
        if state == "app protocol" or name in ALLOWED[state]:
            continue
        vehicle = Vehicle(world)
        vehicle.secc.state, vehicle.secc.session_id = state, SESSION
        refused(vehicle, vehicle.say(name, REQUESTS[name]), "FAILED_SequenceError")
        assert vehicle.answered == name.replace("Req", "Res")


@pytest.mark.parametrize("pair", response_codes.REQUESTS)
def test_every_refusal_has_what_the_schema_demands(pair: str) -> None:
    """Lengths, too, which EXI does not check: EVSEID, EMAID, challenge, and each Id once."""
    offer = Offer()
    for kind in ("ac", "dc"):
        for code in response_codes.allowed(pair):
            for request in ({}, REQUESTS[pair + "Req"]):
                body = negative(pair, code, request, offer, kind)
                assert body is not None
                message = messages.envelope(SESSION, pair + "Res", body)
                assert exi.decode(exi.encode(message)) == message
                assert 7 <= len(body.get("EVSEID", offer.evseid)) <= 37
                assert len(body.get("GenChallenge", CHALLENGE)) == 16
                assert 14 <= len(body.get("eMAID", {"value": EMAID})["value"]) <= 15
                idents = [item["Id"] for item in body.values() if "Id" in _members(item)]
                assert len(set(idents)) == len(idents)
                assert all(ident[0].isalpha() for ident in idents)


def _members(item: Any) -> Any:
    return item if isinstance(item, dict) else {}


def test_a_refusal_repeats_what_the_request_names() -> None:
    body = negative("ServiceDetail", "FAILED", {"ServiceID": 77}, Offer(), "ac")
    assert body == {"ResponseCode": "FAILED", "ServiceID": 77}
    request = {"eMAID": "DEPVT0000000028"}
    body = negative("CertificateUpdate", "FAILED", request, Offer(), "ac")
    assert body is not None
    assert body["eMAID"]["value"] == "DEPVT0000000028"
    request = {"RequestedEnergyTransferMode": "AC_single_phase_core"}
    body = negative("ChargeParameterDiscovery", "FAILED", request, Offer(), "dc")
    assert body is not None
    assert "AC_EVSEChargeParameter" in body


def test_a_code_stands_only_in_the_responses_that_may_have_it() -> None:
    with pytest.raises(ValueError, match="FAILED_ContactorError in AuthorizationRes"):
        negative("Authorization", "FAILED_ContactorError", {}, Offer(), "ac")
    assert negative("Fly", "FAILED", {}, Offer(), "ac") is None


def test_the_codes_are_the_schemas_and_the_cars_good_ones_are_among_them() -> None:
    assert tuple(response_codes.RESPONSE_CODES) == RESPONSE_CODES
    assert set(REQUESTS) == {pair + "Req" for pair in response_codes.REQUESTS}
    for name, pair in {**session.PAIRS, **charging.PAIRS}.items():
        if name != "supportedAppProtocol":
            good = [code for code in response_codes.allowed(name) if code.startswith("OK")]
            assert sorted(pair.codes) == sorted(good), name


def test_installation_needs_the_service_to_be_selected(vehicle: Vehicle) -> None:
    vehicle.set_up()
    vehicle.say("ServiceDiscoveryReq", {})
    vehicle.select(services=[(1, None)])
    refused(vehicle, installation(vehicle), "FAILED_SequenceError")


def test_a_message_that_is_no_request_fails_the_request_that_is_due(vehicle: Vehicle) -> None:
    vehicle.set_up()
    refused(vehicle, vehicle.say("ServiceDiscoveryRes", SERVICES), "FAILED")
    assert vehicle.answered == "ServiceDiscoveryRes"


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x01\xfe\x90\x00\x00\x00\x00\x00",
        b"\x01\xfe\x80\x01\x00\x00\x20\x01",
        v2gtp.encode(b""),
        v2gtp.encode(b"\xff" * 30),
        v2gtp.encode(exi.encode({"SessionSetupReq": {"EVCCID": bytes(6)}})),
    ],
    ids=["http", "sdp", "too long", "empty", "not EXI", "a body without its message"],
)
def test_garbage_before_a_session_closes_without_an_answer(vehicle: Vehicle, data: bytes) -> None:
    vehicle.negotiate()
    frames, events = vehicle.secc.receive(data, 1)
    assert frames == []
    assert [event for event in events if isinstance(event, Closed)]
    assert vehicle.secc.receive(data, 1) == ([], [])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\n", "version: 4745"),
        (b"\x01\xfe\x80\x03\x00\x00\x00\x00", "8003, ISO 15118-20: not supported (yet)"),
        (v2gtp.encode(b"\x80\x9a\x00\x00"), "DIN 70121: not supported (yet)"),
        (v2gtp.encode(exi.encode({"SessionSetupReq": {"EVCCID": bytes(6)}})), "is no request"),
    ],
    ids=["http", "-20", "DIN", "a body without its message"],
)
def test_garbage_in_a_session_fails_the_request_that_is_due(
    vehicle: Vehicle, data: bytes, reason: str
) -> None:
    vehicle.to_payment()
    refused(vehicle, vehicle.step(vehicle.secc.receive(data, 1)), "FAILED")
    assert vehicle.answered == "PaymentDetailsRes"
    assert reason in vehicle.of(Closed)[0].reason


def test_a_refused_negotiation_tells_what_was_offered(vehicle: Vehicle) -> None:
    first = messages.supported_app_protocol_req()["AppProtocol"][0]
    names = ("urn:iso:std:iso:15118:-20:AC", "urn:din:70121:2012:MsgDef", "urn:unheard-of")
    offers = [{**first, "ProtocolNamespace": name} for name in names]
    offers.append({**first, "VersionNumberMajor": 1})
    payload = exi.encode({"supportedAppProtocolReq": {"AppProtocol": offers}}, "sap")
    vehicle.step(vehicle.secc.receive(v2gtp.encode(payload), 1))
    assert vehicle.of(Closed) == [
        Closed(
            "no common protocol: the vehicle offers ISO 15118-20: not supported (yet), "
            "DIN 70121: not supported (yet), urn:unheard-of, ISO 15118-2 version 1"
        )
    ]


def test_two_requests_at_once_are_one_too_many(vehicle: Vehicle) -> None:
    payload = exi.encode({"supportedAppProtocolReq": messages.supported_app_protocol_req()}, "sap")
    frames, events = vehicle.secc.receive(v2gtp.encode(payload) * 2, 1)
    assert frames == []
    assert events == [Closed("more than one request at a time")]


def test_silence_ends_the_session(vehicle: Vehicle) -> None:
    assert vehicle.secc.deadline == 60_000
    assert vehicle.secc.timeout(59_999) == ([], [])
    assert vehicle.secc.timeout(60_000) == ([], [Closed("sequence timeout")])
    assert vehicle.secc.deadline is None


def test_an_answer_gives_the_vehicle_its_time_anew(vehicle: Vehicle) -> None:
    vehicle.negotiate()
    assert vehicle.secc.deadline == 60_001


def test_slow_drip_sender_times_out(vehicle: Vehicle) -> None:
    for i in range(5):
        assert vehicle.secc.receive(b"\x01\xfe\x80\x01\0"[i : i + 1], i * 10_000) == ([], [])
    assert vehicle.secc.receive(b"\0", 60_000) == ([], [Closed("sequence timeout")])
