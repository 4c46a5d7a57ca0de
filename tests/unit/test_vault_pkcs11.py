"""The traces of a vault in its token and in memory: after success, and after every failure."""

from collections import Counter
from typing import Any

import pkcs11
import pytest
from pkcs11 import Attribute, ObjectClass

import envelopes
import world
from evcc.vault import PROVISIONING, VaultError
from evcc.vault.pkcs11 import TokenVault, custody_by_scheme
from evcc.vault.schemes import SCHEMES
from fixtures.tokens import SIGN, SIGN_INIT, CarToken, returning


@pytest.fixture
def vault(car_token: CarToken):
    opened = car_token.open()
    opened.generate_provisioning_key()
    custody_by_scheme(opened)  # the trials are over: what is counted below is an opening's
    yield opened
    opened.close()


def arguments(vault: TokenVault, **changes: Any) -> list[Any]:
    """Of an `open_contract_key` that works, but for the changes."""
    good = envelopes.envelope(vault.public(PROVISIONING), envelopes.KNOWN_KEY)
    return list({**good, **changes}.values())


def objects(vault: TokenVault) -> Counter:
    """Everything in the token that this session can see, session objects too."""
    return Counter(
        (found[Attribute.CLASS], found[Attribute.ID], found[Attribute.LABEL])
        for found in vault._backend.find([])
    )


def private_object(vault: TokenVault, key: bytes) -> Any:
    (found,) = vault._backend.find(
        [(Attribute.CLASS, ObjectClass.PRIVATE_KEY), (Attribute.ID, key)]
    )
    return found


class Spy:
    """The calls of a vault, each counted and kept; the `fail_at`-th fails."""

    def __init__(self, vault: TokenVault, fail_at: int = -1) -> None:
        self.calls, self.fail_at = vault._backend, fail_at
        self.made: list[tuple[str, tuple, Any]] = []
        vault._backend = self

    def __getattr__(self, name: str):
        real = getattr(self.calls, name)

        def call(*args):
            # Calls that undo are let through, or the failure would be the test's own.
            if name not in ("destroy", "find", "reload", "attribute", "close"):
                self.fail_at -= 1
                if self.fail_at == -1:
                    raise VaultError("unavailable", "made to fail")
            result = real(*args)
            self.made.append((name, args, result))
            return result

        return call

    def of(self, name: str) -> list[tuple[tuple, Any]]:
        return [(args, result) for called, args, result in self.made if called == name]


def test_provisioning_key_is_never_extractable(vault: TokenVault) -> None:
    key = private_object(vault, PROVISIONING)
    flags = {
        Attribute.SENSITIVE: True,
        Attribute.ALWAYS_SENSITIVE: True,
        Attribute.EXTRACTABLE: False,
        Attribute.NEVER_EXTRACTABLE: True,
        Attribute.PRIVATE: True,
        Attribute.MODIFIABLE: False,
        Attribute.LOCAL: True,
    }
    assert {flag: key[flag] for flag in flags} == flags
    with pytest.raises(pkcs11.AttributeSensitive):
        key[Attribute.VALUE]
    for flag, value in ((Attribute.EXTRACTABLE, True), (Attribute.SENSITIVE, False)):
        with pytest.raises(pkcs11.PKCS11Error):
            key[flag] = value


def test_ecdh_secret_is_sensitive_and_destroyed_after_use(vault: TokenVault) -> None:
    spy = Spy(vault)
    seen = []
    digest = spy.calls.digest

    def look(mechanism, parts):
        z = parts[1]
        seen.append([z[a] for a in (Attribute.SENSITIVE, Attribute.EXTRACTABLE, Attribute.TOKEN)])
        with pytest.raises(pkcs11.AttributeSensitive):
            z[Attribute.VALUE]
        return digest(mechanism, parts)

    spy.calls.digest = look
    vault.open_contract_key(*arguments(vault))
    assert seen == [[True, False, False]]
    ((_, z),) = spy.of("derive")
    with pytest.raises(pkcs11.ObjectHandleInvalid):
        z[Attribute.CLASS]


def test_content_key_and_scalar_are_wiped(vault: TokenVault) -> None:
    for public in (None, world.point(envelopes.new_key())):
        spy = Spy(vault)
        changes = {"public": public} if public else {}
        if public:
            with pytest.raises(VaultError, match="key-mismatch"):
                vault.open_contract_key(*arguments(vault, **changes))
        else:
            vault.open_contract_key(*arguments(vault))
        ((_, digest),) = spy.of("digest")
        (((key, _, _, scalar), _),) = spy.of("decrypt_cbc")
        for buffer in (digest, key, scalar):
            assert isinstance(buffer, bytearray)
            assert not any(buffer)
        vault._backend = spy.calls


def test_room_to_decrypt_in_is_wiped(vault: TokenVault, monkeypatch: pytest.MonkeyPatch) -> None:
    rooms: list[bytearray] = []

    def recording(value):
        rooms.append(bytearray(value))
        return rooms[-1]

    monkeypatch.setattr("plugvault.cryptoki.backend.bytearray", recording, raising=False)
    vault.open_contract_key(*arguments(vault))
    assert len(rooms) == 1  # the library's, for the scalar
    assert not any(any(room) for room in rooms)


@pytest.mark.parametrize("function", [SIGN_INIT, SIGN])
def test_signature_that_the_token_refuses_is_not_the_one_before(
    vault: TokenVault, car_token: CarToken, function: int
) -> None:
    """They come in the same place."""
    assert len(vault.sign(PROVISIONING, bytes(32))) == 64
    with (
        returning(car_token.module, function, 0x06),
        pytest.raises(VaultError, match="refused: FunctionFailed"),
    ):
        vault.sign(PROVISIONING, bytes(32))


@pytest.mark.parametrize("call", ["sign", "derive"])
def test_key_that_failed_is_looked_for_again(
    vault: TokenVault, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Another process may have made it anew: the object is another one then."""
    vault.sign(PROVISIONING, bytes(32))
    envelope = arguments(vault)

    def fails(*_: object) -> None:
        raise VaultError("unavailable")

    use = vault.sign if call == "sign" else vault.open_contract_key
    with monkeypatch.context() as broken:
        broken.setattr(vault._backend, call, fails)
        with pytest.raises(VaultError, match="unavailable"):
            use(*((PROVISIONING, bytes(32)) if call == "sign" else envelope))
    spy = Spy(vault)
    vault.sign(PROVISIONING, bytes(32))
    assert len(spy.of("find")) == 2
    vault.sign(PROVISIONING, bytes(32))
    assert len(spy.of("find")) == 2


def test_refused_envelopes_leave_no_object_in_the_token(vault: TokenVault) -> None:
    before = objects(vault)
    for name, (reason, bad) in envelopes.refused(vault.public(PROVISIONING)).items():
        with pytest.raises(VaultError, match=f"^{reason}"):
            vault.open_contract_key(*bad.values())
        assert objects(vault) == before, name


def test_envelopes_refused_by_their_looks_use_no_private_key(vault: TokenVault) -> None:
    """Only the ciphertext's meaning needs the key; points, lengths and schemes never do."""
    spy = Spy(vault)
    for reason, bad in envelopes.refused(vault.public(PROVISIONING)).values():
        if reason != "key-mismatch":
            with pytest.raises(VaultError, match=f"^{reason}"):
                vault.open_contract_key(*bad.values())
    assert not spy.of("derive")
    assert not spy.of("create")


def test_failure_of_any_call_leaves_nothing_of_a_contract_key(vault: TokenVault) -> None:
    before = objects(vault)
    good = arguments(vault)
    calls = vault._backend
    failures = 0
    while True:
        spy = Spy(vault, fail_at=failures)
        try:
            vault.open_contract_key(*good)
        except VaultError as error:
            assert error.reason == "unavailable"
            assert objects(vault) == before, failures
            for name in ("decrypt_cbc", "digest"):
                for args, result in spy.of(name):
                    wiped = [v for v in (*args, result) if isinstance(v, bytearray)]
                    assert not any(any(buffer) for buffer in wiped), failures
            vault._backend = calls
            failures += 1
        else:
            break
    assert failures > 8
    assert len(vault.keys()) == 2


def test_failure_of_any_call_leaves_no_half_of_a_provisioning_key(car_token: CarToken) -> None:
    vault = car_token.open()
    calls, failures = vault._backend, 0
    while True:
        Spy(vault, fail_at=failures)
        try:
            vault.generate_provisioning_key()
        except VaultError as error:
            assert error.reason == "unavailable"
            assert not objects(vault)
            vault._backend = calls
            failures += 1
        else:
            break
    assert failures >= 2
    vault.close()


def test_public_half_of_an_attempt_that_was_cut_off_does_not_pass_for_the_key(
    vault: TokenVault,
) -> None:
    private_object(vault, PROVISIONING).destroy()
    vault._key_cache.clear()
    point = vault.generate_provisioning_key()
    signed = vault.sign(PROVISIONING, bytes(32))
    assert vault.verify(point, bytes(32), signed)
    assert sum(objects(vault).values()) == 2


@pytest.mark.parametrize("half", [ObjectClass.PRIVATE_KEY, ObjectClass.PUBLIC_KEY])
def test_key_of_which_half_is_missing_is_listed_and_can_be_deleted(
    vault: TokenVault, half: ObjectClass
) -> None:
    key = vault.open_contract_key(*arguments(vault))
    (found,) = vault._backend.find([(Attribute.CLASS, half), (Attribute.ID, key)])
    found.destroy()
    vault._key_cache.clear()
    assert dict(vault.keys())[key] == b""
    with pytest.raises(VaultError, match="not-found"):
        vault.sign(key, bytes(32))
    vault.delete(key)
    assert vault.keys() == [(PROVISIONING, vault.public(PROVISIONING))]


def test_objects_of_others_are_not_listed_used_or_deleted(vault: TokenVault) -> None:
    theirs = bytes(16)
    before = objects(vault)
    pair = [(Attribute.ID, theirs), (Attribute.LABEL, b"theirs"), (Attribute.TOKEN, True)]
    vault._backend.generate([*pair, (Attribute.EC_PARAMS, SCHEMES["iso2"].ec_params)], pair)
    for operation in (vault.public, vault.delete, lambda key: vault.sign(key, bytes(32))):
        with pytest.raises(VaultError, match="not-found"):
            operation(theirs)
    assert vault.keys() == [(PROVISIONING, vault.public(PROVISIONING))]
    assert sum((objects(vault) - before).values()) == 2


def test_key_ids_are_random(vault: TokenVault) -> None:
    good = arguments(vault)
    assert len({vault.open_contract_key(*good) for _ in range(3)}) == 3


def test_no_secret_in_errors_or_repr(vault: TokenVault) -> None:
    secret = envelopes.KNOWN_KEY.to_bytes(32, "big")
    texts = [repr(vault), repr(vars(vault))]
    for _, bad in envelopes.refused(vault.public(PROVISIONING)).values():
        with pytest.raises(VaultError) as caught:
            vault.open_contract_key(*bad.values())
        texts += [str(caught.value), repr(caught.value)]
    texts += [repr(vars(vault))]
    assert not [t for t in texts if secret.hex() in t or repr(secret)[2:-1] in t]
