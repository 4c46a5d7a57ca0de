"""Access tokens: their documented shape, and forged, foreign and expired ones."""

import base64
import hmac
import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc import jwt
from joserfc.jwk import RSAKey

from plugvault.ecosystem import assembly
from plugvault.opcp import tokens as tokens_module
from plugvault.opcp.tokens import LIFETIME, SKEW, TokenError, Tokens
from plugvault.pools import clients, providers
from plugvault.pools.caller import ADMIN, MO_EXTERNAL_PKI, OEM, Caller
from plugvault.store import SqlStore
from world import NOW

AUDIENCE = "http://127.0.0.1:8080"
CALLER = Caller("Maker", frozenset({OEM}), frozenset({"ECD"}), frozenset({"DEECD"}))


class Clock:
    now: float = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def tokens(clock: Clock, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tokens]:
    folder = tmp_path_factory.mktemp("oauth")
    store = SqlStore.sqlite(folder / "clients.sqlite")
    yield Tokens(AUDIENCE, clock, rsa.generate_private_key(65537, 2048), store)
    store.close()


def register_client(tokens: Tokens, caller: Caller = CALLER) -> tuple[str, str]:
    credentials = clients.new_credentials()
    with tokens._store.write() as records:
        assembly.register_client(records, caller, credentials, NOW)
    return credentials


@pytest.fixture(scope="module")
def token(tokens: Tokens) -> str:
    client_id, secret = register_client(tokens)
    return tokens.issue(client_id, secret, AUDIENCE)


def parts(token: str) -> tuple[dict, dict]:
    header, claims, _ = token.split(".")
    return tuple(json.loads(base64.urlsafe_b64decode(part + "==")) for part in (header, claims))


def test_credentials_that_json_can_spell_and_utf8_cannot_are_wrong_ones(tokens: Tokens):
    client_id, secret = register_client(tokens)
    for wrong in ((client_id, "\ud800"), ("\udfff", secret)):
        with pytest.raises(TokenError, match="wrong client_secret"):
            tokens.issue(*wrong, AUDIENCE)


def test_a_token_has_the_documented_claims(token: str):
    header, claims = parts(token)
    assert (header["alg"], header["typ"]) == ("RS256", "JWT")
    assert header["kid"]
    assert claims[f"{AUDIENCE}/role"] == ["OEM"]
    assert claims[f"{AUDIENCE}/pcid"] == ["ECD"]
    assert claims[f"{AUDIENCE}/emaid"] == ["DEECD"]
    assert claims[f"{AUDIENCE}/client_name"] == ["Maker"]
    assert claims["sub"] == claims["azp"] + "@clients"
    assert claims["aud"] == AUDIENCE
    assert claims["exp"] - claims["iat"] == 86_400
    assert claims["gty"] == "client-credentials"
    assert claims["permissions"] == claims["scope"].split()


def test_the_published_key_checks_a_token(tokens: Tokens, token: str):
    (key,) = tokens.key_set["keys"]
    assert set(key) == {"kty", "n", "e", "use", "alg", "kid"}
    assert parts(token)[0]["kid"] == key["kid"]
    assert jwt.decode(token, RSAKey.import_key(key)).claims["aud"] == AUDIENCE


def test_a_client_locked_out_is_out_with_every_token_it_has(
    tokens: Tokens, monkeypatch: pytest.MonkeyPatch
):
    client_id, secret = register_client(tokens)
    token = tokens.issue(client_id, secret, AUDIENCE)
    tokens.read(token)
    assert tokens.known(token)
    with tokens._store.write() as records:
        clients.set_active(records, client_id, False, "test", NOW)
    with pytest.raises(TokenError, match="is locked"):
        tokens.read(token)
    with pytest.raises(TokenError, match="is locked"):
        tokens.issue(client_id, secret, AUDIENCE)
    later = tokens_module.time.monotonic() + tokens_module.LOOK
    monkeypatch.setattr(tokens_module.time, "monotonic", lambda: later)
    assert tokens.known(token) is None


def test_a_token_gives_no_more_than_its_client_may_do_now(tokens: Tokens):
    client_id, secret = register_client(tokens)
    token = tokens.issue(client_id, secret, AUDIENCE)
    with tokens._store.write() as records:
        client = records.clients.get(client_id)
        assert client
        records.clients.put(replace(client, wmis="", roles="CPO,OEM"))
    assert tokens.read(token) == replace(CALLER, wmis=frozenset(), client_id=client_id)


def test_a_cached_token_expires_with_the_token(tokens: Tokens, token: str, clock: Clock):
    tokens.read(token)
    clock.now = NOW + LIFETIME + 1
    try:
        assert tokens.known(token) is None
    finally:
        clock.now = NOW


def test_a_token_speaks_for_its_caller(tokens: Tokens, token: str):
    client_id = parts(token)[1]["azp"]
    assert tokens.read(token) == replace(CALLER, client_id=client_id)


def test_a_token_loses_the_rights_its_company_has_lost(tokens: Tokens):
    """The next token of the company has lost them too."""
    operator = Caller("Operator", frozenset({MO_EXTERNAL_PKI}), providers=frozenset({"DEPVZ"}))
    admin = Caller("admin", frozenset({ADMIN}))
    pair = clients.new_credentials()
    with tokens._store.write() as records:
        providers.enter(records, admin, "DEPVZ", "Operator", NOW)
        clients.register(records, operator, pair, "test", NOW)
    token = tokens.issue(*pair, AUDIENCE)
    assert tokens.read(token).providers == {"DEPVZ"}
    with tokens._store.write() as records:
        providers.enter(records, admin, "DEPVZ", "Operator", NOW, active=False)
    assert tokens.read(token).providers == frozenset()
    assert parts(tokens.issue(*pair, AUDIENCE))[1][f"{AUDIENCE}/emaid"] == []


def test_wrong_credentials_get_no_token(tokens: Tokens):
    client_id, secret = register_client(tokens)
    for wrong in ((client_id, secret[:-1], AUDIENCE), ("nobody", secret, AUDIENCE)):
        with pytest.raises(TokenError, match="client_secret"):
            tokens.issue(*wrong)
    with pytest.raises(TokenError, match="audience"):
        tokens.issue(client_id, secret, "https://example.com")


def test_an_expired_token_is_refused_even_after_it_was_good(
    tokens: Tokens, token: str, clock: Clock
):
    tokens.read(token)
    clock.now = NOW + LIFETIME + 1
    try:
        with pytest.raises(TokenError, match="expired"):
            tokens.read(token)
    finally:
        clock.now = NOW


def test_a_token_of_a_clock_ahead_is_refused_after_it_was_good(tokens: Tokens, clock: Clock):
    client_id, secret = register_client(tokens)
    clock.now = NOW + 365 * 86_400
    try:
        ahead = tokens.issue(client_id, secret, AUDIENCE)
        tokens.read(ahead)
    finally:
        clock.now = NOW
    with pytest.raises(TokenError, match="issued in the future"):
        tokens.read(ahead)


def forged(claims: dict, key, algorithm: str) -> str:
    return jwt.encode({"alg": algorithm}, claims, key, algorithms=[algorithm])


def test_jwt_alg_none_and_key_confusion_rejected(tokens: Tokens, token: str):
    _, claims = parts(token)
    _, payload, signature = token.split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode()
    public = tokens._public.as_pem(private=False)
    start = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=") + b"."
    start += payload.encode()
    mac = base64.urlsafe_b64encode(hmac.digest(public, start, "sha256")).rstrip(b"=")
    confused = (start + b"." + mac).decode()
    foreign = forged(claims, RSAKey.generate_key(2048), "RS256")
    for bad in (f"{none}.{payload}.", f"{none}.{payload}.{signature}", confused, foreign):
        with pytest.raises(TokenError, match="not valid"):
            tokens.read(bad)


def test_a_changed_claim_is_refused(tokens: Tokens, token: str):
    header, _, signature = token.split(".")
    _, claims = parts(token)
    claims[f"{AUDIENCE}/pcid"] = ["XXX"]
    changed = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    with pytest.raises(TokenError, match="not valid"):
        tokens.read(f"{header}.{changed}.{signature}")


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("aud", "https://example.com"),
        ("iss", "https://example.com/"),
        ("exp", None),
        ("exp", "tomorrow"),
        ("iat", None),
        ("iat", NOW + SKEW + 1),
        (f"{AUDIENCE}/role", None),
    ],
)
def test_a_rightly_signed_token_must_say_the_right_things(
    tokens: Tokens, token: str, claim: str, value: object
):
    _, claims = parts(token)
    claims[claim] = value
    if value is None:
        del claims[claim]
    with pytest.raises(TokenError, match="not valid"):
        tokens.read(forged(claims, tokens._key, "RS256"))


@pytest.mark.parametrize("garbage", ["", "a", "a.b.c", "é.é.é", "." * 5])
def test_garbage_is_no_token(tokens: Tokens, garbage: str):
    with pytest.raises(TokenError):
        tokens.read(garbage)
