"""Calls to addresses that clients choose: the permitted ones, and the end of each call."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from plugvault import net
from plugvault.net import NetError, Outbound, is_permitted

HERE = ("127.0.0.0/8",)


@contextlib.contextmanager
def listening(behave: Callable[[socket.socket], None]) -> Iterator[str]:
    """A TCP server on loopback that treats each connection so; its URL."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):
                    behave(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def answering(answer: bytes, seen: list[bytes] | None = None) -> Callable[[socket.socket], None]:
    def behave(connection: socket.socket) -> None:
        request = b""
        while not request.endswith(b"\r\n\r\n") and (part := connection.recv(65536)):
            request += part
        if seen is not None:
            seen.append(request)
        connection.sendall(answer)

    return behave


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.255.255.254", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1",
        "100.64.0.1", "100.100.100.200", "169.254.169.254", "168.63.129.16", "192.0.0.192",
        "198.18.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
        "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "fe80::1",
        "fe80::1%eth0", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "ff0e::1",
        "64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2001::1",
        "2001:db8::1", "100::1", "3fff::1",
    ],
)  # fmt: skip
def test_address_that_is_not_public_is_not_permitted(address: str):
    parsed = ipaddress.ip_address(address)
    assert not is_permitted(parsed)
    wide = ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")
    assert is_permitted(parsed, wide)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "193.0.6.139", "2606:4700::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"]
)
def test_public_address_is_permitted(address: str):
    assert is_permitted(ipaddress.ip_address(address))


def test_a_network_opens_itself_and_nothing_else():
    networks = (ipaddress.ip_network("127.0.0.0/8"),)
    assert is_permitted(ipaddress.ip_address("::ffff:127.0.0.1"), networks)
    assert not is_permitted(ipaddress.ip_address("10.0.0.1"), networks)
    assert not is_permitted(ipaddress.ip_address("::1"), networks)


@pytest.mark.parametrize(
    "url, reason",
    [
        ("ftp://example.com/", "url"),
        ("file:///etc/passwd", "url"),
        ("example.com", "url"),
        ("https://", "url"),
        ("https:///path", "url"),
        ("https://[::1", "url"),
        ("https://example.com:99999/", "url"),
        ("https://user:word@example.com/", "url"),
        ("https://user@example.com/", "url"),
        ("https://exa mple.com/", "url"),
        ("https://example.com/\r\nHost: other", "url"),
        ("https://127。0。0。1/", "url"),
        ("http://localhost/", "refused"),
        ("http://LOCALHOST./", "refused"),
        ("http://any.localhost/", "refused"),
        ("http://[fd00:ec2::254]/latest", "refused"),
        ("http://[fe80::1%25eth0]/", "refused"),
        ("http://[fe80::1%eth0]/", "refused"),
    ],
)
def test_url_that_cannot_be_called_is_refused_at_once(url: str, reason: str):
    with pytest.raises(NetError) as refused:
        Outbound().check(url)
    assert refused.value.reason == reason


def test_request_says_host_path_and_query_and_reads_the_answer():
    seen: list[bytes] = []
    with listening(answering(b"HTTP/1.1 201 Made\r\nX-A: b\r\n\r\nbody", seen)) as url:
        answer = Outbound(HERE).request("GET", f"{url}/a/b?c=d", headers={"X-Mine": "1"})
    assert (answer.status, answer.body, answer.headers["x-a"]) == (201, b"body", "b")
    lines = seen[0].split(b"\r\n")
    assert lines[0] == b"GET /a/b?c=d HTTP/1.1"
    assert b"X-Mine: 1" in lines
    assert f"Host: {url.removeprefix('http://')}".encode() in lines


def test_no_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch):
    proxied: list[bytes] = []
    with (
        listening(answering(b"HTTP/1.1 500 Proxy\r\n\r\n", proxied)) as proxy,
        listening(answering(b"HTTP/1.1 204 Here\r\n\r\n")) as url,
    ):
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy)
        assert Outbound(HERE).request("GET", url).status == 204
    assert proxied == []


def test_an_endless_body_is_read_to_the_limit():
    def pour(connection: socket.socket) -> None:
        answering(b"HTTP/1.1 200 OK\r\n\r\n")(connection)
        with contextlib.suppress(OSError):
            while True:
                connection.sendall(bytes(65_536))

    with listening(pour) as url:
        assert len(Outbound(HERE).request("GET", url).body) == net.LIMIT


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_an_answer_that_trickles_comes_to_an_end(start: bytes):
    stopped = threading.Event()

    def trickle(connection: socket.socket) -> None:
        answering(start)(connection)
        with contextlib.suppress(OSError):
            while not stopped.wait(0.01):
                connection.sendall(b"X")

    with listening(trickle) as url:
        with pytest.raises(NetError) as late:
            Outbound(HERE, timeout=0.3).request("GET", url)
        stopped.set()
    assert str(late.value) == f"unreachable: no answer of {url.rstrip('/')} in time"


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", b"\x15\x03\x01\x00\x02\x02\x46"])
def test_a_server_without_http_is_unreachable(answer: bytes):
    with listening(answering(answer)) as url, pytest.raises(NetError) as broken:
        Outbound(HERE).request("GET", url)
    assert str(broken.value) == f"unreachable: no answer of HTTP at {url.rstrip('/')}"


def test_a_closed_port_is_unreachable():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(NetError) as refused_connection:
        Outbound(HERE).request("GET", f"http://127.0.0.1:{port}/")
    assert str(refused_connection.value) == (
        f"unreachable: no server at http://127.0.0.1:{port}: Connection refused"
    )


def test_a_name_without_address_is_unreachable(monkeypatch: pytest.MonkeyPatch):
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(NetError) as nowhere:
        Outbound().request("GET", "http://nowhere.example/")
    assert str(nowhere.value) == "unreachable: nowhere.example has no address"


def test_a_name_that_is_looked_up_for_ever_ends_with_the_exchange(
    monkeypatch: pytest.MonkeyPatch,
):
    real, over = socket.getaddrinfo, threading.Event()

    def slow(host: str, *arguments: object, **options: object) -> object:
        if host == "slow.example" and not options.get("flags"):  # as a name, not as a number
            over.wait(30)
        return real(host, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    try:
        with pytest.raises(NetError, match="not found in time") as caught:
            Outbound(timeout=0.2).request("GET", "http://slow.example/")
        assert caught.value.reason == "unreachable"
        assert not over.is_set()
    finally:
        over.set()
