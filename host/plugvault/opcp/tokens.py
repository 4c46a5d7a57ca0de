"""OAuth2 access tokens: RS256 JWTs with the claims OPCP's clients carry [RFC 6749, 4.4; RFC 7519].

Roles, WMIs and providers are claims whose names begin with the audience. The signing key is a
parameter and may live in a PKCS#11 token. The clients are in the store, so that several processes
agree. A token gives the rights that both its claims and its client have. The client is read again
every LOOK seconds, so a locked client keeps its access for at most this time.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from plugvault import bounded
from plugvault.opcp.budget import digest
from plugvault.pools import clients, scopes
from plugvault.pools.caller import Caller
from plugvault.pools.repositories import Store

LIFETIME = 86_400  # seconds
LOOK = 2.0  # seconds
SKEW = 60  # seconds by which the clocks of two processes may differ
SCOPE = "rcpservice ccpservice pcpservice cpservice pkigateway"
ALGORITHMS = ["RS256"]  # a token's header cannot select another one
_KNOWN = 4096  # cached tokens


class TokenError(Exception):
    """Refused credentials or a refused token. The text has the reason and no secret."""


@dataclass(frozen=True)
class _Known:
    caller: Caller
    expires: int
    look: float


class Tokens:
    """Issues and reads access tokens.

    `audience`: the URL of this ecosystem; `clock()`: Unix seconds; `key`: RSA, signs the tokens;
    `store`: has the clients.
    """

    def __init__(
        self, audience: str, clock: Callable[[], float], key: rsa.RSAPrivateKey, store: Store
    ) -> None:
        self.audience = audience
        self._clock = clock
        self._store = store
        self._public = RSAKey.import_key(key.public_key(), {"use": "sig", "alg": "RS256"})
        self._kid = self._public.thumbprint()
        self._key = RSAKey(key, self._public.as_dict())
        # The keys are digests, because a token can have any length.
        self._verified: dict[bytes, tuple[Caller, int, int]] = {}  # caller, issued, expires
        self._known: dict[bytes, _Known] = {}

    @property
    def key_set(self) -> dict[str, Any]:
        """The public key of the access tokens as a JSON Web Key Set [RFC 7517]."""
        return {"keys": [{**self._public.as_dict(private=False), "kid": self._kid}]}

    def issue(self, client_id: str, client_secret: str, audience: str) -> str:
        """An access token (compact JWS) for credentials, valid for LIFETIME seconds.

        Raises TokenError for wrong credentials, a locked client or another audience;
        PoolError("unavailable") without the database.
        """
        with self._store.read() as records:
            client = clients.authenticate(records, client_id, client_secret)
            caller = scopes.current(records, client.caller) if client else None
        if client is None or caller is None:
            raise TokenError("Unknown client_id or wrong client_secret.")
        if not client.active:
            raise TokenError(clients.LOCKED)
        if audience.rstrip("/") != self.audience:
            raise TokenError(f"The audience of this service is {self.audience}.")
        return self._encode(caller)

    def _encode(self, caller: Caller) -> str:
        now = int(self._clock())
        claims = {
            f"{self.audience}/role": sorted(caller.roles),
            f"{self.audience}/pcid": sorted(caller.wmis),
            f"{self.audience}/emaid": sorted(caller.providers),
            f"{self.audience}/evseid": sorted(caller.operators),
            f"{self.audience}/client_name": [caller.name],
            "iss": f"{self.audience}/",
            "sub": f"{caller.client_id}@clients",
            "aud": self.audience,
            "iat": now,
            "exp": now + LIFETIME,
            "azp": caller.client_id,
            "scope": SCOPE,
            "gty": "client-credentials",
            "permissions": SCOPE.split(),
        }
        return jwt.encode({"alg": "RS256", "typ": "JWT", "kid": self._kid}, claims, self._key)

    def known(self, token: str) -> Caller | None:
        """The caller of a token that `read` accepted less than LOOK seconds ago; None for every
        other token. The store is not asked."""
        entry = self._known.get(digest(token))
        if entry and entry.look > time.monotonic() and entry.expires > self._clock():
            return entry.caller
        return None

    def read(self, token: str) -> Caller:
        """The caller of an access token, with the current rights of its client.

        Raises TokenError for a token that is not valid or has expired, and for a locked client;
        PoolError("unavailable") without the database.
        """
        key = digest(token)
        verified = self._verified.get(key) or self._verify(token)
        bounded.put(self._verified, _KNOWN, key, verified)
        claimed, issued, expires = verified
        # A clock that was ahead may have verified it.
        if issued > self._clock() + SKEW:
            raise TokenError("The access token was issued in the future.")
        if expires <= self._clock():
            raise TokenError("The access token has expired.")
        with self._store.read() as records:
            client = records.clients.get(claimed.client_id)
            if client is None or not client.active:
                raise TokenError(clients.LOCKED)
            caller = _intersection(claimed, scopes.current(records, client.caller))
        bounded.put(self._known, _KNOWN, key, _Known(caller, expires, time.monotonic() + LOOK))
        return caller

    def _verify(self, token: str) -> tuple[Caller, int, int]:
        try:
            claims = jwt.decode(token, self._public, algorithms=ALGORITHMS).claims
            expected = jwt.JWTClaimsRegistry(
                now=lambda: int(self._clock()),
                leeway=SKEW,
                iss={"essential": True, "value": f"{self.audience}/"},
                aud={"essential": True, "value": self.audience},
                exp={"essential": True},
                iat={"essential": True},
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
        return caller, int(claims["iat"]), int(claims["exp"])


def _intersection(claimed: Caller, now: Caller) -> Caller:
    """The rights that both the token and its client have."""
    return Caller(
        now.name,
        claimed.roles & now.roles,
        claimed.wmis & now.wmis,
        claimed.providers & now.providers,
        claimed.operators & now.operators,
        now.client_id,
    )
