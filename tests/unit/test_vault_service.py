"""The vault service: its clients, its limits, and its restarts."""

import array
import fcntl
import os
import signal
import socket
import stat
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import envelopes
from evcc import p256
from evcc.ports import tcp
from evcc.vault import PROVISIONING, VaultError
from evcc.vault import service as codec
from fixtures.sandbox import alive, eventually
from fixtures.tokens import CarToken, restarts
from plugvault import runtimes
from plugvault.token_bucket import TokenBucket
from plugvault.vault_service import server as serving
from plugvault.vault_service.service import VaultService

DIGEST = bytes(range(32))
RANDOM = codec.OPERATIONS.index(("random", 1))
SIGN = codec.OPERATIONS.index(("sign", 3))


def sealed(running: VaultService, name: str, key: bytes) -> codec.ServiceVault:
    """A client that comes over TCP."""
    return codec.connect(lambda: tcp.connect(*running.address), name, key)


@pytest.fixture
def running(car_token: CarToken) -> Iterator[VaultService]:
    with car_token.service() as started:
        yield started


# Clients


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
    assert b"plugvault.vault_service.server" in (proc / "cmdline").read_bytes()
    assert car_token.pin.encode() not in (proc / "cmdline").read_bytes()
    if os.geteuid() == 0:  # another process may not read it at all, for it is not dumpable
        assert car_token.pin.encode() not in (proc / "environ").read_bytes()
    assert car_token.pin not in repr(running)


def test_service_dumps_no_core(running: VaultService) -> None:
    limits = (Path("/proc") / str(running.pid) / "limits").read_text()
    (line,) = [line for line in limits.splitlines() if line.startswith("Max core file size")]
    assert line.split()[4:6] == ["0", "0"]
    inside = (
        "import ctypes; from plugvault.vault_service import server; server._no_core_dumps();"
        "print(ctypes.CDLL(None).prctl(3))"  # PR_GET_DUMPABLE
    )
    ended = subprocess.run([sys.executable, "-c", inside], capture_output=True, check=True)
    assert ended.stdout == b"0\n"


def test_service_gets_the_allocator_that_suits_its_token_unless_the_caller_has_set_one(
    car_token: CarToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, settings = subprocess.Popen, []

    def start(*args: Any, **options: Any) -> Any:
        settings.append(options["env"]["GLIBC_TUNABLES"])
        return started(*args, **options)

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    with car_token.service() as service:
        service.client().random(16)
    monkeypatch.setenv("GLIBC_TUNABLES", "the callers")
    with car_token.service() as service:
        service.client().random(16)
    assert settings == [runtimes.ALLOCATOR["GLIBC_TUNABLES"], "the callers"]


# Its limits


def test_token_bucket_is_refilled_with_time() -> None:
    now = [0.0]
    bucket = TokenBucket(2, 4, clock=lambda: now[0])
    assert [bucket.take() for _ in range(5)] == [True] * 4 + [False]
    now[0] = 0.5
    assert [bucket.take() for _ in range(2)] == [True, False]
    now[0] = 1000.0
    assert [bucket.take() for _ in range(5)] == [True] * 4 + [False]


def test_private_operations_are_limited_and_public_ones_are_not(car_token: CarToken) -> None:
    with car_token.service(rate=1.0) as running:
        vault = running.client()
        point = vault.generate_provisioning_key()
        signature = vault.sign(PROVISIONING, DIGEST)
        with pytest.raises(VaultError, match=r"^limited: .*ask again in [01]\.\d s"):
            vault.sign(PROVISIONING, DIGEST)
        for _ in range(20):
            assert vault.verify(point, DIGEST, signature)
            assert vault.public(PROVISIONING) == point
        time.sleep(1.1)
        vault.sign(PROVISIONING, DIGEST)


@pytest.mark.parametrize("clients", [1, 8])
def test_requests_over_the_rate_wait_for_their_turn(car_token: CarToken, clients: int) -> None:
    """Twice the rate at once, and then one after the other: none is refused or left out."""
    with car_token.service(rate=20) as running:
        running.client().generate_provisioning_key()

        def sign(_: int) -> list[bytes]:
            vault = running.client()
            return [vault.sign(PROVISIONING, DIGEST) for _ in range(56 // clients)]

        with ThreadPoolExecutor(clients) as threads:
            signatures = [each for some in threads.map(sign, range(clients)) for each in some]
    assert {len(signature) for signature in signatures} == {64}
    assert len(signatures) == 56


def test_a_named_client_over_the_rate_waits_too(car_token: CarToken) -> None:
    key = bytes(range(32))
    with car_token.service(rate=20, tcp=("127.0.0.1", 0), keys={"car": key}) as running:
        vault = sealed(running, "car", key)
        vault.generate_provisioning_key()
        assert len({len(vault.sign(PROVISIONING, DIGEST)) for _ in range(50)}) == 1
        vault.close()


def test_a_client_that_leaves_while_its_request_waits_harms_nobody(car_token: CarToken) -> None:
    request = codec.pack(7, SIGN, [b"", PROVISIONING, DIGEST])
    with car_token.service(rate=10) as running:
        running.client().generate_provisioning_key()
        for _ in range(3):
            for _ in range(20):
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect(str(running.socket_path))
                    client.sendall(request)
            assert len(running.client().random(16)) == 16
        assert running.restarts == 0


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


def test_unfinished_request_delays_no_other_client(running: VaultService) -> None:
    with socket.socket(socket.AF_UNIX) as slow:
        slow.connect(str(running.socket_path))
        slow.sendall(codec.pack(9, RANDOM, [b"\0\x10"])[:-1])
        assert len(running.client().random(16)) == 16
        slow.sendall(b"\x10")
        slow.settimeout(10)
        assert slow.recv(100)[2:4] == b"\x09\x00"


def test_requests_are_cut_where_they_end(running: VaultService) -> None:
    """An empty request, one and a half, the second half and another."""
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


def test_client_that_reads_no_answers_delays_no_other_client(running: VaultService) -> None:
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


def test_client_that_reads_late_gets_each_answer_and_is_served_again(
    running: VaultService,
) -> None:
    """More answers than the socket holds: the others wait until there is room."""
    tags = [n % 255 + 1 for n in range(3000)]
    size = len(codec.pack(9, 0, [bytes(256)]))
    with socket.socket(socket.AF_UNIX) as late:
        late.connect(str(running.socket_path))
        late.settimeout(10)
        for _ in range(2):
            late.sendall(b"".join(codec.pack(tag, RANDOM, [b"\1\0"]) for tag in tags))
            before = 0
            while not before or waiting(late) != before:  # it is still being filled
                before = waiting(late)
                time.sleep(0.2)
            assert before < len(tags) * size
            got = b""
            while len(got) < len(tags) * size:
                got += late.recv(100_000)
            assert [got[at + 2] for at in range(0, len(got), size)] == tags


def waiting(connection: socket.socket) -> int:
    """Bytes that could be read from it."""
    count = array.array("i", [0])
    fcntl.ioctl(connection, termios.FIONREAD, count)
    return count[0]


def test_client_loses_its_own_oldest_connection_only(running: VaultService) -> None:
    """One process opens too many connections, and its client reconnects unnoticed."""
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
    ) as other_process:
        assert other_process.stdout.readline() == "asked\n"
        clients = [running.client() for _ in range(serving.CLIENTS + 5)]
        for client in clients:
            client.random(1)
        first = clients[0]._stream
        assert len(clients[0].random(1)) == 1
        assert clients[0]._stream is not first
        assert other_process.communicate("\n")[0] == "True\n"


def test_limit_is_each_clients_own(car_token: CarToken) -> None:
    """A client that has used up its limit takes nothing from the others."""
    keys = {name: os.urandom(32) for name in ("one", "other")}
    with car_token.service(rate=1.0, tcp=("127.0.0.1", 0), keys=keys) as running:
        first, second = (sealed(running, name, key) for name, key in keys.items())
        first.generate_provisioning_key()
        second.generate_provisioning_key()
        first.sign(PROVISIONING, DIGEST)
        with pytest.raises(VaultError, match="too many"):
            first.sign(PROVISIONING, DIGEST)
        first.close()
        with pytest.raises(VaultError, match="too many"):  # nor does a new connection help it
            first.sign(PROVISIONING, DIGEST)
        second.sign(PROVISIONING, DIGEST)


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


def test_process_is_replaced_before_its_library_has_grown(
    car_token: CarToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = car_token.folder / "code"
    code.mkdir()
    (code / "sitecustomize.py").write_text(
        "import sys\n"
        "if 'plugvault.vault_service.server' in sys.orig_argv:\n"
        "    from plugvault.vault_service import handlers; handlers._FRESH_AFTER = 3"
    )
    monkeypatch.setenv("PYTHONPATH", str(code), prepend=os.pathsep)
    with car_token.service() as running:
        vault = running.client()
        case = envelopes.envelope(vault.generate_provisioning_key(), envelopes.KNOWN_KEY)
        for _ in range(7):  # the client does not notice
            vault.delete(vault.open_contract_key(*case.values()))
        assert restarts(running, 2) == 2
        assert set(dict(vault.keys())) == {PROVISIONING}


def test_service_surveys_custody_at_its_start_and_in_no_installation(
    car_token: CarToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, log = car_token.folder / "code", car_token.folder / "surveys"
    code.mkdir()
    (code / "sitecustomize.py").write_text(
        "import sys\n"
        "if 'plugvault.vault_service.server' in sys.orig_argv:\n"
        "    from evcc.vault import custody\n"
        "    survey = custody.survey\n"
        "    def logged(backend):\n"
        f"        open({str(log)!r}, 'a').write('survey\\n')\n"
        "        return survey(backend)\n"
        "    custody.survey = logged\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(code), prepend=os.pathsep)
    with car_token.service() as running:
        assert log.read_text() == "survey\n"
        vault = running.client()
        case = envelopes.envelope(vault.generate_provisioning_key(), envelopes.KNOWN_KEY)
        key = vault.open_contract_key(*case.values())
        assert vault.custody(key)
        assert log.read_text() == "survey\n"


def test_service_starts_on_a_library_that_crashes_in_the_survey(
    car_token: CarToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    with car_token.service() as running:
        point = running.client().generate_provisioning_key()
    code = car_token.folder / "code"
    code.mkdir()
    (code / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "if 'plugvault.vault_service.server' in sys.orig_argv:\n"
        "    from evcc.vault import custody\n"
        "    custody.survey = lambda backend: os.kill(os.getpid(), signal.SIGSEGV)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(code), prepend=os.pathsep)
    with car_token.service() as running:
        vault, digest = running.client(), bytes(range(32))
        assert vault.verify(point, digest, vault.sign(PROVISIONING, digest))


def test_service_ends_with_its_supervisor(car_token: CarToken) -> None:
    script = (
        "import sys, time\n"
        "from plugvault.vault_service.service import VaultService\n"
        "module, conf, path = sys.argv[1:]\n"
        "from plugvault.tokens.location import TokenLocation\n"
        "from plugvault.tokens.selection import TokenConfiguration\n"
        "location = TokenLocation(module, 'car', conf)\n"
        "token = TokenConfiguration(location, sys.stdin.readline().strip())\n"
        "with VaultService(token, path) as s:\n"
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
    eventually(lambda: not alive(pid), 10)
    with car_token.service() as again:  # the socket it left behind is no obstacle
        assert len(again.client().random(16)) == 16


def test_socket_and_process_are_gone_after_the_context(car_token: CarToken) -> None:
    with car_token.service() as running:
        pid = running.pid
    assert not running.socket_path.exists()
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(VaultError, match="unavailable"):
        running.client().random(16)
