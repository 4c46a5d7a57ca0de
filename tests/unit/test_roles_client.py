"""A client of OPCP in many threads, as an operator with many stations uses it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from plugvault.roles import cpo
from plugvault.roles.client import AT_ONCE, Credentials, OpcpClient, OpcpError
from plugvault.roles.cpo import ChargePointOperator

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


def test_more_callers_than_turns_get_their_own_answers_over_few_connections(server: Server):
    url = f"http://127.0.0.1:{server.server_address[1]}"
    paths = [f"/{number}" for number in range(CALLERS)]
    with (
        OpcpClient(url, Credentials("id", "secret", url)) as client,
        ThreadPoolExecutor(CALLERS) as threads,
    ):
        client.call("GET", "/first")
        answers = list(threads.map(lambda path: client.call("GET", path), paths))
    assert [answer["path"] for answer in answers] == paths
    assert server.most <= AT_ONCE
    assert server.connections <= AT_ONCE


def test_a_contract_is_not_fetched_for_a_vehicle_that_waits_no_longer(
    server: Server, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(cpo, "FETCH_TIMEOUT", 0.05)
    url = f"http://127.0.0.1:{server.server_address[1]}"
    with OpcpClient(url, Credentials("id", "secret", url)) as client:
        client.call("GET", "/first")
        for _ in range(AT_ONCE):
            client._turns.acquire()
        with pytest.raises(OpcpError, match="other requests are not answered yet"):
            ChargePointOperator(client).fetch_contract(b"request")
        for _ in range(AT_ONCE):
            client._turns.release()


def test_a_caller_whose_turn_does_not_come_is_told(server: Server):
    url = f"http://127.0.0.1:{server.server_address[1]}"
    with (
        OpcpClient(url, Credentials("id", "secret", url)) as client,
        ThreadPoolExecutor(AT_ONCE) as threads,
    ):
        client.call("GET", "/first")
        server.answers.clear()
        waiting = [threads.submit(client.call, "GET", "/slow") for _ in range(AT_ONCE)]
        while server.open < AT_ONCE:
            time.sleep(0.01)
        with pytest.raises(OpcpError, match="32 other requests are not answered yet"):
            client.call("GET", "/late", timeout=0.05)
        server.answers.set()
        assert {call.result()["path"] for call in waiting} == {"/slow"}
        assert client.call("GET", "/late")["path"] == "/late"
