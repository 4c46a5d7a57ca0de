"""Tokens on the host: role keys for certificate builders, that never leave their token."""

import subprocess
import sys
import traceback
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pkcs11
import pytest
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.x509.oid import NameOID
from pkcs11 import Attribute

from evcc import p256
from fixtures.tokens import CarToken
from plugvault.cryptoki.hsm import close_library
from plugvault.tokens import Hsm, Token, VaultError

DIGEST = bytes(range(32))
NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test")])


@pytest.fixture
def hsm(car_token: CarToken) -> Iterator[Hsm]:
    with Hsm(car_token.module, car_token.conf) as opened:
        yield opened


@pytest.fixture
def token(hsm: Hsm, car_token: CarToken) -> Token:
    return hsm.token(car_token.label, car_token.pin)


def test_key_signs_a_certificate_and_a_csr(token: Token) -> None:
    key = token.generate("root")
    certificate = (
        x509.CertificateBuilder()
        .subject_name(NAME)
        .issuer_name(NAME)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2026, 1, 1))
        .not_valid_after(datetime(2027, 1, 1))
        .sign(key, hashes.SHA256())
    )
    certificate.verify_directly_issued_by(certificate)
    csr = x509.CertificateSigningRequestBuilder().subject_name(NAME).sign(key, hashes.SHA256())
    assert csr.is_signature_valid
    assert csr.public_key() == key.public_key()


def test_key_signs_data_and_digests_alike(token: Token) -> None:
    key = token.generate("k")
    key.public_key().verify(
        key.sign(b"data", ec.ECDSA(hashes.SHA256())), b"data", ec.ECDSA(hashes.SHA256())
    )
    prehashed = ec.ECDSA(Prehashed(hashes.SHA256()))
    key.public_key().verify(key.sign(DIGEST, prehashed), DIGEST, prehashed)
    assert p256.verify(key.point, DIGEST, key.sign_digest(DIGEST))
    assert p256.verify(key.point, DIGEST, token.sign("k", DIGEST))


@pytest.mark.parametrize("hash_", [hashes.SHA1(), hashes.SHA384(), Prehashed(hashes.SHA384())])
def test_key_signs_with_nothing_but_sha256(token: Token, hash_) -> None:
    with pytest.raises(UnsupportedAlgorithm):
        token.generate("k").sign(bytes(48), ec.ECDSA(hash_))


@pytest.mark.parametrize("length", [0, 20, 31, 33, 40, 64])
def test_key_signs_nothing_but_a_whole_digest(token: Token, length: int) -> None:
    with pytest.raises(VaultError, match="digest-length"):
        token.generate("k").sign_digest(bytes(length))


def test_key_found_again_is_the_same(car_token: CarToken) -> None:
    with Hsm(car_token.module, car_token.conf) as hsm:
        point = hsm.token(car_token.label, car_token.pin).generate("k").point
    with Hsm(car_token.module, car_token.conf) as hsm:
        key = hsm.token(car_token.label, car_token.pin).key("k")
        assert key.point == point
        assert p256.verify(point, DIGEST, key.sign_digest(DIGEST))


def test_key_label_is_used_once(token: Token) -> None:
    point = token.generate("k").point
    with pytest.raises(VaultError, match="exists"):
        token.generate("k")
    assert token.key("k").point == point
    with pytest.raises(VaultError, match="not-found"):
        token.key("other")


def test_key_that_failed_to_be_made_leaves_no_half(
    token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = token.generate_pair

    def fail(public, private):
        make(public, private)
        raise pkcs11.GeneralError

    monkeypatch.setattr(token, "generate_pair", fail)
    with pytest.raises(VaultError, match="unavailable"):
        token.generate("k")
    assert list(token.session.get_objects()) == []


def test_key_cannot_leave_its_token_or_change_its_use(token: Token) -> None:
    key = token.generate("k")
    flags = {
        Attribute.SENSITIVE: True,
        Attribute.EXTRACTABLE: False,
        Attribute.NEVER_EXTRACTABLE: True,
        Attribute.MODIFIABLE: False,
        Attribute.SIGN: True,
        Attribute.DERIVE: False,
        Attribute.DECRYPT: False,
        Attribute.UNWRAP: False,
    }
    assert {flag: key._private[flag] for flag in flags} == flags
    with pytest.raises(pkcs11.AttributeSensitive):
        key._private[Attribute.VALUE]
    for flag, value in (
        (Attribute.EXTRACTABLE, True),
        (Attribute.SENSITIVE, False),
        (Attribute.DERIVE, True),
    ):
        with pytest.raises(pkcs11.PKCS11Error):
            key._private[flag] = value
    pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    for attempt in (
        lambda: key.private_bytes(*pem, serialization.NoEncryption()),
        key.private_numbers,
        lambda: key.exchange(ec.ECDH(), key.public_key()),
    ):
        with pytest.raises(VaultError, match="refused"):
            attempt()


def test_key_that_is_not_for_signing_does_not_sign(token: Token) -> None:
    with pytest.raises(VaultError, match="refused"):
        token.generate("k", usage=("derive",)).sign_digest(DIGEST)


def test_tokens_of_several_roles_are_open_at_once(hsm: Hsm, car_token: CarToken) -> None:
    car_token.store.init_token("mo", "mo-pin", "so-pin")
    mo, car = hsm.token("mo", "mo-pin"), hsm.token(car_token.label, car_token.pin)
    keys = [mo.generate("k"), car.generate("k")]
    assert keys[0].point != keys[1].point
    for key in keys:
        assert p256.verify(key.point, DIGEST, key.sign_digest(DIGEST))


def test_token_opened_twice_is_one_and_still_asks_for_its_pin(
    hsm: Hsm, car_token: CarToken
) -> None:
    first = hsm.token(car_token.label, car_token.pin)
    with Hsm(car_token.module, car_token.conf) as second:
        assert second.token(car_token.label, car_token.pin) is first
        with pytest.raises(VaultError, match=r"^pin"):
            second.token(car_token.label, "wrong-pin")
    first.generate("still logged in")


def test_wrong_pin_is_tried_once(hsm: Hsm, car_token: CarToken) -> None:
    tries: list[bytes] = []
    real = hsm._library.direct_calls.login

    def counting(session, pin) -> None:
        tries.append(bytes(pin))
        real(session, pin)

    hsm._library.direct_calls.login = counting
    with pytest.raises(VaultError, match=r"^pin"):
        hsm.token(car_token.label, "wrong-pin")
    assert tries == [b"wrong-pin"]
    hsm.token(car_token.label, car_token.pin)


def test_missing_token_is_named(hsm: Hsm) -> None:
    with pytest.raises(VaultError, match=r"token-missing.*nobody"):
        hsm.token("nobody", "1234")


def test_missing_module_is_named(car_token: CarToken, tmp_path: Path) -> None:
    with pytest.raises(VaultError, match="module-missing"):
        Hsm(tmp_path / "none.so", car_token.conf)
    for junk in (b"", b"not a library", b"\x7fELF"):
        (tmp_path / "junk.so").write_bytes(junk)
        with pytest.raises(VaultError, match="module-missing"):
            Hsm(tmp_path / "junk.so", car_token.conf)


def test_missing_store_is_an_error_until_it_is_restored(car_token: CarToken) -> None:
    car_token.conf.rename(car_token.conf.with_suffix(".away"))
    with pytest.raises(VaultError, match="unavailable"):
        Hsm(car_token.module, car_token.conf)
    car_token.conf.with_suffix(".away").rename(car_token.conf)
    with Hsm(car_token.module, car_token.conf) as hsm:
        hsm.token(car_token.label, car_token.pin)


def test_one_process_has_one_store_open_at_a_time(hsm: Hsm, tmp_path: Path) -> None:
    from plugvault.tokens import TokenStore

    second_store = TokenStore(tmp_path / "other")
    with pytest.raises(VaultError, match="refused"):
        Hsm(second_store.module, second_store.conf)


def test_library_that_is_closed_for_all_is_open_for_another_store(
    car_token: CarToken, tmp_path: Path
) -> None:
    from plugvault.tokens import TokenStore

    closed = [Hsm(car_token.module, car_token.conf) for _ in range(2)]
    closed[0].token(car_token.label, car_token.pin)
    close_library(car_token.module)
    close_library(car_token.module)  # nothing is open
    second_store = TokenStore(tmp_path / "other")
    second_store.init_token("other", "12345678", "87654321")
    with Hsm(second_store.module, second_store.conf) as hsm:
        for handle in closed:
            with pytest.raises(VaultError, match=r"^unavailable: closed"):
                handle.token(car_token.label, car_token.pin)
            handle.close()
        hsm.token("other", "12345678").generate("key")


def test_closed_hsm_opens_no_token(car_token: CarToken) -> None:
    with Hsm(car_token.module, car_token.conf) as hsm:
        pass
    with pytest.raises(VaultError, match="unavailable"):
        hsm.token(car_token.label, car_token.pin)


def test_pin_is_in_no_repr_and_no_error(hsm: Hsm, car_token: CarToken) -> None:
    token = hsm.token(car_token.label, car_token.pin)
    texts = [repr(token), repr(token.generate("k")), repr(vars(token)), repr(hsm)]
    for label, pin in ((car_token.label, "wrong-pin"), ("nobody", "wrong-pin")):
        with pytest.raises(VaultError) as caught:
            hsm.token(label, pin)
        texts += traceback.format_exception(caught.value)
    assert not [text for text in texts if "'wrong-pin'" in text or car_token.pin in text]


THREADS = """
import sys, threading
from plugvault.tokens import Hsm
module, conf, pin = sys.argv[1:3] + [sys.stdin.readline().strip()]
failures = []
with Hsm(module, conf) as hsm:
    token = hsm.token("car", pin)
    shared = token.generate("shared")
    def work(n):
        try:
            for i in range(60):
                shared.sign_digest(bytes(32))
                if i % 10 == 0:
                    token.generate(f"{n}-{i}")
                    token.key(f"{n}-{i}").sign_digest(bytes(32))
        except BaseException as error:
            failures.append(repr(error))
    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
print(failures)
"""


def test_many_threads_create_find_and_sign_at_once(car_token: CarToken) -> None:
    """In a process of its own: without the lock SoftHSM ends it."""
    ended = subprocess.run(
        [sys.executable, "-c", THREADS, str(car_token.module), str(car_token.conf)],
        input=car_token.pin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (0, "[]\n"), ended.stderr


FORGETFUL = """
import sys
from plugvault.tokens import Hsm
hsm = Hsm(sys.argv[1], options=sys.argv[2])
token = hsm.token(sys.argv[3], sys.stdin.readline().strip())
token.generate("k")
"""


def test_process_that_ends_without_closing_its_token_ends_in_silence(nss_token: Any) -> None:
    location = nss_token.location
    ended = subprocess.run(
        [sys.executable, "-c", FORGETFUL, str(location.module), location.options, location.label],
        input=nss_token.pin,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
