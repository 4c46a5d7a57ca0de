"""The process that has the token: `python -m plugvault.vault_service.server FD...`.

One thread does everything, so the library never meets two calls at once, and a request crosses no
queue: a second thread for the sockets was tried, and each hand-over between two threads wakes
one of them, which costs more than what it takes off the other. What a request costs beside the
token's work and the kernel's is Python's, which never finds its own memory near after a signature:
10 to 25 ns for each bytecode, here and in `answers`.

Clients take turns, a request each; what one of them does not fetch waits with its connection, and
when there are too many connections, whoever has most of them loses the one that was silent
longest. A call that does not come back ends the process, as its supervisor expects.

The first line of stdin is {"open": arguments of `open_vault`, "state": a folder or null,
"clients": {name: {"key": hex, and arguments of `Caller`}}}, the name "" for who comes by the Unix
socket; the second is the PIN, which is never made a text, for nobody could wipe that. stdout gets
"ready", or "reason: detail" and the process ends with 1. Linux only.
"""

import ctypes
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from evcc.vault import VaultError
from evcc.vault.seal import NONCE, Seal
from evcc.vault.service import HELLO, MAX_REQUEST, frame_size, pack, unpack
from plugvault.vault_service.callers import Caller
from plugvault.vault_service.handlers import RequestHandler, TokenLost, refusal

CLIENTS = 64
_STRANGERS = 16  # of them that have not said who they are
_INTRODUCTION = 5.0  # seconds for that
_HANG = 10  # seconds; no request takes that long
_REARM = 1  # seconds between two settings of the alarm for that
_SPIN = 60e-6  # seconds of looking for the next request before going to sleep
_PR_SET_DUMPABLE = 4
_STRANGER = ""
_HELLO = bytes((HELLO,))
_LONGEST = 1 << 18  # bytes of the orders

Peer = int | str  # the process id of this user's process, or the name of who has a key


def main() -> int:
    _no_core_dumps()
    orders, pin = _orders()
    # After the limits: these load the token's library.
    from evcc.vault.pkcs11 import survey_custody
    from plugvault.cryptoki.backend import open_vault
    from plugvault.tokens.location import TokenLocation
    from plugvault.vault_service.envelopes import records_of

    opened, state = orders["open"], orders["state"]
    signal.alarm(_HANG)
    try:
        vault = open_vault(**opened, pin=pin)
        signal.alarm(_HANG)
        survey_custody(vault)
        records = records_of(vault, TokenLocation.from_json(opened), state)
        answers = RequestHandler(vault, records)
    except VaultError as error:
        print(error, flush=True)
        return 1
    finally:
        pin[:] = bytes(len(pin))
    signal.alarm(0)
    print("ready", flush=True)
    listeners = [socket.socket(fileno=int(fd)) for fd in sys.argv[1:]]
    try:
        Server(listeners, answers, _clients(orders["clients"])).serve(sys.stdin.fileno())
    except TokenLost:
        return 1  # the supervisor starts a process whose library is as new
    return 0


def _clients(said: Any) -> dict[bytes, tuple[bytes, Caller]]:
    return {
        name.encode(): (bytes.fromhex(one.pop("key")), Caller(name.encode(), **one))
        for name, one in said.items()
    }


def _no_core_dumps() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0)  # nor may another process read this one's memory


def _orders(descriptor: int = 0) -> tuple[Any, bytearray]:
    """What the lines of stdin say, and the PIN; the buffer that they came in is wiped."""
    lines, length = bytearray(b" " * _LONGEST), 0
    try:
        while lines.count(b"\n", 0, length) < 2:
            read = os.readv(descriptor, [memoryview(lines)[length:]])
            if not read:
                raise SystemExit(1)  # there is nobody any more to serve, or too much is said
            length += read
        end = lines.index(b"\n")
        return json.loads(lines[:end]), lines[end + 1 : length - 1]
    finally:
        lines[:] = bytes(len(lines))


class _Client:
    """A connection: whose it is, what came of it and what it has not fetched."""

    def __init__(self, connection: socket.socket, peer: Peer) -> None:
        self.socket, self.peer, self.at = connection, peer, time.monotonic()
        self.pending = self.unsent = b""
        self.name = b""  # that it says it has
        self.seal: Seal | None = None
        self.caller: Caller | None = None  # None: it has not proved who it is

    def request(self) -> bytes | None:
        """The body of the next one, if it is there and can be answered. Raises: VaultError."""
        pending = self.pending
        size = 0 if self.unsent else frame_size(pending, MAX_REQUEST)
        if not 0 < size <= len(pending):
            return None
        self.pending = pending[size:]
        return pending[2:size]


class Server:
    """Answers the clients of `listeners`. known: (shared key, caller) by their names, b"" for who
    comes by the Unix socket."""

    def __init__(
        self,
        listeners: list[socket.socket],
        answers: RequestHandler,
        known: Mapping[bytes, tuple[bytes, Caller]],
    ) -> None:
        self._listeners = {listener.fileno(): listener for listener in listeners}
        self._answers, self._known = answers, known
        self._clients: dict[int, _Client] = {}
        self._strangers: list[_Client] = []  # oldest first
        self._poll = select.epoll()
        self._armed = 0.0  # when the alarm was set

    def serve(self, until_closed: int) -> None:
        """Until there is something to read from `until_closed`, or its end. Raises: TokenLost."""
        self._poll.register(until_closed, select.EPOLLIN)
        for fd, listener in self._listeners.items():
            listener.setblocking(False)
            self._poll.register(fd, select.EPOLLIN)
        try:
            self._take_turns(until_closed)
        finally:
            signal.alarm(0)

    def _take_turns(self, until_closed: int) -> None:
        turns: list[_Client] = []  # who may have asked
        busy = False  # whether anybody had
        while True:
            for fd, _ in self._poll.poll(0) if busy else self._wait():
                client = self._clients.get(fd)
                if client is None:
                    if fd == until_closed:
                        return
                    if fd in self._listeners:
                        self._accept(self._listeners[fd])
                elif not turns or client not in turns:
                    if client.unsent:
                        self._send(client, b"")
                    else:
                        self._receive(client)
                    turns.append(client)
            asked, turns, busy = turns, [], False
            for client in asked:
                if self._serve(client):
                    busy = True
                    if client.pending:
                        turns.append(client)

    def _wait(self) -> list[tuple[int, int]]:
        """What happened. To go to sleep and be woken can cost more than a signature: so look about
        for as long first, and let whoever else needs this processor have it meanwhile."""
        if self._armed and time.monotonic() - self._armed > _REARM:
            self._disarm()  # there may be no sleep: of some it is only noise that comes
        until = time.perf_counter() + _SPIN
        while time.perf_counter() < until:
            if events := self._poll.poll(0):
                return events
            os.sched_yield()
        self._disarm()
        events = self._poll.poll(_INTRODUCTION / 5 if self._strangers else -1)
        late = time.monotonic() - _INTRODUCTION
        for client in [client for client in self._strangers if client.at < late]:
            self._drop(client)
        return events

    # -- connections --

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection = listener.accept()[0]
        except OSError:
            return  # it went away again
        peer: Peer = _STRANGER
        if connection.family == socket.AF_UNIX:
            peer, uid = _credentials(connection)
            if uid != os.geteuid():
                connection.close()
                return
        self._make_room(peer)
        connection.setblocking(False)
        client = self._clients[connection.fileno()] = _Client(connection, peer)
        if peer != _STRANGER:
            client.caller = self._known[b""][1]
        else:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._strangers.append(client)
        self._poll.register(connection, select.EPOLLIN)

    def _make_room(self, peer: Peer) -> None:
        """Nobody is turned away. A client connects again when it has something to ask."""
        if peer == _STRANGER and len(self._strangers) >= _STRANGERS:
            self._drop(self._strangers[0])
        if len(self._clients) >= CLIENTS:
            count = Counter(client.peer for client in self._clients.values())
            count[peer] += 1
            self._drop(min(self._clients.values(), key=lambda c: (-count[c.peer], c.at)))

    def _drop(self, client: _Client) -> None:
        if client.socket.fileno() < 0:
            return
        del self._clients[client.socket.fileno()]
        client.pending = b""
        self._introduced(client)
        client.socket.close()  # and epoll forgets it

    def _introduced(self, client: _Client) -> None:
        if client in self._strangers:
            self._strangers.remove(client)

    def _receive(self, client: _Client) -> None:
        try:
            data = client.socket.recv(MAX_REQUEST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        client.pending += data
        if not data:
            self._drop(client)

    def _send(self, client: _Client, data: bytes) -> None:
        """What it takes now; it is asked nothing more until it has taken the rest."""
        held = client.unsent
        data = held + data
        try:
            sent = client.socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._drop(client)
            return
        if held or sent < len(data):
            client.unsent = data[sent:]
            event = select.EPOLLOUT if client.unsent else select.EPOLLIN
            self._poll.modify(client.socket, event)

    # -- requests --

    def _serve(self, client: _Client) -> bool:
        """Answer the next request of a client; whether there was one."""
        try:
            body = client.request()
            if body is None:
                return False
            client.at = now = time.monotonic()
            if now - self._armed >= _REARM:
                signal.alarm(_HANG + _REARM)
                self._armed = now
            self._send(client, self._answer(client, body))
        except VaultError as error:  # nothing after it can be trusted
            self._send(client, refusal(0, error))
            self._drop(client)
        except TokenLost as lost:
            if lost.answer:
                self._send(client, self._sealed(client, lost.answer))
            raise
        return True

    def _disarm(self) -> None:
        signal.alarm(0)
        self._armed = 0.0

    def _answer(self, client: _Client, body: bytes) -> bytes:
        """Raises: VaultError: of the connection; TokenLost."""
        if body[1:2] == _HELLO:
            return self._greet(client, body)
        if client.seal is not None:
            body = client.seal.unseal(body)
            if client.caller is None or client.caller.name != client.name:  # now it has proved it
                client.caller, client.peer = self._known[client.name][1], client.name.decode()
                self._introduced(client)
        elif client.caller is None:
            raise VaultError("refused", "asked by nobody known")
        return self._sealed(client, self._answers.answer(client.caller, body))

    def _greet(self, client: _Client, body: bytes) -> bytes:
        """From here on each frame is sealed; a name nobody has finds out by its first request."""
        tag, _, fields = unpack(body)
        if len(fields) != 2 or len(fields[1]) != NONCE:
            raise VaultError("protocol", "no greeting")
        client.name, nonce = fields[0], os.urandom(NONCE)
        key = self._known[client.name][0] if client.name in self._known else b""
        client.seal = Seal(key or os.urandom(32), client.name, fields[1] + nonce, False)
        return pack(tag, 0, [nonce])

    def _sealed(self, client: _Client, frame: bytes) -> bytes:
        return client.seal.seal(frame) if client.seal else frame


def _credentials(connection: socket.socket) -> tuple[int, int]:
    """(process id, user id) of the other end."""
    peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, _ = struct.unpack("3i", peer)
    return pid, uid


if __name__ == "__main__":
    sys.exit(main())
