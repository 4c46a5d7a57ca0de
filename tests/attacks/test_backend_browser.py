"""A web page in the browser of the machine that a server runs on: what it can make that browser
send, and that nothing comes of it.

A form of a foreign page posts without asking, with a text, a form or no content type at all; a
name that resolves to this machine since then (DNS rebinding) makes the page and this server
one origin, but for the name in Host. Headers are as browsers were seen to send them.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from fixtures.backend import Backend, Clock, refused
from plugvault.ecosystem import Ecosystem
from plugvault.ecosystem.process import Orders
from plugvault.opcp.browser import FOREIGN_HOST, FOREIGN_PAGE
from plugvault.opcp.open import HEADER, WARNING
from plugvault.opcp.services import Settings
from plugvault.roles.receiver import receiving

EVIL = "http://evil.example"
NAMED = "lab.example"
PAGES = ("/", "/docs", "/openapi.json", "/crl", "/v1/root/rootCerts", "/oauth/token", "/nothing")
ANOTHER_SITE = {
    "a form of another site": {"Origin": EVIL, "Sec-Fetch-Site": "cross-site"},
    "an older browser": {"Origin": EVIL},
    "a file, or a frame without an origin": {"Origin": "null"},
    "an image or a link": {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    "another server of this machine": {
        "Origin": "http://127.0.0.1:1",
        "Sec-Fetch-Site": "same-site",
    },
    "a name that begins alike": {"Origin": "http://127.0.0.1.evil.example"},
}
FOREIGN_HOSTS = (
    "evil.example",
    "evil.example:8080",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "notlocalhost",
    "0.0.0.0",
    "192.0.2.1",
    "127.0.0.1@evil.example",
    "[::2]",
    "",
    "x" * 5000,
)


@pytest.fixture(scope="module", params=[True, False], ids=["open", "closed"])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, softhsm: Path
) -> Iterator[Backend]:
    clock, folder = Clock(), tmp_path_factory.mktemp("browser")
    settings = Settings(open=request.param, hosts=(NAMED,))
    with Ecosystem(folder / "world", softhsm, clock=clock, settings=settings) as ecosystem:
        yield Backend(ecosystem, clock)


def events(served: Backend) -> int:
    with served.ecosystem.store.read() as records:
        return records.events.last()


def connected(served: Backend) -> socket.socket:
    host, _, port = served.ecosystem.url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), 10)


def delete_a_vehicle(served: Backend, headers: dict[str, str]) -> httpx.Response:
    """A call with no body that changes something: as a page would post it."""
    path = "/v1/oem/provCerts/PVTP9999999999999/factoryReset"
    return served.ask(None, "POST", path, headers={"Content-Type": "text/plain", **headers})


def test_open_mode_refuses_cross_site_posts_and_foreign_hosts(served: Backend):
    before = events(served)
    for headers in ANOTHER_SITE.values():
        answer = delete_a_vehicle(served, headers)
        refused(answer, 403, FOREIGN_PAGE)
        for path in PAGES:
            refused(served.ask(None, "GET", path, headers=headers), 403, FOREIGN_PAGE)
        assert "access-control-allow-origin" not in answer.headers
    for host in FOREIGN_HOSTS:
        headers = {"Host": host, "Sec-Fetch-Site": "same-origin", "Origin": f"http://{host}"}
        for path in PAGES:
            answer = served.ask(None, "GET", path, headers=headers)
            refused(answer, 403, FOREIGN_HOST)
            if served.ecosystem._settings.open:
                assert answer.headers[HEADER] == WARNING
        refused(delete_a_vehicle(served, headers), 403, FOREIGN_HOST)
    assert events(served) == before


def test_the_servers_own_pages_and_programs_go_on_to_work(served: Backend):
    own = served.ecosystem.url.removeprefix("http://")
    port = own.rpartition(":")[2]
    for host in (own, f"localhost:{port}", f"LOCALHOST:{port}", "[::1]:80", "127.0.0.2", NAMED):
        page = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
        assert served.ask(None, "GET", "/docs", headers=page).status_code == 200
        post = served.ask(None, "POST", "/oauth/token", headers=page, content=b"{}")
        assert post.status_code == 400
    typed = {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}
    assert served.ask(None, "GET", "/", headers=typed).status_code == 200
    # Behind a proxy that calls it by another name: the page is that of the --url.
    through = {"Host": f"localhost:{port}", "Origin": served.ecosystem.url}
    assert served.ask(None, "GET", "/", headers=through).status_code == 200


def test_a_program_that_names_no_host_is_answered(served: Backend):
    """HTTP/1.0, as old OCSP clients speak it; every browser names one."""
    with connected(served) as client:
        client.sendall(b"GET /crl HTTP/1.0\r\n\r\n")
        assert b" 200 " in client.recv(64)


def test_one_of_two_hosts_that_is_foreign_is_enough(served: Backend):
    with connected(served) as client:
        client.sendall(b"GET /crl HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
        assert b" 403 " in client.recv(64)


def test_the_names_reach_the_processes_that_answer():
    orders = Orders("answer", "/d", "http://x", "sqlite://", "P", Settings(hosts=(NAMED,)))
    assert Orders.read(orders.line()).settings.hosts == (NAMED,)


def test_a_page_cannot_tell_a_webhook_receiver_anything():
    """The receiver does not check Host and Origin: no page can sign."""
    events: list[object] = []

    def take(event: object) -> str:
        events.append(event)
        return ""

    with receiving(take, lambda: "secret") as url:
        for headers in ANOTHER_SITE.values():
            answer = httpx.post(url, content=b"{}", headers=headers, trust_env=False)
            assert answer.status_code == 401
    assert events == []
