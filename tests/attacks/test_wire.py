"""The attempts of an attacker on the wire: frames, V2GTP lengths, and the maker's channel.

The channel's attacks have the real ends: `plugvault.telematics` with its key in a token, the
vehicle with a car that holds a contract, and between them an attacker who reads and changes.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from evcc.car import CarContext
from evcc.identity import Identity
from evcc.iso15118_2 import installation
from evcc.iso15118_2.session import Session
from evcc.link import frame, v2gtp
from evcc.link.mux import CONTROL, LIMITS, LOG, SESSION, Mux
from evcc.telematics import Vehicle
from evcc.timekeeper import Timekeeper
from fixtures.cars import STORED, Car
from plugvault.station import Offer
from plugvault.station.iso15118_2.secc import Secc
from plugvault.telematics import Maker, TelematicsError
from plugvault.tokens import Token
from world import EMAID, NOW, SESSION_ID

Change = Callable[[bytes], "bytes | None"]


def same(message: bytes) -> bytes | None:
    return message


class Line:
    """The maker and the vehicle, and the attacker between them."""

    def __init__(self, car: Car, makers: Token) -> None:
        self.car = car
        self.key = makers.generate("telematics")
        self.other = makers.generate("other")
        self.log: list[str] = []
        self.to_maker: queue.Queue[bytes] = queue.Queue()
        self.heard: list[bytes] = []  # by the attacker, towards the car
        self.said: list[bytes] = []  # by the car
        self.change: Change = same
        self.change_back: Change = same
        self.restart()

    def restart(self) -> None:
        """The car forgets the session, as after a start."""
        car = self.car
        self.vehicle = Vehicle(
            self.key.point,
            CarContext(
                car.vault,
                Identity(car.files, car.vault),
                car.trust,
                car.contracts,
                Timekeeper(car.files, lambda: NOW, lambda: 0),
            ),
            self.install,
            self.log.append,
            lambda name, text: None,
        )

    def install(self, response: bytes, emaid: str | None, session_id: bytes | None) -> Any:
        request = None
        if emaid is not None and session_id is not None:
            request = installation.InstallationRequest.over_the_air(emaid, session_id)
        return self.car.install(response, request=request)

    def maker(self, key: Any = None) -> Maker:
        return Maker(key or self.key, self.send, self.receive, timeout=0.1)

    def send(self, message: bytes) -> None:
        self.heard.append(message)
        changed = self.change(message)
        for answer in self.vehicle.receive(changed) if changed is not None else []:
            self.said.append(answer)
            back = self.change_back(answer)
            if back is not None:
                self.to_maker.put(back)

    def receive(self, seconds: float) -> bytes | None:
        try:
            return self.to_maker.get(timeout=seconds)
        except queue.Empty:
            return None

    def deliver(self, maker: Maker) -> None:
        """A second contract, in the maker's ordinary way."""
        maker.offer_contract(EMAID, SESSION_ID)
        maker.install_contract(self.car.world.response(self.car.point))

    def fails(self, reason: str, action: Callable[[], object]) -> None:
        """`action` fails on the maker's side, and nothing in the car has changed."""
        before = self.car.stored()
        with pytest.raises(TelematicsError) as caught:
            action()
        assert caught.value.reason == reason
        assert self.car.stored() == before

    def unheard(self, message: bytes) -> None:
        """Assert that the car neither answers nor changes."""
        before = self.car.stored()
        assert self.vehicle.receive(message) == []
        assert self.car.stored() == before


@pytest.fixture
def line(makers: Token, car: Car) -> Line:
    return Line(car, makers)


def connected(line: Line) -> Maker:
    maker = line.maker()
    assert maker.connect() == line.car.point
    return maker


def test_an_unaltered_exchange_installs(line: Line) -> None:
    maker = connected(line)
    line.deliver(maker)
    assert sorted(contract.emaid for contract in maker.contracts()) == sorted([STORED, EMAID])


def test_rejects_a_peer_with_another_makers_key(line: Line) -> None:
    line.fails("timeout", line.maker(line.other).connect)
    assert len(line.said) == 1  # a nonce, and nothing that identifies the car
    assert line.car.point not in line.said[0]


def test_rejects_a_car_that_is_not_the_one_known(line: Line) -> None:
    maker = Maker(line.key, line.send, line.receive, car=line.other.point, timeout=0.1)
    line.fails("stranger", maker.connect)


def test_rejects_a_car_that_cannot_prove_its_key(line: Line) -> None:
    def with_another_point(message: bytes) -> bytes:
        return message[:1] + line.other.point + message[66:] if message[0] == 4 else message

    line.change_back = with_another_point
    line.fails("stranger", line.maker().connect)


def test_rejects_everything_before_the_handshake(line: Line) -> None:
    maker = connected(line)
    maker.contracts()
    heard = list(line.heard)
    line.restart()
    for message in heard[1:]:
        line.unheard(message)
    line.fails("not-connected", line.maker().contracts)


def test_rejects_a_replayed_removal(line: Line) -> None:
    maker = connected(line)
    line.deliver(maker)
    maker.remove_contract(EMAID)
    removal = line.heard[-1]
    line.unheard(removal)
    maker.connect()
    line.unheard(removal)


def test_rejects_a_replayed_handshake(line: Line) -> None:
    connected(line)
    hello, proof = line.heard[:2]
    line.unheard(proof)
    assert len(line.vehicle.receive(hello)) == 1
    line.unheard(proof)


def test_rejects_the_cars_own_records_sent_back(line: Line) -> None:
    maker = connected(line)
    maker.status()
    for message in line.said:
        line.unheard(message)


def test_the_maker_rejects_its_own_records_sent_back(line: Line) -> None:
    maker = connected(line)

    def mirrored(message: bytes) -> None:
        line.to_maker.put(message)

    line.change = mirrored
    line.fails("timeout", maker.contracts)


def test_the_maker_rejects_an_answer_of_before(line: Line) -> None:
    maker = connected(line)
    maker.contracts()
    old = line.said[-1]
    line.change_back = lambda message: old
    line.fails("timeout", maker.contracts)


@pytest.mark.parametrize("at", [0, 1, 4, 5, 20, -65, -64, -1])
def test_rejects_a_tampered_piece(line: Line, at: int) -> None:
    maker = connected(line)
    maker.offer_contract(EMAID, SESSION_ID)

    def tampered(message: bytes) -> bytes:
        if b"piece" not in message:
            return message
        out = bytearray(message)
        out[at] ^= 1
        return bytes(out)

    line.change = tampered
    response = line.car.world.response(line.car.point)
    line.fails("timeout", lambda: maker.install_contract(response))


@pytest.mark.parametrize("lost", [2, 3, 5])
def test_rejects_a_contract_with_a_piece_left_out(line: Line, lost: int) -> None:
    maker = connected(line)
    maker.offer_contract(EMAID, SESSION_ID)
    count = len(line.heard)
    line.change = lambda message: None if len(line.heard) - count == lost else message
    response = line.car.world.response(line.car.point)
    line.fails("timeout", lambda: maker.install_contract(response))
    line.change = same
    line.fails("not-connected", maker.contracts)
    maker.connect()
    line.deliver(maker)


def test_rejects_a_contract_that_was_not_offered(line: Line) -> None:
    maker = connected(line)
    response = line.car.world.response(line.car.point)
    line.fails("rejected", lambda: maker.install_contract(response))
    assert "unsolicited" in line.log[-1]


def test_rejects_another_contract_than_the_one_offered(line: Line) -> None:
    maker = connected(line)
    maker.offer_contract("DEPVT0000000023", SESSION_ID)
    response = line.car.world.response(line.car.point)
    line.fails("rejected", lambda: maker.install_contract(response))
    assert "emaid" in line.log[-1]


def test_every_rejection_looks_the_same_to_the_peer(line: Line) -> None:
    maker = connected(line)
    world, point = line.car.world, line.car.point
    lengths = set()
    for response in (
        b"",
        world.response(point)[:-20],
        world.response(point, scalar=bytes(31) + b"\x05"),
        world.response(line.other.point),
        world.response(point, cps=world.cpo),
    ):
        maker.offer_contract(EMAID, SESSION_ID)

        def install(response: bytes = response) -> str:
            return maker.install_contract(response)

        line.fails("rejected", install)
        lengths.add(len(line.said[-1]))
    assert len(lengths) == 1


def test_frame_length_over_limit_rejected_before_allocation() -> None:
    reader = frame.FrameReader(64)
    for _ in range(1000):
        assert reader.feed(b"\x41" * 1000) == []
        assert len(reader._buffer) <= 64 + 5
    (raw,) = reader.feed(b"\x00" + frame.encode(b"next"))
    assert frame.unseal(raw) == b"next"


def test_message_length_over_limit_rejected_before_allocation() -> None:
    roomy = Mux(1, dict.fromkeys(LIMITS, 1 << 24), dict.fromkeys(LIMITS, 1 << 24))
    mux = Mux(2)
    roomy.send(CONTROL, bytes(1 << 20))
    roomy.send(LOG, b"after")
    heard: list[tuple[int, bytes]] = []
    for now in range(400):
        heard += mux.feed(roomy.poll(now), now)
        assert CONTROL not in mux._parts
        roomy.feed(mux.poll(now), now)
    assert heard == [(LOG, b"after")]
    assert mux.refused == 1


def test_v2gtp_length_over_limit_rejected_before_allocation() -> None:
    reader = v2gtp.PayloadReader()
    with pytest.raises(v2gtp.V2gtpError) as caught:
        reader.feed(b"\x01\xfe\x80\x01" + (v2gtp.LIMIT + 1).to_bytes(4, "big"))
    assert caught.value.reason == "too-long"
    assert len(reader._payload) == 0


def test_truncated_and_concatenated_frames_resync() -> None:
    reader = frame.FrameReader(64)
    encoded = frame.encode(b"whole")
    line = encoded[:4] + b"\x00" + encoded + encoded[:-1] + encoded + b"\x00\x00" + encoded
    bodies = [frame.unseal(raw) for raw in reader.feed(line)]
    assert [body for body in bodies if body] == [b"whole"] * 2


def test_4100_byte_response_accepted() -> None:
    near, far = Mux(1), Mux(2)
    near.send(SESSION, v2gtp.encode(bytes(4100)))
    heard: list[tuple[int, bytes]] = []
    for now in range(100):
        heard += far.feed(near.poll(now), now)
        near.feed(far.poll(now), now)
    ((_, message),) = heard
    assert v2gtp.PayloadReader().feed(message) == [bytes(4100)]


def test_pnc_refused_without_tls(car: Car) -> None:
    """An attacker who keeps TLS away gets no contract chain and no signature, from either end."""
    for secure_car, secure_station in ((False, True), (True, False)):
        clock = SimpleNamespace(now=lambda: NOW, source=lambda: "clock")
        identity = SimpleNamespace(certificate=b"")
        context = CarContext(car.vault, identity, car.trust, car.contracts, clock)
        session = Session(context, secure=secure_car)
        secc = Secc(Offer(), [], lambda: NOW, 0, secure=secure_station)
        requests, events = [], []
        frames = session.start(0)
        while frames:
            requests += frames
            answers, _ = secc.receive(b"".join(frames), 0)
            frames, more = session.receive(b"".join(answers), 0)
            events += more
        assert events[0][1] == ("no-contract-payment" if secure_car else "insecure")
        assert len(requests) == 4  # the fourth is the SessionStopReq
