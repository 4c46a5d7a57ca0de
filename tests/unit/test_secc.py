"""The station's half of a session: its grants, its refusals, and their response codes."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import pytest

from evcc import exi, signature
from evcc.iso15118_2 import charging, messages, response_codes, session
from evcc.link import v2gtp
from iso2_requests import REQUESTS
from plugvault.contract.iso15118_2 import response as pool_response
from plugvault.station import Authorized, Offer
from plugvault.station.engine import CLOSED, FETCHING
from plugvault.station.events import Closed, Fetch, Message
from plugvault.station.iso15118_2.answers import negative, supported_app_protocol
from plugvault.station.iso15118_2.secc import ALLOWED, NEXT, Secc
from world import DAY, EMAID, NOW, World, sign

sys.path.append(str(Path(__file__).parents[1] / "both"))

from scripted import RESPONSE_CODES

SESSION = bytes(range(0x10, 0x18))
CHALLENGE = bytes(range(16))


def random(n: int) -> bytes:
    return SESSION if n == 8 else CHALLENGE


class Vehicle:
    """Builds requests, right ones unless told otherwise, and reads the answers."""

    def __init__(self, world: World, **changes: Any) -> None:
        offer = changes.pop("offer", Offer())
        anchors = [world.v2g_root.der, world.mo_root.der]
        self.now = NOW
        how = {"secure": True, **changes}
        self.secc = Secc(offer, anchors, lambda: self.now, 0, random, **how)
        self.world = world
        self.events: list[Any] = []

    def step(self, result: tuple[list[bytes], list[Any]]) -> Any:
        """The body of the one answer, or None; keeps the events."""
        frames, events = result
        self.events += events
        if not frames:
            return None
        (frame,) = frames
        (payload,) = v2gtp.PayloadReader().feed(frame)
        if self.events and any(getattr(e, "name", "").startswith("supp") for e in events):
            return exi.decode(payload, "sap")["supportedAppProtocolRes"]
        session_id, self.answered, body, _ = messages.opened(exi.decode(payload))
        assert session_id == self.secc.session_id
        return body

    def say(
        self,
        name: str,
        body: dict[str, Any],
        session_id: bytes = SESSION,
        signed: dict[str, Any] | None = None,
    ) -> Any:
        message = messages.envelope(session_id, name, body, signed)
        return self.step(self.secc.receive(v2gtp.encode(exi.encode(message)), 1))

    def negotiate(self, **changes: Any) -> Any:
        request = messages.supported_app_protocol_req()
        request["AppProtocol"][0].update(changes)
        payload = exi.encode({"supportedAppProtocolReq": request}, "sap")
        return self.step(self.secc.receive(v2gtp.encode(payload), 1))

    def set_up(self) -> None:
        self.negotiate()
        self.say("SessionSetupReq", messages.session_setup_req(b"\2\0\0\0\0\1"), b"\0")

    def select(self, option: str = "Contract", services: Any = ((1, None), (2, 1))) -> Any:
        body = messages.payment_service_selection_req(option, list(services))
        return self.say("PaymentServiceSelectionReq", body)

    def to_payment(self) -> Vehicle:
        self.set_up()
        self.say("ServiceDiscoveryReq", {})
        self.select()
        return self

    def details(self, chain: list[bytes] | None = None, emaid: str = EMAID) -> Any:
        chain = chain or self.world.contract.chain
        return self.say("PaymentDetailsReq", messages.payment_details_req(emaid, chain))

    def to_authorization(self) -> Vehicle:
        self.to_payment().details()
        return self

    def authorize(
        self, challenge: bytes = CHALLENGE, key: Any = None, edit: Any = None, ident: str = "id1"
    ) -> Any:
        body = messages.authorization_req(ident, challenge)
        info = signature.sign([(ident, "AuthorizationReq", body)], lambda _: b"")["SignedInfo"]
        if edit:
            edit(info, body)
        octets = exi.fragment("SignedInfo", info, "xmldsig")
        value = sign(key or self.world.contract_key, octets)
        signed = {"SignedInfo": info, "SignatureValue": {"value": value}}
        return self.say("AuthorizationReq", body, signed=signed)

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture
def vehicle(world: World) -> Vehicle:
    return Vehicle(world)


def refused(vehicle: Vehicle, body: Any, code: str) -> None:
    """Assert this refusal, the end of the session, and no billing."""
    assert body["ResponseCode"] == code
    assert vehicle.secc.state == CLOSED
    assert len(vehicle.of(Closed)) == 1
    assert not vehicle.of(Authorized)


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


# The contract


def test_rejects_a_contract_of_a_foreign_root(vehicle: Vehicle) -> None:
    chain = World().contract.chain
    refused(vehicle, vehicle.to_payment().details(chain), "FAILED_CertChainError")


def test_rejects_a_root_the_vehicle_brought(vehicle: Vehicle) -> None:
    foreign = World()
    chain = [*foreign.contract.chain, foreign.mo_root.der]
    refused(vehicle, vehicle.to_payment().details(chain), "FAILED_CertChainError")


def test_rejects_a_chain_with_a_sub_ca_missing(vehicle: Vehicle) -> None:
    leaf, sub2, _ = vehicle.world.contract.chain
    refused(vehicle, vehicle.to_payment().details([leaf, sub2]), "FAILED_CertChainError")


def test_rejects_a_contract_signed_by_another_contract(vehicle: Vehicle) -> None:
    contract = vehicle.world.contract
    leaf = contract.issue(EMAID, dc="MO")
    refused(vehicle, vehicle.to_payment().details(leaf.chain), "FAILED_CertChainError")


def test_rejects_a_leaf_that_is_no_contract(vehicle: Vehicle) -> None:
    leaf = vehicle.world.cpo
    refused(vehicle, vehicle.to_payment().details(leaf.chain), "FAILED_CertChainError")


def test_rejects_a_chain_that_begins_with_a_sub_ca(vehicle: Vehicle) -> None:
    _, sub2, sub1 = vehicle.world.contract.chain
    refused(vehicle, vehicle.to_payment().details([sub2, sub1]), "FAILED_CertChainError")


def test_accepts_sub_cas_in_any_order(vehicle: Vehicle) -> None:
    leaf, sub2, sub1 = vehicle.world.contract.chain
    assert vehicle.to_payment().details([leaf, sub1, sub2])["ResponseCode"] == "OK"


@pytest.mark.parametrize("after", [-DAY, 10 * 365 * DAY], ids=["not yet valid", "expired"])
def test_rejects_a_contract_out_of_its_dates(vehicle: Vehicle, after: int) -> None:
    leaf = vehicle.world.new_contract(EMAID, not_before=NOW)
    vehicle.now = NOW + after
    refused(vehicle, vehicle.to_payment().details(leaf.chain), "FAILED_CertificateExpired")


@pytest.mark.parametrize("emaid", ["DEPVT0000000028", "no EMAID at all"])
def test_rejects_an_emaid_that_is_not_the_certificates(vehicle: Vehicle, emaid: str) -> None:
    body = vehicle.to_payment().details(emaid=emaid)
    refused(vehicle, body, "FAILED_CertChainError")


def test_rejects_bytes_that_are_no_certificate(vehicle: Vehicle) -> None:
    body = vehicle.to_payment().details([b"\x30\x03\x02\x01\x00"])
    refused(vehicle, body, "FAILED_CertChainError")


# The signed challenge


def test_rejects_a_challenge_that_was_not_ours(vehicle: Vehicle) -> None:
    body = vehicle.to_authorization().authorize(challenge=bytes(16))
    refused(vehicle, body, "FAILED_ChallengeInvalid")


def test_rejects_an_authorization_without_challenge(vehicle: Vehicle) -> None:
    body = vehicle.to_authorization().say("AuthorizationReq", {"Id": "id1"})
    refused(vehicle, body, "FAILED_ChallengeInvalid")


def test_rejects_another_contracts_key(vehicle: Vehicle) -> None:
    other_contract = vehicle.world.new_contract("DEPVT0000000028")
    refused(
        vehicle,
        vehicle.to_authorization().authorize(key=other_contract.key),
        "FAILED_SignatureError",
    )


def test_rejects_an_unsigned_authorization(vehicle: Vehicle) -> None:
    body = messages.authorization_req("id1", CHALLENGE)
    answer = vehicle.to_authorization().say("AuthorizationReq", body)
    refused(vehicle, answer, "FAILED_SignatureError")


def _second_reference(info: Any, body: Any) -> None:
    info["Reference"].append({**info["Reference"][0], "URI": "#id2"})


def _no_such_id(info: Any, body: Any) -> None:
    info["Reference"][0]["URI"] = "#id2"


def _digest(info: Any, body: Any) -> None:
    info["Reference"][0]["DigestValue"] = hashlib.sha256(b"").digest()


def _sha1(info: Any, body: Any) -> None:
    method = {"Algorithm": "http://www.w3.org/2000/09/xmldsig#sha1"}
    info["Reference"][0]["DigestMethod"] = method


def _no_id(info: Any, body: Any) -> None:
    del body["Id"]


@pytest.mark.parametrize("edit", [_second_reference, _no_such_id, _digest, _sha1, _no_id])
def test_rejects_a_signature_over_anything_else(vehicle: Vehicle, edit: Any) -> None:
    body = vehicle.to_authorization().authorize(edit=edit)
    refused(vehicle, body, "FAILED_SignatureError")


def test_a_challenge_is_good_for_one_session_only(world: World) -> None:
    vehicle = Vehicle(world)
    vehicle.to_authorization()
    assert vehicle.authorize()["ResponseCode"] == "OK"
    refused_body = vehicle.authorize()
    assert refused_body["ResponseCode"] == "FAILED_SequenceError"


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


SERVICES = {
    "ResponseCode": "OK",
    "PaymentOptionList": {"PaymentOption": ["Contract"]},
    "ChargeService": {
        "ServiceID": 1,
        "ServiceCategory": "EVCharging",
        "FreeService": True,
        "SupportedEnergyTransferMode": {"EnergyTransferMode": ["DC_core"]},
    },
}


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


# Installation


def installation(vehicle: Vehicle) -> Any:
    root = type("Root", (), {"names": {"CN": "R"}, "serial": 1})()
    body = messages.certificate_installation_req("id1", b"\0", [root])
    return vehicle.say("CertificateInstallationReq", body)


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


def test_every_transition_leads_somewhere() -> None:
    for (state, _), following in NEXT.items():
        assert state in ALLOWED
        assert following in (*ALLOWED, FETCHING, CLOSED)
