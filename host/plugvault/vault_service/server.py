"""The process that has the token: `python -m plugvault.vault_service.server FD...`.

One thread does everything, so the library never meets two calls at once, and a request crosses no
queue: with a second thread for the sockets, each hand-over between the threads cost more than it
saved.

The server answers its clients one request each in turn. Unsent answers wait with their connection.
When there are too many connections, the peer with the most of them loses the one that was silent
longest. A request over its caller's rate waits, at most `_LONGEST_WAIT`, and its connection is not
read meanwhile. A call that does not return ends the process, and its supervisor starts another.

The first line of stdin is {"location": a `TokenLocation`, "minimum_custody", "provisioning",
"state": a folder or null, "clients": {name: {"key": hex, and arguments of `Caller`}}}, with the
name "" for clients of the Unix socket. The second line is the PIN; it never becomes a `str`, which
could not be wiped. stdout gets "ready", or "reason: detail" and the process ends with 1. Linux
only.
"""

import ctypes
import json
import logging
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
from evcc.vault.service import HELLO, LINE, MAX_REQUEST, frame_size, pack, unpack
from plugvault.seldom import Seldom
from plugvault.vault_service.callers import OverRate, VaultCaller
from plugvault.vault_service.handlers import RequestHandler, TokenLost, refusal

log = logging.getLogger("plugvault.vault_service")

CLIENTS = 64
_UNAUTHENTICATED = 16  # of them, without proof of their name
_AUTHENTICATION = 5.0  # seconds for that proof
_HANG = 10  # seconds, more than any request takes
_REARM = 1  # seconds between two settings of the alarm for that
_PATIENCE = 0.25  # seconds to the next operation of a caller's rate for which a request waits
_LONGEST_WAIT = 2.0  # seconds of that in all; a client on a line waits 2.5 for its answer
_SPIN = 60e-6  # seconds of polling for the next request before sleep
_PR_SET_DUMPABLE = 4
_UNKNOWN = ""  # the peer of an unauthenticated client
_HELLO, _LINE = bytes((HELLO,)), bytes((LINE,))
_LONGEST = 1 << 18  # bytes of the orders

Peer = int | str  # the process id of a process of this user, or the name of a client with a key


def main() -> int:
    _no_core_dumps()
    orders, pin = _orders()
    # After the limits: these load the token's library.
    from evcc.vault.pkcs11 import survey_custody
    from plugvault.tokens.location import TokenLocation
    from plugvault.vault_service.envelopes import records_of

    location = TokenLocation.from_json(orders["location"])
    signal.alarm(_HANG)
    try:
        vault = location.open(pin, orders["minimum_custody"], orders["provisioning"])
        signal.alarm(_HANG)
        if orders["survey"]:
            survey_custody(vault)
        records = records_of(vault, location, orders["state"])
        handler = RequestHandler(vault, records)
    except VaultError as error:
        print(error, flush=True)
        return 1
    finally:
        pin[:] = bytes(len(pin))
    signal.alarm(0)
    print("ready", flush=True)
    listeners = [socket.socket(fileno=int(fd)) for fd in sys.argv[1:]]
    try:
        Server(listeners, handler, _clients(orders["clients"])).serve(sys.stdin.fileno())
    except TokenLost:
        return 1  # the supervisor starts a process whose library is as new
    return 0


def _clients(clients: Any) -> dict[bytes, tuple[bytes, VaultCaller]]:
    """(shared key, caller) by name."""
    return {
        name.encode(): (bytes.fromhex(fields.pop("key")), VaultCaller(name.encode(), **fields))
        for name, fields in clients.items()
    }


def _no_core_dumps() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0)  # and no other process reads this one's memory


def _orders(descriptor: int = 0) -> tuple[Any, bytearray]:
    """The two lines of stdin: the orders and the PIN. Their buffer is wiped."""
    lines, length = bytearray(b" " * _LONGEST), 0
    try:
        while lines.count(b"\n", 0, length) < 2:
            read = os.readv(descriptor, [memoryview(lines)[length:]])
            if not read:
                raise SystemExit(1)  # the supervisor has ended, or the orders are too long
            length += read
        end = lines.index(b"\n")
        return json.loads(lines[:end]), lines[end + 1 : length - 1]
    finally:
        lines[:] = bytes(len(lines))


class _Client:
    """A connection: its peer, the bytes it received and those it has not sent."""

    def __init__(self, connection: socket.socket, peer: Peer, address: str) -> None:
        self.socket, self.peer, self.at = connection, peer, time.monotonic()
        self.address = address  # of its computer; "" for a process of this one
        self.pending = self.unsent = b""
        self.name = b""  # that it claims
        self.seal: Seal | None = None
        self.caller: VaultCaller | None = None  # None: not authenticated
        self.held = b""  # the body of a request over the rate
        self.due = self.until = 0.0  # when it is tried again, and when it waits no longer

    def request(self) -> bytes | None:
        """The body of the next request, if it is complete and can be answered.
        Raises: VaultError."""
        pending = self.pending
        size = 0 if self.unsent or self.held else frame_size(pending, MAX_REQUEST)
        if not 0 < size <= len(pending):
            return None
        self.pending = pending[size:]
        return pending[2:size]


class Server:
    """Serves the clients of `listeners`. callers: (shared key, caller) by name, b"" for clients of
    the Unix socket."""

    def __init__(
        self,
        listeners: list[socket.socket],
        handler: RequestHandler,
        callers: Mapping[bytes, tuple[bytes, VaultCaller]],
    ) -> None:
        self._listeners = {listener.fileno(): listener for listener in listeners}
        self._handler, self._callers = handler, callers
        self._clients: dict[int, _Client] = {}
        self._unauthenticated: list[_Client] = []  # oldest first
        self._displaced = Seldom(log, "too many connections: a new one displaces that of {}")
        self._held: list[_Client] = []  # with a request over the rate
        self._poll = select.epoll()
        self._armed = 0.0  # when the alarm was set

    def serve(self, until_closed: int) -> None:
        """Serve until the descriptor `until_closed` has data or is at its end.
        Raises: TokenLost."""
        self._poll.register(until_closed, select.EPOLLIN)
        for fd, listener in self._listeners.items():
            listener.setblocking(False)
            self._poll.register(fd, select.EPOLLIN)
        try:
            self._run(until_closed)
        finally:
            signal.alarm(0)

    def _run(self, until_closed: int) -> None:
        ready: list[_Client] = []  # clients that may have a request
        busy = False  # whether the last round answered one
        while True:
            for fd, _ in self._poll.poll(0) if busy else self._wait():
                client = self._clients.get(fd)
                if client is None:
                    if fd == until_closed:
                        return
                    if fd in self._listeners:
                        self._accept(self._listeners[fd])
                elif client.held:
                    self._drop(client)  # only its end is reported now
                elif not ready or client not in ready:
                    if client.unsent:
                        self._send(client, b"")
                    else:
                        self._receive(client)
                    ready.append(client)
            batch, ready, busy = ready + self._due(), [], False
            for client in batch:
                if self._serve(client):
                    busy = True
                    if client.pending:
                        ready.append(client)

    def _due(self) -> list[_Client]:
        """The clients whose request has waited long enough to be tried again."""
        now = time.monotonic() if self._held else 0.0
        return [client for client in self._held if client.due <= now]

    def _wait(self) -> list[tuple[int, int]]:
        """The next events. Sleep and wake-up can cost more than a signature, so it polls that long
        first, and yields the processor meanwhile."""
        if self._armed and time.monotonic() - self._armed > _REARM:
            self._disarm()  # events without a request would leave the alarm set
        until = time.perf_counter() + _SPIN
        while time.perf_counter() < until:
            if events := self._poll.poll(0):
                return events
            os.sched_yield()
        self._disarm()
        events = self._poll.poll(self._sleep())
        late = time.monotonic() - _AUTHENTICATION
        for client in [client for client in self._unauthenticated if client.at < late]:
            self._drop(client)
        return events

    def _sleep(self) -> float:
        """Seconds until there is work without an event; -1: never."""
        times = [client.due - time.monotonic() for client in self._held]
        if self._unauthenticated:
            times.append(_AUTHENTICATION / 5)
        return max(0.0, min(times)) if times else -1

    # -- connections --

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, source = listener.accept()
        except OSError:
            return  # the client has gone
        peer: Peer = _UNKNOWN
        address = source[0] if source else ""
        if connection.family == socket.AF_UNIX:
            peer, uid = _credentials(connection)
            if uid != os.geteuid():
                connection.close()
                return
        self._make_room(peer, address)
        connection.setblocking(False)
        client = self._clients[connection.fileno()] = _Client(connection, peer, address)
        if peer != _UNKNOWN:
            client.caller = self._callers[b""][1]
        else:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._unauthenticated.append(client)
        self._poll.register(connection, select.EPOLLIN)

    def _make_room(self, peer: Peer, address: str) -> None:
        """Close an old connection for a new one. Its client can connect again."""
        if peer == _UNKNOWN and len(self._unauthenticated) >= _UNAUTHENTICATED:
            # The address with the most loses its oldest: a flood displaces its own connections.
            strangers = Counter(client.address for client in self._unauthenticated)
            strangers[address] += 1
            displaced = max(self._unauthenticated, key=lambda c: strangers[c.address])
            self._displaced("%s, which has not authenticated itself", displaced.address)
            self._drop(displaced)
        if len(self._clients) >= CLIENTS:
            count = Counter(client.peer for client in self._clients.values())
            count[peer] += 1
            displaced = min(self._clients.values(), key=lambda c: (-count[c.peer], c.at))
            self._displaced("a client that has %d of %d", count[displaced.peer], CLIENTS)
            self._drop(displaced)

    def _drop(self, client: _Client) -> None:
        if client.socket.fileno() < 0:
            return
        del self._clients[client.socket.fileno()]
        client.pending = b""
        self._release(client)
        self._mark_authenticated(client)
        client.socket.close()  # which removes it from epoll

    def _mark_authenticated(self, client: _Client) -> None:
        if client in self._unauthenticated:
            self._unauthenticated.remove(client)

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
        """Send as much as the socket takes. The client's next request waits for the rest."""
        unsent = client.unsent
        data = unsent + data
        try:
            sent = client.socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._drop(client)
            return
        if unsent or sent < len(data):
            client.unsent = data[sent:]
            event = select.EPOLLOUT if client.unsent else select.EPOLLIN
            self._poll.modify(client.socket, event)

    # -- requests --

    def _serve(self, client: _Client) -> bool:
        """Answer the next request of a client; False if there is none."""
        try:
            body = client.held or client.request()
            if body is None:
                return False
            client.at = now = time.monotonic()
            if now - self._armed >= _REARM:
                signal.alarm(_HANG + _REARM)
                self._armed = now
            if client.held:
                answer = self._handled(client, body)
            elif body[1:2] == _HELLO:
                answer = self._greet(client, body)
            elif body[1:2] == _LINE and client.seal is None:
                if len(self._callers) > 1:  # without keys the user is the only client
                    client.caller = None
                return True
            else:
                client.until = now + _LONGEST_WAIT
                answer = self._handled(client, self._opened(client, body))
            if not answer:
                return False
            self._send(client, answer)
        except VaultError as error:  # of the connection: its next bytes cannot be trusted
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

    def _opened(self, client: _Client, body: bytes) -> bytes:
        """The request in a frame's body. Raises: VaultError: the connection is broken."""
        if client.seal is not None:
            body = client.seal.unseal(body)
            if client.caller is None or client.caller.name != client.name:  # the seal proves it
                client.caller, client.peer = self._callers[client.name][1], client.name.decode()
                self._mark_authenticated(client)
        return body

    def _handled(self, client: _Client, body: bytes) -> bytes:
        """The answer's frame; b"" while the request waits. Raises: TokenLost."""
        if client.caller is None:
            raise VaultError("refused", "the client is not authenticated")
        patience = min(_PATIENCE, client.until - client.at)
        try:
            answer = self._sealed(client, self._handler.answer(client.caller, body, patience))
        except OverRate as over:
            client.due = client.at + over.seconds
            if not client.held:
                client.held = body
                self._held.append(client)
                self._poll.modify(client.socket, 0)
            return b""
        self._release(client)
        return answer

    def _release(self, client: _Client) -> None:
        """Read the connection again, after its request has waited."""
        if client.held:
            client.held = b""
            self._held.remove(client)
            self._poll.modify(client.socket, select.EPOLLIN)

    def _greet(self, client: _Client, body: bytes) -> bytes:
        """Begin sealed frames. For an unknown name the key is random, so its requests fail."""
        tag, _, fields = unpack(body)
        if len(fields) != 2 or len(fields[1]) != NONCE:
            raise VaultError("protocol", "no greeting")
        client.name, nonce = fields[0], os.urandom(NONCE)
        key = self._callers[client.name][0] if client.name in self._callers else b""
        client.seal = Seal(key or os.urandom(32), client.name, fields[1] + nonce, False)
        return pack(tag, 0, [nonce])

    def _sealed(self, client: _Client, frame: bytes) -> bytes:
        return client.seal.seal(frame) if client.seal else frame


def _credentials(connection: socket.socket) -> tuple[int, int]:
    """(process id, user id) of a Unix socket's peer."""
    peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, _ = struct.unpack("3i", peer)
    return pid, uid


if __name__ == "__main__":
    sys.exit(main())
