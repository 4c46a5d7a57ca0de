"""A client of OPCP in many threads, as an operator with many stations uses it."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import takewhile
from typing import Any

import pytest

from plugvault.roles import cpo
from plugvault.roles.client import Credentials, OpcpClient, OpcpError
from plugvault.roles.connections import AT_ONCE, Answer, Connections, Request
from plugvault.roles.cpo import ChargePointOperator
from plugvault.roles.mo import Operator
from world import EMAID, PCID

CALLERS = 3 * AT_ONCE


class Server(ThreadingHTTPServer):
    """Answers slowly, while `answers` is set, and counts: `most` requests at the same time,
    `connections` in all."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.open = self.most = self.connections = 0
        self.answers = threading.Event()
        self.answers.set()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def setup(self) -> None:
        super().setup()
        with self.server.lock:
            self.server.connections += 1

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer({"access_token": "token", "expires_in": 3600})

    def do_GET(self) -> None:
        server = self.server
        with server.lock:
            server.open += 1
            server.most = max(server.most, server.open)
        server.answers.wait(30)
        time.sleep(0.02)
        with server.lock:
            server.open -= 1
        self.answer({"path": self.path})

    def answer(self, members: dict[str, Any]) -> None:
        body = json.dumps(members).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def client(server: Server) -> Iterator[OpcpClient]:
    url = f"http://127.0.0.1:{server.server_address[1]}"
    with OpcpClient(url, Credentials("id", "secret", url)) as opened:
        yield opened


def test_more_callers_than_turns_get_their_own_answers_over_few_connections(
    server: Server, client: OpcpClient
):
    paths = [f"/{number}" for number in range(CALLERS)]
    with ThreadPoolExecutor(CALLERS) as threads:
        client.call("GET", "/first")
        answers = list(threads.map(lambda path: client.call("GET", path), paths))
    assert [answer["path"] for answer in answers] == paths
    assert server.most <= AT_ONCE
    assert server.connections <= AT_ONCE


@contextmanager
def all_turns_taken(server: Server, client: OpcpClient) -> Iterator[list[Future[Any]]]:
    """While as many requests as the client may have at once are not answered."""
    with ThreadPoolExecutor(AT_ONCE) as threads:
        server.answers.clear()
        waiting = [threads.submit(client.call, "GET", "/slow") for _ in range(AT_ONCE)]
        while server.open < AT_ONCE:
            time.sleep(0.01)
        try:
            yield waiting
        finally:
            server.answers.set()


def test_a_contract_is_not_fetched_for_a_vehicle_that_waits_no_longer(
    server: Server, client: OpcpClient, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(cpo, "FETCH_TIMEOUT", 0.05)
    client.call("GET", "/first")
    late = pytest.raises(OpcpError, match="other requests are not answered yet")
    with all_turns_taken(server, client), late:
        ChargePointOperator(client).fetch_contract(b"request")


def test_a_caller_whose_turn_does_not_come_is_told(server: Server, client: OpcpClient):
    client.call("GET", "/first")
    late = pytest.raises(OpcpError, match="32 other requests are not answered yet")
    with all_turns_taken(server, client) as waiting, late:
        client.call("GET", "/late", timeout=0.05)
    assert {call.result()["path"] for call in waiting} == {"/slow"}
    assert client.call("GET", "/late")["path"] == "/late"


@contextmanager
def raw_server(*connections: Sequence[bytes]) -> Iterator[tuple[str, list[str]]]:
    """A server of so many connections, one after the other; each sends its answers, one for a
    request, reads one more request and closes. Gives its URL and the requests' first lines."""
    seen: list[str] = []

    def serve() -> None:
        for answers in connections:
            taken, _ = listener.accept()
            with taken, taken.makefile("rb") as requests:
                for answer in (*answers, b""):
                    lines = list(takewhile(str.strip, map(bytes.decode, requests)))
                    if not lines:  # the client has closed it
                        break
                    seen.append(lines[0].rpartition(" ")[0])
                    taken.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", seen
        thread.join()


def test_a_call_waits_as_long_as_it_names_or_its_client_or_ten_seconds(
    monkeypatch: pytest.MonkeyPatch,
):
    waits: list[float] = []

    def send(_: object, request: Request) -> Answer:
        waits.append(request.timeout)
        return Answer(request, 200, b'{"access_token": "t", "expires_in": 3600}')

    monkeypatch.setattr(Connections, "send", send)
    credentials = Credentials("id", "secret", "http://x")
    for patience in ({}, {"timeout": 120.0}):
        with OpcpClient("http://x", credentials, **patience) as client:
            client.call("GET", "/")
            client.call("GET", "/", timeout=3.0)
    assert waits == [10.0, 10.0, 3.0, 120.0, 120.0, 3.0]


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


def test_a_request_on_a_connection_that_just_ended_is_sent_once_more():
    with raw_server([OK], [OK, OK]) as (url, seen), OpcpClient(url, None) as client:
        for path in ("/first", "/second", "/third"):
            assert client.call("GET", path) == {}
        with pytest.raises(OpcpError, match="unreachable"):
            client.request("POST", "/once", content=b"")
    assert seen == ["GET /first", "GET /second", "GET /second", "GET /third", "POST /once"]


def test_a_server_that_never_answers_is_asked_twice_and_no_more():
    unreachable = pytest.raises(OpcpError, match="unreachable: POST /v1/ccp")
    with raw_server([], []) as (url, seen), OpcpClient(url, None) as client, unreachable:
        ChargePointOperator(client).fetch_contract(b"")
    assert len(seen) == 2


@pytest.mark.parametrize("answer", [OK[:-1], OK.replace(b": 2", b": x"), b"SMTP 2.0\r\n\r\n"])
def test_a_broken_answer_is_none(answer: bytes):
    broken = pytest.raises(OpcpError, match=r"unreachable|answer")
    with raw_server([answer]) as (url, _), OpcpClient(url, None) as client, broken:
        client.call("POST", "/once", timeout=0.5)


def test_the_rest_of_an_answer_is_not_the_next_answer():
    """The reader of a stream leaves in the middle of it."""
    stream = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nid: 1\n\n"
    with raw_server([stream], [OK]) as (url, _), OpcpClient(url, None) as client:
        with client.stream("GET", "/v1/events", 5.0) as lines:
            assert next(iter(lines)) == "id: 1"
        assert client.call("GET", "/next") == {}


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "127.0.0.1:8080", "http://", "http://a:b"])
def test_an_address_that_is_not_of_http_is_refused(url: str):
    with pytest.raises(OpcpError, match="no URL of HTTP"):
        OpcpClient(url, None)


def test_a_path_of_the_url_comes_before_each_call():
    with raw_server([OK]) as (url, seen), OpcpClient(f"{url}/below/", None) as client:
        client.call("GET", "/v1/root/rootCerts")
    assert seen[0] == "GET /below/v1/root/rootCerts"


def answer(status: str, body: dict[str, Any]) -> bytes:
    text = json.dumps(body).encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text


def test_client_gets_a_new_token_after_a_refused_one():
    token = answer("200 OK", {"access_token": "token", "expires_in": 3600})
    server = raw_server([token, answer("401 Unauthorized", {}), token, OK])
    with server as (url, seen), OpcpClient(url, Credentials("id", "secret", url)) as client:
        with pytest.raises(OpcpError, match="401"):
            client.call("GET", "/first")
        assert client.call("GET", "/second") == {}
    requests = [line.rpartition("}")[2] for line in seen]  # after the body of the one before
    assert requests == ["POST /oauth/token", "GET /first", "POST /oauth/token", "GET /second"]


def test_generation_of_a_contract_is_sent_once():
    """A second one would make a second certificate, though it is a PUT."""
    unreachable = pytest.raises(OpcpError, match="unreachable")
    with raw_server([OK]) as (url, seen), OpcpClient(url, None) as client:
        client.call("GET", "/first")
        with unreachable:
            Operator(client, "DEPVT").contract(PCID, EMAID)
    assert seen == ["GET /first", "PUT /v1/cps/generate/signedContractData"]


def test_deletion_that_was_carried_out_without_an_answer_is_done():
    missing = answer("404 Not Found", {"errorMessages": ["not found"]})
    with raw_server([OK], [missing, missing]) as (url, seen), OpcpClient(url, None) as client:
        client.call("GET", "/first")
        operator = Operator(client, "DEPVT")
        operator.terminate(EMAID)
        with pytest.raises(OpcpError, match="404"):  # there was nothing to delete
            operator.terminate(EMAID)
    assert seen == ["GET /first", *[f"DELETE /v1/ccp/signedContractData/{EMAID}"] * 3]


def test_tokens_and_secrets_are_not_shown_with_a_request():
    request = Request("POST", "/oauth/token", {"Authorization": "Bearer T0KEN"}, b"S3CRET")
    shown = repr(Answer(request, 200, b"T0KEN"))
    assert "/oauth/token" in shown
    assert "T0KEN" not in shown
    assert "S3CRET" not in shown
