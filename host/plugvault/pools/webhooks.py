"""Webhooks: the URLs to which a client wants its events delivered [OPCP 1.0.0, webhooks.v1].

Every role may have webhooks and sees only its own. The role decides the possible kinds of events,
and the owner's scopes decide the vehicles and contracts. A request cannot widen them.
`plugvault.delivery` delivers the events.
"""

import json
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from plugvault.net import NetError, Outbound
from plugvault.pools import scopes
from plugvault.pools.caller import OEM, OPERATORS, Caller
from plugvault.pools.errors import PoolError
from plugvault.pools.events import KINDS, MO_EVENTS, OEM_EVENTS, ROOT_EVENTS
from plugvault.pools.records import Delivery, Endpoint, Event
from plugvault.pools.repositories import Records

MOST = 20  # endpoints of one owner
PAGE = 1000  # deliveries read or sent again in one call
_VERSION = "v1"


@dataclass(frozen=True)
class EndpointChange:
    """New values of an endpoint. None: the stored value, or the default of a new endpoint."""

    url: str
    events: Sequence[str] | None = None
    enabled: bool | None = None
    api_version: str | None = None
    description: str | None = None
    metadata: Mapping[str, Any] | None = None


def create(
    records: Records, caller: Caller, change: EndpointChange, outbound: Outbound, now: float
) -> Endpoint:
    """Create an endpoint. `outbound`: the addresses that a URL may have.

    Raises PoolError("invalid"): an unknown event or one of another role, a URL that is not
    allowed, more than MOST endpoints.
    """
    scopes.lock_owner(records, caller.client_id)  # so that parallel requests all count
    if len(records.endpoints.of_owner(caller.client_id)) >= MOST:
        raise PoolError("invalid", f"There are {MOST} endpoints already; delete one first.")
    new = Endpoint(
        str(uuid.uuid4()),
        owner=caller.client_id,
        owner_name=caller.name,
        role="",
        scopes="",
        url="",
        events="",
        created=int(now),
    )
    return _put(records, caller, new, replace(change, events=change.events or ()), outbound)


def update(
    records: Records, caller: Caller, endpoint_id: str, change: EndpointChange, outbound: Outbound
) -> Endpoint:
    """Change an endpoint. Raises PoolError as `create` and `get`."""
    _lock(records, caller, endpoint_id)
    return _put(records, caller, get(records, caller, endpoint_id), change, outbound)


def get(records: Records, caller: Caller, endpoint_id: str) -> Endpoint:
    """An endpoint of the caller. Raises PoolError("not-found"), also for another owner's, so that
    the refusal does not tell whether the endpoint exists."""
    endpoint = records.endpoints.get(endpoint_id)
    if endpoint is None or endpoint.owner != caller.client_id:
        raise PoolError("not-found", "The webhook endpoint with the given id is not found.")
    return endpoint


def disable(records: Records, endpoint_id: str, url: str) -> None:
    """Disable an endpoint whose URL does not exist any more, unless its owner has changed the
    URL."""
    endpoint = records.endpoints.get(endpoint_id)
    if endpoint and endpoint.url == url:
        records.endpoints.put(replace(endpoint, enabled=False))


def listed(records: Records, caller: Caller) -> Sequence[Endpoint]:
    """The endpoints of the caller, the oldest first."""
    endpoints = records.endpoints.of_owner(caller.client_id)
    return sorted(endpoints, key=lambda endpoint: (endpoint.created, endpoint.endpoint_id))


def delete(records: Records, caller: Caller, endpoint_id: str) -> None:
    """Delete an endpoint with its deliveries. Raises PoolError as `get`."""
    _lock(records, caller, endpoint_id)
    records.endpoints.delete(get(records, caller, endpoint_id).endpoint_id)


def deliveries(
    records: Records, caller: Caller, endpoint_id: str, state: str | None
) -> Sequence[tuple[Delivery, Event]]:
    """The deliveries to an endpoint, the latest first, PAGE at most. `state`: see Delivery, None
    for all. Raises PoolError as `get`."""
    endpoint = get(records, caller, endpoint_id)
    return records.deliveries.of_endpoint(endpoint.endpoint_id, state, PAGE)


def replay(
    records: Records, caller: Caller, endpoint_id: str, now: float, event_id: str | None = None
) -> int:
    """Send all dead deliveries of an endpoint again, or one finished delivery. Return the number.

    They precede the waiting deliveries of the same vehicle. Raises PoolError("not-found").
    """
    scopes.lock_endpoint(records, endpoint_id)
    endpoint = get(records, caller, endpoint_id)
    if event_id is None:
        dead = records.deliveries.of_endpoint(endpoint_id, "dead", PAGE)
        repeated = [delivery for delivery, _ in dead]
    else:
        delivery = records.deliveries.get(event_id, endpoint.endpoint_id)
        if delivery is None:
            raise PoolError("not-found", "This event was not for this endpoint.")
        repeated = [delivery] if delivery.state != "pending" else []
    for delivery in repeated:
        pending = replace(delivery, state="pending", attempts=0, due=now, lease=0.0)
        records.deliveries.put(pending)
    return len(repeated)


def concerning(roles: Collection[str]) -> tuple[str, ...]:
    """The kinds of events that these roles may subscribe to."""
    kinds: tuple[str, ...] = ROOT_EVENTS
    if not OPERATORS.isdisjoint(roles):
        kinds += MO_EVENTS
    if OEM in roles:
        kinds += OEM_EVENTS
    return kinds


def _lock(records: Records, caller: Caller, endpoint_id: str) -> None:
    scopes.lock_owner(records, caller.client_id)
    scopes.lock_endpoint(records, endpoint_id)


def _put(
    records: Records,
    caller: Caller,
    endpoint: Endpoint,
    change: EndpointChange,
    outbound: Outbound,
) -> Endpoint:
    if change.api_version not in (None, _VERSION):
        raise PoolError("invalid", f'apiVersion : must be "{_VERSION}"')
    owner = scopes.of_client(records, caller)
    events = endpoint.events if change.events is None else _events(owner, change.events)
    try:
        outbound.check(change.url)
    except NetError as error:
        raise PoolError("invalid", f"url : {error.detail}") from error
    changed = replace(
        endpoint,
        role=_role(owner),
        scopes=scopes.joined(owner),
        url=change.url,
        events=events,
        enabled=endpoint.enabled if change.enabled is None else change.enabled,
        description=endpoint.description if change.description is None else change.description,
        metadata=endpoint.metadata if change.metadata is None else json.dumps(change.metadata),
    )
    records.endpoints.put(changed)
    return changed


def _events(caller: Caller, requested: Sequence[str]) -> str:
    possible = concerning(caller.roles)
    for kind in requested:
        if kind not in KINDS:
            raise PoolError("invalid", f"enabledEvents : {kind} is not an event")
        if kind not in possible:
            role = _role(caller)
            raise PoolError("invalid", f"enabledEvents : {kind} does not concern the role {role}")
    if not requested:
        raise PoolError("invalid", "enabledEvents : must name at least one event")
    return ",".join(kind for kind in possible if kind in requested)


def _role(caller: Caller) -> str:
    """The role as OPCP names it for webhooks: "MO" for both kinds of operators."""
    return "/".join(sorted({"MO" if role in OPERATORS else role for role in caller.roles}))
