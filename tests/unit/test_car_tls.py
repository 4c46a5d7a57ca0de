"""The car's TLS on CPython, where it depends on the Python it runs in."""

from __future__ import annotations

import ctypes
import ssl
from typing import Any

import pytest

from evcc import tls
from evcc.tls import TlsError, cpython
from evcc.tls.peer import Peer

PEER = Peer([], lambda *_: False, None)


def test_a_python_that_hides_its_ssl_ctx_gets_a_clear_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(cpython._functions, "SSL_CTX_get_options", lambda pointer: 1)
    with pytest.raises(TlsError, match="hides its SSL_CTX"):
        cpython._ssl_ctx(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


def test_a_python_with_openssl_inside_gets_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library(*_: Any) -> Any:
        raise OSError("no such symbol")

    monkeypatch.setattr(cpython, "_functions", {})
    monkeypatch.setattr(ctypes, "CDLL", no_library)
    with pytest.raises(TlsError) as error:
        tls.client(PEER)
    assert error.value.reason == "unavailable"
    assert "hides its libssl" in error.value.detail


def test_a_client_offers_one_suite_one_curve_ocsp_and_its_roots() -> None:
    client = tls.client(PEER)
    assert client.handshake() is False
    hello = client.outgoing()
    # The suite, and no renegotiation: as a second suite, or from OpenSSL 3.5 on as an extension.
    assert any(bytes.fromhex(form) in hello for form in ("0004c02300ff", "0002c0230100"))
    assert bytes.fromhex("00ff") in hello or bytes.fromhex("ff01000100") in hello
    assert bytes.fromhex("000a00040002 0017") in hello  # supported_groups: secp256r1
    assert bytes.fromhex("000d00040002 0403") in hello  # ecdsa_secp256r1_sha256
    assert bytes.fromhex("0005000501") in hello  # status_request: OCSP
    assert bytes.fromhex("000300020000") in hello  # trusted_ca_keys of a car without a root
    assert client.outgoing() == b""
