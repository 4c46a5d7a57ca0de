"""The vault service: its messages, whom it serves, what it limits, and that it comes back."""

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import envelopes
from evcc import p256
from evcc.ports import tcp
from evcc.ports.stream import PortError
from evcc.vault import PROVISIONING, VaultError
from evcc.vault import service as codec
from fixtures.tokens import CarToken, restarts
from plugvault.hsm import serving
from plugvault.hsm.answers import Answers, Limiter, TokenLost
from plugvault.hsm.service import VaultService
from plugvault.hsm.serving import Server

DIGEST = bytes(range(32))
SIGN = codec.OPERATIONS.index(("sign", 2))
RANDOM = codec.OPERATIONS.index(("random", 1))


class NoKeys:
    """A vault that does nothing: whatever gets as far as this is "full"."""

    def __getattr__(self, name: str):
        def call(*args):
            assert name in [operation for operation, _ in codec.OPERATIONS]
            raise VaultError("full")

        return call


class Late:
    """A stream that answers with the frames it was given, as fast as it is read."""

    def __init__(self, answers: bytes) -> None:
        self.answers, self.closed = answers, False

    def write(self, data: bytes) -> None:
        pass

    def read(self, n: int, timeout_ms: int) -> bytes:
        if not timeout_ms:
            return b""
        piece, self.answers = self.answers[: min(n, 3)], self.answers[min(n, 3) :]
        return piece

    def close(self) -> None:
        self.closed = True


def sealed(running: VaultService, name: str, key: bytes) -> codec.ServiceVault:
    """A client that comes over TCP."""
    return codec.connect(lambda: tcp.connect(*running.address), name, key)


@pytest.fixture
def running(car_token: CarToken) -> Iterator[VaultService]:
    with car_token.service() as started:
        yield started


# Messages


@given(st.integers(0, 255), st.integers(0, 255), st.lists(st.binary(max_size=300), max_size=6))
def test_frames_come_back_as_they_were(tag: int, code: int, fields: list[bytes]) -> None:
    frame = codec.pack(tag, code, fields)
    assert codec.frame_size(frame, 10_000) == len(frame)
    assert codec.unpack(frame[2:]) == (tag, code, fields)


@given(st.binary(max_size=400))
def test_any_request_gets_one_answer_with_a_reason(body: bytes) -> None:
    frame = Answers(NoKeys()).answer(Limiter(1e9), body)
    assert codec.frame_size(frame, codec.MAX_ANSWER) == len(frame)
    _, code, fields = codec.unpack(frame[2:])
    assert VaultError.REASONS[code - 1] in ("protocol", "full")
    assert len(fields) == 1


@given(st.binary(max_size=64))
def test_any_answer_is_a_value_or_a_vault_error(data: bytes) -> None:
    for ask in (lambda v: v.sign(b"k", DIGEST), lambda v: v.keys(), lambda v: v.custody(b"k")):
        try:
            ask(codec.connect(Late(data)))
        except VaultError as error:
            assert error.reason in VaultError.REASONS


def test_answer_that_is_not_text_where_text_belongs_is_a_protocol_error() -> None:
    for code in (0, 1):
        with pytest.raises(VaultError, match="protocol"):
            codec.connect(Late(codec.pack(1, code, [b"\xff\xfe"]))).custody(b"k")


def test_answer_that_makes_no_sense_is_a_protocol_error() -> None:
    whole = codec.pack(1, 0, [bytes(64)])
    for nonsense in (
        codec.pack(1, 0, []),  # nothing where a signature belongs
        codec.pack(1, len(VaultError.REASONS) + 1, []),
        codec.pack(1, 255, [b"x"]),
        whole[:4] + b"\0\x41" + whole[6:],  # a field beyond its frame
        b"\0\x03\x01\0\0",  # half a length
    ):
        with pytest.raises(VaultError) as caught:
            codec.connect(Late(nonsense)).sign(b"k", DIGEST)
        assert caught.value.reason == "protocol"


def test_link_offers_no_raw_ecdh() -> None:
    assert [name for name, _ in codec.OPERATIONS] == [
        "generate_provisioning_key",
        "public",
        "sign",
        "open_contract_key",
        "verify",
        "delete",
        "keys",
        "custody",
        "random",
    ]
    for code in range(256):
        if code & ~codec.AGAIN < len(codec.OPERATIONS):
            continue
        request = codec.pack(7, code, [])[2:]
        answer = Answers(NoKeys()).answer(Limiter(1e9), request)
        assert codec.unpack(answer[2:])[:2] == (7, VaultError.REASONS.index("protocol") + 1)


def test_operation_with_too_few_or_too_many_fields_is_refused() -> None:
    for code, (_, count) in enumerate(codec.OPERATIONS):
        for wrong in {0, 1, 2, 3, 4, 5, 6, 7} - {count}:
            request = codec.pack(1, code, [b"x"] * wrong)[2:]
            answer = Answers(NoKeys()).answer(Limiter(1e9), request)
            assert codec.unpack(answer[2:])[1] == VaultError.REASONS.index("protocol") + 1


def test_answer_that_comes_too_late_is_not_taken_for_the_next() -> None:
    late, right = codec.pack(200, 0, [b"old"]), codec.pack(1, 0, [b"new"])
    assert codec.connect(Late(late + right)).sign(b"k", DIGEST) == b"new"


class Line(Late):
    """A stream that cannot be opened again: half a late answer lies in it until somebody asks."""

    def __init__(self, late: bytes, right: bytes) -> None:
        super().__init__(late)
        self.right = right

    def write(self, data: bytes) -> None:
        self.answers += self.right

    def read(self, n: int, timeout_ms: int) -> bytes:
        piece, self.answers = self.answers[:n], self.answers[n:]
        return piece


def test_rest_of_a_late_answer_on_the_only_line_is_thrown_away() -> None:
    line = Line(codec.pack(200, 0, [b"old" * 20])[10:], codec.pack(1, 0, [b"new"]))
    assert codec.connect(line).sign(b"k", DIGEST) == b"new"


class Broken(Late):
    """A connection whose service dies at the request."""

    def __init__(self, asked: list[bytes]) -> None:
        super().__init__(b"")
        self.asked = asked

    def write(self, data: bytes) -> None:
        self.asked.append(data)

    def read(self, n: int, timeout_ms: int) -> bytes:
        raise PortError("closed", "the other end is gone")


def test_lost_answer_is_asked_for_again_and_says_so() -> None:
    asked: list[bytes] = []
    streams = [Broken(asked), Broken(asked), Late(codec.pack(3, 0, [b"new"]))]
    opened = list(streams)
    assert codec.connect(lambda: opened.pop(0)).sign(b"k", DIGEST) == b"new"
    assert [frame[3] for frame in asked] == [SIGN, SIGN | codec.AGAIN]
    assert [stream.closed for stream in streams] == [True, True, False]


def test_request_that_its_service_dies_of_is_not_asked_for_ever() -> None:
    asked: list[bytes] = []
    with pytest.raises(VaultError, match="unavailable"):
        codec.connect(lambda: Broken(asked)).sign(b"k", DIGEST)
    assert len(asked) == 3


def test_silent_service_on_a_line_is_asked_again() -> None:
    class Silent(Late):
        asked = 0

        def write(self, data: bytes) -> None:
            self.asked += 1
            if self.asked == 2:
                self.answers = codec.pack(data[2], 0, [b"new"])

    assert codec.connect(Silent(b"")).sign(b"k", DIGEST) == b"new"


def test_word_for_whoever_asks_is_the_answer() -> None:
    """Where no process can be had for the token, the supervisor knows no request, only why."""
    why = codec.pack(0, VaultError.REASONS.index("token-missing") + 1, [b"car"])
    with pytest.raises(VaultError, match="token-missing: car"):
        codec.connect(lambda: Late(why)).sign(b"k", DIGEST)


def test_answer_over_the_limit_is_refused_before_it_is_read() -> None:
    stream = Late(b"\xff\xff" + bytes(100))
    with pytest.raises(VaultError, match="protocol"):
        codec.connect(lambda: stream).keys()
    assert stream.closed
    assert len(stream.answers) > 90


# Whom it serves


def test_socket_is_its_owners_alone(running: VaultService) -> None:
    assert stat.S_IMODE(running.socket_path.stat().st_mode) == 0o600
    assert stat.S_IMODE(running.socket_path.parent.stat().st_mode) == 0o700


def test_folder_open_to_others_is_refused(car_token: CarToken) -> None:
    folder = car_token.folder / "run"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    with pytest.raises(VaultError, match="refused"), car_token.service():
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_process_of_another_user_is_not_served(running: VaultService) -> None:
    """Even where the socket itself would let it in."""
    for path, mode in ((running.socket_path, 0o666), (running.socket_path.parent, 0o755)):
        path.chmod(mode)
    running.socket_path.parent.parent.chmod(0o755)
    ask = (
        "import os, socket, sys; os.setuid(65534); s = socket.socket(socket.AF_UNIX);"
        "s.connect(sys.argv[1]); s.settimeout(10)\n"
        "try:\n s.sendall(bytes.fromhex(sys.argv[2])); print(len(s.recv(100)))\n"
        "except ConnectionError: print(0)"
    )
    request = codec.pack(1, RANDOM, [b"\0\x10"]).hex()
    ended = subprocess.run(
        ["/usr/bin/env", "python3", "-c", ask, running.socket_path, request],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert ended.stdout == "0\n", ended.stderr
    assert len(running.client().random(16)) == 16


def test_pin_is_on_no_command_line_and_in_no_environment(
    running: VaultService, car_token: CarToken
) -> None:
    proc = Path("/proc") / str(running.pid)
    assert b"plugvault.hsm.serving" in (proc / "cmdline").read_bytes()
    assert car_token.pin.encode() not in (proc / "cmdline").read_bytes()
    if os.geteuid() == 0:  # another process may not read it at all, for it is not dumpable
        assert car_token.pin.encode() not in (proc / "environ").read_bytes()
    assert car_token.pin not in repr(running)


def test_service_dumps_no_core(running: VaultService) -> None:
    limits = (Path("/proc") / str(running.pid) / "limits").read_text()
    (line,) = [line for line in limits.splitlines() if line.startswith("Max core file size")]
    assert line.split()[4:6] == ["0", "0"]
    inside = (
        "import ctypes; from plugvault.hsm import serving; serving._no_core_dumps();"
        "print(ctypes.CDLL(None).prctl(3))"  # PR_GET_DUMPABLE
    )
    ended = subprocess.run([sys.executable, "-c", inside], capture_output=True, check=True)
    assert ended.stdout == b"0\n"


# What it limits


def test_limiter_gives_back_with_time() -> None:
    now = [0.0]
    limiter = Limiter(2, lambda: now[0])
    assert [limiter.take() for _ in range(5)] == [True] * 4 + [False]
    now[0] = 0.5
    assert [limiter.take() for _ in range(2)] == [True, False]
    now[0] = 1000.0
    assert [limiter.take() for _ in range(5)] == [True] * 4 + [False]


def test_private_operations_are_limited_and_public_ones_are_not(car_token: CarToken) -> None:
    with car_token.service(rate=1.0) as running:
        vault = running.client()
        point = vault.generate_provisioning_key()
        signature = vault.sign(PROVISIONING, DIGEST)
        with pytest.raises(VaultError, match="refused"):
            vault.sign(PROVISIONING, DIGEST)
        for _ in range(20):
            assert vault.verify(point, DIGEST, signature)
            assert vault.public(PROVISIONING) == point
        time.sleep(1.1)
        vault.sign(PROVISIONING, DIGEST)


def test_request_over_the_limit_ends_the_connection(running: VaultService) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(running.socket_path))
        client.settimeout(10)
        client.sendall((codec.MAX_REQUEST - 1).to_bytes(2, "big"))
        answer = client.recv(1000)
        assert answer[3] == VaultError.REASONS.index("protocol") + 1
        assert client.recv(1000) == b""
    assert len(running.client().random(16)) == 16
    with pytest.raises(VaultError, match="refused"):
        running.client().public(bytes(codec.MAX_REQUEST))


def test_unfinished_request_keeps_nobody_waiting(running: VaultService) -> None:
    with socket.socket(socket.AF_UNIX) as slow:
        slow.connect(str(running.socket_path))
        slow.sendall(codec.pack(9, RANDOM, [b"\0\x10"])[:-1])
        assert len(running.client().random(16)) == 16
        slow.sendall(b"\x10")
        slow.settimeout(10)
        assert slow.recv(100)[2:4] == b"\x09\x00"


def test_requests_are_cut_where_they_end(running: VaultService) -> None:
    """However they come: the empty one, one and a half, the rest and another."""
    ask = codec.pack(9, RANDOM, [b"\0\x10"])
    answered, nonsense = b"\x09\x00", bytes((0, VaultError.REASONS.index("protocol") + 1))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(running.socket_path))
        client.settimeout(10)
        for piece, words in (
            (b"\0\0", [nonsense]),
            (b"\0\0" + ask + ask[:3], [nonsense, answered]),
            (ask[3:] + ask, [answered, answered]),
        ):
            client.sendall(piece)
            got = b""
            while words:
                size = codec.frame_size(got, codec.MAX_ANSWER)
                if not size or len(got) < size:
                    got += client.recv(1000)
                    continue
                assert got[2:4] == words.pop(0)
                got = got[size:]
            assert got == b""


def test_client_that_takes_no_answers_keeps_nobody_waiting(running: VaultService) -> None:
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.connect(str(running.socket_path))
        deaf.setblocking(False)
        request = codec.pack(9, RANDOM, [b"\1\0"])
        end = time.monotonic() + 1
        while time.monotonic() < end:  # until neither side's buffer takes any more
            try:
                deaf.send(request * 100)
            except BlockingIOError:
                time.sleep(0.01)
            except BrokenPipeError:
                break
        assert len(running.client().random(16)) == 16
        assert running.restarts == 0


def test_client_loses_its_own_oldest_connection_and_nobody_elses(running: VaultService) -> None:
    """However many one process opens; and it does not even notice."""
    ask = (
        "import sys; from evcc.ports import unix; from evcc.vault import service\n"
        "vault = service.connect(lambda: unix.connect(sys.argv[1])); vault.random(1)\n"
        "first = vault._stream; print('asked', flush=True); sys.stdin.readline()\n"
        "vault.random(1); print(vault._stream is first)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", ask, running.socket_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout.readline() == "asked\n"
        clients = [running.client() for _ in range(serving.CLIENTS + 5)]
        for client in clients:
            client.random(1)
        first = clients[0]._stream
        assert len(clients[0].random(1)) == 1
        assert clients[0]._stream is not first
        assert other.communicate("\n")[0] == "True\n"


class Script:
    """A vault that does `steps[n]` at its n-th signature, and `steps[0]` when it is asked for
    random bytes; the last signature ends the server."""

    def __init__(self, last: int, steps: dict[int, Callable[[], object]]) -> None:
        self.digests: list[bytes] = []
        self._last, self._steps = last, steps
        self.ended, self._end = os.pipe()

    def sign(self, key: bytes, digest: bytes) -> bytes:
        self.digests.append(digest)
        if len(self.digests) == self._last:
            os.close(self._end)
        self._steps.get(len(self.digests), lambda: None)()
        return digest * 2

    def random(self, n: int) -> bytes:
        self._steps[0]()
        return bytes(n)

    def keys(self) -> list[tuple[bytes, bytes]]:
        raise VaultError("token-missing")


def serve(listener: socket.socket, vault: Script) -> None:
    try:
        Server([listener], Answers(vault), 1e6, {}).serve(vault.ended)
    finally:
        os.close(vault.ended)


def request(digest: bytes) -> bytes:
    return codec.pack(1, SIGN, [b"k", digest])


def has_come(client: socket.socket) -> bytes:
    """The answers a client could read by now."""
    try:
        return client.recv(10_000, socket.MSG_DONTWAIT | socket.MSG_PEEK)
    except BlockingIOError:
        return b""


class Several:
    """Clients of `listener`. The first are accepted when the last one asks, which it does at once;
    what they ask while the token is at that request is found together after it."""

    def __init__(self, stack: ExitStack, path: Path, count: int) -> None:
        self._stack, self._path = stack, path
        self.listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        self.listener.bind(str(path))
        self.listener.listen()
        *self.clients, self.last = (self.connect() for _ in range(count + 1))

    def connect(self) -> socket.socket:
        client = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        client.connect(str(self._path))
        return client

    def ask(self, *requests: bytes) -> None:
        """Of each of the clients, one."""
        for client, one in zip(self.clients, requests, strict=True):
            client.sendall(one)


@pytest.fixture
def several(short_dir: Path) -> Iterator[Several]:
    with ExitStack() as stack:
        yield Several(stack, short_dir / "s", 3)


FIRST, ONE, OTHER, THIRD = (bytes([n]) * 32 for n in range(4))
QUICK, SLOW = 3600.0, 0.0  # whatever a signature takes is


def test_clients_take_turns(several: Several) -> None:
    """Who has sent a hundred requests at once is no reason for another to wait for them all."""
    greedy, modest = b"g" * 32, b"m" * 32
    several.clients[0].sendall(request(greedy) * 100)
    several.clients[1].sendall(request(modest) * 2)
    vault = Script(102, {})
    serve(several.listener, vault)
    assert signal.alarm(0) == 0  # what would end a process that hangs
    order = vault.digests
    assert len(order) == 102
    assert order.index(modest) <= 2
    assert order[: order.index(modest) + 4].count(modest) == 2


def test_answers_of_quick_signatures_are_sent_together(
    several: Several, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "_QUICK", QUICK)
    before: list[bytes] = []
    steps = {
        1: lambda: several.ask(*map(request, (ONE, OTHER, THIRD))),
        4: lambda: before.extend(map(has_come, several.clients)),
    }
    several.last.sendall(request(FIRST))
    serve(several.listener, Script(4, steps))
    assert before == [b""] * 3
    for client, digest in zip(several.clients, (ONE, OTHER, THIRD), strict=True):
        assert has_come(client) == codec.pack(1, 0, [digest * 2])


@pytest.mark.parametrize(
    ("quick", "second", "step"),
    [(SLOW, request(OTHER), 3), (QUICK, codec.pack(1, RANDOM, [b"\0\1"]), 0)],
    ids=["slow token", "another operation"],
)
def test_no_answer_waits_for_what_may_take_long(
    several: Several, monkeypatch: pytest.MonkeyPatch, quick: float, second: bytes, step: int
) -> None:
    monkeypatch.setattr(serving, "_QUICK", quick)
    before: list[bytes] = []
    steps = {
        1: lambda: several.ask(request(ONE), second, request(THIRD)),
        step: lambda: before.append(has_come(several.clients[0])),
    }
    several.last.sendall(request(FIRST))
    serve(several.listener, Script(4 if step else 3, steps))
    assert before == [codec.pack(1, 0, [ONE * 2])]


def test_token_that_is_lost_takes_no_answer_with_it_and_nobody_elses_request(
    several: Several, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was done is answered; what waits is not, and is asked again of the next process."""
    monkeypatch.setattr(serving, "_QUICK", QUICK)

    def lose() -> None:
        raise VaultError("unavailable")

    steps = {1: lambda: several.ask(*map(request, (ONE, OTHER, THIRD))), 3: lose}
    several.last.sendall(request(FIRST))
    vault = Script(10, steps)
    with pytest.raises(TokenLost):
        serve(several.listener, vault)
    assert vault.digests == [FIRST, ONE, OTHER]
    said = [has_come(client) for client in several.clients]
    assert said == [codec.pack(1, 0, [ONE * 2]), b"", b""]
    assert signal.alarm(0) == 0


def test_request_of_a_connection_that_was_dropped_is_not_done(
    several: Several, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has asked, and before its turn somebody else connects, and it is one too many."""
    monkeypatch.setattr(serving, "CLIENTS", 4)
    oldest = several.clients[0]

    def ask() -> None:
        oldest.sendall(request(ONE))
        several.connect().sendall(request(OTHER))

    several.last.sendall(request(FIRST))
    vault = Script(2, {1: ask})
    serve(several.listener, vault)
    assert vault.digests == [FIRST, OTHER]
    assert oldest.recv(100) == b""  # closed


def test_each_request_is_under_an_alarm(several: Several, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends the process a while later, never by surprise, and is off while nobody asks."""
    now, alarms = [1000.0], [(0.0, 0)]
    idle = [request(ONE)]

    def set_alarm(seconds: int) -> int:
        alarms.append((now[0], seconds))
        if not seconds and idle:  # nobody asks: now somebody does
            several.clients[0].sendall(idle.pop())
        return 0

    def work() -> None:
        at, seconds = alarms[-1]
        left = at + seconds - now[0]
        assert serving._HANG <= left <= serving._HANG + 1
        now[0] += 0.7

    monkeypatch.setattr(
        serving, "time", SimpleNamespace(**vars(time) | {"monotonic": lambda: now[0]})
    )
    monkeypatch.setattr(signal, "alarm", set_alarm)
    several.last.sendall(request(FIRST) * 9)
    vault = Script(10, dict.fromkeys(range(1, 11), work))
    serve(several.listener, vault)
    assert vault.digests == [FIRST] * 9 + [ONE]
    assert alarms[-1][1] == 0


def test_noise_does_not_make_the_alarm_of_the_last_request_go_off(
    several: Several, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever keeps the service from sleeping, and asks nothing."""
    now, due, asks = [1000.0], [float("inf")], [*request(ONE)]

    def set_alarm(seconds: int) -> int:
        due[0] = now[0] + seconds if seconds else float("inf")
        return 0

    def noise() -> None:
        """Two seconds have passed, and there is another byte."""
        now[0] += 2
        assert now[0] < due[0]
        if asks:
            several.clients[0].sendall(bytes((asks.pop(0),)))

    clock = SimpleNamespace(**vars(time) | {"monotonic": lambda: now[0]})
    monkeypatch.setattr(serving, "time", clock)
    monkeypatch.setattr(serving, "_SPIN", 3600)
    monkeypatch.setattr(os, "sched_yield", noise)
    monkeypatch.setattr(signal, "alarm", set_alarm)
    several.last.sendall(request(FIRST))
    vault = Script(2, {})
    serve(several.listener, vault)
    assert vault.digests == [FIRST, ONE]


def test_limit_is_each_clients_own(car_token: CarToken) -> None:
    """Who has used up its share takes nothing from the others."""
    keys = {name: os.urandom(32) for name in ("one", "other")}
    with car_token.service(rate=1.0, tcp=("127.0.0.1", 0), keys=keys) as running:
        one, other = (sealed(running, name, key) for name, key in keys.items())
        one.generate_provisioning_key()
        one.sign(PROVISIONING, DIGEST)
        with pytest.raises(VaultError, match="too many"):
            one.sign(PROVISIONING, DIGEST)
        one.close()
        with pytest.raises(VaultError, match="too many"):  # nor does a new connection help it
            one.sign(PROVISIONING, DIGEST)
        other.sign(PROVISIONING, DIGEST)


def test_several_clients_at_once_get_their_own_answers(running: VaultService) -> None:
    point = running.client().generate_provisioning_key()
    good: list[bool] = []

    def work(n: int) -> None:
        vault = running.client()
        digest = bytes([n]) * 32
        good.extend(
            p256.verify(point, digest, vault.sign(PROVISIONING, digest)) for _ in range(10)
        )
        vault.close()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert good == [True] * 40


# That it comes back


def test_client_does_not_notice_a_restart_between_requests(running: VaultService) -> None:
    vault = running.client()
    point = vault.generate_provisioning_key()
    first = running.pid
    os.kill(first, signal.SIGKILL)
    assert restarts(running, 1) == 1
    assert running.pid != first
    assert p256.verify(point, DIGEST, vault.sign(PROVISIONING, DIGEST))


def test_process_is_replaced_before_what_its_library_keeps_has_grown(
    car_token: CarToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = car_token.folder / "code"
    code.mkdir()
    (code / "sitecustomize.py").write_text(
        "import sys\n"
        "if 'plugvault.hsm.serving' in sys.orig_argv:\n"
        "    from plugvault.hsm import answers; answers._FRESH_AFTER = 3"
    )
    monkeypatch.setenv("PYTHONPATH", str(code), prepend=os.pathsep)
    with car_token.service() as running:
        vault = running.client()
        case = envelopes.envelope(vault.generate_provisioning_key(), envelopes.KNOWN_KEY)
        for _ in range(7):  # nobody notices
            vault.delete(vault.open_contract_key(*case.values()))
        assert restarts(running, 2) == 2
        assert set(dict(vault.keys())) == {PROVISIONING}


def test_service_ends_with_its_supervisor(car_token: CarToken) -> None:
    script = (
        "import sys, time\n"
        "from plugvault.hsm.service import VaultService\n"
        "module, conf, path = sys.argv[1:]\n"
        "with VaultService(module, conf, 'car', sys.stdin.readline().strip(), path) as s:\n"
        "    print(s.pid, flush=True); time.sleep(60)\n"
    )
    path = car_token.service().socket_path
    supervisor = subprocess.Popen(
        [sys.executable, "-c", script, car_token.module, car_token.conf, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with supervisor:
        supervisor.stdin.write(car_token.pin + "\n")
        supervisor.stdin.flush()
        pid = int(supervisor.stdout.readline())
        supervisor.kill()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
            break  # nobody here to reap it, but it ended
        time.sleep(0.01)
    else:
        assert not Path(f"/proc/{pid}").exists()
    with car_token.service() as again:  # the socket it left behind is no obstacle
        assert len(again.client().random(16)) == 16


def test_socket_and_process_are_gone_after_the_context(car_token: CarToken) -> None:
    with car_token.service() as running:
        pid = running.pid
    assert not running.socket_path.exists()
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(VaultError, match="unavailable"):
        running.client().random(16)
