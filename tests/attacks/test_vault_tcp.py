"""The vault service on TCP answers only clients with a key, and clients believe only the service.

The attacker reads and changes everything on the way, and has the same name as the client.
"""

import itertools
import os
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from evcc import p256
from evcc.ports import tcp
from evcc.ports.stream import Stream
from evcc.vault import PROVISIONING, VaultError, service
from evcc.vault.seal import NONCE, Seal
from fixtures.tokens import CarToken
from plugvault.vault_service.service import VaultService

pytestmark = pytest.mark.usefixtures("patient")
DIGEST = bytes(range(32))
KEY = os.urandom(32)
SIGN = service.OPERATIONS.index(("sign", 3))
RANDOM = service.OPERATIONS.index(("random", 1))


@pytest.fixture
def running(car_token: CarToken) -> Iterator[VaultService]:
    keys = {"car": KEY, "bench": os.urandom(32)}
    with car_token.service(tcp=("127.0.0.1", 0), keys=keys) as started:
        client(started).generate_provisioning_key()
        yield started


def client(running: VaultService, name: str = "car", key: bytes = KEY) -> service.ServiceVault:
    return service.connect(lambda: tcp.connect(*running.address), name, key)


class Middle:
    """A stream to the service through an attacker, who can change every frame.

    out, back: what is made of the n-th piece (from 1) that goes, or comes.
    """

    def __init__(
        self,
        stream: Stream,
        out: Callable[[int, bytes], bytes] = lambda n, data: data,
        back: Callable[[int, bytes], bytes] = lambda n, data: data,
    ) -> None:
        self._stream, self._change_out, self._change_back = stream, out, back
        self._sent = self._taken = 0
        self.seen: list[bytes] = []

    def write(self, data: bytes) -> None:
        self._sent += 1
        self.seen.append(data)
        self._stream.write(self._change_out(self._sent, data))

    def read(self, n: int, timeout_ms: int) -> bytes:
        data = self._stream.read(n, timeout_ms)
        if not data:
            return b""
        self._taken += 1
        return self._change_back(self._taken, data)

    def close(self) -> None:
        self._stream.close()


def raw(running: VaultService) -> socket.socket:
    connection = socket.create_connection(running.address)
    connection.settimeout(10)
    return connection


def is_refused(connection: socket.socket) -> bool:
    """Whether the service sends one refusal at most, and then ends the connection."""
    answer = b""
    try:
        while data := connection.recv(1000):
            answer += data
    except ConnectionError:
        pass
    return not answer or answer[3] in (
        VaultError.REASONS.index("refused") + 1,
        VaultError.REASONS.index("protocol") + 1,
    )


def test_client_with_the_key_is_answered(running: VaultService) -> None:
    vault = client(running)
    point = vault.public(PROVISIONING)
    assert all(p256.verify(point, DIGEST, vault.sign(PROVISIONING, DIGEST)) for _ in range(5))
    with pytest.raises(VaultError, match=r"^exists"):
        vault.generate_provisioning_key()


def test_restart_is_not_noticed_on_tcp(running: VaultService) -> None:
    vault = client(running)
    before = vault.public(PROVISIONING)
    os.kill(running.pid, 9)
    assert vault.public(PROVISIONING) == before


def test_client_without_a_key_is_refused(running: VaultService) -> None:
    with raw(running) as connection_:
        connection_.sendall(service.pack(1, RANDOM, [b"\0\x10"]))
        assert is_refused(connection_)
    with raw(running) as connection_:
        connection_.sendall(service.pack(1, service.HELLO, [b"car", bytes(NONCE)]))
        assert len(connection_.recv(100)) == 4 + 2 + NONCE
        connection_.sendall(service.pack(2, RANDOM, [b"\0\x10"]))
        assert is_refused(connection_)
    plain = service.connect(lambda: tcp.connect(*running.address))
    with pytest.raises(VaultError, match=r"^refused"):
        plain.random(16)


# Without any proof of a client: the one process goes on serving the others.


def by_socket(running: VaultService) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(10)
    connection.connect(str(running.socket_path))
    return connection


def greeting(*fields: bytes) -> bytes:
    return service.pack(1, service.HELLO, fields)


NO_GREETINGS = {
    "no fields": greeting(),
    "a name only": greeting(b"car"),
    "three fields": greeting(b"car", bytes(NONCE), b""),
    "no nonce": greeting(b"car", b""),
    "a short nonce": greeting(b"car", bytes(NONCE - 1)),
    "a long nonce": greeting(b"car", bytes(NONCE + 1)),
    "a nonce as long as the frame": greeting(b"car", bytes(1000)),
    "an unknown name's short nonce": greeting(b"unknown", bytes(NONCE - 1)),
    "half a field": b"\0\3\1" + bytes((service.HELLO, 0)),
    "a field beyond its frame": b"\0\5\1" + bytes((service.HELLO, 0, 9, 0)),
}


@pytest.mark.parametrize("connect", [raw, by_socket])
def test_malformed_greeting_ends_its_connection_only(
    running: VaultService, connect: Callable[[VaultService], socket.socket]
) -> None:
    known_client = client(running)
    known_client.random(1)
    pid, stream = running.pid, known_client._stream
    for description, frame in NO_GREETINGS.items():
        with connect(running) as connection_:
            connection_.sendall(frame)
            answer = connection_.recv(100)
            assert answer[3:4] == bytes((VaultError.REASONS.index("protocol") + 1,)), description
            assert is_closed_soon(connection_), description
        assert len(known_client.sign(PROVISIONING, DIGEST)) == 64, description
    assert (running.pid, running.restarts, known_client._stream) == (pid, 0, stream)


def is_closed_soon(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize("connect", [raw, by_socket])
def test_unknown_name_is_greeted_and_ends_its_connection_only(
    running: VaultService, connect: Callable[[VaultService], socket.socket]
) -> None:
    """By the Unix socket too: a client that claims a name must prove it."""
    known_client = client(running)
    known_client.random(1)
    pid, stream = running.pid, known_client._stream
    names = (b"", b"unknown", b"\xff\xfe", b"car\0", b"x" * 900)
    frames = (b"", b"\1", b"\1\0", bytes(18), bytes(200), b"\1\x08\0\2\0\x10")
    for name, then in itertools.product(names, frames):
        with connect(running) as connection_:
            connection_.sendall(greeting(name, bytes(NONCE)))
            assert len(connection_.recv(100)) == 4 + 2 + NONCE
            connection_.sendall(len(then).to_bytes(2, "big") + then)
            answer = connection_.recv(100)
            assert answer[3:4] == bytes((VaultError.REASONS.index("refused") + 1,)), (name, then)
            assert is_closed_soon(connection_), (name, then)
        assert len(known_client.sign(PROVISIONING, DIGEST)) == 64, (name, then)
    assert (running.pid, running.restarts, known_client._stream) == (pid, 0, stream)


def test_second_greeting_does_not_keep_the_name_of_the_first(running: VaultService) -> None:
    """A client that has proved its name asks for another's: it must prove that too."""
    nonce = bytes(NONCE)
    with raw(running) as connection:
        connection.sendall(greeting(b"car", nonce))
        mine = Seal(KEY, b"car", nonce + connection.recv(100)[6:], True)
        connection.sendall(mine.seal(service.pack(2, RANDOM, [b"\0\1"])))
        assert connection.recv(100)[3] == 0
        connection.sendall(greeting(b"bench", nonce))
        assert len(connection.recv(100)) == 4 + 2 + NONCE
        connection.sendall(mine.seal(service.pack(3, RANDOM, [b"\0\1"])))
        assert connection.recv(100)[3] == VaultError.REASONS.index("refused") + 1
        assert is_closed_soon(connection)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("car", os.urandom(32)),
        ("bench", KEY),
        ("unknown", KEY),
        ("", KEY),
        ("unknown", bytes(32)),
        ("", bytes(32)),
    ],
    ids=["another key", "another's name", "no such name", "no name", "no key", "nothing"],
)
def test_wrong_key_or_name_is_refused(running: VaultService, name: str, key: bytes) -> None:
    with pytest.raises(VaultError, match=r"^(refused|unavailable)"):
        client(running, name, key).random(16)


def test_false_service_is_not_believed() -> None:
    """It answers every request, and knows everything except the key."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def lie() -> None:
            connection, _ = listener.accept()
            with connection:
                hello = connection.recv(1000)
                connection.sendall(service.pack(hello[2], 0, [bytes(NONCE)]))
                request = connection.recv(1000)
                nonces = service.unpack(hello[2:])[2][1] + bytes(NONCE)
                forged = Seal(bytes(32), b"car", nonces, False)
                connection.sendall(forged.seal(service.pack(request[2], 0, [bytes(64)])))
                connection.recv(1)

        liar = threading.Thread(target=lie)
        liar.start()
        vault = service.connect(lambda: tcp.connect(*listener.getsockname()), "car", KEY)
        with pytest.raises(VaultError, match=r"^refused"):
            vault.sign(PROVISIONING, DIGEST)
        vault.close()
        liar.join(timeout=10)


def test_unsealed_answer_of_a_false_service_is_not_believed() -> None:
    """No attacker on the way can claim that a key is gone or a PIN wrong."""
    for reason in ("pin", "not-found"):
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def lie(listener: socket.socket = listener, reason: str = reason) -> None:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(1000)
                    reason_code = VaultError.REASONS.index(reason) + 1
                    connection.sendall(service.pack(0, reason_code, [b"so"]))
                    connection.recv(1)

            liar = threading.Thread(target=lie)
            liar.start()
            vault = service.connect(lambda: tcp.connect(*listener.getsockname()), "car", KEY)
            with pytest.raises(VaultError, match=r"^unavailable"):
                vault.public(PROVISIONING)
            vault.close()
            liar.join(timeout=10)


def flipped(at: int) -> Callable[[int, bytes], bytes]:
    """A change of one bit, at `at`, in the second piece, the first after the greeting."""

    def change(n: int, data: bytes) -> bytes:
        where = at % len(data)
        return data if n != 2 else data[:where] + bytes((data[where] ^ 1,)) + data[where + 1 :]

    return change


@pytest.mark.parametrize("at", [2, 3, 5, 30, -20, -17, -16, -1])
def test_changed_request_is_refused(running: VaultService, at: int) -> None:
    vault = service.connect(
        lambda: Middle(tcp.connect(*running.address), out=flipped(at)), "car", KEY
    )
    with pytest.raises(VaultError, match=r"^refused"):
        vault.sign(PROVISIONING, DIGEST)


@pytest.mark.parametrize("at", [2, 3, 5, 40, -1])
def test_changed_answer_is_not_believed(running: VaultService, at: int) -> None:
    vault = service.connect(
        lambda: Middle(tcp.connect(*running.address), back=flipped(at)), "car", KEY
    )
    with pytest.raises(VaultError, match=r"^(refused|protocol|unavailable)"):
        vault.sign(PROVISIONING, DIGEST)


def test_recorded_request_is_worth_nothing(running: VaultService) -> None:
    """Neither again on the same connection, nor with its greeting on another."""
    recorder = Middle(tcp.connect(*running.address))
    vault = service.connect(recorder, "car", KEY)
    vault._open = lambda: recorder
    vault.sign(PROVISIONING, DIGEST)
    recorder._stream.write(recorder.seen[-1])
    assert recorder._stream.read(100, 5000)[3] == VaultError.REASONS.index("refused") + 1
    with raw(running) as attacker:
        attacker.sendall(recorder.seen[0])
        assert len(attacker.recv(100)) == 4 + 2 + NONCE
        attacker.sendall(recorder.seen[1])
        assert is_refused(attacker)


def test_own_frame_sent_back_is_no_answer() -> None:
    nonces = os.urandom(2 * NONCE)
    mine, its = (Seal(KEY, b"car", nonces, side) for side in (True, False))
    frame = mine.seal(service.pack(1, SIGN, [b"", b"k", DIGEST]))
    with pytest.raises(VaultError, match=r"^refused"):
        mine.unseal(frame[2:])
    assert its.unseal(frame[2:]) == service.pack(1, SIGN, [b"", b"k", DIGEST])[2:]


def test_frames_left_out_or_exchanged_are_noticed() -> None:
    nonces = os.urandom(2 * NONCE)
    mine = Seal(KEY, b"car", nonces, True)
    frames = [mine.seal(service.pack(n, RANDOM, [b"\0\1"])) for n in (1, 2)]
    for before, then in ([], frames[1]), ([frames[0]], frames[0]):
        its = Seal(KEY, b"car", nonces, False)
        for frame in before:
            its.unseal(frame[2:])
        with pytest.raises(VaultError, match=r"^refused"):
            its.unseal(then[2:])


def test_both_nonces_and_the_name_are_in_the_keys() -> None:
    frame = service.pack(1, RANDOM, [b"\0\1"])
    sealed = Seal(KEY, b"car", bytes(32), True).seal(frame)
    for name, nonces in (
        (b"caR", bytes(32)),
        (b"car", b"\1" + bytes(31)),
        (b"car", bytes(31) + b"\1"),
    ):
        with pytest.raises(VaultError, match=r"^refused"):
            Seal(KEY, name, nonces, False).unseal(sealed[2:])


def test_unauthenticated_clients_do_not_displace_others(running: VaultService) -> None:
    """A client with a key is served beside any number of silent connections."""
    vault = client(running)
    vault.random(1)
    silent = [raw(running) for _ in range(100)]
    try:
        assert len(vault.random(1)) == 1
        assert len(client(running).random(1)) == 1
        ended = sum(is_closed(connection) for connection in silent)
        assert ended >= 100 - 16
    finally:
        for connection in silent:
            connection.close()


def test_flood_of_connections_displaces_no_client_of_another_address(
    running: VaultService,
) -> None:
    with raw(running) as first:
        other = ("127.0.0.2", 0)
        flood = [socket.create_connection(running.address, 10, other) for _ in range(50)]
        try:
            assert len(client(running).random(1)) == 1
            first.sendall(greeting(b"car", bytes(NONCE)))
            assert len(first.recv(100)) == 4 + 2 + NONCE
        finally:
            for connection in flood:
                connection.close()


def test_client_that_proves_another_name_is_that_client_from_then_on(car_token: CarToken) -> None:
    keys = {"car": KEY, "bench": os.urandom(32)}
    status = service.OPERATIONS.index(("status", 1))
    with (
        car_token.service(tcp=("127.0.0.1", 0), keys=keys) as running,
        raw(running) as connection,
    ):
        for name, key in keys.items():
            connection.sendall(greeting(name.encode(), bytes(NONCE)))
            nonces = bytes(NONCE) + connection.recv(100)[6:]
            seal = Seal(key, name.encode(), nonces, True)
            connection.sendall(seal.seal(service.pack(2, status, [b""])))
            assert f'"client": "{name}"'.encode() in connection.recv(1000)


def is_closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def test_short_key_is_refused_before_anything_starts(car_token: CarToken) -> None:
    for keys in ({"car": bytes(31)}, {"": bytes(32)}):
        with pytest.raises(VaultError, match=r"^refused"):
            car_token.service(tcp=("127.0.0.1", 0), keys=keys)
