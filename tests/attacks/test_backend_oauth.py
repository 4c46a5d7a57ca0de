"""Attack 57: forged access tokens, over HTTP, with every known misuse of RS256.

Each starts from a token that passes and changes one thing.
"""

from __future__ import annotations

import base64
import hmac
import json
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey

from fixtures.backend import Backend, refused
from plugvault.opcp.tokens import Tokens

READ = ("GET", "/v1/root/rootCerts")


def segment(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def opened(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    header, claims, _ = token.split(".")
    first, second = (
        json.loads(base64.urlsafe_b64decode(part + "==")) for part in (header, claims)
    )
    return first, second


@pytest.fixture(scope="module")
def token(backend: Backend) -> str:
    access_token: str = backend.login("OEM").json()["access_token"]
    assert ask(backend, access_token).status_code == 200
    return access_token


def ask(backend: Backend, token: str, scheme: str = "Bearer") -> httpx.Response:
    headers = {"Authorization": f"{scheme} {token}"}
    return backend.ask(None, *READ, headers=headers)


def hmac_signed(header: dict[str, Any], claims: dict[str, Any], key: bytes) -> str:
    start = f"{segment(header)}.{segment(claims)}"
    return f"{start}.{segment(hmac.digest(key, start.encode(), 'sha256'))}"


def test_jwt_alg_none_and_key_confusion_rejected(backend: Backend, token: str):
    header, claims = opened(token)
    _, payload, signature = token.split(".")
    for alg in ("none", "None", "NONE", "nOnE", ""):
        start = f"{segment({**header, 'alg': alg})}.{payload}"
        for bad in (f"{start}.", f"{start}.{signature}", start):
            refused(ask(backend, bad), 401, "not valid")
    published = backend.http.get("/.well-known/jwks.json").json()["keys"][0]
    public = RSAKey.import_key(published)
    secrets = (
        public.as_pem(private=False),
        public.as_pem(private=False).strip(),
        public.as_der(private=False),
        base64.urlsafe_b64decode(published["n"] + "=="),
        json.dumps(published).encode(),
        b"",
    )
    for secret in secrets:
        refused(
            ask(backend, hmac_signed({**header, "alg": "HS256"}, claims, secret)),
            401,
            "not valid",
        )


def test_a_key_that_the_token_brings_along_is_not_believed(backend: Backend, token: str):
    _, claims = opened(token)
    own = RSAKey.generate_key(2048)
    brought = own.as_dict(private=False)
    for extra in (
        {},
        {"jwk": brought},
        {"kid": own.thumbprint()},
        {"kid": "../../../../dev/null"},
        {"kid": "' OR 1=1 --"},
        {"jku": f"{backend.ecosystem.url}/keys.json"},
        {"x5u": f"{backend.ecosystem.url}/keys.pem"},
        {"crit": ["exp"]},
    ):
        forged = f"{segment({'alg': 'RS256', 'typ': 'JWT', **extra})}.{segment(claims)}"
        signature = jwt.encode({"alg": "RS256"}, claims, own).rsplit(".", 1)[1]
        refused(ask(backend, f"{forged}.{signature}"), 401, "not valid")


@pytest.mark.parametrize("alg", ["RS384", "RS512", "PS256", "ES256", "HS512"])
def test_another_algorithm_is_no_substitute(backend: Backend, token: str, alg: str):
    _, claims = opened(token)
    key = {"E": ECKey, "H": OctKey}.get(alg[0], RSAKey)
    size = {"E": "P-256", "H": 512}.get(alg[0], 2048)
    forged = jwt.encode({"alg": alg}, claims, key.generate_key(size), algorithms=[alg])  # type: ignore[arg-type]
    refused(ask(backend, forged), 401, "not valid")


@pytest.mark.parametrize(
    "change",
    [
        {"role": ["ADMIN"]},
        {"pcid": ["XXX"]},
        {"emaid": ["FRXYZ"]},
    ],
)
def test_a_changed_scope_is_noticed(backend: Backend, token: str, change: dict[str, Any]):
    header, claims = opened(token)
    signature = token.rsplit(".", 1)[1]
    scoped = {f"{backend.ecosystem.url}/{name}": value for name, value in change.items()}
    bad = f"{segment(header)}.{segment({**claims, **scoped})}.{signature}"
    refused(ask(backend, bad), 401, "not valid")


def test_another_ecosystems_token_is_not_good_here(backend: Backend):
    """Not even for a client of both ecosystems, signed with the other's key."""
    key = rsa.generate_private_key(65537, 2048)
    other_tokens = Tokens("http://127.0.0.1:1", backend.clock, key, backend.ecosystem.store)
    credentials = backend.ecosystem.credentials("OEM")
    foreign = other_tokens.issue(
        credentials.client_id, credentials.client_secret, other_tokens.audience
    )
    refused(ask(backend, foreign), 401, "not valid")


@pytest.mark.parametrize("scheme", ["Basic", "Token", "bearer2", "JWT"])
def test_a_token_under_another_scheme_is_none(backend: Backend, token: str, scheme: str):
    refused(ask(backend, token, scheme), 401, "bearer token is needed")


def test_a_wrong_secret_does_not_disclose_known_clients(backend: Backend):
    client = backend.ecosystem.credentials("OEM").client_id
    answers = []
    for client_id in (client, "nobody"):
        credentials = {
            "client_id": client_id,
            "client_secret": "x",
            "audience": backend.ecosystem.url,
        }
        answer = backend.http.post(
            "/oauth/token", json={**credentials, "grant_type": "client_credentials"}
        )
        answers.append((answer.status_code, {**answer.json(), "traceId": ""}))
    assert answers[0] == answers[1]
    assert answers[0][0] == 401


def test_no_key_but_the_public_one_is_published(backend: Backend):
    (key,) = backend.http.get("/.well-known/jwks.json").json()["keys"]
    assert set(key) == {"kty", "n", "e", "use", "alg", "kid"}


def test_an_elliptic_key_confused_for_the_rsa_one_is_refused(backend: Backend, token: str):
    header, claims = opened(token)
    own = ECKey.import_key(ec.generate_private_key(ec.SECP256R1()))
    signature = jwt.encode({"alg": "ES256"}, claims, own, algorithms=["ES256"]).rsplit(".", 1)[1]
    bad = f"{segment({**header, 'alg': 'ES256'})}.{segment(claims)}.{signature}"
    refused(ask(backend, bad), 401, "not valid")
