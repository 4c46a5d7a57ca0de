"""The vault service: a token in a supervised process of its own, behind a Unix socket.

A damaged token file can make SoftHSM end the whole process, so the process that holds the token
holds nothing else. `VaultService` starts it, gives it the PIN on its stdin (never a command line,
an environment variable or a file), owns the listening socket, and starts it again when it dies:
a client sees "unavailable" for the request that was lost and finds the service there again.

Who may ask: processes of the same user, by the socket's permissions and by its peer credentials.
What they may ask: `evcc.vault.service.OPERATIONS`, one at a time, the private ones at a limited
rate. Core dumps are off in the service. Linux only.
"""

import contextlib
import ctypes
import json
import os
import resource
import selectors
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Self, cast

from evcc.ports import unix
from evcc.vault import VaultError
from evcc.vault.service import (
    MAX_REQUEST,
    OPERATIONS,
    ServiceVault,
    connect,
    frame_size,
    pack,
    unpack,
)

RATE = 100.0  # private operations a second; twice as many at once
_CLIENTS = 16
_PRIVATE = {"generate_provisioning_key", "sign", "open_contract_key", "delete"}
_SEND_TIMEOUT = 2.0  # seconds for a client to take its answer
_START_TIMEOUT = 20.0
_HOPELESS = {"pin", "pin-locked", "refused"}  # never tried again
_PR_SET_DUMPABLE = 4


_UNAVAILABLE = VaultError.REASONS.index("unavailable") + 1


class TokenLost(Exception):
    """The library failed in a way that leaves its state unknown."""


class Limiter:
    """A token bucket: `rate` a second, and twice that at once. `clock`: seconds."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock = rate, clock
        self._left, self._at = 2 * rate, clock()

    def take(self) -> bool:
        """Whether one more operation may be done now."""
        now = self._clock()
        self._left = min(2 * self._rate, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


def answer(vault: Any, limiter: Limiter, body: bytes) -> bytes:
    """The frame that answers a request's frame (without its length), whatever its bytes are."""
    tag = body[0] if body else 0
    try:
        tag, code, fields = unpack(body)
        return pack(tag, 0, _perform(vault, limiter, code, fields))
    except VaultError as error:
        return _refusal(tag, error)


def _refusal(tag: int, error: VaultError) -> bytes:
    return pack(tag, VaultError.REASONS.index(error.reason) + 1, [error.detail[:100].encode()])


def _perform(vault: Any, limiter: Limiter, code: int, fields: list[bytes]) -> list[bytes]:
    if code >= len(OPERATIONS) or len(fields) != OPERATIONS[code][1]:
        raise VaultError("protocol", "no such operation")
    name = OPERATIONS[code][0]
    if name in _PRIVATE and not limiter.take():
        raise VaultError("refused", "too many operations a second")
    if name == "open_contract_key":
        return [vault.open_contract_key(fields[0].decode("ascii", "replace"), *fields[1:])]
    if name == "random":
        return [vault.random(int.from_bytes(fields[0], "big"))]
    result = getattr(vault, name)(*fields)
    if name == "keys":
        return [part for pair in result for part in pair]
    return {"verify": [b"\x01" if result else b"\x00"], "delete": []}.get(
        name, [result.encode() if isinstance(result, str) else result]
    )


# The service's own process.


def main() -> int:
    """`python -m plugvault.hsm.service FD`: serve on the listening socket FD until stdin ends.

    The first line of stdin is {"module", "conf", "label", "pin", "rate"}; stdout gets "ready", or
    "reason: detail" and the process ends with 1.
    """
    _no_core_dumps()
    wanted = json.loads(sys.stdin.buffer.readline())
    from plugvault.hsm.vault import open_vault  # after the limits: it loads the token's library

    try:
        vault = open_vault(wanted["module"], wanted["conf"], wanted["label"], wanted.pop("pin"))
    except VaultError as error:
        print(error, flush=True)
        return 1
    print("ready", flush=True)
    with socket.socket(fileno=int(sys.argv[1])) as listener:
        try:
            serve(listener, vault, Limiter(wanted["rate"]), sys.stdin.buffer)
        except TokenLost:
            return 1  # the supervisor starts a process whose library is as new
    return 0


def _no_core_dumps() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0)  # nor may another process read this one's memory


def serve(listener: socket.socket, vault: Any, limiter: Limiter, until_closed: IO[bytes]) -> None:
    """Answer clients of `listener`, one request at a time, until `until_closed` ends.

    Raises: TokenLost, after the request that met it was answered.
    """
    clients: dict[socket.socket, bytearray] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        selector.register(until_closed, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                source: Any = key.fileobj
                if source is until_closed:
                    return
                if source is listener:
                    client = listener.accept()[0]
                    if len(clients) < _CLIENTS and is_same_user(client):
                        client.settimeout(_SEND_TIMEOUT)
                        clients[client] = bytearray()
                        selector.register(client, selectors.EVENT_READ)
                    else:
                        client.close()
                elif not _serve_client(source, clients[source], vault, limiter):
                    selector.unregister(source)
                    del clients[source]
                    source.close()


def is_same_user(client: socket.socket) -> bool:
    """Whether the process at the other end runs as this process's user."""
    peer = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", peer)
    return bool(uid == os.geteuid())


def _serve_client(client: socket.socket, pending: bytearray, vault: Any, limiter: Limiter) -> bool:
    """Take what the client sent and answer what is whole. False: the client is done with."""
    try:
        data = client.recv(MAX_REQUEST)
        pending += data
        while (size := frame_size(pending, MAX_REQUEST)) and len(pending) >= size:
            frame = answer(vault, limiter, bytes(pending[2:size]))
            client.sendall(frame)
            if frame[3] == _UNAVAILABLE:
                raise TokenLost
            del pending[:size]
    except VaultError as error:  # a frame too long: nothing after it can be trusted
        with contextlib.suppress(OSError):
            client.sendall(_refusal(0, error))
        return False
    except OSError:
        return False
    return bool(data)


# The supervisor, in the process that starts the service.


class VaultService:
    """Runs the service for the token `label` while the context lasts.

    socket_path: where to listen, at most 107 bytes, in a folder that only its owner may enter
    (made if it is not there). rate: private operations a second. `restarts`: how often the
    process had to be started again; `failure`: why it is not started any more, or None.
    Raises on entry: VaultError("pin" | "token-missing" | "module-missing" | "refused" | ...).
    """

    def __init__(
        self,
        module: Path | str,
        conf: Path | str | None,
        label: str,
        pin: str,
        socket_path: Path | str,
        rate: float = RATE,
    ) -> None:
        self.socket_path = Path(socket_path)
        self.restarts = 0
        self.failure: VaultError | None = None
        wanted = {"module": str(module), "conf": str(conf) if conf else None}
        self._orders = {**wanted, "label": label, "pin": pin, "rate": rate}
        self._closing = threading.Event()

    def __enter__(self) -> Self:
        self._listener = _listen(self.socket_path)
        try:
            self._process = self._start()
        except VaultError:
            self._stop_listening()
            raise
        self._supervisor = threading.Thread(target=self._supervise, daemon=True)
        self._supervisor.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._closing.set()
        if self._process.stdin:
            self._process.stdin.close()
        self._supervisor.join(timeout=5)
        _end(self._process)
        self._stop_listening()

    @property
    def pid(self) -> int:
        """Of the process that holds the token."""
        return self._process.pid

    def client(self) -> ServiceVault:
        """A vault that asks this service, and connects again after a restart."""
        return connect(lambda: unix.connect(str(self.socket_path)))

    def __repr__(self) -> str:
        return f"VaultService({self._orders['label']!r}, {str(self.socket_path)!r})"

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "plugvault.hsm.service", str(self._listener.fileno())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[self._listener.fileno()],
            start_new_session=True,  # a Ctrl-C in the terminal is for the supervisor
        )
        stdin, stdout = cast(IO[bytes], process.stdin), cast(IO[bytes], process.stdout)
        word = ""
        timer = threading.Timer(_START_TIMEOUT, process.kill)
        timer.start()
        with contextlib.suppress(OSError):  # died before it read its orders
            stdin.write(json.dumps(self._orders).encode() + b"\n")
            stdin.flush()
            word = stdout.readline().decode().strip()
        timer.cancel()
        if word == "ready":
            return process
        code = _end(process)
        reason, _, detail = word.partition(": ")
        if reason not in VaultError.REASONS:
            reason, detail = "unavailable", f"the service ended with {code} at its start"
        raise VaultError(reason, detail)

    def _supervise(self) -> None:
        wait = 0.0
        while True:
            started = time.monotonic()
            self._process.wait()
            if self._closing.wait(wait):
                return
            _end(self._process)
            # At once the first time; slower and slower for one that keeps dying.
            wait = 0.0 if time.monotonic() - started > 10 else min(5.0, 2 * wait + 0.05)
            while True:
                try:
                    self._process = self._start()
                    self.restarts += 1
                    if self._closing.is_set():
                        return
                    break
                except (VaultError, OSError) as error:  # OSError: no process to be had just now
                    if isinstance(error, VaultError) and error.reason in _HOPELESS:
                        self.failure = error
                        self._stop_listening()
                        return
                    wait = min(5.0, 2 * wait + 0.05)
                    if self._closing.wait(wait):
                        return

    def _stop_listening(self) -> None:
        self._listener.close()
        self.socket_path.unlink(missing_ok=True)


def _end(process: subprocess.Popen[bytes]) -> int:
    """No process and no pipe is left; its exit code."""
    process.kill()
    code = process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            with contextlib.suppress(OSError):
                pipe.close()
    return code


def _listen(path: Path) -> socket.socket:
    """A listening socket at `path`, for this user only."""
    folder = path.parent
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise VaultError("refused", f"{folder} must belong to its user alone (mode 0700)")
    if path.is_socket():
        path.unlink()  # of a service that was killed
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(_CLIENTS)
    except OSError as error:
        listener.close()
        raise VaultError("unavailable", f"{path}: {error.strerror or error}") from error
    return listener


if __name__ == "__main__":
    sys.exit(main())
