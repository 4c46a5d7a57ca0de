"""Webhooks: where a party wants which events delivered [OPCP 1.0.0, webhooks.v1].

Any role has them and sees its own alone. The kinds of events are those that concern the role;
whose vehicles and contracts they are about follows from the owner's scopes, not from anything it
can ask for. Delivering is `plugvault.delivery`'s work.
"""

import json
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from plugvault.net import NetError, Outbound
from plugvault.pools.caller import OEM, OPERATORS, Caller
from plugvault.pools.errors import PoolError
from plugvault.pools.events import KINDS, MO_EVENTS, OEM_EVENTS, ROOT_EVENTS
from plugvault.pools.records import Delivery, Endpoint, Event
from plugvault.pools.repositories import Records

MOST = 20  # endpoints of one owner
PAGE = 1000  # deliveries looked at or sent again at once
_VERSION = "v1"


@dataclass(frozen=True)
class Wanted:
    """What an endpoint shall be; None leaves it as it is (or as it is by default)."""

    url: str
    events: Sequence[str] | None = None
    enabled: bool | None = None
    api_version: str | None = None
    description: str | None = None
    metadata: Mapping[str, Any] | None = None


def create(
    records: Records, caller: Caller, wanted: Wanted, outbound: Outbound, now: float
) -> Endpoint:
    """Raises PoolError: "invalid" (an event that does not exist or does not concern the caller, a
    URL that must not be called, too many endpoints)."""
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
    return _put(records, caller, new, replace(wanted, events=wanted.events or ()), outbound)


def update(
    records: Records, caller: Caller, endpoint_id: str, wanted: Wanted, outbound: Outbound
) -> Endpoint:
    """Raises PoolError as `create` and `get` do."""
    return _put(records, caller, get(records, caller, endpoint_id), wanted, outbound)


def get(records: Records, caller: Caller, endpoint_id: str) -> Endpoint:
    """Raises PoolError("not-found"), for another owner's too: whether it exists is nobody's
    business."""
    found = records.endpoints.get(endpoint_id)
    if found is None or found.owner != caller.client_id:
        raise PoolError("not-found", "The webhook endpoint with the given id is not found.")
    return found


def listed(records: Records, caller: Caller) -> Sequence[Endpoint]:
    """The caller's own, the oldest first."""
    own = records.endpoints.of_owner(caller.client_id)
    return sorted(own, key=lambda endpoint: (endpoint.created, endpoint.endpoint_id))


def delete(records: Records, caller: Caller, endpoint_id: str) -> None:
    """With everything that was on its way to it."""
    records.endpoints.delete(get(records, caller, endpoint_id).endpoint_id)


def deliveries(
    records: Records, caller: Caller, endpoint_id: str, state: str | None
) -> Sequence[tuple[Delivery, Event]]:
    """What went or goes to an endpoint, the latest first, PAGE at most. `state`: see Delivery."""
    found = get(records, caller, endpoint_id)
    return records.deliveries.of_endpoint(found.endpoint_id, state, PAGE)


def replay(
    records: Records, caller: Caller, endpoint_id: str, now: float, event_id: str | None = None
) -> int:
    """Send again what was given up or rejected, or one delivery whatever came of it; how many.

    They go before what is still waiting for the same vehicle. Raises PoolError("not-found").
    """
    endpoint = get(records, caller, endpoint_id)
    if event_id is None:
        again = [one for one, _ in records.deliveries.of_endpoint(endpoint_id, "dead", PAGE)]
    else:
        one = records.deliveries.get(event_id, endpoint.endpoint_id)
        if one is None:
            raise PoolError("not-found", "This event was not for this endpoint.")
        again = [one] if one.state != "pending" else []
    for one in again:
        records.deliveries.put(replace(one, state="pending", attempts=0, due=now, lease=0.0))
    return len(again)


def concerning(roles: Collection[str]) -> tuple[str, ...]:
    """The kinds of events that concern these roles."""
    theirs: tuple[str, ...] = ROOT_EVENTS
    if not OPERATORS.isdisjoint(roles):
        theirs += MO_EVENTS
    if OEM in roles:
        theirs += OEM_EVENTS
    return theirs


def _put(
    records: Records, caller: Caller, endpoint: Endpoint, wanted: Wanted, outbound: Outbound
) -> Endpoint:
    if wanted.api_version not in (None, _VERSION):
        raise PoolError("invalid", f'apiVersion : must be "{_VERSION}"')
    events = endpoint.events if wanted.events is None else _events(caller, wanted.events)
    try:
        outbound.check(wanted.url)
    except NetError as error:
        raise PoolError("invalid", f"url : {error.detail}") from error
    changed = replace(
        endpoint,
        role=_role(caller),
        scopes=",".join(sorted(caller.wmis | caller.providers)),
        url=wanted.url,
        events=events,
        enabled=endpoint.enabled if wanted.enabled is None else wanted.enabled,
        description=endpoint.description if wanted.description is None else wanted.description,
        metadata=endpoint.metadata if wanted.metadata is None else json.dumps(wanted.metadata),
    )
    records.endpoints.put(changed)
    return changed


def _events(caller: Caller, wanted: Sequence[str]) -> str:
    theirs = concerning(caller.roles)
    for kind in wanted:
        if kind not in KINDS:
            raise PoolError("invalid", f"enabledEvents : {kind} is not an event")
        if kind not in theirs:
            role = _role(caller)
            raise PoolError("invalid", f"enabledEvents : {kind} does not concern the role {role}")
    if not wanted:
        raise PoolError("invalid", "enabledEvents : must name at least one event")
    return ",".join(kind for kind in theirs if kind in wanted)


def _role(caller: Caller) -> str:
    """As OPCP names it here: "MO" for both kinds of operators."""
    return "/".join(sorted({"MO" if role in OPERATORS else role for role in caller.roles}))
