"""The maker's end of its channel with a hostile car: each call gets an answer or an error."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from evcc import telematics as wire
from evcc.record import pack
from plugvault.pki.keys import raw_signer
from plugvault.telematics import Maker, TelematicsError
from world import point


class Key:
    def __init__(self) -> None:
        private = ec.generate_private_key(ec.SECP256R1())
        self.point, self.sign_digest = point(private), raw_signer(private)


class HostileCar:
    """Proves its key as a car does, then answers each request with `answer`, signed."""

    def __init__(self, maker: Key, answer: bytes) -> None:
        self._maker, self._answer, self._key = maker, answer, Key()
        self._out: list[bytes] = []
        self.nonces = (b"", b"")
        self._counter = 0

    def say(self, kind: int, body: bytes) -> None:
        self._out.append(bytes([kind]) + body)

    def take(self, message: bytes) -> None:
        if message[0] == wire.HELLO:
            self.nonces = message[1:], bytes(32)
            self._out.append(bytes([wire.CHALLENGE]) + self.nonces[1])
        elif message[0] == wire.MAKER_PROOF:
            points = self._maker.point, self._key.point
            proof = self._key.sign_digest(wire.transcript(wire.TO_MAKER, *self.nonces, *points))
            self._session = wire.transcript(b"S", *self.nonces, *points)
            self._out.append(bytes([wire.CAR_PROOF]) + self._key.point + proof)
        else:
            self._out.append(
                wire.seal(
                    self._session,
                    wire.TO_MAKER,
                    self._counter,
                    self._answer,
                    self._key.sign_digest,
                )
            )
            self._counter += 1

    def give(self, seconds: float) -> bytes | None:
        return self._out.pop(0) if self._out else None


def connected(answer: bytes) -> Maker:
    key = Key()
    car = HostileCar(key, answer)
    maker = Maker(key, car.take, car.give)
    maker.connect()
    return maker


CALLS: dict[str, Callable[[Maker], Any]] = {
    "csr": lambda maker: maker.csr("PVTP0000000000001", "Maker"),
    "install": lambda maker: maker.install_contract(b"response"),
    "contracts": lambda maker: maker.contracts(),
    "status": lambda maker: maker.status(),
}
NONSENSE = {
    "no record": b"junk",
    "no word": pack([]),
    "one field too many": pack([b"ok"] + [b"1"] * 12),
    "not text": pack([b"ok"] + [b"\xff"] * 11),
    "not text at all": pack([b"ok", b"\xff"]),
    "no numbers": pack([b"ok", *[b"x"] * 11]),
    "a contract without numbers": pack([b"ok", pack([b"x"] * 7)]),
}

ANSWERS = {("csr", "not text at all"), ("csr", "a contract without numbers")}  # bytes: any will do


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("kind", NONSENSE)
def test_an_authentic_car_that_talks_nonsense_is_one_clear_error(name: str, kind: str):
    maker = connected(NONSENSE[kind])
    try:
        CALLS[name](maker)
    except TelematicsError as error:
        assert error.reason == "protocol"
    else:
        assert (name, kind) in ANSWERS


def test_an_answer_without_the_requested_value_is_a_protocol_error():
    for call in CALLS.values():
        if call is not CALLS["contracts"]:
            with pytest.raises(TelematicsError, match="protocol"):
                call(connected(pack([b"ok"])))


def test_a_car_that_does_not_prove_its_key_is_refused():
    """It shows another car's key, with a proof of its own, or with one for other nonces."""
    key, other_key = Key(), Key()
    car = HostileCar(key, b"")
    for nonces, signer in (((bytes(32), bytes(32)), other_key), (None, Key())):

        def take(message: bytes, nonces: Any = nonces, signer: Key = signer) -> None:
            if message[0] == wire.HELLO:
                car.say(wire.CHALLENGE, bytes(32))
                car.nonces = nonces or (message[1:], bytes(32))
            else:
                points = key.point, other_key.point
                transcript = wire.transcript(wire.TO_MAKER, *car.nonces, *points)
                car.say(wire.CAR_PROOF, other_key.point + signer.sign_digest(transcript))

        maker = Maker(key, take, car.give)
        with pytest.raises(TelematicsError, match="stranger"):
            maker.connect()
        assert maker.car is None
        with pytest.raises(TelematicsError, match="not-connected"):
            maker.status()


def test_a_record_without_the_cars_signature_is_ignored():
    maker = connected(pack([b"ok"]))
    send = maker._send
    assert maker._session is not None
    forged = [
        wire.seal(maker._session, wire.TO_MAKER, 0, pack([b"refused", b"full"]), key.sign_digest)
        for key in (Key(), maker._key)
    ]

    def take(message: bytes) -> None:
        send(message)
        true = maker._receive
        maker._receive = lambda seconds: forged.pop() if forged else true(seconds)

    maker._send = take
    maker.choose_contract("DEPVT0000000012")
    assert not forged


def test_after_an_answer_that_never_came_the_maker_must_connect_again():
    """The car may have carried it out: its counter is not known any more."""
    maker = connected(pack([b"ok"]))
    maker._receive = lambda seconds: None
    with pytest.raises(TelematicsError, match="timeout"):
        maker.choose_contract("DEPVT0000000012")
    with pytest.raises(TelematicsError, match="not-connected"):
        maker.choose_contract("DEPVT0000000012")


@pytest.mark.parametrize("junk", [b"", b"\x05\x00\x00\x00\x00" + bytes(64), bytes(130)])
def test_a_peer_that_never_stops_sending_times_out_too(junk: bytes):
    maker = Maker(Key(), lambda message: None, lambda seconds: junk, timeout=0.1)
    started = time.monotonic()
    with pytest.raises(TelematicsError, match="timeout"):
        maker.connect()
    assert time.monotonic() - started < 5
