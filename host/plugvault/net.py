"""HTTP to addresses that others chose: webhooks, and the OCSP responders of foreign certificates.

Whoever may name a URL could make this machine call what only it can reach: itself, its network,
the metadata service of its cloud. So the host is resolved here, every address that is not public
is passed over, and the connection goes to the very address that was looked at: a name that
answers differently the second time gains nothing. Redirects are not followed, no proxy of the
environment is used, an exchange has an end in time and in size.
"""

import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import urlsplit

import httpcore

from evcc.errors import EvccError
from plugvault.patience import wait

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

TIMEOUT = 10.0  # seconds for a whole exchange, however slowly it comes
LIMIT = 65_536  # bytes of an answer that are read

_PORTS = {"http": 80, "https": 443}
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
# What holds an IPv4 address in its last four bytes: mapped [RFC 4291], NAT64 [RFC 6052].
_HOLDS_IPV4 = tuple(map(ipaddress.IPv6Network, ("::ffff:0:0/96", "64:ff9b::/96")))
# Public by their number and not for anybody: tunnels to any IPv4 address [RFC 3056], what is
# kept for protocols and for examples [RFC 6890, 2928, 9637], a cloud's service for its machines.
_NEVER = tuple(
    map(
        ipaddress.ip_network,
        ("2002::/16", "2001::/23", "3fff::/20", "192.0.0.0/24", "168.63.129.16/32"),
    )
)


class NetError(EvccError):
    """An exchange that did not come about; nothing of an address that was passed over is told."""

    REASONS = ("refused", "unreachable", "url")


@dataclass(frozen=True)
class Answer:
    """`body`: the first LIMIT bytes of it."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Outbound:
    """Calls out. Safe to use from several threads.

    `networks`: as in "127.0.0.0/8", addresses that may be reached although they are not public;
    `timeout`: seconds for a whole exchange. Raises ValueError for what is no network.
    """

    def __init__(self, networks: Iterable[str] = (), timeout: float = TIMEOUT) -> None:
        self._networks = tuple(map(ipaddress.ip_network, networks))
        self._timeout = timeout

    def request(
        self, method: str, url: str, content: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One exchange on a connection of its own. The answer, whatever its status.

        Raises NetError: "url" as `check`, "refused" (the host has no address that may be
        reached), "unreachable" (no connection, no TLS, no answer in time, an answer that is not
        HTTP).
        """
        self.check(url)
        wait()
        guard = _Guard(self._networks, time.monotonic() + self._timeout)
        times = dict.fromkeys(("connect", "read", "write", "pool"), self._timeout)
        with httpcore.ConnectionPool(_trust(), network_backend=guard) as pool:
            try:
                with pool.stream(
                    method,
                    _ascii(url),
                    headers=[*(headers or {}).items(), ("Connection", "close")],
                    content=content,
                    extensions={"timeout": times},
                ) as answer:
                    body = bytearray()
                    for part in answer.iter_stream():
                        body += part
                        if len(body) >= LIMIT:
                            break
                    received = {
                        name.decode("latin-1").lower(): value.decode("latin-1")
                        for name, value in answer.headers
                    }
                    return Answer(answer.status, received, bytes(body[:LIMIT]))
            except (
                httpcore.TimeoutException,
                httpcore.NetworkError,
                httpcore.ProtocolError,
                OSError,
            ) as error:
                raise NetError("unreachable", _words(error)) from error

    def check(self, url: str) -> None:
        """Whether a URL could be called at all; names are resolved only when it is.

        Raises NetError: "url" (not http or https, credentials in it, no host), "refused" (it
        names an address that may not be reached, in whatever way it is written).
        """
        try:
            parts = urlsplit(_ascii(url))
            host, _ = parts.hostname, parts.port
        except ValueError as error:
            raise NetError("url", "the URL cannot be read") from error
        if parts.scheme not in _PORTS:
            raise NetError("url", "the URL must begin with https:// or http://")
        if "@" in parts.netloc:
            raise NetError("url", "the URL must not hold credentials")
        if not host:
            raise NetError("url", "the URL names no host")
        named = _literal(host)
        if named is not None and not is_permitted(named, self._networks):
            raise NetError("refused", "the URL leads to an address that is not public")


def is_permitted(address: Address, networks: Sequence[Network] = ()) -> bool:
    """Whether an address is public, or in one of these networks."""
    if isinstance(address, ipaddress.IPv6Address) and any(address in net for net in _HOLDS_IPV4):
        address = ipaddress.IPv4Address(address.packed[-4:])
    if any(address in network for network in networks):
        return True
    if any(address in network for network in _NEVER):
        return False
    if isinstance(address, ipaddress.IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    return address.is_global and not address.is_multicast


class _Guard(httpcore.NetworkBackend):
    """Resolves, judges, and connects to what was judged, until `deadline` (monotonic)."""

    def __init__(self, networks: Sequence[Network], deadline: float) -> None:
        self._networks = networks
        self._deadline = deadline
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore.NetworkStream:
        found = _resolved(host, port, _left(self._deadline, httpcore.ConnectTimeout))
        permitted = [one for one in found if is_permitted(one, self._networks)]
        if found and not permitted:
            raise NetError("refused", f"{host} leads to an address that is not public")
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in permitted:
            left = _left(self._deadline, httpcore.ConnectTimeout)
            try:
                stream = self._inner.connect_tcp(
                    str(address), port, left, local_address, socket_options
                )
                return _Bounded(stream, self._deadline)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure


class _Bounded(httpcore.NetworkStream):
    """A stream whose every step ends with the exchange: bytes that trickle win no time."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(self._deadline, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(self._deadline, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        left = _left(self._deadline, httpcore.ConnectTimeout)
        return _Bounded(self._stream.start_tls(ssl_context, server_hostname, left), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(deadline: float, late: type[httpcore.TimeoutException]) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise late("the exchange took too long")
    return left


def _resolve(host: str, port: int | None, flags: int = 0) -> list[Address]:
    """Every address of a host, in the system's order; none where there is none."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    except (socket.gaierror, UnicodeError):
        return []
    return [ipaddress.ip_address(where[0]) for *_, where in found]


def _resolved(host: str, port: int, seconds: float) -> list[Address]:
    """`_resolve`, which the system gives no end in time. Raises httpcore.ConnectTimeout."""
    found: SimpleQueue[list[Address]] = SimpleQueue()
    ask = threading.Thread(target=lambda: found.put(_resolve(host, port)), daemon=True)
    ask.start()
    try:
        return found.get(timeout=seconds)
    except Empty as error:
        raise httpcore.ConnectTimeout(f"{host} is not found in time") from error


def _literal(host: str) -> Address | None:
    """The address that a host is without asking anybody, also in octal, hexadecimal or as one
    number, which the system's resolver reads too."""
    if host.rstrip(".").endswith("localhost"):
        return ipaddress.IPv4Address("127.0.0.1")
    found = _resolve(host, None, socket.AI_NUMERICHOST)
    return found[0] if found else None


def _ascii(url: str) -> str:
    """The URL as it goes over the wire. Raises NetError("url")."""
    if not url.isascii() or any(character <= " " for character in url):
        raise NetError("url", "the URL must be written in ASCII, without spaces")
    return url


@cache
def _trust() -> ssl.SSLContext:
    return ssl.create_default_context()


def _words(error: Exception) -> str:
    return f"{type(error).__name__} {error}".strip()
