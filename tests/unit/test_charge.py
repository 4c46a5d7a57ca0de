"""Both ends of a session against one another: a charge with AC and with DC, and its ends."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from evcc import exi
from evcc.car import CarContext
from evcc.iso15118_2 import messages
from evcc.iso15118_2.session import Session
from evcc.link import v2gtp
from evcc.session_engine import UsageError
from plugvault.station import Authorized, Offer, Supply
from plugvault.station.events import Charged, Charging, Closed, Paused
from plugvault.station.iso15118_2.paused import PausedSessions
from plugvault.station.iso15118_2.secc import Secc
from world import EMAID, NOW, World

EVCCID = b"\2\0\0\0\0\1"
AC = [
    "ChargeParameterDiscovery",
    "PowerDelivery",
    "ChargingStatus",
    "ChargingStatus",
    "ChargingStatus",
    "PowerDelivery",
    "SessionStop",
]
DC = [
    "ChargeParameterDiscovery",
    "CableCheck",
    "PreCharge",
    "PowerDelivery",
    "CurrentDemand",
    "CurrentDemand",
    "CurrentDemand",
    "PowerDelivery",
    "WeldingDetection",
    "SessionStop",
]


class Pair:
    """A car and a station, with a wire on which `change` may replace a frame.

    change: (direction "in" or "out" of the station, message name, frame) -> frame.
    """

    def __init__(self, world: World, charge: dict[str, Any] | None = None, **how: Any) -> None:
        self.world = world
        self.requests: list[str] = []
        self.events: list[tuple[str, str]] = []
        self.station_events: list[Any] = []
        self.change: Callable[[str, str, bytes], bytes] = how.pop("change", _same)
        self.key = how.pop("key", world.contract_key)
        self.chain = how.pop("chain", world.contract.chain)
        evccid, self.now = how.pop("evccid", EVCCID), how.pop("now", 0)
        self.session = Session(self._car(), evccid=evccid, secure=True, charge=charge)
        paused = how.pop("paused", PausedSessions())
        offer = how.pop("offer", Offer())
        assert not how
        roots = [world.v2g_root.der, world.mo_root.der]
        self.secc = Secc(offer, roots, lambda: NOW + self.now / 1000, self.now, secure=True)
        self.secc.paused = paused

    def _car(self) -> CarContext:
        contract = SimpleNamespace(emaid=EMAID, key=b"key")
        contracts = SimpleNamespace(
            usable=lambda *_: contract, hold=lambda _: contract, chain=lambda _: self.chain
        )
        vault = SimpleNamespace(sign=lambda _, digest: signed(self.key, digest))
        clock = SimpleNamespace(now=lambda: NOW, source=lambda: "clock")
        return CarContext(vault, None, None, contracts, clock)

    def run(self) -> Pair:
        """The whole session."""
        frames = self.session.start(self.now)
        for _ in range(200):
            if self.session.state == "CLOSED":
                return self
            if not frames:
                self.now = self.session.deadline()
                frames, events = self.session.timeout(self.now)
                self.events += events
                continue
            frames = self._exchange(frames)
        raise AssertionError("the session has no end")

    def _exchange(self, frames: list[bytes]) -> list[bytes]:
        (frame,) = frames
        name = self.session.state
        self.requests.append(name)
        self.now += 1
        answers, events = self.secc.receive(self.change("in", name, frame), self.now)
        self.station_events += events
        data = b"".join(self.change("out", name, answer) for answer in answers)
        frames, more = self.session.receive(data, self.now)
        self.events += more
        return frames

    @property
    def failure(self) -> str:
        """The reason of the car's failure, "" for none."""
        return "".join(text for name, text in self.events if name == "failed")

    @property
    def end(self) -> str:
        """The station's reason for the end."""
        (closed,) = self.of(Closed)
        return str(closed.reason)

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.station_events if isinstance(event, kind)]


def signed(key: ec.EllipticCurvePrivateKey, digest: bytes) -> bytes:
    """r | s over a finished digest."""
    der = key.sign(digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
    return b"".join(number.to_bytes(32, "big") for number in utils.decode_dss_signature(der))


def _same(direction: str, name: str, frame: bytes) -> bytes:
    return frame


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.mark.parametrize(("mode", "expected"), [("AC", AC), ("DC", DC)])
def test_a_charge_goes_through_to_a_clean_stop(
    world: World, mode: str, expected: list[str]
) -> None:
    pair = Pair(world, {"mode": mode}).run()
    assert pair.requests[6:] == expected
    names = [name for name, _ in pair.events]
    assert names == ["authorized", "charging", "charged", "closed"]
    assert pair.of(Closed) == [Closed("")]
    assert len(pair.of(Authorized)) == len(pair.of(Charging)) == 1
    (charged,) = pair.of(Charged)
    assert (charged.emaid, charged.exchanges) == (EMAID, 3)


def test_a_station_that_wants_receipts_gets_each_one_signed(world: World) -> None:
    for mode, status in (("AC", "ChargingStatus"), ("DC", "CurrentDemand")):
        pair = Pair(world, {"mode": mode}, offer=Offer(supply=Supply(receipts=True))).run()
        assert pair.end == pair.failure == ""
        assert pair.requests.count("MeteringReceipt") == pair.requests.count(status) == 3


def edited(frame: bytes, edit: Callable[[dict[str, Any]], object]) -> bytes:
    """The frame with another body."""
    (payload,) = v2gtp.PayloadReader().feed(frame)
    message = exi.decode(payload)
    (body,) = message["V2G_Message"]["Body"].values()
    edit(body)
    return v2gtp.encode(exi.encode(message))


@pytest.mark.parametrize("field", ["signed reading", "reading", "session", "signature"])
def test_a_receipt_over_anything_else_ends_the_charge(world: World, field: str) -> None:
    def change(direction: str, name: str, frame: bytes) -> bytes:
        if field == "signed reading" and (direction, name) == ("out", "ChargingStatus"):
            return edited(frame, lambda body: body["MeterInfo"].update(MeterReading=999))
        if field == "signed reading" or (direction, name) != ("in", "MeteringReceipt"):
            return frame
        if field == "reading":
            return edited(frame, lambda body: body["MeterInfo"].update(MeterReading=999))
        if field == "session":
            return edited(frame, lambda body: body.update(SessionID=bytes(8)))
        return edited(frame, lambda body: body.update(Id="another"))

    offer = Offer(supply=Supply(receipts=True))
    pair = Pair(world, {"mode": "AC"}, offer=offer, change=change).run()
    assert pair.end.startswith("FAILED_MeteringSignatureNotValid")
    assert pair.failure == "response-code"


def test_a_station_that_is_not_done_is_asked_again(world: World) -> None:
    pair = Pair(world, {"mode": "DC"}, offer=Offer(supply=Supply(ongoing=2))).run()
    assert pair.end == pair.failure == ""
    for name in ("ChargeParameterDiscovery", "CableCheck"):
        assert pair.requests.count(name) == 3


def test_a_station_can_stop_the_charge(world: World) -> None:
    for mode in ("AC", "DC"):
        supply = Supply(notices={2: "StopCharging"})
        pair = Pair(world, {"mode": mode, "loops": 9}, offer=Offer(supply=supply)).run()
        assert pair.end == pair.failure == ""
        assert ("charged", "2 exchanges") in pair.events


def test_a_station_can_renegotiate(world: World) -> None:
    for mode in ("AC", "DC"):
        supply = Supply(notices={1: "ReNegotiation"})
        pair = Pair(world, {"mode": mode}, offer=Offer(supply=supply)).run()
        assert pair.end == pair.failure == ""
        assert pair.requests.count("ChargeParameterDiscovery") == 2
        assert [name for name, _ in pair.events].count("charging") == 1
        assert len(pair.of(Charged)) == 1


@pytest.mark.parametrize("name", ["ChargeParameterDiscovery", "CableCheck", "PreCharge"])
def test_a_renegotiation_that_fails_ends_with_the_power_off(world: World, name: str) -> None:
    answered: list[str] = []
    wrong = {
        "ChargeParameterDiscovery": lambda body: body.pop("SAScheduleList"),
        "CableCheck": lambda body: body["DC_EVSEStatus"].update(EVSEIsolationStatus="Fault"),
        "PreCharge": lambda body: body["EVSEPresentVoltage"].update(Unit="A"),
    }

    def change(direction: str, pair: str, frame: bytes) -> bytes:
        if (direction, pair) != ("out", name):
            return frame
        answered.append(pair)
        return frame if len(answered) == 1 else edited(frame, wrong[name])

    offer = Offer(supply=Supply(notices={1: "ReNegotiation"}))
    pair = Pair(world, {"mode": "DC"}, offer=offer, change=change).run()
    assert pair.requests[-3:] == ["PowerDelivery", "WeldingDetection", "SessionStop"]
    assert (pair.end, pair.failure) == ("", "charge")
    assert len(pair.of(Charged)) == 1


def test_a_charge_can_last_for_a_time(world: World) -> None:
    pair = Pair(world, {"mode": "DC", "loops": 0, "seconds": 5, "current": 100}).run()
    (charged,) = pair.of(Charged)
    assert 15 <= charged.exchanges <= 21  # one in 250 ms
    assert charged.energy == pytest.approx(400 * 100 * 5 / 3600, abs=4)


def test_a_car_takes_no_more_than_the_station_has(world: World) -> None:
    seen: list[dict[str, Any]] = []

    def change(direction: str, name: str, frame: bytes) -> bytes:
        if direction == "in" and name in ("PowerDelivery", "CurrentDemand"):
            edited(frame, seen.append)
        return frame

    supply = Supply(current=10, power=3000)
    Pair(world, {"mode": "DC", "current": 50}, offer=Offer(supply=supply), change=change).run()
    entry = seen[0]["ChargingProfile"]["ProfileEntry"][0]
    assert entry["ChargingProfileEntryMaxPower"]["Value"] == 3000
    assert seen[1]["EVTargetCurrent"]["Value"] == 10


@pytest.mark.parametrize(
    ("wishes", "offer", "last"),
    [
        ({"mode": "AC"}, Offer(energy_transfer=("DC_core",)), "ServiceDiscovery"),
        ({"mode": "DC"}, Offer(supply=Supply(voltage=300)), "ChargeParameterDiscovery"),
    ],
    ids=["mode", "voltage"],
)
def test_an_impossible_charge_ends_with_session_stop(
    world: World, wishes: dict[str, Any], offer: Offer, last: str
) -> None:
    pair = Pair(world, wishes, offer=offer).run()
    assert pair.requests[-2:] == [last, "SessionStop"]
    assert (pair.failure, pair.end) == ("charge", "")


# Pause


def paused_pair(world: World, **how: Any) -> Pair:
    pair = Pair(world, {"mode": "AC", "pause": True}, **how).run()
    assert ("paused", "") in pair.events
    assert len(pair.of(Paused)) == 1
    return pair


def resumed(before: Pair, **how: Any) -> Pair:
    pair = Pair(before.world, {"pause": False}, paused=before.secc.paused, **how)
    pair.session.resume(before.session.paused)
    return pair.run()


def test_a_paused_session_is_joined_again(world: World) -> None:
    before = paused_pair(world)
    pair = resumed(before)
    assert pair.end == pair.failure == ""
    assert ("resumed", "") in pair.events
    assert pair.secc.session_id == before.secc.session_id
    assert pair.secc.delivery is not None
    assert pair.secc.delivery.mode == "AC_three_phase_core"
    again = resumed(before)  # it was ended, not paused again
    assert ("resumed", "") not in again.events
    assert again.failure == ""
    assert again.secc.session_id != before.secc.session_id


def test_a_paused_session_of_another_vehicle_is_not_joined(world: World) -> None:
    before = paused_pair(world)
    foreign = before.session.paused._replace(evccid=b"\2\0\0\0\0\2")
    before.session.paused, own = foreign, before.session.paused
    pair = resumed(before)
    assert ("resumed", "") not in pair.events
    assert pair.secc.session_id != before.secc.session_id
    before.session.paused = own
    assert ("resumed", "") in resumed(before).events  # the vehicle's own is still there


def test_a_paused_session_goes_on_with_the_same_contract_only(world: World) -> None:
    before = paused_pair(world)
    other = world.new_contract("DEPVT0000000028")
    pair = Pair(world, {}, paused=before.secc.paused, chain=other.chain, key=other.key)
    pair.session.contract.emaid = "DEPVT0000000028"
    pair.session.resume(before.session.paused._replace(emaid="DEPVT0000000028"))
    pair.run()
    assert pair.end.startswith("FAILED_CertificateNotAllowedAtThisEVSE")
    pair = Pair(world, {})
    with pytest.raises(UsageError, match="resume"):
        pair.session.resume(before.session.paused._replace(emaid="DEPVT0000000028"))


def test_a_paused_session_is_forgotten_after_a_day(world: World) -> None:
    before = paused_pair(world)
    pair = resumed(before, now=90_000_000)
    assert ("resumed", "") not in pair.events
    assert pair.failure == ""


def test_a_station_remembers_a_bounded_number_of_paused_sessions() -> None:
    memory = PausedSessions(room=3)
    for number in range(10):
        memory.remember(bytes([number] * 8), EVCCID, "", "DC_core", 0.0)
    assert len(memory) == 3
    assert memory.find(bytes([9] * 8), EVCCID, 1.0) is not None


def test_a_car_joins_no_session_that_it_has_not_paused(world: World) -> None:
    def change(direction: str, name: str, frame: bytes) -> bytes:
        if (direction, name) != ("out", "SessionSetup"):
            return frame
        return edited(frame, lambda body: body.update(ResponseCode="OK_OldSessionJoined"))

    assert Pair(world, {}, change=change).run().failure == "session-id"


# Every fault at every step


def garbage(frame: bytes, name: str) -> bytes:
    return v2gtp.encode(b"\x80\xff\xff\xff")


def no_frame(frame: bytes, name: str) -> bytes:
    return b"GET / HTTP/1.1\r\n"


def iso20(frame: bytes, name: str) -> bytes:
    return v2gtp.encode(b"\x80\x00", 0x8002)


def cut(frame: bytes, name: str) -> bytes:
    return frame[:-1]


def twice(frame: bytes, name: str) -> bytes:
    return frame * 2


def silence(frame: bytes, name: str) -> bytes:
    return b""


def other_session(frame: bytes, name: str) -> bytes:
    (payload,) = v2gtp.PayloadReader().feed(frame)
    message = exi.decode(payload)
    message["V2G_Message"]["Header"]["SessionID"] = b"\xee" * 8
    return v2gtp.encode(exi.encode(message))


def other_message(frame: bytes, name: str) -> bytes:
    (payload,) = v2gtp.PayloadReader().feed(frame)
    session_id, _, _, _ = messages.opened(exi.decode(payload))
    request = ("ServiceDetailReq", {"ServiceID": 1})
    if name == "ServiceDetail":
        request = ("ServiceDiscoveryReq", {})
    return v2gtp.encode(exi.encode(messages.envelope(session_id, *request)))


def failed(frame: bytes, name: str) -> bytes:
    return edited(frame, lambda body: body.update(ResponseCode="FAILED"))


REQUEST_FAULTS = (garbage, no_frame, iso20, twice, other_session, other_message)
RESPONSE_FAULTS = (
    garbage, no_frame, iso20, twice, cut, silence, other_session, other_message, failed,
)  # fmt: skip
CAR_REASONS = {
    "garbage": "message",
    "no_frame": "frame",
    "iso20": "frame",
    "twice": "unsolicited",
    "cut": "timeout",
    "silence": "timeout",
    "other_session": "session-id",
    "other_message": "unexpected-message",
    "failed": "response-code",
}
STATION_CODES = {
    "twice": "FAILED_SequenceError",
    "other_session": "FAILED_UnknownSession",
    "other_message": "FAILED_SequenceError",
}


def faulty(world: World, mode: str, at: int, direction: str, fault: Any) -> Pair:
    """A session whose message number `at` in this direction has the fault."""
    seen = [0]

    def change(way: str, name: str, frame: bytes) -> bytes:
        if way == direction:
            seen[0] += 1
            if seen[0] == at:
                return bytes(fault(frame, name))
        return frame

    return Pair(world, {"mode": mode}, change=change).run()


@pytest.mark.parametrize("mode", ["AC", "DC"])
def test_a_fault_in_any_response_ends_the_car_with_its_reason(world: World, mode: str) -> None:
    steps = 6 + len(AC if mode == "AC" else DC)
    for fault in RESPONSE_FAULTS:
        for at in range(3, steps + 1):  # from the first message of the session on
            pair = faulty(world, mode, at, "out", fault)
            assert pair.failure == CAR_REASONS[fault.__name__], (fault, at)
            assert len(pair.requests) == at
            assert pair.events[-1] == ("closed", "")


@pytest.mark.parametrize("mode", ["AC", "DC"])
def test_a_fault_in_any_request_is_answered_by_its_response_and_its_code(
    world: World, mode: str
) -> None:
    steps = 6 + len(AC if mode == "AC" else DC)
    for fault in REQUEST_FAULTS:
        for at in range(3, steps + 1):
            pair = faulty(world, mode, at, "in", fault)
            code = STATION_CODES.get(fault.__name__, "FAILED")
            # A selected service before the payment selection is a regular request.
            if fault is other_message and at == 4:
                code = "FAILED_ServiceIDInvalid"
            assert pair.end.startswith(code + ": "), (fault, at, pair.end)
            assert pair.failure in ("response-code", "unexpected-message"), (fault, at)
            if fault in (twice, other_session):  # the request itself could be read
                assert pair.failure == "response-code"
