"""POST /oauth/token: OAuth2 client credentials; and the metadata of the service.

The body is JSON with four members, as in OPCP, or a form, as in OAuth2 and on the API page. A form
may omit the audience, and HTTP Basic may carry its credentials [RFC 6749, 2.3.1].
"""

import base64
import binascii
import math
from typing import Annotated, Any
from urllib.parse import parse_qsl, unquote_plus

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError

from plugvault.opcp import errors
from plugvault.opcp.budget import Budget, address
from plugvault.opcp.fields import AppServices
from plugvault.opcp.tokens import ALGORITHMS, LIFETIME, SCOPE, TokenError

router = APIRouter(tags=["Access token"])
FORM = "application/x-www-form-urlencoded"


class RefusalLimits:
    """The waiting time after many refused requests for a token.

    It changes the refusal alone: the right secret is always accepted, also after attempts of other
    clients with the same client_id or address. A secret is too long to be guessed at any rate.
    """

    def __init__(self) -> None:
        self._pairs = Budget(20, 1.0)  # of one client_id from one address
        self._addresses = Budget(1000, 100.0)

    def wait(self, client_id: str, at: str) -> int:
        """The seconds to wait before the next request; 0 below the limit. `at`: the client's
        address."""
        return math.ceil(max(self._pairs.wait(client_id, at), self._addresses.wait(at)))

    def refused(self, client_id: str, at: str) -> None:
        """Count a refused request."""
        self._pairs.spend(client_id, at)
        self._addresses.spend(at)


async def _refusal_limits(request: Request) -> RefusalLimits:
    state = request.app.state
    if not hasattr(state, "tries"):
        state.tries = RefusalLimits()
    limits: RefusalLimits = state.tries
    return limits


class TokenRequest(BaseModel):
    """Client credentials. `grant_type`: "client_credentials"; `audience`: the URL of this
    ecosystem."""

    client_id: str
    client_secret: str
    audience: str
    grant_type: str


_SCHEMA = TokenRequest.model_json_schema()
_BODY = {
    "required": True,
    "content": {
        "application/json": {"schema": _SCHEMA},
        FORM: {"schema": {**_SCHEMA, "required": ["grant_type"]}},
    },
}


@router.post(
    "/oauth/token",
    summary="Get an access token",
    response_model=None,
    openapi_extra={"requestBody": _BODY},
)
async def token(
    request: Request,
    services: AppServices,
    limits: Annotated[RefusalLimits, Depends(_refusal_limits)],
) -> dict[str, Any] | JSONResponse:
    """Exchanges client credentials for a bearer token that is valid for 24 hours. 400 for a
    malformed request; 401 for wrong credentials, a locked client or another audience, with
    `Retry-After` after many refusals."""
    try:
        credentials = _read(request, await request.body(), services.tokens.audience)
    except ValidationError as error:
        messages = [errors.sentence(dict(invalid)) for invalid in error.errors(include_url=False)]
        return _refuse(400, "invalid_request", *messages)
    if credentials.grant_type != "client_credentials":
        return _refuse(400, "unsupported_grant_type", "Only client_credentials is served.")
    try:
        access = await run_in_threadpool(
            services.tokens.issue,
            credentials.client_id,
            credentials.client_secret,
            credentials.audience,
        )
    except TokenError as error:
        at = address(request)
        if wait := limits.wait(
            credentials.client_id, at
        ):  # 401, because OPCP declares no 429 here
            message = f"Too many refused requests; wait {wait} seconds before the next one."
            return _refuse(401, "access_denied", str(error), message, wait=wait)
        limits.refused(credentials.client_id, at)
        return _refuse(401, "access_denied", str(error))
    return {
        "access_token": access,
        "scope": SCOPE,
        "expires_in": LIFETIME,
        "token_type": "Bearer",
    }


@router.get("/.well-known/jwks.json", summary="Get the public key of the access tokens")
def key_set(services: AppServices) -> dict[str, Any]:
    """A JSON Web Key Set [RFC 7517] with one RSA key."""
    return services.tokens.key_set


@router.get("/.well-known/openid-configuration", include_in_schema=False)
@router.get(
    "/.well-known/oauth-authorization-server",
    summary="Get the metadata of the token endpoint (RFC 8414)",
)
def metadata(services: AppServices) -> dict[str, Any]:
    """Authorization server metadata [RFC 8414]; OpenID clients find the same under their own
    path."""
    at = services.tokens.audience
    return {
        "issuer": f"{at}/",
        "token_endpoint": f"{at}/oauth/token",
        "jwks_uri": f"{at}/.well-known/jwks.json",
        "grant_types_supported": ["client_credentials"],
        "response_types_supported": [],
        "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
        "token_endpoint_auth_signing_alg_values_supported": ALGORITHMS,
        "scopes_supported": SCOPE.split(),
    }


def _read(request: Request, body: bytes, audience: str) -> TokenRequest:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != FORM:
        return TokenRequest.model_validate_json(body)
    fields = {"audience": audience, **_basic(request.headers.get("authorization", ""))}
    return TokenRequest.model_validate({**fields, **dict(parse_qsl(body.decode("latin-1")))})


def _basic(header: str) -> dict[str, str]:
    """The credentials in an Authorization header, or nothing."""
    scheme, _, value = header.partition(" ")
    try:
        pair = base64.b64decode(value, validate=True).decode()
    except (binascii.Error, ValueError):
        return {}
    client_id, colon, secret = pair.partition(":")
    if scheme.lower() != "basic" or not colon:
        return {}
    return {"client_id": unquote_plus(client_id), "client_secret": unquote_plus(secret)}


def _refuse(status: int, error: str, *words: str, wait: int = 0) -> JSONResponse:
    """A refusal with the members of OAuth2 and of OPCP."""
    members = {"error": error, "error_description": " ".join(words)}
    headers = {"Retry-After": str(wait)} if wait else None
    return errors.answer(status, words, headers, members=members)
