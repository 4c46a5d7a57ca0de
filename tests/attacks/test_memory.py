"""Unauthenticated senders must not fill this side's memory: the tests measure the kept objects.

These senders are clients without an access token, and vehicles, stations and modules, which have
none: their messages reach the pools through a station, and a bench through its line.
"""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from evcc import x509 as strict
from evcc.link.mux import QUEUES, VAULT, weight
from evcc.ports.stream import of_socket
from fixtures.office import URL, Office, branch
from plugvault.link import bench as benches
from plugvault.link import bridges
from plugvault.link.bench import Bench
from plugvault.opcp import budget
from plugvault.opcp import tokens as tokens_
from plugvault.pki import issuer_names, path
from plugvault.pools import listed_roots
from plugvault.roles import state_file
from plugvault.station import server
from plugvault.station.events import Authorized
from plugvault.station.server import Station
from world import PCID, World

LONG = 60_000  # characters: what a body or a head lets pass
Status = ocsp.OCSPResponseStatus


def size(root_object: Any) -> int:
    """The bytes of an object and of all objects that it refers to."""
    seen: set[int] = set()
    todo, total = [root_object], 0
    while todo:
        item = todo.pop()
        if id(item) in seen or isinstance(item, type) or callable(item):
            continue
        seen.add(id(item))
        total += sys.getsizeof(item)
        if isinstance(item, dict):
            todo += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple | set | frozenset):
            todo += item
        elif hasattr(item, "__dict__"):
            todo.append(vars(item))
    return total


def client_ids(office: Office, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(budget, "KNOWN", 50)
    for number in range(60):
        credentials = {"client_id": f"{number:060}" * 1000, "client_secret": "x", "audience": URL}
        credentials["grant_type"] = "client_credentials"
        answer = office.http.post("/oauth/token", json=credentials)
        assert answer.status_code == 401
    tries = office.app.state.tries
    assert len(tries._pairs._buckets) == 50
    return size([tries._pairs._buckets, tries._addresses._buckets])


def serial_numbers(office: Office, _: pytest.MonkeyPatch) -> int:
    leaf = office.issue("oem", "provisioning", PCID)
    certificate, above = x509.load_der_x509_certificate(leaf), branch("oem").certificate
    built = ocsp.OCSPRequestBuilder()
    for number in range(60):
        request = built.add_certificate_by_hash(*named(certificate, above), number + 1, SHA1())
        answer = office.http.post("/ocsp", content=request.build().public_bytes(Encoding.DER))
        assert ocsp.load_der_ocsp_response(answer.content).response_status == Status.SUCCESSFUL
    answer = office.http.post("/ocsp", content=with_serial(certificate, above, 1000))
    assert ocsp.load_der_ocsp_response(answer.content).response_status == Status.MALFORMED_REQUEST
    answers = office.app.state.responder._answers
    assert not answers, "a number that no CA has given out"
    return size(answers)


def named(certificate: x509.Certificate, above: x509.Certificate) -> tuple[bytes, bytes]:
    request = ocsp.OCSPRequestBuilder().add_certificate(certificate, above, SHA1()).build()
    return request.issuer_name_hash, request.issuer_key_hash


def with_serial(certificate: x509.Certificate, above: x509.Certificate, length: int) -> bytes:
    """An OCSP request for a number that no certificate can have, by hand: no library writes it."""
    name, key = named(certificate, above)
    sha1 = bytes.fromhex("300906052b0e03021a0500")
    number = tlv(0x02, b"\x01" * length)
    request = tlv(0x30, sha1 + tlv(0x04, name) + tlv(0x04, key) + number)
    return tlv(0x30, tlv(0x30, tlv(0x30, tlv(0x30, request))))


def tlv(tag: int, content: bytes) -> bytes:
    length = len(content)
    head = bytes([length]) if length < 128 else b"\x82" + length.to_bytes(2, "big")
    return bytes([tag]) + head + content


def forms_of_a_token(office: Office, monkeypatch: pytest.MonkeyPatch) -> int:
    """A base64 signature may contain characters outside its alphabet."""
    monkeypatch.setattr(tokens_, "_KNOWN", 50)
    token = office.bearer("OEM")
    for number in range(60):
        written = f"{token}{'!' * (LONG - number)}"
        office.ask(None, "GET", "/v1/root/rootCerts", headers=bearer(written))
    assert office.ask("OEM", "GET", "/v1/root/rootCerts").status_code == 200
    tokens = office.services.tokens
    assert {len(key) for key in (*tokens._known, *tokens._verified)} == {16}
    assert len(tokens._known) <= 50
    return size([tokens._known, tokens._verified])


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def certificates(_: Office, __: pytest.MonkeyPatch) -> int:
    before = path.read.cache_info().currsize + path.read_any.cache_info().currsize
    for number in range(60):
        with pytest.raises(strict.CertificateError):
            path.read_any(number.to_bytes(2, "big") * (LONG // 2))
    return (path.read.cache_info().currsize + path.read_any.cache_info().currsize - before) * LONG


def names_of_roots(_: Office, __: pytest.MonkeyPatch) -> int:
    root = strict.parse(World().v2g_root.der)
    before = issuer_names.read.cache_info().misses
    for number in range(60):
        assert listed_roots.match(root, f"CN={number}" + "x" * LONG, root.serial) is None
    return (issuer_names.read.cache_info().misses - before) * LONG


@pytest.mark.parametrize(
    "fill",
    [client_ids, serial_numbers, forms_of_a_token, certificates, names_of_roots],
)
def test_unauthenticated_clients_cannot_fill_memory(
    office: Office, monkeypatch: pytest.MonkeyPatch, fill: Callable[..., int]
):
    """Each sends some megabytes, and leaves less than one of its messages behind."""
    assert fill(office, monkeypatch) < LONG


# A module on a bench's line, a station at the other end of it, a vehicle at a station.


@pytest.fixture
def module() -> Iterator[tuple[Bench, socket.socket]]:
    near, far = socket.socketpair()
    yield Bench(of_socket(near)), far
    near.close()
    far.close()


def test_a_module_cannot_fill_memory_from_a_line(
    module: tuple[Bench, socket.socket], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(benches, "_EVENTS", 50)
    monkeypatch.setattr(benches, "_SESSION_EVENTS", 5)
    bench, _ = module
    for number in range(200):
        event = {"event": "trusted", "text": "x" * 4000, "session": number}
        bench._control(json.dumps(event).encode())
        bench._control(json.dumps({"id": number + 7, "x": "y" * 4000}).encode())
        bench._logged(b"x" * 512)
        bench._to_maker(bytes(4096))
    assert bench._answers == {}
    assert len(bench._session_events) <= benches._SESSIONS
    assert len(bench.events) <= 50
    for _ in range(50):
        bench._control(json.dumps({**event, "session": 1}).encode())
    assert len(bench._session_events[1]) <= 5
    assert len(bench.log) <= 50
    assert bench._telematics.qsize() <= benches._TELEMATICS
    with pytest.raises(queue.Full):
        bench._telematics.put_nowait(b"")


def test_a_module_without_a_vault_starts_no_threads(module: tuple[Bench, socket.socket]):
    """It asks and takes no answer: the answers without room for them are dropped."""
    bench, _ = module
    before = threading.active_count()
    for _ in range(300):
        bench._no_vault(b"x")
    assert threading.active_count() == before
    assert weight(bench.endpoint._outbox[VAULT]) <= QUEUES[VAULT]


def test_a_station_cannot_fill_memory(module: tuple[Bench, socket.socket]):
    """A station that sends faster than the line carries is read no faster."""
    bench, line = module
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        bench,
        bench.bridge_session(*listener.getsockname()),
        listener.accept()[0] as station,
    ):
        station.settimeout(1)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 64 << 20:  # the other end, `line`, reads nothing
                sent += station.send(bytes(65_536))
        assert bench.endpoint.bytes_out[benches.SESSION] <= bridges.UNACKNOWLEDGED + 1024
        assert sent < 64 << 20
        line.close()  # so that no thread waits for the rest


def test_a_station_keeps_its_latest_billing_records(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(server, "RECORDS", 10)
    billed: list[Authorized] = []
    offer: Any = None
    station = Station(offer, (), lambda _: b"", bill=billed.append)
    for _ in range(100):
        record: Any = object.__new__(Authorized)
        station._keep(record)
    assert len(billed) == 100
    assert 5 <= len(station.records) <= 10
    assert station.records[-1] is billed[-1]


def test_an_event_id_is_a_short_text_and_the_latest_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(state_file, "SEEN", 3)
    state = state_file.StateFile(tmp_path / "memory", "")
    try:
        for number in range(10):
            with state.transaction() as run:
                assert state_file.is_new_event(run, f"event {number}")
                assert not state_file.is_new_event(run, f"event {number}")
        assert state.outcome("event 9") == ""
        assert state.outcome("event 0") is None
        assert state.rows("SELECT COUNT(*) FROM seen") == [(3,)]
        for wrong in ("x" * 101, 3, None, ["x"], {}):
            with pytest.raises(ValueError, match="not an event"):
                state.outcome(wrong)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="not an event"), state.transaction() as run:
                state_file.is_new_event(run, wrong)  # type: ignore[arg-type]
    finally:
        state.close()
