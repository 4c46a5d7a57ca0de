"""A station's TLS with its key in a real SoftHSM token, against OpenSSL as the client."""

from __future__ import annotations

import ctypes
import gc
import hashlib
import ssl
import time
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from evcc.vault import VaultError
from fixtures.station_tls import TlsClient, identity, responder, run_in_threads, station_leaf
from plugvault.pki import ocsp as client_ocsp
from plugvault.tls import Identity, Staple, StationTls, TlsError, openssl
from plugvault.tokens import Token, TokenKey
from world import World, point

SUITE = "ECDHE-ECDSA-AES128-SHA256"


def by_certificate(root: bytes) -> bytes:
    """trusted_ca_keys that names one root by the hash of its certificate."""
    return b"\x00\x15\x03" + hashlib.sha1(root).digest()


def test_a_vehicle_verifies_the_path_and_the_tokens_signature(
    today: World, cpo_key: TokenKey, station_tls: StationTls
) -> None:
    client, connection = TlsClient(today.v2g_root.der).handshake(station_tls)
    assert client.version() == "TLSv1.2"
    assert connection.facts.cipher == SUITE
    leaf = x509.load_der_x509_certificate(client.getpeercert(binary_form=True))
    assert point(public_key_of(leaf)) == cpo_key.point
    assert cpo_key.custody() == "L3"


def public_key_of(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return key


def test_plain_text_passes_both_ways(station_tls: StationTls) -> None:
    from_server, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = TlsClient().context.wrap_bio(from_server, to_server)
    connection, complete = station_tls.connection(), False
    while not complete:
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        connection.feed(to_server.read())
        complete = connection.handshake()
        from_server.write(connection.take())
    client.do_handshake()
    assert connection.read(100) is None
    client.write(b"request")
    connection.feed(to_server.read())
    assert connection.read(100) == b"request"
    connection.write(b"response" * 1000)
    wire = connection.take()
    assert b"response" not in wire
    from_server.write(wire)
    assert client.read(8000) == b"response" * 1000
    connection.close()
    from_server.write(connection.take())
    assert client.read(1) == b""  # close_notify


def test_the_key_log_has_the_secret_of_each_handshake(station_tls: StationTls) -> None:
    _, first = TlsClient().handshake(station_tls)
    _, second = TlsClient().handshake(station_tls)
    lines = [*first.facts.keys, *second.facts.keys]
    assert [line.split()[0] for line in lines] == ["CLIENT_RANDOM"] * 2
    assert len(set(lines)) == 2
    assert lines[0].split()[2] not in repr(first.facts)


@pytest.mark.parametrize("other", ["ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES128-SHA256"])
def test_a_client_without_the_suite_gets_no_connection(
    station_tls: StationTls, other: str
) -> None:
    with pytest.raises(TlsError, match="no shared cipher"):
        TlsClient(suite=other).handshake(station_tls)


def test_a_client_with_tls_1_3_alone_gets_no_connection(station_tls: StationTls) -> None:
    client = TlsClient()
    client.context.maximum_version = ssl.TLSVersion.TLSv1_3
    client.context.minimum_version = ssl.TLSVersion.TLSv1_3
    with pytest.raises(TlsError, match="unsupported protocol"):
        client.handshake(station_tls)


def test_bytes_that_are_no_tls_end_the_handshake(station_tls: StationTls) -> None:
    connection = station_tls.connection()
    connection.feed(b"\x01\xfe\x80\x01\x00\x00\x00\x20" + bytes(32))
    with pytest.raises(TlsError) as caught:
        connection.handshake()
    assert caught.value.reason == "handshake"


def test_a_connection_cannot_be_resumed(station_tls: StationTls) -> None:
    client = TlsClient()
    first, _ = client.handshake(station_tls)
    assert not first.session.has_ticket
    from_server, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    again = client.context.wrap_bio(from_server, to_server, session=first.session)
    connection = station_tls.connection()
    for _ in range(2):
        with pytest.raises(ssl.SSLWantReadError):
            again.do_handshake()
        connection.feed(to_server.read())
        connection.handshake()
        from_server.write(connection.take())
    again.do_handshake()
    assert not again.session_reused


def test_a_client_cannot_renegotiate(today: World, cpo_key: TokenKey) -> None:
    signed: list[bytes] = []

    def sign(digest: bytes) -> bytes:
        signed.append(digest)
        return cpo_key.sign_digest(digest)

    leaf = station_leaf(today, cpo_key)
    tls = StationTls([Identity(leaf.der, tuple(leaf.chain[1:]), today.v2g_root.der, sign)])
    tls_client = TlsClient()
    client, connection = tls_client.handshake(tls)
    before = len(signed)
    head = object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p)  # then comes the SSL
    ssl_pointer = ctypes.c_void_p.from_address(id(client._sslobj) + head)
    assert openssl._library().SSL_renegotiate(ssl_pointer) == 1
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    connection.feed(tls_client.to_server.read())
    assert connection.read(10) is None
    assert len(connection.take()) < 100  # an alert, no ServerHello
    assert len(signed) == before


def test_a_token_signs_only_digests_of_sha_256(station_tls: StationTls) -> None:
    for algorithms in (b"ECDSA+SHA512:ECDSA+SHA256", b"ECDSA+SHA384:ECDSA+SHA256"):
        client = TlsClient()
        client.set_signature_algorithms(algorithms)
        client.handshake(station_tls)
    client = TlsClient()
    client.set_signature_algorithms(b"ECDSA+SHA512")
    with pytest.raises(TlsError) as caught:
        client.handshake(station_tls)
    assert caught.value.reason == "handshake"


# -- the key ------------------------------------------------------------------------------------


def test_a_key_that_does_not_sign_is_found_at_the_start(today: World, cpo_key: TokenKey) -> None:
    def broken(digest: bytes) -> bytes:
        raise VaultError("unavailable", "the token is gone")

    leaf = station_leaf(today, cpo_key)
    subs = tuple(leaf.chain[1:])
    with pytest.raises(TlsError, match="the token is gone") as caught:
        StationTls([Identity(leaf.der, subs, today.v2g_root.der, broken)])
    assert caught.value.reason == "key"


def test_another_key_than_the_certificates_is_found_at_the_start(
    today: World, cpo_token: Token, cpo_key: TokenKey
) -> None:
    other = cpo_token.generate("other")
    leaf = station_leaf(today, cpo_key)
    subs = tuple(leaf.chain[1:])
    with pytest.raises(TlsError, match="handshake in memory failed") as caught:
        StationTls([Identity(leaf.der, subs, today.v2g_root.der, other.sign_digest)])
    assert caught.value.reason == "key"


def test_a_token_that_fails_later_ends_that_handshake_alone(
    today: World, cpo_key: TokenKey
) -> None:
    failures = iter([False, True, False])  # the test at the start, and two clients

    def sign(digest: bytes) -> bytes:
        if next(failures):
            raise VaultError("unavailable", "busy")
        return cpo_key.sign_digest(digest)

    leaf = station_leaf(today, cpo_key)
    subs = tuple(leaf.chain[1:])
    tls = StationTls([Identity(leaf.der, subs, today.v2g_root.der, sign)])
    with pytest.raises(TlsError, match="busy") as caught:
        TlsClient().handshake(tls)
    assert caught.value.reason == "key"
    TlsClient().handshake(tls)


def test_handshakes_in_many_threads_share_one_token(today: World, station_tls: StationTls) -> None:
    client = TlsClient(today.v2g_root.der)

    def ten_handshakes() -> None:
        for _ in range(10):
            client.handshake(station_tls)

    run_in_threads(4, ten_handshakes)


def test_a_dropped_context_leaves_nothing_behind(today: World, cpo_key: TokenKey) -> None:
    gc.collect()
    before = len(openssl._signers), len(openssl._hooks)
    tls = StationTls([identity(today, cpo_key)])
    assert len(openssl._signers) == before[0] + 1
    del tls
    gc.collect()
    assert len(openssl._signers) <= before[0]
    assert len(openssl._hooks) <= before[1]


@pytest.mark.parametrize(
    "change, reason",
    [({"dc": "CPS"}, "role"), ({"not_after": 1_700_000_000, "not_before": 1}, "expired")],
)
def test_a_certificate_that_vehicles_refuse_is_found_before_the_start(
    today: World, cpo_key: TokenKey, change: dict[str, Any], reason: str
) -> None:
    identity(today, cpo_key).check(time.time())
    with pytest.raises(TlsError, match=reason):
        identity(today, cpo_key, **change).check(time.time())


def test_a_python_with_openssl_inside_gets_a_clear_error(
    today: World, cpo_key: TokenKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    import _ssl

    station = identity(today, cpo_key)
    openssl._library.cache_clear()
    monkeypatch.delattr(_ssl, "__file__")
    with pytest.raises(TlsError) as caught:
        StationTls([station])
    assert caught.value.reason == "library"


def test_a_python_that_hides_its_ssl_ctx_gets_a_clear_error() -> None:
    class OtherLayout(ssl.SSLContext):
        """Its options are not those at the pointer."""

        @property
        def options(self) -> ssl.Options:
            return ssl.OP_NO_TICKET

    with pytest.raises(TlsError, match="hides its SSL_CTX"):
        openssl.restrict(OtherLayout(ssl.PROTOCOL_TLS_SERVER))


def test_errors_of_a_token_library_are_not_taken_for_ssls(
    today: World, station_tls: StationTls
) -> None:
    library, garbage = openssl._library(), ctypes.c_char_p(b"no certificate")

    def leave_an_error() -> None:
        """As SoftHSM does in the queue of the thread that initialises it."""
        library.d2i_X509(None, ctypes.byref(garbage), 14)
        assert library.ERR_peek_error() != 0

    leave_an_error()
    openssl.clear_errors()
    assert library.ERR_peek_error() == 0
    ssl.create_default_context(cadata=today.v2g_root.der)
    _, connection = TlsClient().handshake(station_tls)
    leave_an_error()
    assert connection.read(10) is None
    leave_an_error()
    connection.write(b"response")


# -- trusted_ca_keys ----------------------------------------------------------------------------


@pytest.fixture
def two_roots(today: World, cpo_token: Token, cpo_key: TokenKey) -> tuple[World, StationTls]:
    """Another world, and a station with certificates of both, today's first."""
    other = World(now=today.now)
    second = cpo_token.generate("cpo-second")
    return other, StationTls([identity(today, cpo_key), identity(other, second)])


def test_a_vehicle_gets_the_path_under_the_root_that_it_names(
    today: World, two_roots: tuple[World, StationTls]
) -> None:
    other, tls = two_roots
    for world in (other, today):
        root = world.v2g_root.der
        client = TlsClient(root, trusted_ca_keys=by_certificate(root))
        _, connection = client.handshake(tls)  # verifies to that root
        assert connection.facts.trusted_ca_keys == "matched"
        assert client.hello == b""


def test_a_root_may_be_named_by_its_key_or_its_name(two_roots: tuple[World, StationTls]) -> None:
    other, tls = two_roots
    root = other.v2g_root
    subject = root.certificate.subject.public_bytes()
    by_key = b"\x01" + hashlib.sha1(root.point).digest()
    for entry in (by_key, b"\x00" + by_key):
        content = len(entry).to_bytes(2, "big") + entry
        TlsClient(root.der, trusted_ca_keys=content).handshake(tls)
    by_name = b"\x02" + len(subject).to_bytes(2, "big") + subject  # of both worlds' roots
    content = len(by_name).to_bytes(2, "big") + by_name
    _, connection = TlsClient(trusted_ca_keys=content).handshake(tls)
    assert connection.facts.trusted_ca_keys == "matched"


def test_a_vehicle_that_names_unknown_roots_gets_the_first_path(
    today: World, two_roots: tuple[World, StationTls]
) -> None:
    _, tls = two_roots
    client = TlsClient(today.v2g_root.der, trusted_ca_keys=by_certificate(today.mo_root.der))
    _, connection = client.handshake(tls)
    assert connection.facts.trusted_ca_keys == "unmatched"
    assert client.hello is None


@pytest.mark.parametrize(
    "content", [b"", b"\x00\x15\x03", b"\x00\x01\x09", b"\x00\x03\x02\x00\x05"]
)
def test_malformed_trusted_ca_keys_end_the_handshake(
    station_tls: StationTls, content: bytes
) -> None:
    with pytest.raises(TlsError, match="bad extension"):
        TlsClient(trusted_ca_keys=content).handshake(station_tls)
    TlsClient().handshake(station_tls)


# -- OCSP ---------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


def test_a_vehicle_that_asks_gets_the_stapled_answer(today: World, cpo_key: TokenKey) -> None:
    leaf, clock = station_leaf(today, cpo_key), Clock()
    subs = tuple(leaf.chain[1:])
    with Staple(leaf.der, subs[0], responder(today, clock), clock) as staple:
        station = Identity(leaf.der, subs, today.v2g_root.der, cpo_key.sign_digest, staple)
        tls = StationTls([station])
        client = TlsClient(ocsp=True)
        _, connection = client.handshake(tls)
        assert connection.facts.ocsp == "sent"
        assert client.answer is not None
        status = client_ocsp.read(client.answer, leaf.der, subs[0], clock.now)
        assert status.status == "good"
        _, connection = TlsClient().handshake(tls)
        assert connection.facts.ocsp == ""


def test_without_a_current_answer_none_is_sent(today: World, cpo_key: TokenKey) -> None:
    leaf, clock = station_leaf(today, cpo_key), Clock()
    subs = tuple(leaf.chain[1:])
    with Staple(leaf.der, subs[0], responder(today, clock), clock) as staple:
        station = Identity(leaf.der, subs, today.v2g_root.der, cpo_key.sign_digest, staple)
        tls = StationTls([station])
        clock.now += 1001
        client = TlsClient(ocsp=True)
        _, connection = client.handshake(tls)
        assert (client.answer, connection.facts.ocsp) == (None, "none")


def test_an_answer_is_renewed_at_half_of_its_time(today: World, cpo_key: TokenKey) -> None:
    leaf, clock = station_leaf(today, cpo_key), Clock()
    staple = Staple(leaf.der, leaf.chain[1], responder(today, clock), clock)
    assert staple.renew() == pytest.approx(500, abs=1)
    first = staple()
    clock.now += 500
    staple.renew()
    assert staple() not in (first, None)


def test_a_responder_that_fails_leaves_the_last_answer(
    today: World, cpo_key: TokenKey, caplog: pytest.LogCaptureFixture
) -> None:
    leaf, clock = station_leaf(today, cpo_key), Clock()
    responders = [lambda request: b"no answer", responder(today, clock)]

    def ask(request: bytes) -> bytes:
        answer: bytes = responders.pop()(request)
        return answer

    staple = Staple(leaf.der, leaf.chain[1], ask, clock)
    staple.renew()
    first = staple()
    assert staple.renew() == 60.0
    assert staple() == first
    assert "no OCSP answer" in caplog.text
