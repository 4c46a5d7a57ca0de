"""Webhooks, their HTTP [OPCP 1.0.0, webhooks.v1].

The specification names the list of events `enabledEvents` in its schemas and `events` in its
examples: both are taken, both are given.
"""

import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path
from fastapi.responses import JSONResponse
from pydantic import Field

from plugvault.net import Outbound
from plugvault.opcp.fields import AppServices, Wire
from plugvault.opcp.rights import may
from plugvault.opcp.services import Services
from plugvault.pools import webhooks
from plugvault.pools.caller import Caller
from plugvault.pools.errors import PoolError
from plugvault.pools.records import Endpoint
from plugvault.pools.webhooks import EndpointChange

router = APIRouter(prefix="/v1/webhook/endpoints", tags=["Events: webhooks and stream"])

Owner = Annotated[Caller, Depends(may("webhooks"))]
EndpointId = Annotated[str, Path(alias="id", max_length=64)]
Kinds = Annotated[list[str], Field(max_length=64)]


class EndpointUpdate(Wire):
    """`url` is http or https, without credentials, and leads to a public address. What is left
    out stays as it is."""

    url: Annotated[str, Field(max_length=2048)]
    enabled_events: Kinds | None = None
    events: Annotated[Kinds | None, Field(description="The same as enabledEvents")] = None
    api_version: str | None = None
    description: Annotated[str | None, Field(max_length=1000)] = None
    metadata: dict[str, Any] | None = None
    status: Literal["enabled", "disabled"] | None = None

    def wanted(self) -> EndpointChange:
        named = [names for names in (self.enabled_events, self.events) if names is not None]
        if len(named) == 2 and set(named[0]) != set(named[1]):
            raise PoolError("invalid", "events : must be the same as enabledEvents")
        if self.metadata is not None:
            _check_metadata(self.metadata)
        return EndpointChange(
            self.url,
            named[0] if named else None,
            None if self.status is None else self.status == "enabled",
            self.api_version,
            self.description,
            self.metadata,
        )


@router.post("", status_code=201, summary="Have events delivered to a URL")
def create(caller: Owner, services: AppServices, new: EndpointUpdate) -> JSONResponse:
    """Each delivery carries its HMAC-SHA256 with the answer's `secret`. Which events: those that
    concern the role, for the caller's own vehicles or contracts."""
    wanted = new.wanted()
    if wanted.events is None:
        raise PoolError("invalid", "enabledEvents : must be given")
    with services.store.write() as records:
        made = webhooks.create(records, caller, wanted, _outbound(services), services.clock())
    return JSONResponse({**show(made), "secret": services.webhook_secret(made.endpoint_id)}, 201)


@router.get("", summary="The caller's endpoints")
def all_of_them(caller: Owner, services: AppServices) -> JSONResponse:
    with services.store.read() as records:
        return JSONResponse([show(one) for one in webhooks.listed(records, caller)])


@router.get("/{id}", summary="One of the caller's endpoints")
def one(caller: Owner, services: AppServices, endpoint_id: EndpointId) -> JSONResponse:
    with services.store.read() as records:
        endpoint = webhooks.get(records, caller, endpoint_id)
    return JSONResponse({**show(endpoint), "secret": services.webhook_secret(endpoint_id)})


@router.put("/{id}", summary="Change an endpoint")
def update(
    caller: Owner, services: AppServices, endpoint_id: EndpointId, new: EndpointUpdate
) -> JSONResponse:
    wanted = new.wanted()
    with services.store.write() as records:
        return JSONResponse(
            show(webhooks.update(records, caller, endpoint_id, wanted, _outbound(services)))
        )


@router.delete("/{id}", summary="Delete an endpoint, with what is on its way to it")
def delete(caller: Owner, services: AppServices, endpoint_id: EndpointId) -> None:
    with services.store.write() as records:
        webhooks.delete(records, caller, endpoint_id)


def show(endpoint: Endpoint) -> dict[str, Any]:
    events = endpoint.events.split(",")
    scopes = [scope for scope in endpoint.scopes.split(",") if scope]
    whose = {"wmis": [scope for scope in scopes if len(scope) == 3]}
    whose["providerIds"] = [scope for scope in scopes if len(scope) == 5]
    return {
        "id": endpoint.endpoint_id,
        "created": endpoint.created,
        "url": endpoint.url,
        "enabledEvents": events,
        "events": events,
        "apiVersion": endpoint.api_version,
        "description": endpoint.description,
        "metadata": json.loads(endpoint.metadata),
        "status": "enabled" if endpoint.enabled else "disabled",
        **{name: owned for name, owned in whose.items() if owned},
        "userRole": endpoint.role,
        "userName": endpoint.owner_name,
    }


def _check_metadata(given: dict[str, Any]) -> None:
    """What could not be written again would be in the way of every answer that shows it."""
    try:
        written = json.dumps(given, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise PoolError("invalid", "metadata : must be JSON in Unicode") from error
    if len(written) > 4096:
        raise PoolError("invalid", "metadata : must have at most 4096 characters")


def _outbound(services: Services) -> Outbound:
    return Outbound(services.settings.networks)
