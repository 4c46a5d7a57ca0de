"""The vault service: a token in a supervised process of its own, behind a socket.

A damaged token file can make SoftHSM end the whole process, so the process that holds the token
(`serving`) holds nothing else. `VaultService` starts it, gives it the PIN on its stdin (never a
command line, an environment variable or a file), owns the listening sockets, and starts it again
when it dies, for which it keeps the PIN. Requests that come meanwhile wait; a client whose answer
was lost asks again and gets the outcome, see `answers`. While no process can be started, whoever
asks is told why.

Who may ask: processes of the same user, on a Unix socket, by its permissions and by the peer's
credentials; over TCP whoever shares a key with the service, and makes sure of the service by it
(`evcc.vault.seal`). What they may ask: `evcc.vault.service.OPERATIONS`, by their rights and at a
limited rate (`callers`), each envelope once (`envelopes`). Core dumps are off in the service.
Linux only.
"""

import contextlib
import json
import os
import select
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import IO, Any, Self, cast

from evcc.ports import unix
from evcc.vault import VaultError
from evcc.vault.service import OPERATIONS, ServiceVault, connect
from plugvault.cryptoki import pin
from plugvault.runtimes import ALLOCATOR
from plugvault.vault_service.callers import OPENINGS, RATE, RIGHTS
from plugvault.vault_service.handlers import refusal

_BACKLOG = 64
_START_TIMEOUT = 20.0
_PATIENCE = 1.0  # seconds between two starts, at most: a client waits five for its answer
_HOPELESS = {"pin", "pin-locked", "refused", "custody"}  # never tried again


class VaultService:
    """Runs the service for the token `label` while the context lasts.

    module, conf, label, user_pin, options, minimum_custody, provisioning: as `open_vault` has
    them. socket_path:
    where to listen, at most 107 bytes, in a folder that only its owner may enter (made if it is
    not there). tcp: (host, port) to listen on too, port 0 for any, see `address`; keys: 32 random
    bytes by the name of each client that may come that way.
    rate: private operations a second, for each client. openings_per_hour: contract keys, for each
    owner of a client's; None: any number, for tests. rights: of `callers.RIGHTS`, by the client's
    name, "" for who comes by the socket; whoever is not named has all. state: the folder for what
    is remembered of envelopes, else with the token's files, see `envelopes`.
    `restarts`: how often the process had to be started again; `failure`: why it is not started any
    more, or None.
    Raises on entry: VaultError("pin" | "token-missing" | "module-missing" | "refused" | ...).
    """

    def __init__(
        self,
        module: Path | str,
        conf: Path | str | None,
        label: str,
        user_pin: str,
        socket_path: Path | str,
        rate: float = RATE,
        *,
        options: str = "",
        minimum_custody: str = "",
        provisioning: str = "",
        tcp: tuple[str, int] | None = None,
        keys: Mapping[str, bytes] = {},
        rights: Mapping[str, Collection[str]] = {},
        openings_per_hour: float | None = OPENINGS,
        state: Path | str | None = None,
    ) -> None:
        self.socket_path = Path(socket_path)
        self.restarts = 0
        self.failure: VaultError | None = None
        self._label, self._tcp = label, tcp
        self._pin = user_pin
        self._orders: dict[str, Any] = {
            "open": {
                "module": str(module),
                "conf": str(conf) if conf else None,
                "label": label,
                "options": options,
                "minimum_custody": minimum_custody,
                "provisioning": provisioning,
            },
            "state": str(state) if state else None,
            "clients": {
                name: {
                    "key": key.hex(),
                    "rights": sorted(rights.get(name, RIGHTS)),
                    "rate": rate,
                    "openings": openings_per_hour,
                }
                for name, key in {"": b"", **keys}.items()
            },
        }
        if not all(keys) or any(len(key) != 32 for key in keys.values()):
            raise VaultError("refused", "a client has a name and a key of 32 bytes")
        if not set(rights) <= {"", *keys} or not RIGHTS.issuperset(set().union(*rights.values())):
            said = f"rights are {', '.join(sorted(RIGHTS))}, of those who have a key, or of ''"
            raise VaultError("refused", said)
        if rate <= 0 or (openings_per_hour is not None and openings_per_hour <= 0):
            raise VaultError("refused", "a limit is more than nothing; to forbid, take the right")

    def __enter__(self) -> Self:
        self._listeners = [_listen(self.socket_path)]
        try:
            if self._tcp:
                self._listeners.append(_listen_tcp(self._tcp))
            self._process = self._start()
        except VaultError:
            self._stop_listening()
            raise
        self._closing, self._close = os.pipe()
        self._supervisor = threading.Thread(target=self._supervise, daemon=True)
        self._supervisor.start()
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self._close)
        if self._process.stdin:
            self._process.stdin.close()
        self._supervisor.join(timeout=5)
        _end(self._process)
        self._stop_listening()
        os.close(self._closing)

    @property
    def pid(self) -> int:
        """Of the process that holds the token."""
        return self._process.pid

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens on TCP."""
        host, port = self._listeners[1].getsockname()[:2]
        return str(host), int(port)

    def client(self) -> ServiceVault:
        """A vault that asks this service, and connects again after a restart."""
        return connect(lambda: unix.connect(str(self.socket_path)))

    def __repr__(self) -> str:
        return f"VaultService({self._label!r}, {str(self.socket_path)!r})"

    def _start(self) -> subprocess.Popen[bytes]:
        opened = self._orders["open"]
        names = (opened[name] or "" for name in ("module", "conf", "label"))
        with pin.once(self._pin, *names):
            return self._start_process()

    def _start_process(self) -> subprocess.Popen[bytes]:
        sockets = [listener.fileno() for listener in self._listeners]
        process = subprocess.Popen(
            [sys.executable, "-m", "plugvault.vault_service.server", *map(str, sockets)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=sockets,
            start_new_session=True,  # a Ctrl-C in the terminal is for the supervisor
            env={**ALLOCATOR, **os.environ},
        )
        stdin, stdout = cast(IO[bytes], process.stdin), cast(IO[bytes], process.stdout)
        word = ""
        timer = threading.Timer(_START_TIMEOUT, process.kill)
        timer.start()
        with contextlib.suppress(OSError):  # died before it read its orders
            stdin.write(json.dumps(self._orders).encode() + b"\n" + self._pin.encode() + b"\n")
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
            _end(self._process)
            # At once the first time; slower and slower for one that keeps dying.
            wait = 0.0 if time.monotonic() - started > 10 else min(_PATIENCE, 2 * wait + 0.05)
            why: VaultError | None = None
            while True:
                if self._closes(wait, why):
                    return
                try:
                    self._process = self._start()
                    self.restarts += 1
                    if self._closes(0, None):  # meanwhile: nobody else would end this one
                        _end(self._process)
                        return
                    break
                except (VaultError, OSError) as error:  # OSError: no process to be had just now
                    why = error if isinstance(error, VaultError) else None
                    wait = min(_PATIENCE, 2 * wait + 0.05)
                    if why and why.reason in _HOPELESS:
                        self.failure, wait = why, -1

    def _closes(self, seconds: float, why: VaultError | None) -> bool:
        """Whether the service is to end; else after `seconds` (-1: never). Who asks is told `why`
        there is no answer, if anything is known."""
        until = time.monotonic() + seconds
        poll = select.poll()
        poll.register(self._closing)
        listeners = {listener.fileno(): listener for listener in self._listeners if why}
        for fd in listeners:
            poll.register(fd, select.POLLIN)
        while True:
            left = max(0.0, until - time.monotonic()) * 1000 if seconds >= 0 else None
            ready = poll.poll(left)
            if not ready:
                return False
            for fd, _ in ready:
                if fd == self._closing:
                    return True
                with contextlib.suppress(OSError):
                    _turn_away(listeners[fd], cast(VaultError, why))

    def _stop_listening(self) -> None:
        for listener in self._listeners:
            listener.close()
        self.socket_path.unlink(missing_ok=True)


def status_of(socket_path: Path | str) -> dict[str, Any]:
    """What the service at a Unix socket allows, and remembers: see `plugvault vault service`.

    Raises: VaultError.
    """
    client = connect(lambda: unix.connect(str(socket_path)))
    try:
        said = client._ask(OPERATIONS.index(("status", 1)), b"")[0]
        return cast(dict[str, Any], json.loads(said))
    finally:
        client.close()


def _turn_away(listener: socket.socket, why: VaultError) -> None:
    with listener.accept()[0] as client:
        client.settimeout(0)
        client.send(refusal(0, why))


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
        with socket.socket(socket.AF_UNIX) as other, contextlib.suppress(OSError):
            other.connect(str(path))
            raise VaultError("refused", f"another service listens at {path}")
        path.unlink()  # of a service that was killed
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise VaultError("unavailable", f"{path}: {error.strerror or error}") from error
    return listener


def _listen_tcp(address: tuple[str, int]) -> socket.socket:
    try:
        return socket.create_server(address, backlog=_BACKLOG)
    except OSError as error:
        raise VaultError("unavailable", f"{address[0]}:{address[1]}: {error}") from error
