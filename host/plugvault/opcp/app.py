"""The application: every service of the ecosystem under one address."""

from importlib.metadata import PackageNotFoundError, version

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from plugvault.opcp import (
    ccp,
    cps,
    deadletter,
    errors,
    est,
    health,
    oauth,
    ocsp,
    openapi,
    pcp,
    rcp,
    registry,
    revoke,
    stream,
    termination,
    vra,
    webhooks,
    welcome,
)
from plugvault.opcp.browser import OwnPages
from plugvault.opcp.limits import BodyLimit
from plugvault.opcp.open import WARNING, OpenMode
from plugvault.opcp.services import Services
from plugvault.speed import ENABLED, routing

_TITLE = "plugvault ecosystem"
_DESCRIPTION = """
A Plug & Charge ecosystem that speaks OPCP 1.0.0. Press *Authorize*, enter `client_id` and
`client_secret` of a role, and try the calls.

| pool | holds | written by | read by |
|---|---|---|---|
| RCP | root certificates | administrators | everyone |
| PCP | provisioning certificates of vehicles | makers (OEM) | operators (MO) |
| CPS | nothing: it signs contract data | operators | |
| CCP | signed contracts | CPS | makers, charge point operators (CPO) |

Certificates are base64 of DER. Every refusal is `{"errorMessages": [...], "traceId": "..."}`.
"""

# A new client uses the services in this order.
_TAGS = (
    "Access token",
    "RCP: root certificates",
    "EST: certificates",
    "PCP: provisioning certificates",
    "CPS: contract data",
    "CCP: signed contracts",
)


# FastAPI tries them in this order: the most frequent requests come first.
_ROUTERS = tuple(
    part.router
    for part in (
        ccp,
        cps,
        ocsp,
        pcp,
        rcp,
        oauth,
        termination,
        est,
        vra,
        revoke,
        registry,
        webhooks,
        deadletter,
        stream,
        welcome,
        health,
    )
)


def create_app(services: Services) -> FastAPI:
    """The ASGI application with every endpoint of the ecosystem.

    In open mode every answer has a warning (`opcp.open`).
    """
    opened = services.settings.open
    app = FastAPIOffline(  # its page works without the Internet
        redoc_url=None,
        title=f"{WARNING} · {_TITLE}" if opened else _TITLE,
        version=_version(),
        description=_DESCRIPTION,
        openapi_tags=[{"name": tag} for tag in _TAGS],
        responses=errors.RESPONSES,
        redirect_slashes=False,
        swagger_ui_parameters={"defaultModelsExpandDepth": -1},
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.services = services
    app.state.routes = [route for router in _ROUTERS for route in router.routes]
    errors.install(app)
    for router in _ROUTERS:
        app.include_router(router)
    openapi.complete(app)
    if ENABLED:
        routing.add(app, _ROUTERS)
    # The last one added is the outermost.
    app.add_middleware(OwnPages, url=services.tokens.audience, hosts=services.settings.hosts)
    app.add_middleware(BodyLimit)
    if opened:
        app.add_middleware(OpenMode)
    return app


def _version() -> str:
    try:
        return version("plugvault")
    except PackageNotFoundError:
        return "0"
