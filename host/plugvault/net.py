"""HTTP to URLs that other parties chose: webhooks, and OCSP responders of foreign certificates.

Such a URL could make this machine call addresses that only this machine can reach: itself, its
network, the metadata service of its cloud (server-side request forgery). So the host name is
resolved here, an address that is not public is skipped, and the connection goes to the checked
address itself, because a second resolution could give another address. Redirects are not followed,
proxies of the environment are not used, and an exchange is limited in time and in size.
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
from urllib.parse import SplitResult, urlsplit

import httpcore

from evcc.errors import EvccError
from plugvault import unreachable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

TIMEOUT = 10.0  # seconds for a whole exchange
LIMIT = 65_536  # bytes of an answer that are read

_PORTS = {"http": 80, "https": 443}
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
# IPv6 addresses that end with an IPv4 address: mapped [RFC 4291], NAT64 [RFC 6052].
_EMBEDS_IPV4 = tuple(map(ipaddress.IPv6Network, ("::ffff:0:0/96", "64:ff9b::/96")))
# Not public although `is_global` says so: tunnels to any IPv4 address [RFC 3056], addresses for
# protocols and examples [RFC 6890, 2928, 9637], a cloud's service for its machines.
_NOT_PUBLIC = tuple(
    map(
        ipaddress.ip_network,
        ("2002::/16", "2001::/23", "3fff::/20", "192.0.0.0/24", "168.63.129.16/32"),
    )
)


class NetError(EvccError):
    """An exchange that failed. The text never holds an address that was skipped."""

    REASONS = ("refused", "unreachable", "url")


@dataclass(frozen=True)
class Answer:
    """An HTTP response. `body`: at most its first LIMIT bytes."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Outbound:
    """A client for such URLs. Safe to use from several threads.

    `networks`: not public, but permitted, as in "127.0.0.0/8"; `timeout`: seconds for a whole
    exchange. Raises ValueError for text that is no network.
    """

    def __init__(self, networks: Iterable[str] = (), timeout: float = TIMEOUT) -> None:
        self._networks = tuple(map(ipaddress.ip_network, networks))
        self._timeout = timeout

    def request(
        self, method: str, url: str, content: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One exchange on a new connection. Returns the answer, also with an error status.

        Raises NetError: "url" as `check`, "refused" (the host has no permitted address),
        "unreachable" (no connection, no TLS, no answer in time, an answer that is not HTTP).
        """
        self.check(url)
        backend = _PublicBackend(self._networks, time.monotonic() + self._timeout)
        times = dict.fromkeys(("connect", "read", "write", "pool"), self._timeout)
        with httpcore.ConnectionPool(_trust(), network_backend=backend) as pool:
            try:
                with pool.stream(
                    method,
                    _ascii(url),
                    headers=[*(headers or {}).items(), ("Connection", "close")],
                    content=content,
                    extensions={"timeout": times},
                ) as answer:
                    body = bytearray()
                    for chunk in answer.iter_stream():
                        body += chunk
                        if len(body) >= LIMIT:
                            break
                    answer_headers = {
                        name.decode("latin-1").lower(): value.decode("latin-1")
                        for name, value in answer.headers
                    }
                    return Answer(answer.status, answer_headers, bytes(body[:LIMIT]))
            except (
                httpcore.TimeoutException,
                httpcore.NetworkError,
                httpcore.ProtocolError,
                OSError,
            ) as error:
                raise NetError("unreachable", _reason(error, url)) from error

    def check(self, url: str) -> None:
        """Check a URL without a call; a host name is not resolved.

        Raises NetError: "url" (not http or https, credentials in it, no host), "refused" (it
        holds an address that is not permitted, in any notation).
        """
        host = str(parts_of(url).hostname)
        address = _literal(host)
        if address is None and ":" in host:  # IPv6 in brackets with a zone, or malformed
            raise NetError("refused", "the URL leads to an address that is not public")
        if address is not None and not is_permitted(address, self._networks):
            raise NetError("refused", "the URL leads to an address that is not public")


def parts_of(url: str) -> SplitResult:
    """The parts of a URL of HTTP in which a host can be called. Raises NetError("url"): not http
    or https, credentials in it, no host, characters that no URL has."""
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
    return parts


def is_permitted(address: Address, networks: Sequence[Network] = ()) -> bool:
    """Whether an address is public, or in one of these networks."""
    if isinstance(address, ipaddress.IPv6Address) and any(address in net for net in _EMBEDS_IPV4):
        address = ipaddress.IPv4Address(address.packed[-4:])
    if any(address in network for network in networks):
        return True
    if any(address in network for network in _NOT_PUBLIC):
        return False
    if isinstance(address, ipaddress.IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    return address.is_global and not address.is_multicast


class _PublicBackend(httpcore.NetworkBackend):
    """Connects to the permitted addresses of a host only, until `deadline` (monotonic)."""

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
        remaining = _remaining(self._deadline, httpcore.ConnectTimeout)
        addresses = _resolve_in_time(host, port, remaining)
        permitted = [address for address in addresses if is_permitted(address, self._networks)]
        if addresses and not permitted:
            raise NetError("refused", f"{host} leads to an address that is not public")
        failure: Exception = NetError("unreachable", f"{host} has no address")
        for address in permitted:
            remaining = _remaining(self._deadline, httpcore.ConnectTimeout)
            try:
                stream = self._inner.connect_tcp(
                    str(address), port, remaining, local_address, socket_options
                )
                return _DeadlineStream(stream, self._deadline)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure


class _DeadlineStream(httpcore.NetworkStream):
    """A stream whose every operation ends at `deadline`: a slow sender gains no time."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _remaining(self._deadline, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _remaining(self._deadline, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        remaining = _remaining(self._deadline, httpcore.ConnectTimeout)
        stream = self._stream.start_tls(ssl_context, server_hostname, remaining)
        return _DeadlineStream(stream, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _remaining(deadline: float, timeout_error: type[httpcore.TimeoutException]) -> float:
    """Seconds until the deadline."""
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise timeout_error("the exchange took too long")
    return remaining


def _resolve(host: str, port: int | None, flags: int = 0) -> list[Address]:
    """Every address of a host, in the system's order."""
    try:
        entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    except (socket.gaierror, UnicodeError):
        return []
    return [ipaddress.ip_address(address[0]) for *_, address in entries]


def _resolve_in_time(host: str, port: int, seconds: float) -> list[Address]:
    """`_resolve` in a thread: the system's call has no timeout. Raises NetError("unreachable")."""
    results: SimpleQueue[list[Address]] = SimpleQueue()
    threading.Thread(target=lambda: results.put(_resolve(host, port)), daemon=True).start()
    try:
        return results.get(timeout=seconds)
    except Empty as error:
        raise NetError("unreachable", f"{host} is not found in time") from error


def _literal(host: str) -> Address | None:
    """The address that a host names without a look-up, or None. The system's resolver also reads
    octal and hexadecimal notation and a single number."""
    if host.rstrip(".").endswith("localhost"):
        return ipaddress.IPv4Address("127.0.0.1")
    addresses = _resolve(host, None, socket.AI_NUMERICHOST)
    return addresses[0] if addresses else None


def _ascii(url: str) -> str:
    """The URL in ASCII, as it is sent. Raises NetError("url")."""
    if not url.isascii() or any(character <= " " or character == "\x7f" for character in url):
        raise NetError("url", "the URL must be written in ASCII, without spaces")
    return url


@cache
def _trust() -> ssl.SSLContext:
    return ssl.create_default_context()


def _reason(error: Exception, url: str) -> str:
    parts = urlsplit(url)
    server = f"{parts.scheme}://{parts.netloc}"
    if isinstance(error, httpcore.TimeoutException):
        return f"no answer of {server} in time"
    return unreachable.reason(error, server)
