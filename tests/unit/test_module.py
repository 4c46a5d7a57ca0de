"""The module's loop: it answers, it logs without secrets, and nothing one message does ends it."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from evcc import exi
from evcc.contracts import Contracts
from evcc.envelopes import MISMATCHES
from evcc.iso15118_2 import session
from evcc.iso15118_2.installation import RejectedError
from evcc.link import v2gtp
from evcc.link.line import ChannelStream, Line
from evcc.link.mux import CONTROL, LIMITS, LOG, QUEUES, SESSION, TELEMATICS, VAULT, Mux, weight
from evcc.module import Module
from evcc.ports import clock
from evcc.ports.files import Files, StoreError
from evcc.ports.serial import open_tty
from evcc.ports.stream import PortError, of_socket
from evcc.record import pack
from evcc.timekeeper import TimeError
from plugvault.link.bench import Bench, BenchError
from plugvault.link.endpoint import open_serial
from plugvault.link.nullmodem import NullModem
from plugvault.telematics import TelematicsError
from world import NOW

# upon it the car draws an EVCCID from its vault
AGREED = {"supportedAppProtocolRes": {"ResponseCode": "OK_SuccessfulNegotiation", "SchemaID": 1}}

# of a maker; the car's vault fails before the proof
KEY = SimpleNamespace(point=bytes(65), sign_digest=lambda digest: bytes(64))


class Moody:
    """A vault with moods: `broken` makes every call a bug instead of an answer."""

    def __init__(self, vault: Any) -> None:
        self.vault = vault
        self.broken = False

    def __getattr__(self, name: str) -> Any:
        if self.broken:
            raise RuntimeError("secret 12345")
        return getattr(self.vault, name)


class Wired:
    """A module in a thread, and the bench it is wired to."""

    def __init__(self, vault: Any, folder: Path) -> None:
        near, far = socket.socketpair()
        self.vault = Moody(vault)
        self.line = Line(of_socket(far), Mux(1), clock.ticks_ms)
        self.module = Module(self.line, bytes(65), self.vault, Files(str(folder)), lambda: NOW)
        self.ended: list[str] = []
        self.thread = threading.Thread(target=self.run)
        self.bench = Bench(of_socket(near))

    def run(self) -> None:
        try:
            self.module.run()
        except PortError as error:
            self.ended.append(error.reason)


@pytest.fixture
def wired(car_token: Any, tmp_path: Path) -> Iterator[Wired]:
    vault = car_token.open()
    wiring = Wired(vault, tmp_path / "store")
    with wiring.bench:
        wiring.thread.start()
        yield wiring
    wiring.thread.join(5)
    assert wiring.ended == ["closed"]
    vault.close()


def test_status_of_a_car_before_the_factory(wired: Wired) -> None:
    status = wired.bench.status()
    assert status["pcid"] == status["region"] == status["custody"] == ""
    assert status["contracts"] == []
    assert not status["certified"]


def test_a_bug_in_one_session_ends_that_session_only(wired: Wired) -> None:
    wired.bench.request("plug", want_contract=True)
    wired.vault.broken = True
    wired.bench.endpoint.send(SESSION, v2gtp.encode(exi.encode(AGREED, "sap")))
    assert wired.bench.wait_event("failed") == "internal"
    wired.vault.broken = False
    assert wired.bench.status()["charging"] is False
    assert wired.bench.log == ["internal: RuntimeError "]
    assert wired.bench.wait_event("unable") == "internal"
    assert wired.bench.request("plug", want_contract=True)["session"] == 2


def test_a_bug_in_one_message_of_the_maker_leaves_the_loop(wired: Wired) -> None:
    wired.vault.broken = True
    with pytest.raises(TelematicsError, match="unable: internal"):
        wired.bench.maker(KEY).connect()
    assert wired.bench.wait_event("unable") == "internal"
    assert wired.bench.log == ["telematics: RuntimeError"]
    wired.vault.broken = False
    assert wired.bench.status()["charging"] is False


def test_malformed_requests_get_an_answer(wired: Wired) -> None:
    with pytest.raises(BenchError, match="not a request"):
        wired.bench.request("fly")
    for junk in (b"", b"\xff", b"[]", b"3", b'"x"', b"{", b'{"do": []}', b'{"do": {"a": 1}}'):
        wired.bench.endpoint.send(CONTROL, junk)
    assert wired.bench.status()["charging"] is False
    assert wired.bench.log == []


def test_a_station_that_hangs_up_ends_the_session_at_once(wired: Wired) -> None:
    with socket.create_server(("127.0.0.1", 0)) as station:

        def hang_up() -> None:
            connection, _ = station.accept()
            connection.recv(100)
            connection.close()

        threading.Thread(target=hang_up).start()
        events = wired.bench.charge(*station.getsockname(), want_contract=True)
    assert events == [("failed", "lost")]
    assert wired.bench.status()["charging"] is False


def test_a_bench_that_comes_back_is_served_by_the_same_module(
    car_token: Any, tmp_path: Path
) -> None:
    vault = car_token.open()
    with NullModem() as cable:
        line = Line(open_tty(str(cable.b)), Mux(1), clock.ticks_ms)
        module = Module(line, bytes(65), vault, Files(str(tmp_path / "store")), lambda: NOW)
        stopped = threading.Event()

        def run() -> None:
            while not stopped.is_set():
                module.step()

        thread = threading.Thread(target=run)
        thread.start()
        for number in (1, 2, 3):
            with Bench(open_serial(cable.a)) as bench:
                assert bench.request("plug", want_contract=True)["session"] == number
                bench.request("unplug")
        stopped.set()
        thread.join(5)
    vault.close()


def test_a_station_that_says_nothing_is_given_up(wired: Wired, monkeypatch: Any) -> None:
    monkeypatch.setattr(session.PAIRS["supportedAppProtocol"], "timeout_ms", 50)
    wired.bench.request("plug", want_contract=True)
    assert wired.bench.wait_event("failed", timeout=10) == "timeout"
    assert wired.bench.status()["charging"] is False


def test_the_log_names_recoveries_of_the_start(
    car_token: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(Contracts, "recover", lambda self, vault: ["removed a key"])
    vault = car_token.open()
    near, far = socket.socketpair()
    port, waits = of_socket(far), []
    read = port.read
    monkeypatch.setattr(port, "read", lambda n, wait: waits.append(wait) or read(n, wait))
    line = Line(port, Mux(1), clock.ticks_ms)
    module = Module(line, bytes(65), vault, Files(str(tmp_path / "store")), lambda: NOW)
    line.inbox.append((CONTROL, b"{}"))
    module.step()  # a request from before the start is answered
    assert not line.inbox
    assert set(waits) == {0}
    began = time.monotonic()
    with Bench(of_socket(near)) as bench:
        while not bench.log and time.monotonic() - began < 10:
            module.step()
        assert bench.log == ["removed a key"]
    vault.close()
    far.close()


def test_bytes_there_is_no_memory_for_come_again(wired: Wired, monkeypatch: Any) -> None:
    feed, failures = wired.line.mux.feed, [3]

    def short(data: bytes, now_ms: int) -> Any:
        if failures[0]:
            failures[0] -= 1
            raise MemoryError
        return feed(data, now_ms)

    monkeypatch.setattr(wired.line.mux, "feed", short)
    assert wired.bench.status()["charging"] is False
    assert failures == [0]


def test_one_session_at_a_time_and_unplugged_at_will(wired: Wired) -> None:
    assert wired.bench.request("plug", want_contract=True)["session"] == 1
    with pytest.raises(BenchError, match="session"):
        wired.bench.request("plug")
    wired.bench.request("unplug")
    wired.bench.request("unplug")
    assert wired.bench.request("plug", want_contract=True)["session"] == 2
    assert wired.bench.status()["charging"] is True


def test_a_charge_and_a_resumption_are_checked_before_the_session_begins(wired: Wired) -> None:
    for wishes in ({"charge": {"fly": 1}}, {"charge": 3}, {"charge": {}, "resume": True}):
        with pytest.raises(BenchError, match="refused"):
            wired.bench.request("plug", want_contract=True, **wishes)
    with pytest.raises(BenchError, match="refused"):
        wired.bench.request("plug", time_factor="long")
    assert wired.bench.status()["charging"] is False
    assert wired.bench.request("plug", charge={"mode": "AC"}, time_factor=3)["session"] == 1
    session: Any = wired.module._session
    assert session.time_factor == 3


def test_an_answer_has_room_for_the_error_of_any_request(wired: Wired) -> None:
    for character in ("\1", "\u0100", "\U00010000"):
        size = len(json.dumps(character, ensure_ascii=False).encode()) - 2
        wishes = {character * (3600 // size): 1}
        request = {"id": character * 32, "do": "plug", "charge": wishes}
        wired.bench.endpoint.send(CONTROL, json.dumps(request, ensure_ascii=False).encode())
        wired.bench.status()
    assert wired.bench.log == []


def test_a_contract_near_its_end_is_renewed_once_a_day() -> None:
    contract = SimpleNamespace(not_after=NOW + 10 * 86400)
    time = SimpleNamespace(now=lambda: NOW, source=lambda: "clock")
    contracts = SimpleNamespace(active=lambda: contract)
    car = SimpleNamespace(contracts=contracts, time=time)
    module: Any = SimpleNamespace(
        _car=car,
        _settings={},
        _renewal_at=0,
        _line=SimpleNamespace(ticks_ms=lambda: 0),
        _send_frames=lambda frames: True,
    )
    session: Any = SimpleNamespace(start=lambda now_ms: [], wants_contract=False)
    assert not Module._renews(module, None)
    module._settings = {"renew_days": 10}
    assert not Module._renews(module, None)
    module._settings = {"renew_days": 11}
    assert not Module._renews(module, "DEPVT0000000012")  # the driver has named a contract
    assert Module._begin(module, session)
    assert Module._renews(module, None)
    session.wants_contract = True
    assert Module._begin(module, session)
    assert not Module._renews(module, None)
    time.now = lambda: NOW + 86400
    assert Module._renews(module, None)
    time.now, time.source = lambda: NOW + 3 * 86400, lambda: ""
    assert not Module._renews(module, None)


def test_an_update_needs_a_contract(wired: Wired) -> None:
    with pytest.raises(BenchError, match="update"):
        wired.bench.request("plug", want_contract=True, update=True)


def test_an_emaid_to_pay_with_may_have_hyphens_and_must_be_one(wired: Wired) -> None:
    for bad in (3, [], "X", "DE-PVT-000000001234567"):
        with pytest.raises(BenchError, match="refused"):
            wired.bench.request("plug", emaid=bad)
    assert wired.bench.status()["charging"] is False
    assert wired.bench.request("plug", want_contract=True, emaid="DE-PVT-000000001-2")["session"]


def test_log_and_answers_are_bounded_without_a_reader(car_token: Any, tmp_path: Path) -> None:
    vault = car_token.open()
    near, far = socket.socketpair()
    line = Line(of_socket(far), Mux(1), clock.ticks_ms)
    module = Module(line, bytes(65), vault, Files(str(tmp_path / "store")), lambda: NOW)
    for _ in range(1000):
        module._log("x" * 1000)
        module._control(b'{"do": "status"}')
    for channel in (LOG, CONTROL):
        assert weight(line.mux._queues[channel]) <= QUEUES[channel]
    vault.close()
    near.close()
    far.close()


def test_a_channel_as_a_stream_leaves_other_channels_for_later() -> None:
    near, far = socket.socketpair()
    ends = [
        Line(of_socket(sock), Mux(i + 1), clock.ticks_ms) for i, sock in enumerate((near, far))
    ]
    ends[0].send(CONTROL, json.dumps({"do": "status"}).encode())
    ends[0].send(VAULT, b"answer")

    def other_end() -> None:
        for _ in range(100):
            ends[0].pump(10)

    thread = threading.Thread(target=other_end)
    thread.start()
    channel = ChannelStream(ends[1], VAULT)
    assert channel.read(3, 2000) == b"ans"
    assert channel.read(9, 2000) == b"wer"
    assert channel.read(9, 50) == b""
    assert ends[1].inbox == [(CONTROL, b'{"do": "status"}')]
    assert LIMITS[VAULT] >= 1024
    thread.join()
    near.close()
    far.close()


def test_a_car_that_locks_itself_tells_it_once(
    wired: Wired, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mismatch(*_: Any) -> None:
        wired.module._car.contracts.envelopes.mismatches += 1
        raise RejectedError("vault")

    monkeypatch.setattr("evcc.module.installation.install", mismatch)
    assert wired.bench.status()["locked"] is False
    for _ in range(MISMATCHES + 1):
        with pytest.raises(RejectedError):
            wired.module._install(b"", None, None)
    assert wired.bench.status()["locked"] is True
    assert [name for name, _ in wired.bench.events] == ["locked"]


def test_a_request_that_meets_a_bug_is_answered_at_once_without_the_bugs_text(
    wired: Wired, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug() -> None:
        raise RuntimeError("secret 12345")

    monkeypatch.setattr(wired.module._car.identity, "custody", bug)
    with pytest.raises(BenchError, match="refused: RuntimeError"):
        wired.bench.status()
    assert wired.bench.wait_event("unable") == "internal"
    assert wired.bench.log == ["internal: RuntimeError "]


def test_a_heap_that_runs_out_in_a_session_ends_that_session_and_says_resources(
    wired: Wired, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: Any) -> None:
        raise MemoryError

    wired.bench.request("plug", want_contract=True)
    monkeypatch.setattr("evcc.exi.decode", exhausted)
    wired.bench.endpoint.send(SESSION, v2gtp.encode(b"any"))
    assert wired.bench.wait_event("failed") == "resources"
    assert wired.bench.wait_event("unable") == "resources"
    assert wired.bench.status()["charging"] is False


def test_the_module_says_which_clock_it_has_and_tells_a_full_store(
    car_token: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = car_token.open()
    near, far = socket.socketpair()
    line, files = Line(of_socket(far), Mux(1), clock.ticks_ms), Files(str(tmp_path / "store"))
    module = Module(line, bytes(65), vault, files, lambda: 0, kind="link")
    status = module._status({})
    assert (status["clock"], status["vault"]) == ("unknown", "link")

    def full(*_: Any) -> None:
        raise StoreError("full")

    monkeypatch.setattr(files, "write", full)
    module._car.time._clock = lambda: NOW
    assert module._status({})["clock"] == "clock"
    module._car.time._clock = lambda: 0
    with pytest.raises(TimeError, match="clock"):
        module._install(b"", None, None)
    queues = line.mux._queues
    queued = [bytes(message) for channel in (CONTROL, LOG) for message in queues[channel]]
    assert json.loads(queued[0]) == {"event": "unable", "text": "storage", "session": None}
    assert queued[1].startswith(b"no date is judged")
    assert queued[2] == b"storage: full"
    vault.close()
    near.close()
    far.close()


def test_an_installation_starts_from_the_top_of_the_loop(
    wired: Wired, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted: the functions of the module between its loop and the installation."""
    callers: list[list[str]] = []

    def note(*_: Any) -> None:
        frame, names = sys._getframe(1), []
        while frame is not None and frame.f_code.co_name != "step":
            names.append(frame.f_code.co_name)
            frame = frame.f_back
        callers.append(names)
        raise RejectedError("message")

    monkeypatch.setattr("evcc.module.installation.install", note)
    wired.module._vehicle.due = pack([b"contract.install", b"x"])
    wired.module._vehicle._session = bytes(32)
    wired.bench.endpoint.send(TELEMATICS, b"")
    wired.bench.wait_event("rejected")
    assert callers == [["_install", "_install_contract", "carry_out", "_carry_out_due"]]
