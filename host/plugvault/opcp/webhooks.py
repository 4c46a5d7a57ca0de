"""Webhooks over HTTP [OPCP 1.0.0, webhooks.v1].

The specification names the list of events `enabledEvents` in its schemas and `events` in its
examples. Requests may have either, answers have both.
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
    """An endpoint. `url`: http or https, without credentials, of a public address; `metadata`: at
    most 4096 bytes of JSON. An optional member that is left out stays unchanged."""

    url: Annotated[str, Field(max_length=2048)]
    enabled_events: Kinds | None = None
    events: Annotated[Kinds | None, Field(description="The same as enabledEvents")] = None
    api_version: str | None = None
    description: Annotated[str | None, Field(max_length=1000)] = None
    metadata: dict[str, Any] | None = None
    status: Literal["enabled", "disabled"] | None = None

    def change(self) -> EndpointChange:
        """The change for `pools.webhooks`. Raises PoolError("invalid") for two different lists of
        events and for metadata that no answer could contain."""
        lists = [kinds for kinds in (self.enabled_events, self.events) if kinds is not None]
        if len(lists) == 2 and set(lists[0]) != set(lists[1]):
            raise PoolError("invalid", "events : must be the same as enabledEvents")
        if self.metadata is not None:
            _check_metadata(self.metadata)
        return EndpointChange(
            self.url,
            lists[0] if lists else None,
            None if self.status is None else self.status == "enabled",
            self.api_version,
            self.description,
            self.metadata,
        )


@router.post("", status_code=201, summary="Create an endpoint that gets events")
def create(caller: Owner, services: AppServices, new: EndpointUpdate) -> JSONResponse:
    """Each delivery has an HMAC-SHA256 under the `secret` of the answer. The events are those of
    the caller's role, about its own vehicles or contracts. 400 for an unknown event, a URL that is
    not allowed, or too many endpoints."""
    change = new.change()
    if change.events is None:
        raise PoolError("invalid", "enabledEvents : must be given")
    with services.store.write() as records:
        endpoint = webhooks.create(records, caller, change, _outbound(services), services.clock())
    return JSONResponse(
        {**show(endpoint), "secret": services.webhook_secret(endpoint.endpoint_id)}, 201
    )


@router.get("", summary="List the endpoints of the caller")
def all_of_them(caller: Owner, services: AppServices) -> JSONResponse:
    """The answer has no secrets."""
    with services.store.read() as records:
        return JSONResponse([show(endpoint) for endpoint in webhooks.listed(records, caller)])


@router.get("/{id}", summary="Get an endpoint of the caller")
def one(caller: Owner, services: AppServices, endpoint_id: EndpointId) -> JSONResponse:
    """The answer has the `secret` of the endpoint's deliveries. 404 for an endpoint of another
    client."""
    with services.store.read() as records:
        endpoint = webhooks.get(records, caller, endpoint_id)
    return JSONResponse({**show(endpoint), "secret": services.webhook_secret(endpoint_id)})


@router.put("/{id}", summary="Change an endpoint")
def update(
    caller: Owner, services: AppServices, endpoint_id: EndpointId, new: EndpointUpdate
) -> JSONResponse:
    """Members that are left out stay unchanged. 404 for an endpoint of another client."""
    change = new.change()
    with services.store.write() as records:
        return JSONResponse(
            show(webhooks.update(records, caller, endpoint_id, change, _outbound(services)))
        )


@router.delete("/{id}", summary="Delete an endpoint with its deliveries")
def delete(caller: Owner, services: AppServices, endpoint_id: EndpointId) -> None:
    """404 for an endpoint of another client."""
    with services.store.write() as records:
        webhooks.delete(records, caller, endpoint_id)


def show(endpoint: Endpoint) -> dict[str, Any]:
    """The JSON of an endpoint, without its secret. `wmis`, `providerIds`: the vehicles and
    contracts whose events it gets."""
    events = endpoint.events.split(",")
    scopes = [scope for scope in endpoint.scopes.split(",") if scope]
    owned = {"wmis": [scope for scope in scopes if len(scope) == 3]}
    owned["providerIds"] = [scope for scope in scopes if len(scope) == 5]
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
        **{name: values for name, values in owned.items() if values},
        "userRole": endpoint.role,
        "userName": endpoint.owner_name,
    }


def _check_metadata(metadata: dict[str, Any]) -> None:
    """Refuse metadata that no later answer could contain."""
    try:
        written = json.dumps(metadata, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise PoolError("invalid", "metadata : must be JSON in Unicode") from error
    if len(written) > 4096:
        raise PoolError("invalid", "metadata : must have at most 4096 characters")


def _outbound(services: Services) -> Outbound:
    return Outbound(services.settings.networks)
