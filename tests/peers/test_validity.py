"""Every message of ours is valid by the standard's XSD files, as validators that are not ours see
it: EXIficient reads the EXI, libxml2 judges the XML."""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given

from evcc import exi
from evcc.car import CarContext
from evcc.exi import grammar as g
from evcc.iso15118_2 import messages, response_codes
from evcc.iso15118_2.session import Session
from evcc.link import v2gtp
from exi_messages import XML, cases, elements
from fixtures.backend import Backend
from fixtures.cars import Car
from fixtures.ecog import Validator
from plugvault.contract.iso15118_2.response import negative, negative_update
from plugvault.station import Offer, Supply
from plugvault.station.engine import APP_PROTOCOL, FETCHING, Refusal
from plugvault.station.events import Fetch
from plugvault.station.iso15118_2.secc import ALLOWED, Secc
from world import NOW, SESSION_ID, World

sys.path.append(str(Path(__file__).parents[1] / "fuzz"))

import secc_target

pytestmark = pytest.mark.xdist_group("exificient")  # one Java process for all

TABLES = g.load("iso2")
REQUESTS = {
    TABLES.name(index): index for index in TABLES.roots() if TABLES.name(index).endswith("Req")
}
STATES = [state for state in ALLOWED if state != APP_PROTOCOL]


def payload(frame: bytes) -> bytes:
    (message,) = v2gtp.PayloadReader().feed(frame)
    return message


def answer_to(state: str, request: str, body: Any) -> tuple[str, bytes] | None:
    """(name, EXI) of the station's answer to a request in a state; None without an answer, or
    while the operator is asked."""
    secc = secc_target.reach(state)
    message = exi.encode(messages.envelope(secc_target.SESSION_ID, request, body))
    frames, _ = secc.receive(v2gtp.encode(message), 1)
    if secc.state == FETCHING:
        frames, _ = secc.fetched(None, 2)
    if not frames:
        return None
    (frame,) = frames
    _, name, _, _ = messages.opened(exi.decode(payload(frame)))
    return name, payload(frame)


@pytest.mark.parametrize("request_name", REQUESTS)
def test_every_request_gets_its_own_valid_response_in_every_state(
    validator: Validator, whole: bool, request_name: str
) -> None:
    @cases(whole, 1, 40)
    @given(elements("iso2", REQUESTS[request_name], XML))
    def test(body: Any) -> None:
        for state in STATES:
            said = answer_to(state, request_name, body)
            assert said is not None, f"no answer to {request_name} in {state}"
            name, message = said
            assert name == request_name.removesuffix("Req") + "Res"
            assert validator.problems(message) == [], f"{name} in {state}"

    test()


@pytest.mark.parametrize("request_name", REQUESTS)
def test_every_refusal_is_valid(validator: Validator, request_name: str) -> None:
    pair = request_name.removesuffix("Req")
    for code in response_codes.allowed(pair):
        if code.startswith("FAILED"):
            secc = secc_target.reach(STATES[-1])
            (frame,) = secc.refuse(pair, Refusal(code, ""), {}, 1)
            assert validator.problems(payload(frame)) == [], code


def test_a_refused_protocol_is_told_in_a_valid_message(validator: Validator) -> None:
    offer = messages.supported_app_protocol_req()
    offer["AppProtocol"][0]["ProtocolNamespace"] = "urn:din:70121:2012:MsgDef"
    secc = secc_target.reach(APP_PROTOCOL)
    request = exi.encode({"supportedAppProtocolReq": offer}, "sap")
    (frame,), _ = secc.receive(v2gtp.encode(request), 1)
    assert validator.problems(payload(frame), "sap") == []


def session(car: Car, world: World, mode: str) -> list[tuple[str, bytes]]:
    """All messages of a whole session with an installation: (schema, EXI)."""
    identity = SimpleNamespace(certificate=world.provisioning(car.point).der)
    clock = SimpleNamespace(now=lambda: NOW, source=lambda: "clock")
    context = CarContext(car.vault, identity, car.trust, car.contracts, clock)

    def installed(response: Any, session_id: bytes) -> Any:
        return car.install(response)

    evcc = Session(
        context, want_contract=True, installer=installed, secure=True, charge={"mode": mode}
    )
    anchors = [world.v2g_root.der, world.mo_root.der]
    offer = Offer(supply=Supply(receipts=True, ongoing=1, notices={2: "ReNegotiation"}))
    secc = Secc(offer, anchors, lambda: NOW, 0, lambda n: SESSION_ID * (n // 8), secure=True)
    said: list[tuple[str, bytes]] = []
    now, requests = 0, evcc.start(0)
    while requests:
        (frame,) = requests
        said.append(("iso2" if said else "sap", payload(frame)))
        responses, events = secc.receive(frame, now)
        if any(isinstance(event, Fetch) for event in events):
            responses, events = secc.fetched(world.response(car.point), now)
        assert responses, events
        said.append(("iso2" if len(said) > 1 else "sap", payload(responses[0])))
        requests, _ = evcc.receive(responses[0], now)
        while evcc.due:
            requests, _ = evcc.carry_out(now)
        if not requests and evcc.deadline() is not None:  # a repetition of "Ongoing"
            now = evcc.deadline()
            requests, _ = evcc.timeout(now)
    return said


@pytest.mark.parametrize("mode", ["AC", "DC"])
def test_every_message_of_a_session_is_valid(
    validator: Validator, car: Car, world: World, mode: str
) -> None:
    said = session(car, world, mode)
    names = [messages.opened(exi.decode(message))[1] for schema, message in said[2:]]
    assert {"CertificateInstallationRes", "MeteringReceiptReq", "SessionStopRes"} <= set(names)
    for name, (schema, message) in zip(["", "", *names], said, strict=True):
        assert validator.problems(message, schema) == [], name


def test_a_pools_refusal_is_valid_as_the_station_hands_it_on(validator: Validator) -> None:
    secc = secc_target.reach(FETCHING)
    (frame,), _ = secc.fetched(negative(b""), 1)
    assert validator.problems(payload(frame)) == []


@pytest.mark.parametrize("refusal", [negative, negative_update])
def test_a_pools_refusal_is_valid_as_it_is(
    validator: Validator, refusal: Callable[[bytes], bytes]
) -> None:
    assert validator.problems(refusal(SESSION_ID)) == []


@pytest.mark.parametrize("number", [0, 1, 2])
def test_published_answers_are_valid_as_the_station_hands_them_on(
    validator: Validator, shared: Path, number: int
) -> None:
    secc = secc_target.reach(FETCHING)
    published = (shared / f"vectors/hubject_ccp_{number}.exi").read_bytes()
    (frame,), _ = secc.fetched(published, 1)
    assert validator.problems(payload(frame)) == []


@pytest.mark.parametrize("has_contract", [True, False])
def test_the_pools_answers_are_valid(
    validator: Validator, backend: Backend, has_contract: bool
) -> None:
    vehicle = backend.vehicle()
    if has_contract:
        stored = backend.sign(backend.contract_data(vehicle), vehicle.pcid)
        assert stored.status_code == 201, stored.text
    answer = backend.install(vehicle.request(backend.ecosystem.v2g_root))
    assert answer.status_code == (200 if has_contract else 404), answer.text
    (content,) = answer.json()["CCPResponse"]["emaidContent"]
    message = base64.b64decode(content["messageDef"]["certificateInstallationRes"])
    assert validator.problems(message) == []
