"""A server without an answer is named, with the cause in words, whatever library asked it."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from plugvault.pki import trusted
from plugvault.requests.run import run
from plugvault.roles.connections import Connections, OpcpError, Request
from world import World, usage

Serve = Callable[[socket.socket], None]


def of_opcp(url: str, trust: Path | None) -> str:
    context = trusted.tls_of(trust) if trust else None
    connections = Connections(url, context)
    try:
        with pytest.raises(OpcpError) as caught:
            connections.send(Request("GET", "/v1/here", timeout=0.3, repeatable=False))
    finally:
        connections.close()
    assert caught.value.reason == "unreachable"
    assert caught.value.detail.startswith("GET /v1/here: ")
    return caught.value.detail


def of_requests(url: str, trust: Path | None) -> str:
    (outcome,) = run(f"### one\nGET {url}/v1/here\n", {}, trust)
    assert not outcome.ok
    return outcome.text


clients = pytest.mark.parametrize("ask", [of_opcp, of_requests])


@contextmanager
def server(serve: Serve, scheme: str = "http") -> Iterator[str]:
    """A server that treats one connection so. The context is its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            connection, _ = listener.accept()
            with connection:
                serve(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def resets(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def mumbles(connection: socket.socket) -> None:
    connection.recv(4096)
    connection.sendall(b"220 smtp ready\r\n")


@clients
def test_no_server_is_named_with_its_address(ask: Callable[..., str]) -> None:
    assert "no server at http://127.0.0.1:1: Connection refused" in ask("http://127.0.0.1:1", None)


@clients
def test_a_host_without_an_address_is_named(ask: Callable[..., str]) -> None:
    assert "the host of http://nowhere.invalid" in ask("http://nowhere.invalid", None)


@clients
@pytest.mark.parametrize(
    ("serve", "scheme", "words"),
    [
        (resets, "http", "no answer of http://127.0.0.1"),
        (mumbles, "http", "no answer of HTTP at http://127.0.0.1"),
        (mumbles, "https", "no TLS with https://127.0.0.1"),
    ],
)
def test_another_answer_than_one_of_http_is_named(
    ask: Callable[..., str], serve: Serve, scheme: str, words: str
) -> None:
    with server(serve, scheme) as url:
        text = ask(url, None)
    assert words in text
    assert "_ssl.c" not in text


def test_an_answer_that_is_late_is_named() -> None:
    ended = threading.Event()
    with server(lambda _: ended.wait(20) and None) as url:
        text = of_opcp(url, None)
        ended.set()
    assert f"no answer of {url} in time" in text


# -- its certificate --


@pytest.fixture
def secured(today: World, tmp_path: Path) -> ssl.SSLContext:
    """TLS of a server with a certificate for another host."""
    leaf = today.cpo_sub2.issue(
        "other.example",
        dc="CPO",
        key_usage=usage("digital_signature", "key_agreement"),
        extensions=[(x509.SubjectAlternativeName([x509.DNSName("other.example")]), False)],
    )
    file = tmp_path / "server.pem"
    key = leaf.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(key + "".join(map(ssl.DER_cert_to_PEM_cert, leaf.chain)).encode())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


@clients
@pytest.mark.parametrize(
    ("is_trusted", "words"),
    [
        (False, "leads to no root that is trusted here; --trust names it"),
        (True, "is refused: IP address mismatch"),
    ],
)
def test_a_certificate_that_is_refused_is_named_with_the_option(
    ask: Callable[..., str],
    is_trusted: bool,
    words: str,
    secured: ssl.SSLContext,
    today: World,
    tmp_path: Path,
) -> None:
    root = tmp_path / "root.der"
    root.write_bytes(today.v2g_root.der)

    def serve(connection: socket.socket) -> None:
        with suppress(OSError):  # the client refuses
            secured.wrap_socket(connection, server_side=True).close()

    with server(serve, "https") as url:
        text = ask(url, root if is_trusted else None)
    assert f"the certificate of {url} {words}" in text
    assert "_ssl.c" not in text
