"""Which role may call what [OPCP 1.0.0]; whose vehicles and contracts is the pools' question."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, HTTPException, Request, Security
from fastapi.concurrency import run_in_threadpool
from fastapi.openapi.models import OAuthFlowClientCredentials, OAuthFlows
from fastapi.security import OAuth2

from plugvault.opcp.route import SHORT, Headers
from plugvault.opcp.services import Services, services
from plugvault.opcp.tokens import TokenError
from plugvault.pools.caller import (
    ADMIN,
    ANY,
    CPO,
    CPS,
    MO_EXTERNAL_PKI,
    MO_HUBJECT_PKI,
    OEM,
    OPERATORS,
    PEER,
    Caller,
)

EVERYONE = frozenset({OEM, CPO, CPS, ADMIN, PEER}) | OPERATORS

RIGHTS: dict[str, frozenset[str]] = {
    "rcp.read": EVERYONE,
    "rcp.write": frozenset({ADMIN}),
    "pcp.write": frozenset({OEM}),
    "pcp.read": frozenset({OEM, CPS, PEER}) | OPERATORS,
    "cps.signers": EVERYONE,
    "cps.sign": frozenset({MO_EXTERNAL_PKI, PEER}),
    "cps.generate": frozenset({MO_HUBJECT_PKI}),
    "ccp.install": frozenset({CPO, PEER}),
    "ccp.put": frozenset({CPS, MO_EXTERNAL_PKI}),
    "ccp.delete": OPERATORS,
    "ccp.terminate": OPERATORS | {ADMIN},
    "ccp.lookup": frozenset({OEM, CPO}) | OPERATORS,
    "ccp.vehicle": frozenset({OEM}),
    "est.oem": frozenset({OEM}),
    "est.veh": frozenset({OEM}),
    "est.cpo": frozenset({CPO}),
    "est.mo": frozenset({MO_HUBJECT_PKI}),
    "est.cps": frozenset({CPS}),
    "vra.cpo": frozenset({CPO}),
    "webhooks": EVERYONE - {PEER},
    "events": EVERYONE - {PEER},
    "revoke": OPERATORS | {OEM, CPO, ADMIN},
    "registry": OPERATORS,
    "registry.read": EVERYONE,
    "registry.write": frozenset({OEM}),
    "admin": frozenset({ADMIN}),
}

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
    """A dependency that lets the right roles pass and says who calls. 401 or 403 else.

    In open mode a call without a token is anyone's; a bad token is refused all the same.
    """
    allowed = RIGHTS[operation]

    async def caller(
        authorization: Annotated[str | None, Security(access_token)],
        found: Annotated[Services, Depends(services)],
    ) -> Caller:
        if authorization is None and found.settings.open:
            return ANYONE
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise HTTPException(
                401, "A bearer token is needed.", headers={"WWW-Authenticate": "Bearer"}
            )
        try:
            # Only what asks the store may wait, and then not in everybody's way.
            who = found.tokens.known(token)
            if who is None:
                who = await run_in_threadpool(found.tokens.read, token)
        except TokenError as error:
            raise HTTPException(
                401, str(error), headers={"WWW-Authenticate": 'Bearer error="invalid_token"'}
            ) from error
        if not who.roles & allowed:
            raise HTTPException(
                403, f"This call is for {', '.join(sorted(allowed))}, not for {who.name}."
            )
        return who

    def at_once(request: Request, headers: Headers) -> Caller | None:
        scheme, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        who = services(request).tokens.known(token) if scheme == "Bearer" else None
        return who if who and who.roles & allowed else None

    SHORT[caller] = at_once
    return caller
