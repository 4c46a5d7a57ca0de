"""The vault service: a token in a supervised process of its own, behind a socket.

A damaged token file can make SoftHSM end the whole process, so the process that holds the token
(`server`) holds nothing else. `VaultService` starts it, gives it the PIN on its stdin (never on a
command line, in an environment variable or in a file), owns the listening sockets, and starts it
again when it dies; for that it keeps the PIN. Requests wait meanwhile. A client whose answer was
lost repeats its request and gets the outcome [`handlers`]. While no process can be started,
clients get the reason.

Clients are processes of the same user on a Unix socket, by its permissions and by the peer's
credentials, and over TCP every holder of a key that the service shares, where both ends
authenticate by it [`evcc.vault.seal`]. They may ask for `evcc.vault.service.OPERATIONS`, by their
rights and at a limited rate [`callers`], for each envelope once [`envelopes`]. Core dumps are off
in the service. Linux only.
"""

import contextlib
import json
import os
import select
import socket
import stat
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self, cast

from evcc.ports import unix
from evcc.vault import VaultError
from evcc.vault.service import OPERATIONS, ServiceVault, connect
from plugvault import file_lock
from plugvault.cryptoki.pin_attempts import one_attempt
from plugvault.processes import ProcessError, Supervised
from plugvault.runtimes import ALLOCATOR
from plugvault.tokens.selection import TokenConfiguration
from plugvault.vault_service.callers import OPENINGS, RATE, RIGHTS
from plugvault.vault_service.handlers import refusal

_BACKLOG = 64
_LOCK_TIMEOUT = 5.0  # seconds for another service that is starting
_FINAL = {"pin", "pin-locked", "refused", "custody"}  # no other start would end otherwise


class VaultService:
    """Runs the service for a token while the context lasts.

    socket_path: of the Unix socket, at most 107 bytes, in a folder that only its owner may enter
    (made when missing). rate: private operations a second, for each client. tcp: (host, port) of a
    second listener, port 0 for any, see `address`; keys: 32 random bytes for each client of it, by
    name. rights: of `callers.RIGHTS`, by the client's name, "" for clients of the Unix socket; all
    of them for other names. openings_per_hour: contract keys, for each owner of a client, and
    provisioning keys, for each client; None for any number, in tests. state: the folder for the
    records of envelopes; None: see `envelopes`.

    `restarts`: the number of restarts of the process; `failure`: the reason for the end of
    restarts, or None.

    Raises on entry: VaultError("pin" | "token-missing" | "module-missing" | "refused" | ...).
    """

    def __init__(
        self,
        token: TokenConfiguration,
        socket_path: Path | str,
        rate: float = RATE,
        *,
        tcp: tuple[str, int] | None = None,
        keys: Mapping[str, bytes] = {},
        rights: Mapping[str, Collection[str]] = {},
        openings_per_hour: float | None = OPENINGS,
        state: Path | str | None = None,
    ) -> None:
        self.socket_path = Path(socket_path)
        self._token, self._tcp = token, tcp
        self._orders: dict[str, Any] = {
            "location": asdict(token.location),
            "minimum_custody": token.minimum_custody,
            "provisioning": token.provisioning,
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
            detail = f"rights are {', '.join(sorted(RIGHTS))}, for names with a key, or for ''"
            raise VaultError("refused", detail)
        if rate <= 0 or (openings_per_hour is not None and openings_per_hour <= 0):
            raise VaultError(
                "refused", "a limit is more than 0; to forbid an operation, remove its right"
            )

    def __enter__(self) -> Self:
        self._listeners = [_listen(self.socket_path)]
        try:
            if self._tcp:
                self._listeners.append(_listen_tcp(self._tcp))
            self._process = ServiceProcess(self._listeners, self._orders, self._token)
            try:
                self._process.start(self._process.lines)
            except VaultError:
                self._process.close()
                raise
        except VaultError:
            self._stop_listening()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.close()
        self._stop_listening()

    @property
    def pid(self) -> int:
        """The id of the process that holds the token."""
        return self._process.pid

    @property
    def restarts(self) -> int:
        return self._process.restarts

    @property
    def failure(self) -> VaultError | None:
        return self._process.failure

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the TCP listener. Only for a service with `tcp`."""
        host, port = self._listeners[1].getsockname()[:2]
        return str(host), int(port)

    def client(self) -> ServiceVault:
        """A vault over this service, through the Unix socket. It connects again after a
        restart."""
        return connect(lambda: unix.connect(str(self.socket_path)))

    def __repr__(self) -> str:
        return f"VaultService({self._token.location.label!r}, {str(self.socket_path)!r})"

    def _stop_listening(self) -> None:
        for listener in self._listeners:
            listener.close()
        self.socket_path.unlink(missing_ok=True)


class ServiceProcess(Supervised):
    """The process that holds the token. While none can be started, clients get the reason.

    failure: the reason for the end of restarts, or None.
    """

    start_timeout = 20.0
    longest_delay = 1.0  # a client waits five seconds for its answer

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        orders: Mapping[str, Any],
        token: TokenConfiguration,
    ) -> None:
        self.failure: VaultError | None = None
        self.lines = _lines({**orders, "survey": True}, token)
        self._lines_without_survey = _lines({**orders, "survey": False}, token)
        self._listeners = listeners
        location = token.location
        self._login = (token.pin, str(location.module), str(location.conf or ""), location.label)
        fds = [listener.fileno() for listener in listeners]
        super().__init__(
            "plugvault.vault_service.server",
            *map(str, fds),
            pass_fds=fds,
            environment={**ALLOCATOR, **os.environ},
        )
        self._wake = os.eventfd(0)

    def ask_to_end(self) -> None:
        os.eventfd_write(self._wake, 1)
        super().ask_to_end()

    def close(self) -> None:
        super().close()
        os.close(self._wake)

    def _begin(self) -> None:
        with one_attempt(*self._login):
            try:
                self._begin_with_survey()
            except ProcessError as error:
                raise _vault_error(error) from None

    def _begin_with_survey(self) -> None:
        """A library that hangs or crashes in the survey can still use the keys that it has, so
        the next process starts without the survey."""
        try:
            super()._begin()
        except ProcessError as error:
            if error.answer or self._orders == self._lines_without_survey:
                raise
            self._orders = self._lines_without_survey
            self._process = self._spawn()
            super()._begin()

    def _ends_within(self, seconds: float, error: Exception | None) -> bool:
        """As `Supervised` defines it. After a failure that a restart cannot remove it waits
        without a limit, and clients that connect meanwhile get the reason."""
        reason = error if isinstance(error, VaultError) else None
        if reason and reason.reason in _FINAL:
            self.failure = reason
        deadline = time.monotonic() + seconds
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        listeners = {listener.fileno(): listener for listener in self._listeners if reason}
        for fd in listeners:
            poll.register(fd, select.POLLIN)
        while True:
            left = None if self.failure else max(0.0, deadline - time.monotonic()) * 1000
            ready = poll.poll(left)
            if not ready:
                return False
            for fd, _ in ready:
                if fd == self._wake:
                    return True
                with contextlib.suppress(OSError):
                    _refuse(listeners[fd], cast(VaultError, reason))


def _lines(orders: Mapping[str, Any], token: TokenConfiguration) -> bytes:
    return json.dumps(orders, default=str).encode() + b"\n" + token.pin.encode()


def _vault_error(error: ProcessError) -> VaultError:
    reason, _, detail = error.answer.partition(": ")
    if reason in VaultError.REASONS:
        return VaultError(reason, detail)
    return VaultError("unavailable", f"the service ended with {error.code} at its start")


def status_of(socket_path: Path | str) -> dict[str, Any]:
    """The limits and records of the service at a Unix socket; see `plugvault vault service`.

    Raises: VaultError.
    """
    client = connect(lambda: unix.connect(str(socket_path)))
    try:
        answer = client._request(OPERATIONS.index(("status", 1)), b"")[0]
        return cast(dict[str, Any], json.loads(answer))
    finally:
        client.close()


def _refuse(listener: socket.socket, reason: VaultError) -> None:
    with listener.accept()[0] as client:
        client.settimeout(0)
        client.send(refusal(0, reason))


def _listen(path: Path) -> socket.socket:
    """A listening socket at `path`, for this user only."""
    folder = path.parent
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise VaultError("refused", f"{folder} must belong to its user alone (mode 0700)")
    try:
        # Two services that start at once would both take over the socket of a killed one.
        with file_lock.locked(folder, _LOCK_TIMEOUT):
            return _take_over(path)
    except OSError as error:
        raise VaultError("unavailable", f"{path}: {error.strerror or error}") from error


def _take_over(path: Path) -> socket.socket:
    """A listening socket at `path`, where no other service listens. Raises OSError, VaultError."""
    if path.is_socket():
        with socket.socket(socket.AF_UNIX) as other, contextlib.suppress(OSError):
            other.connect(str(path))
            raise VaultError("refused", f"another service listens at {path}")
        path.unlink()  # left by a killed service
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _listen_tcp(address: tuple[str, int]) -> socket.socket:
    try:
        return socket.create_server(address, backlog=_BACKLOG)
    except OSError as error:
        raise VaultError("unavailable", f"{address[0]}:{address[1]}: {error}") from error
