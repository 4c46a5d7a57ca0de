"""Bridges from a channel of the link to a socket: to a charging station, and to a vault
service."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from evcc.errors import EvccError
from evcc.link.mux import SESSION, VAULT, LinkError
from evcc.vault import VaultError
from evcc.vault import service as vault_frames
from plugvault.link.endpoint import LinkEndpoint
from plugvault.link.station_socket import StationSocket

UNACKNOWLEDGED = 65_536  # bytes of a station that may be on their way to the module
_SETTLE_TIMEOUT = 5.0
_DRAIN_TIMEOUT = 60.0  # a line with some seconds of delay still carries 2,000 bytes a second
_REDIAL = 0.05  # seconds between attempts to reach a vault service that restarts
_LINE = vault_frames.pack(0, vault_frames.LINE, [])
_PIECE = 1024  # a board buffers each piece twice while it arrives


class StationBridge:
    """Carries the bytes of the channel SESSION to a station's connection and back, for one
    connection at a time."""

    def __init__(self, endpoint: LinkEndpoint) -> None:
        self._endpoint = endpoint
        self._station: StationSocket | None = None

    @contextlib.contextmanager
    def to(self, station: StationSocket) -> Iterator[None]:
        """Carry bytes to and from this connection while the context lasts; then close it."""
        self._station = station
        reader = threading.Thread(target=self._forward, args=(station,), daemon=True)
        reader.start()
        try:
            yield
        finally:
            self.close()
            reader.join(timeout=10)
            # The end of this connection must arrive before the next "plug": else it would end
            # the next session.
            self._endpoint.settle(_SETTLE_TIMEOUT)

    def send(self, data: bytes) -> None:
        """Send bytes of the module to the station. Without a connection they are dropped."""
        station = self._station
        if station is not None:
            with contextlib.suppress(EvccError):  # `_forward` reports a closed connection
                station.sendall(data)

    def close(self) -> None:
        station, self._station = self._station, None
        if station is not None:
            station.close()

    def _forward(self, station: StationSocket) -> None:
        """Bytes from the station to the module, until either side ends."""
        unacknowledged = 0
        with contextlib.suppress(LinkError):  # the module reads nothing
            while data := station.recv():
                for at in range(0, len(data), _PIECE):
                    self._endpoint.send(SESSION, data[at : at + _PIECE])
                unacknowledged += len(data)
                if unacknowledged >= UNACKNOWLEDGED:  # the station is faster than the line
                    if not self._endpoint.settle(_DRAIN_TIMEOUT):
                        break
                    unacknowledged = 0
        if self._station is station:  # closed by the station
            with contextlib.suppress(LinkError):
                self._endpoint.send(SESSION, b"")


class VaultBridge:
    """Carries the bytes of VAULT to the vault service at a Unix socket and back, while the context
    lasts.

    It connects again when the service restarts. Each connection begins with `LINE`: the service
    trusts the user of a socket's process, and a device on the line is another user.

    tell: called with a sentence when the service refuses the module's connection, and when the
    service is gone. Raises: OSError, when there is no service.
    """

    def __init__(self, endpoint: LinkEndpoint, path: Path, tell: Callable[[str], None]) -> None:
        self._endpoint = endpoint
        self._path = path
        self._tell = tell
        self._service = _connect(path)
        self._closing = threading.Event()

    def __enter__(self) -> "VaultBridge":
        threading.Thread(target=self._forward, name="vault", daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._closing.set()
        with contextlib.suppress(OSError):
            self._service.shutdown(socket.SHUT_RDWR)

    def send(self, data: bytes) -> None:
        """Send bytes of the module to the service. They are lost while the service restarts."""
        with contextlib.suppress(OSError):  # it restarts; the module times out
            self._service.sendall(data)

    def _forward(self) -> None:
        refusal = b""
        while True:
            with self._service, contextlib.suppress(OSError, LinkError):
                self._send(refusal)
                refusal = self._forward_answers()
            if not self._dial_again(0.0 if refusal else _REDIAL):
                return

    def _forward_answers(self) -> bytes:
        """Carry answers until the connection ends. Returns a refusal with which the service ends
        it. The module gets the refusal only when the service is reached again, because it repeats
        its request at once."""
        while data := self._service.recv(_PIECE):
            if why := _refusal(data):
                self._tell(f"the vault service refuses the module: {why}")
                return data
            self._send(data)
        return b""

    def _send(self, data: bytes) -> None:
        if data:
            self._endpoint.send(VAULT, data)

    def _dial_again(self, delay: float) -> bool:
        """Connect to the service, however long that takes; False: the bridge closes."""
        is_told = False
        while not self._closing.wait(delay):
            delay = _REDIAL
            try:
                self._service = _connect(self._path)
            except OSError as error:
                if not is_told:
                    self._tell(f"the vault service is gone: {error.strerror}")
                is_told = True
            else:
                return True
        return False


def no_vault() -> bytes:
    """The answer to a module that asks for a vault over a link without one."""
    code = VaultError.REASONS.index("token-missing") + 1
    return vault_frames.pack(0, code, [b"this bench has no vault service"])


def _refusal(data: bytes) -> str:
    """The reason in an answer for any request, which ends a connection; "" for other bytes."""
    with contextlib.suppress(VaultError, IndexError):
        tag, code, fields = vault_frames.unpack(data[2:])
        if tag == 0 and code:
            return f"{VaultError.REASONS[code - 1]}: {b' '.join(fields).decode(errors='replace')}"
    return ""


def _connect(path: Path) -> socket.socket:
    service = socket.socket(socket.AF_UNIX)
    try:
        service.connect(str(path))
        with contextlib.suppress(BrokenPipeError):  # closed already, with the reason to be read
            service.sendall(_LINE)
    except OSError:
        service.close()
        raise
    return service
