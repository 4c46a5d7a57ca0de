"""A webhook's other end: nothing is taken without its HMAC, and the answer is the verdict."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from plugvault.roles.client import OpcpError
from plugvault.roles.receiver import LIMIT, answer, is_signed, receiving
from plugvault.roles.state_file import EventError

SECRET = "s3cret"
EVENT = {"eventId": "1", "eventType": "oem.contract.created", "payload": {}}
BODY = json.dumps(EVENT).encode()
HMAC = hmac.new(SECRET.encode(), BODY, hashlib.sha256).hexdigest()
GOOD = {"payload-signature": HMAC}


class Taker:
    def __init__(self, outcome: str | Exception = "") -> None:
        self.outcome, self.taken = outcome, []

    def __call__(self, event: Mapping[str, Any]) -> str:
        self.taken.append(event)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


@pytest.mark.parametrize(
    "headers",
    [
        GOOD,
        {"payload-signature": HMAC.upper()},
        {"x-hubject-signature": f"sha256={HMAC}"},
        {"x-operator-signature": f"sha256={HMAC}"},
        {"x-operator-signature": HMAC},
        {**GOOD, "x-hubject-signature": f"sha256={HMAC}"},
    ],
)
def test_each_of_the_three_headers_will_do(headers: dict[str, str]):
    taker = Taker()
    assert answer(taker, SECRET, BODY, headers) == (200, "")
    assert taker.taken == [EVENT]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"payload-signature": ""},
        {"payload-signature": "0" * 64},
        {"payload-signature": HMAC[:-1]},
        {"payload-signature": "ä"},
        {**GOOD, "x-hubject-signature": "sha256=" + "0" * 64},
        {"x-signature": HMAC},
    ],
)
def test_webhook_hmac_required(headers: dict[str, str]):
    taker = Taker()
    assert answer(taker, SECRET, BODY, headers)[0] == 401
    assert taker.taken == []


def test_the_signature_is_over_every_byte_and_of_this_webhook():
    assert not is_signed(SECRET, BODY + b" ", GOOD)
    assert not is_signed("another", BODY, GOOD)


@pytest.mark.parametrize(
    "outcome, status",
    [
        ("", 200),
        ("expired: a certificate of the bundle", 409),
        (OpcpError("unreachable", "GET"), 503),
        (EventError("not an event"), 400),
        (ValueError("of a library"), 503),
    ],
)
def test_the_status_is_the_verdict(outcome: str | Exception, status: int):
    assert answer(Taker(outcome), SECRET, BODY, GOOD)[0] == status


def test_a_signed_body_that_is_no_json_is_said_to_be_none():
    body = b"{"
    mac = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    assert answer(Taker(), SECRET, body, {"payload-signature": mac})[0] == 400


@pytest.mark.parametrize("length", [b"0" * 5000 + b"2", b"9" * 5000])
def test_a_length_that_python_does_not_read_is_refused(length: bytes):
    with receiving(Taker(), lambda: SECRET) as url:
        address = ("127.0.0.1", int(url.rsplit(":", 1)[1].strip("/")))
        with socket.create_connection(address, 20) as client:
            client.sendall(b"POST / HTTP/1.0\r\nContent-Length: %s\r\n\r\n{}" % length)
            assert client.makefile("rb").readline().split()[1] == b"413"


def test_verdicts_and_limits_are_the_same_over_http():
    taker = Taker("wrong-contract")
    with receiving(taker, lambda: SECRET) as url, httpx.Client(trust_env=False) as client:
        answer = client.post(url, content=BODY, headers={"Payload-Signature": HMAC})
        assert (answer.status_code, answer.json()) == (409, {"errorMessages": ["wrong-contract"]})
        assert client.post(url, content=BODY).status_code == 401
        assert client.post(url, content=bytes(LIMIT)).status_code == 401
        assert client.post(url, content=bytes(LIMIT + 1)).status_code == 413
    assert len(taker.taken) == 1
    with socket.socket() as probe:  # and it is gone afterwards
        assert probe.connect_ex(("127.0.0.1", int(url.rsplit(":", 1)[1].strip("/")))) != 0
