"""Attacks below the calls: connections that say nothing, heads without end, JSON that cannot be
written again, numbers no certificate has.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from fastapi import FastAPI

from fixtures.backend import Backend, refused
from plugvault.ecosystem import server
from plugvault.opcp import protocol

HOOK = {"url": "https://example.com/", "enabledEvents": ["root.cert.added"]}
JSON = {"content-type": "application/json"}


@contextmanager
def connected(monkeypatch: pytest.MonkeyPatch, **limits: float) -> Iterator[socket.socket]:
    """To a server whose limits a test can wait for."""
    for name, value in limits.items():
        monkeypatch.setattr(protocol, name, value)
    app = FastAPI()

    @app.get("/")
    def here() -> str:
        return "here"

    listener = server.listen()
    with server.in_thread(app, listener), closing(socket.socket()) as client:
        client.settimeout(20)
        client.connect(listener.getsockname())
        yield client


def is_ended(client: socket.socket) -> bool:
    try:
        while client.recv(4096):
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: x\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\n",
    ],
    ids=["nothing", "half a head", "half a body", "half a second head"],
)
def test_who_never_ends_a_request_is_cut_off(monkeypatch: pytest.MonkeyPatch, said: bytes):
    with connected(monkeypatch, PATIENCE=0.3) as client:
        client.sendall(said)
        assert is_ended(client)


def test_a_head_has_an_end(monkeypatch: pytest.MonkeyPatch):
    with connected(monkeypatch, HEAD=4096) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
        with contextlib.suppress(ConnectionError):
            client.sendall(b"x: %s\r\n" % (b"y" * 50_000))
        assert is_ended(client)


def test_who_asks_again_in_time_is_not_cut_off(monkeypatch: pytest.MonkeyPatch):
    with connected(monkeypatch, HEAD=200) as client:
        for _ in range(20):
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"here" in client.recv(4096)


@pytest.mark.parametrize(
    "metadata",
    [
        '{"a": NaN}',
        '{"a": Infinity}',
        r'{"a": "\ud800"}',
        r'{"\udfff": 1}',
        '{"a": ' + "[" * 1500 + "]" * 1500 + "}",
    ],
    ids=["not a number", "infinite", "half a character", "in a name", "deep"],
)
def test_metadata_that_cannot_be_written_again_is_not_kept(backend: Backend, metadata: str):
    """It would be in every later answer that lists the owner's webhooks."""
    body = json.dumps(HOOK)[:-1] + f', "metadata": {metadata}}}'
    answer = backend.ask("OEM", "POST", "/v1/webhook/endpoints", content=body, headers=JSON)
    assert answer.status_code in (201, 400), answer.text
    assert backend.ask("OEM", "GET", "/v1/webhook/endpoints").status_code == 200


@pytest.mark.parametrize("kind", ["application/json", "application/xml"])
def test_a_deep_body_is_refused_in_words(backend: Backend, kind: str):
    call = ("PUT", "/v1/cps/generate/signedContractData")
    body = ("[" if kind.endswith("json") else "<a>") * 20_000
    answer = backend.ask("MO_HUBJECT_PKI", *call, content=body, headers={"content-type": kind})
    refused(answer, 400, "The body is not (JSON|XML)")


def test_a_serial_number_nobody_has_is_no_error_of_ours(backend: Backend):
    """A negative one, which the library that writes the answers cannot write."""
    vehicle = backend.vehicle()
    leaf, sub = map(x509.load_der_x509_certificate, (vehicle.leaf, vehicle.subs[0]))
    asked = ocsp.OCSPRequestBuilder().add_certificate(leaf, sub, SHA1()).build()
    request = asked.public_bytes(Encoding.DER)
    serial = leaf.serial_number.to_bytes((leaf.serial_number.bit_length() + 8) // 8, "big")
    assert request.endswith(serial)
    negative = request[: -len(serial)] + b"\x80" + serial[1:]
    answer = backend.http.post("/ocsp", content=negative)
    assert answer.status_code == 200
    said = ocsp.load_der_ocsp_response(answer.content)
    assert said.response_status == ocsp.OCSPResponseStatus.MALFORMED_REQUEST
