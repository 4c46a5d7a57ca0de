"""The caller of a request, from its access token, and the role check of each endpoint.

Rights are in `plugvault.pools.authorization.RIGHTS`.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import HTTPException, Security
from fastapi.concurrency import run_in_threadpool
from fastapi.openapi.models import OAuthFlowClientCredentials, OAuthFlows
from fastapi.security import OAuth2

from plugvault.opcp.fields import AppServices
from plugvault.opcp.tokens import TokenError
from plugvault.pools.authorization import EVERYONE, check_role
from plugvault.pools.caller import ANY, PEER, Caller

_everything = frozenset({ANY})
ANYONE = Caller(
    "anyone (open mode)", EVERYONE - {PEER}, _everything, _everything, _everything, "anyone"
)

access_token = OAuth2(
    flows=OAuthFlows(clientCredentials=OAuthFlowClientCredentials(tokenUrl="oauth/token")),
    auto_error=False,
    description="client_id and client_secret of a role",
)


def may(operation: str) -> Callable[..., Awaitable[Caller]]:
    """A FastAPI dependency: the caller of the access token, after the check of its role.

    `operation`: a row of `authorization.RIGHTS`. The request gets 401 without a valid token, and
    403 when no role of the caller may call the operation. In open mode a call without a token has
    every role; a token that is not valid is refused in open mode, too.
    """

    async def caller(
        authorization: Annotated[str | None, Security(access_token)],
        services: AppServices,
    ) -> Caller:
        if authorization is None and services.settings.open:
            return ANYONE
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise HTTPException(
                401, "A bearer token is needed.", headers={"WWW-Authenticate": "Bearer"}
            )
        try:
            # `read` asks the store, so it runs in a thread.
            who = services.tokens.known(token)
            if who is None:
                who = await run_in_threadpool(services.tokens.read, token)
        except TokenError as error:
            raise HTTPException(
                401, str(error), headers={"WWW-Authenticate": 'Bearer error="invalid_token"'}
            ) from error
        check_role(who, operation)
        return who

    return caller
