"""OAuth2 access tokens: RS256 JWTs with the claims OPCP's clients carry [RFC 6749, 4.4].

Role, WMIs and providers are claims under the audience's name. The signing key is given, and may
live in a PKCS#11 token; who has a client_id is kept in memory.
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from plugvault.pools.caller import Caller

LIFETIME = 86_400  # seconds
SCOPE = "rcpservice ccpservice pcpservice cpservice pkigateway"
ALGORITHMS = ["RS256"]  # nothing else, whatever a token's header says


class TokenError(Exception):
    """Credentials or a token that are refused; says why, without the secret."""


@dataclass(frozen=True)
class _Client:
    secret_digest: bytes
    caller: Caller


class Tokens:
    """Registers clients, gives them tokens, reads tokens back.

    audience: the URL of this ecosystem; clock: () -> Unix seconds; key: signs the tokens.
    """

    def __init__(self, audience: str, clock: Callable[[], float], key: rsa.RSAPrivateKey) -> None:
        self.audience = audience
        self._clock = clock
        self._clients: dict[str, _Client] = {}
        self._public = RSAKey.import_key(key.public_key(), {"use": "sig"})
        self._key = RSAKey(key, self._public.as_dict())
        self._verified = lru_cache(maxsize=1024)(self._verify)

    def register(self, caller: Caller) -> tuple[str, str]:
        """New credentials: client_id and client_secret. Only the secret's digest stays here."""
        client_id, secret = secrets.token_urlsafe(24), secrets.token_urlsafe(32)
        self._clients[client_id] = _Client(_digest(secret), caller)
        return client_id, secret

    def issue(self, client_id: str, client_secret: str, audience: str) -> str:
        """A token for the right credentials. Raises TokenError."""
        client = self._clients.get(client_id)
        stored = client.secret_digest if client else bytes(32)
        if not hmac.compare_digest(stored, _digest(client_secret)) or client is None:
            raise TokenError("Unknown client_id or wrong client_secret.")
        if audience.rstrip("/") != self.audience:
            raise TokenError(f"The audience of this service is {self.audience}.")
        return self._encode(client_id, client.caller)

    def _encode(self, client_id: str, caller: Caller) -> str:
        now = int(self._clock())
        claims = {
            f"{self.audience}/role": sorted(caller.roles),
            f"{self.audience}/pcid": sorted(caller.wmis),
            f"{self.audience}/emaid": sorted(caller.providers),
            f"{self.audience}/evseid": sorted(caller.operators),
            f"{self.audience}/client_name": [caller.name],
            "iss": f"{self.audience}/",
            "sub": f"{client_id}@clients",
            "aud": self.audience,
            "iat": now,
            "exp": now + LIFETIME,
            "azp": client_id,
            "scope": SCOPE,
            "gty": "client-credentials",
            "permissions": SCOPE.split(),
        }
        header = {"alg": "RS256", "typ": "JWT", "kid": self._public.thumbprint()}
        return jwt.encode(header, claims, self._key)

    def read(self, token: str) -> Caller:
        """Who a token speaks for. Raises TokenError."""
        caller, expires = self._verified(token)
        if expires <= self._clock():
            raise TokenError("The access token has expired.")
        return caller

    def _verify(self, token: str) -> tuple[Caller, int]:
        try:
            claims = jwt.decode(token, self._public, algorithms=ALGORITHMS).claims
            expected = jwt.JWTClaimsRegistry(
                now=lambda: int(self._clock()),
                iss={"essential": True, "value": f"{self.audience}/"},
                aud={"essential": True, "value": self.audience},
                exp={"essential": True},
            )
            expected.validate(claims)
            roles, wmis, providers, operators = (
                frozenset(claims[f"{self.audience}/{scope}"])
                for scope in ("role", "pcid", "emaid", "evseid")
            )
            name = claims[f"{self.audience}/client_name"][0]
            caller = Caller(name, roles, wmis, providers, operators, str(claims["azp"]))
        except (JoseError, ValueError, KeyError, TypeError) as error:
            raise TokenError(f"The access token is not valid ({type(error).__name__}).") from error
        return caller, int(claims["exp"])


def _digest(secret: str) -> bytes:
    # JSON can spell half of a surrogate pair, which UTF-8 cannot.
    return hashlib.sha256(secret.encode(errors="surrogatepass")).digest()
