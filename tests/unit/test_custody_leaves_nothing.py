"""Every failure while a contract key is imported leaves nothing of it, at any level."""

import subprocess
from collections.abc import Iterator
from typing import Any

import pkcs11
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.keywrap import (
    InvalidUnwrap,
    aes_key_unwrap,
    aes_key_unwrap_with_padding,
)
from pkcs11 import Attribute

import envelopes
import world
from evcc.vault import PROVISIONING, VaultError, custody
from evcc.vault.cryptoki import (
    CKA_CLASS,
    CKA_ID,
    CKA_NSS_DB,
    CKA_VALUE,
    CKA_WRAP,
    CKK_AES,
    CKO_PRIVATE_KEY,
    secret_template,
)
from evcc.vault.pkcs11 import TokenVault
from fixtures.tokens import CarToken
from plugvault import runtimes

WAYS = [
    ("softhsm", "L1+"),
    ("softhsm", "L1"),
    ("nss", "L3"),
    ("nss", "L2"),
    ("nss", "L1+"),
]
UNDOING = ("destroy", "find", "attribute", "close", "reopen")  # let through: else the test fails


class Failing:
    """The calls of a vault, of which one fails: the `at`-th, or each that `when` says."""

    def __init__(self, calls: Any, at: int = -1, when: Any = None, reason: str = "unavailable"):
        self.calls, self.at, self.when, self.reason = calls, at, when, reason
        self.wiped: list[bytearray] = []

    def __getattr__(self, name: str) -> Any:
        real = getattr(self.calls, name)

        def call(*args: Any) -> Any:
            if self.when and self.when(name, args):
                raise VaultError(self.reason, "made to fail")
            if name not in UNDOING:
                self.at -= 1
                if self.at == -1:
                    raise VaultError(self.reason, "made to fail")
            result = real(*args)
            self.wiped += [value for value in (*args, result) if isinstance(value, bytearray)]
            return result

        return call


@pytest.fixture
def vault(each_token: CarToken):
    opened = each_token.open()
    opened.generate_provisioning_key()
    yield opened
    opened.close()


def force(vault: TokenVault, level: str, is_nss: bool) -> None:
    recipe, dialect = dict(custody.RECIPES["aes-cbc"])[level], custody.DIALECTS[is_nss]
    vault._survey_result = {"iso2": custody.Method(level, "", recipe, dialect)}


def envelope(vault: TokenVault, **changes: Any) -> list[Any]:
    good = envelopes.envelope(vault.public(PROVISIONING), envelopes.KNOWN_KEY)
    return list({**good, **changes}.values())


def objects(vault: TokenVault) -> int:
    """In the token and in the session."""
    return len(vault._backend.find([]))


@pytest.mark.parametrize(("each_token", "level"), WAYS, indirect=["each_token"])
def test_failure_of_any_call_leaves_nothing(
    each_token: CarToken, level: str, vault: TokenVault
) -> None:
    force(vault, level, each_token.provider.name == "nss")
    good, before, calls = envelope(vault), objects(vault), vault._backend
    for failures in range(40):  # there are not so many calls
        failing = vault._backend = Failing(calls, failures)
        try:
            key = vault.open_contract_key(*good)
        except VaultError as error:
            assert error.reason == "unavailable"
            vault._backend = calls
            assert objects(vault) == before, failures
            assert not any(any(buffer) for buffer in failing.wiped), failures
        else:
            break
    assert 8 < failures < 39
    vault._backend = calls
    assert vault.custody(key) == level
    assert objects(vault) == before + 2


@pytest.mark.parametrize(("each_token", "level"), WAYS, indirect=["each_token"])
def test_object_that_cannot_be_destroyed_keeps_no_other_alive(
    each_token: CarToken, level: str, vault: TokenVault
) -> None:
    """And the key that was made is not handed out: what lies about could tell it."""
    force(vault, level, each_token.provider.name == "nss")
    good, before, calls = envelope(vault), objects(vault), vault._backend
    stuck: list[Any] = []

    def first_of_the_session(name: str, args: tuple[Any, ...]) -> bool:
        if name == "destroy" and not stuck:
            stuck.append(args[0])
        return name == "destroy" and args[0] in stuck

    vault._backend = Failing(calls, when=first_of_the_session)
    with pytest.raises(VaultError, match=r"^unavailable"):
        vault.open_contract_key(*good)
    vault._backend = calls
    assert objects(vault) == before + 1
    calls.destroy(stuck[0])
    assert objects(vault) == before


def is_making(name: str, args: tuple[Any, ...], point: bytes) -> bool:
    return name == "unwrap" and (CKA_NSS_DB, point) in args[-1]


@pytest.fixture
def nss(nss_car: CarToken) -> Iterator[TokenVault]:
    vault = nss_car.open()
    vault.generate_provisioning_key()
    force(vault, "L3", True)
    yield vault
    vault.close()


@pytest.mark.parametrize("reason", ["refused", "unavailable", "full"])
@pytest.mark.parametrize("call", ["unwrap", "sign"])
def test_token_that_refuses_the_key_itself_gives_key_mismatch(
    nss: TokenVault, call: str, reason: str
) -> None:
    """The key fails at its creation or at its first signature, with any error of the token."""
    vault, good = nss, envelope(nss)
    before, calls = objects(vault), vault._backend
    ours = vault._pair(PROVISIONING)[0]

    def of_this_key(name: str, args: tuple[Any, ...]) -> bool:
        if call == "unwrap":
            return is_making(name, args, good[-1])
        return name == "sign" and args[0] != ours

    vault._backend = Failing(calls, when=of_this_key, reason=reason)
    with pytest.raises(VaultError, match=r"^key-mismatch"):
        vault.open_contract_key(*good)
    vault._backend = calls
    assert objects(vault) == before


@pytest.mark.parametrize("reason", ["refused", "unavailable", "full"])
@pytest.mark.parametrize("call", ["derive", "unwrap", "making", "sign"])
def test_token_that_fails_for_every_key_gives_no_key_mismatch(
    nss: TokenVault, call: str, reason: str
) -> None:
    vault, good = nss, envelope(nss)
    before, calls = objects(vault), vault._backend

    def of_any_key(name: str, args: tuple[Any, ...]) -> bool:
        if call == "making":
            return name == "unwrap" and any(kind == CKA_NSS_DB for kind, _ in args[-1])
        return name == call

    vault._backend = Failing(calls, when=of_any_key, reason=reason)
    with pytest.raises(VaultError, match=f"^{reason}"):
        vault.open_contract_key(*good)
    vault._backend = calls
    assert objects(vault) == before


def test_token_that_refuses_a_sender_s_point_has_not_seen_the_key(nss: TokenVault) -> None:
    vault, good, calls = nss, envelope(nss), nss._backend
    vault._backend = Failing(
        calls, when=lambda name, args: name == "derive" and args[2] == good[1]
    )
    with pytest.raises(VaultError, match=r"^unavailable"):
        vault.open_contract_key(*good)
    vault._backend = calls


@pytest.mark.parametrize("call", ["unwrap", "sign"])
def test_token_that_fails_once_gives_no_key_mismatch(nss: TokenVault, call: str) -> None:
    vault, good = nss, envelope(nss)
    before, calls = objects(vault), vault._backend
    seen: list[str] = []

    def once(name: str, args: tuple[Any, ...]) -> bool:
        if name != call or (name == "unwrap" and not is_making(name, args, good[-1])):
            return False
        seen.append(name)
        return len(seen) == 1

    vault._backend = Failing(calls, when=once)
    with pytest.raises(VaultError, match=r"^unavailable"):
        vault.open_contract_key(*good)
    vault._backend = calls
    assert len(seen) > 1
    assert objects(vault) == before


def test_key_removed_by_another_process_gives_no_key_mismatch(
    nss: TokenVault,
) -> None:
    vault, good, calls = nss, envelope(nss), nss._backend
    key_id = bytes(range(16))
    ours = vault._pair(PROVISIONING)[0]
    removed: list[Any] = []

    def removes(name: str, args: tuple[Any, ...]) -> bool:
        if name == "sign" and args[0] != ours and not removed:
            removed.extend(calls.find([(CKA_ID, key_id)]))
            for half in removed:
                half.destroy()
        return False

    vault._backend = Failing(calls, when=removes)
    with pytest.raises(VaultError, match=r"^(unavailable|not-found)"):
        vault.open_contract_key(*good, key=key_id)
    vault._backend = calls
    assert len(removed) == 2


def test_key_has_the_requested_id_if_that_is_new(vault: TokenVault) -> None:
    good = envelope(vault)
    key_id = bytes(range(16))
    assert vault.open_contract_key(*good, key=key_id) == key_id
    before = objects(vault)
    for refused_id in (key_id, b"short", bytes(17), PROVISIONING):
        with pytest.raises(VaultError, match=r"^exists"):
            vault.open_contract_key(*good, key=refused_id)
    assert objects(vault) == before


def test_key_deleted_by_another_process_is_not_found(
    each_token: CarToken, vault: TokenVault
) -> None:
    key = vault.open_contract_key(*envelope(vault))
    second_vault = each_token.open()
    second_vault.delete(key)
    with pytest.raises(VaultError, match=r"^not-found"):
        vault.delete(key)
    second_vault.close()


def test_key_half_deleted_by_another_process_is_deleted(vault: TokenVault) -> None:
    before = objects(vault)
    key = vault.open_contract_key(*envelope(vault))
    (half,) = vault._backend.find([(CKA_CLASS, CKO_PRIVATE_KEY), (CKA_ID, key)])
    half.destroy()
    vault.delete(key)
    assert objects(vault) == before


# How SoftHSM is made to store a key.


def times_written(token: CarToken) -> list[int]:
    """Of each object's file in the store: SoftHSM counts in its first eight bytes."""
    files = token.store.tokens.rglob("*-*.object")
    return [int.from_bytes(file.read_bytes()[:8], "big") for file in files]


def test_contract_key_is_written_in_few_writes(car_token: CarToken) -> None:
    """A process killed between the writes leaves half a key, so the writes must be few."""
    vault = car_token.open()
    vault.generate_provisioning_key()
    before = sorted(times_written(car_token))
    vault.open_contract_key(*envelope(vault))
    vault.close()
    counts = [count for count in times_written(car_token) if count not in before]
    assert before[0] > 20  # what it takes otherwise
    assert len(counts) == 2
    assert max(counts) <= 3


def test_contract_key_is_written_in_few_writes_through_ffi(car_token: CarToken) -> None:
    interpreter = runtimes.get("debian")
    if interpreter is None:
        pytest.skip("no interpreter 'debian' here; make says why")
    vault = car_token.open()
    vault.generate_provisioning_key()
    before = times_written(car_token)
    good = envelope(vault)
    vault.close()
    file = car_token.folder / "open.py"
    file.write_text(
        "import sys\nfrom evcc.vault import pkcs11\n"
        "vault = pkcs11.open(sys.argv[1], 'car', sys.argv[2])\n"
        f"vault.open_contract_key(*{good!r})\n"
        "print(len(vault._backend.find([])))\n"
        "vault.close()\n"
    )
    ended = subprocess.run(
        [*interpreter.argv, file, car_token.module, car_token.pin],
        env={**interpreter.env(), **car_token.location.env()},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert ended.stdout == "4\n"  # two keys, and nothing of the session
    counts = [count for count in times_written(car_token) if count not in before]
    assert len(counts) == 2
    assert max(counts) <= 3


def test_copy_that_fails_leaves_no_original(
    car_token: CarToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = car_token.open()
    vault.generate_provisioning_key()
    good, before = envelope(vault), objects(vault)

    def impossible(template: Any) -> Any:
        late = [(CKA_CLASS, 99)]
        return [attribute for attribute in template if attribute[0] != 1] + [(1, False)], late

    monkeypatch.setattr("evcc.vault.backend.in_two_steps", impossible)
    with pytest.raises(VaultError):
        vault.open_contract_key(*good)
    assert objects(vault) == before
    vault.close()


def test_object_that_is_not_found_again_is_destroyed(car_token: CarToken) -> None:
    vault = car_token.open()
    calls = vault._backend

    class Session:
        handle = calls._session.handle

        def get_objects(self, template_: Any) -> Any:
            assert objects(vault) == 1
            raise pkcs11.GeneralError

    template = dict(secret_template(16, CKK_AES)[1:])
    with pytest.raises(pkcs11.GeneralError):
        calls._direct_calls.create(Session(), {**template, CKA_VALUE: bytearray(16)})
    assert objects(vault) == 0
    vault.close()


# The key that came out.


@pytest.mark.parametrize(("each_token", "level"), WAYS, indirect=["each_token"])
def test_contract_key_can_only_sign_after_every_way_of_opening(
    each_token: CarToken, level: str, vault: TokenVault
) -> None:
    force(vault, level, each_token.provider.name == "nss")
    key = vault.open_contract_key(*envelope(vault))
    (private,) = vault._backend.find([(CKA_CLASS, CKO_PRIVATE_KEY), (CKA_ID, key)])
    flags = {
        Attribute.TOKEN: True,
        Attribute.PRIVATE: True,
        Attribute.SENSITIVE: True,
        Attribute.EXTRACTABLE: False,
        Attribute.NEVER_EXTRACTABLE: False,  # it has been outside of some token
        Attribute.MODIFIABLE: False,
        Attribute.SIGN: True,
        Attribute.DERIVE: False,
        Attribute.DECRYPT: False,
        Attribute.UNWRAP: False,
    }
    assert {flag: private[flag] for flag in flags} == flags
    with pytest.raises(pkcs11.AttributeSensitive):
        private[Attribute.VALUE]
    for flag, value in (
        (Attribute.EXTRACTABLE, True),
        (Attribute.SENSITIVE, False),
        (Attribute.DERIVE, True),
    ):
        with pytest.raises(pkcs11.PKCS11Error):
            private[flag] = value


# Whether CKA_EXTRACTABLE=False keeps a logged-in process from wrapping a key out of its token.
KEEPS_ITS_KEYS = {"softhsm": True, "nss": False}


def unwrapped(key: bytes, blob: bytes) -> bytes:
    """Of CKM_AES_KEY_WRAP_PAD, which is RFC 5649 in SoftHSM, and RFC 3394 padded in NSS."""
    try:
        return aes_key_unwrap_with_padding(key, blob)
    except InvalidUnwrap:
        plain = aes_key_unwrap(key, blob)
        return plain[: -plain[-1]]


def test_non_extractable_key_is_wrapped_only_where_the_table_says(
    each_token: CarToken, vault: TokenVault
) -> None:
    """NSS softoken wraps contract and provisioning keys: its custody protects against a reader of
    memory or files, and not against an attacker in control of the process."""
    wrapping_key = bytes(range(16))
    template = secret_template(16, CKK_AES, (CKA_WRAP,))[1:]
    wrapping = vault._backend.create([*template, (CKA_VALUE, wrapping_key)])

    def wrapped(key: Any) -> bytes:
        return bytes(wrapping.wrap_key(key, mechanism=pkcs11.Mechanism.AES_KEY_WRAP_PAD))

    # An extractable key is wrapped: a refusal below is not a refusal of the mechanism.
    template = [*secret_template(32, extractable=True)[1:], (CKA_VALUE, bytes(32))]
    assert unwrapped(wrapping_key, wrapped(vault._backend.create(template))) == bytes(32)
    for key in (PROVISIONING, vault.open_contract_key(*envelope(vault))):
        private = vault._pair(key)[0]
        assert private[Attribute.EXTRACTABLE] is False
        if KEEPS_ITS_KEYS[each_token.provider.name]:
            with pytest.raises(pkcs11.exceptions.KeyUnextractable):
                wrapped(private)
            continue
        blob = unwrapped(wrapping_key, wrapped(private))
        exported = serialization.load_der_private_key(blob, None)
        assert isinstance(exported, ec.EllipticCurvePrivateKey)
        assert world.point(exported) == vault.public(key)
