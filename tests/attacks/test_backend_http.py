"""Attacks below the calls: silent and deaf connections, heads and trailers without end, JSON that
cannot be written again, serial numbers that no certificate has.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Message

from fixtures.backend import Backend, refused
from plugvault.ecosystem import server
from plugvault.opcp import protocol
from plugvault.opcp.limits import BodyLimit

HOOK = {"url": "https://example.com/", "enabledEvents": ["root.cert.added"]}
JSON = {"content-type": "application/json"}


@contextmanager
def connected(monkeypatch: pytest.MonkeyPatch, **limits: float) -> Iterator[socket.socket]:
    """Connect to a server with short limits."""
    for name, value in limits.items():
        monkeypatch.setattr(protocol, name, value)
    app = FastAPI()

    @app.get("/")
    def here() -> str:
        return "here"

    @app.post("/")
    async def there(request: Request) -> int:
        return len(await request.body())

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
    "data",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: x\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\n",
    ],
    ids=["nothing", "half a head", "half a body", "half a second head"],
)
def test_an_unfinished_request_is_cut_off(monkeypatch: pytest.MonkeyPatch, data: bytes):
    with connected(monkeypatch, REQUEST_TIMEOUT=0.3) as client:
        client.sendall(data)
        assert is_ended(client)


def test_the_length_of_a_head_is_limited(monkeypatch: pytest.MonkeyPatch):
    with connected(monkeypatch, HEAD=4096) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
        with contextlib.suppress(ConnectionError):
            client.sendall(b"x: %s\r\n" % (b"y" * 50_000))
        assert is_ended(client)


@pytest.mark.parametrize(
    "trailers",
    [b"x: y\r\n" * 10_000, b"x: %s" % (b"y" * 50_000)],
    ids=["many", "one without end"],
)
def test_trailers_count_as_a_head(monkeypatch: pytest.MonkeyPatch, trailers: bytes):
    with connected(monkeypatch, HEAD=4096) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
        with contextlib.suppress(ConnectionError):
            client.sendall(trailers)
        assert is_ended(client)


def test_a_body_in_chunks_does_not_count_as_a_head(monkeypatch: pytest.MonkeyPatch):
    with connected(monkeypatch, HEAD=200) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(10):
            client.sendall(b"1000\r\n%s\r\n" % bytes(4096))
        client.sendall(b"0\r\n\r\n")
        assert client.recv(4096).endswith(b"\r\n\r\n40960")


@pytest.mark.parametrize("close", [b"", b"Connection: close\r\n"], ids=["kept open", "to close"])
@pytest.mark.parametrize(
    "answer",
    [
        lambda: Response(bytes(20_000)),
        lambda: Response(bytes(1 << 20)),
        lambda: StreamingResponse(bytes(1 << 16) for _ in range(64)),  # it waits in the middle
    ],
    ids=["short", "long", "in parts"],
)
def test_a_client_that_never_reads_is_cut_off(
    monkeypatch: pytest.MonkeyPatch, answer: Callable[[], Response], close: bytes
):
    app = FastAPI()
    app.get("/", response_model=None)(answer)
    ended = threading.Event()
    lost = protocol.HttpProtocol.connection_lost
    monkeypatch.setattr(protocol, "WRITE_TIMEOUT", 0.3)
    monkeypatch.setattr(protocol, "SLOWEST", 1e9)
    monkeypatch.setattr(
        protocol.HttpProtocol,
        "connection_lost",
        lambda connection, error: (lost(connection, error), ended.set()),
    )
    listener = server.listen()
    # An accepted connection has the buffers of its listener.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    with server.in_thread(app, listener), closing(socket.socket()) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        client.connect(listener.getsockname())
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n%s\r\n" % close)
        assert ended.wait(20)


def test_a_client_that_reads_slowly_gets_everything(monkeypatch: pytest.MonkeyPatch):
    app, sent = FastAPI(), bytes(1 << 20)
    app.get("/")(lambda: Response(sent))
    monkeypatch.setattr(protocol, "WRITE_TIMEOUT", 0.0)
    monkeypatch.setattr(protocol, "SLOWEST", 1e4)
    listener = server.listen()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    with server.in_thread(app, listener), closing(socket.socket()) as client:
        client.settimeout(20)
        client.connect(listener.getsockname())
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        with client.makefile("rb") as stream:
            assert len(stream.read()) > len(sent)


def test_a_client_with_requests_in_time_is_not_cut_off(monkeypatch: pytest.MonkeyPatch):
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


def test_half_a_character_is_refused_in_words(backend: Backend):
    body = json.dumps({**HOOK, "enabledEvents": ["\ud800"]})
    answer = backend.ask("OEM", "POST", "/v1/webhook/endpoints", content=body, headers=JSON)
    refused(answer, 400, r"\\ud800 is not an event")


@pytest.mark.parametrize("length", [b"0" * 5000 + b"2", b"9" * 5000, b"-1", b"\xb2"])
def test_a_length_that_python_does_not_read_is_refused(length: bytes):
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"{}"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "headers": [(b"content-length", length)]}
    asyncio.run(BodyLimit(FastAPI())(scope, receive, send))
    assert sent[0]["status"] == 413


@pytest.mark.parametrize("kind", ["application/json", "application/xml"])
def test_a_deep_body_is_refused_in_words(backend: Backend, kind: str):
    call = ("PUT", "/v1/cps/generate/signedContractData")
    body = ("[" if kind.endswith("json") else "<a>") * 20_000
    answer = backend.ask("MO_HUBJECT_PKI", *call, content=body, headers={"content-type": kind})
    refused(answer, 400, "The body is not (JSON|XML)")


def test_an_impossible_serial_number_is_a_malformed_request(backend: Backend):
    """The library cannot write an answer with a negative serial number."""
    vehicle = backend.vehicle()
    leaf, sub = map(x509.load_der_x509_certificate, (vehicle.leaf, vehicle.subs[0]))
    built = ocsp.OCSPRequestBuilder().add_certificate(leaf, sub, SHA1()).build()
    request = built.public_bytes(Encoding.DER)
    serial = leaf.serial_number.to_bytes((leaf.serial_number.bit_length() + 8) // 8, "big")
    assert request.endswith(serial)
    negative = request[: -len(serial)] + b"\x80" + serial[1:]
    answer = backend.http.post("/ocsp", content=negative)
    assert answer.status_code == 200
    response_ = ocsp.load_der_ocsp_response(answer.content)
    assert response_.response_status == ocsp.OCSPResponseStatus.MALFORMED_REQUEST
