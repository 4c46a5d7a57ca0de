"""The deliveries of a webhook, and their repetition. An extension of OPCP for a webhook's owner.

A dead delivery stays listed with its reason until it is sent again.
"""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from fastapi.responses import JSONResponse

from plugvault.opcp.fields import AppServices
from plugvault.opcp.webhooks import EndpointId, Owner
from plugvault.pki.names import timestamp
from plugvault.pools import webhooks
from plugvault.pools.events import envelope
from plugvault.pools.records import Delivery, Event

router = APIRouter(
    prefix="/v1/webhook/endpoints/{id}/deliveries", tags=["Events: webhooks and stream"]
)

State = Literal["pending", "sent", "rejected", "dead"]


@router.get("", summary="List the deliveries to an endpoint, the latest first")
def deliveries(
    caller: Owner,
    services: AppServices,
    endpoint_id: EndpointId,
    state: Annotated[State | None, Query()] = None,
) -> JSONResponse:
    """`state`: "pending": another attempt follows; "sent": the receiver accepted the event;
    "rejected": it answered with 400 or 409; "dead": all attempts failed. `outcome`: the result of
    the last attempt; `nextAttempt`: a time for "pending" alone."""
    with services.store.read() as records:
        listed = webhooks.deliveries(records, caller, endpoint_id, state)
    return JSONResponse({"deliveries": [_show(delivery, event) for delivery, event in listed]})


@router.post("/replay", summary="Send all dead deliveries again")
def replay_all(caller: Owner, services: AppServices, endpoint_id: EndpointId) -> JSONResponse:
    """`replayed`: the number of deliveries that are sent again."""
    return _replay(caller, services, endpoint_id, None)


@router.post("/{eventId}/replay", summary="Send one event again")
def replay(
    caller: Owner,
    services: AppServices,
    endpoint_id: EndpointId,
    event_id: Annotated[str, Path(alias="eventId", max_length=64)],
) -> JSONResponse:
    """A delivery that is "sent", "rejected" or "dead" is sent again. 404 for an event that was not
    for this endpoint. A "pending" delivery is not touched, and `replayed` is 0."""
    return _replay(caller, services, endpoint_id, event_id)


def _replay(
    caller: Owner, services: AppServices, endpoint_id: str, event_id: str | None
) -> JSONResponse:
    with services.store.write() as records:
        count = webhooks.replay(records, caller, endpoint_id, services.clock(), event_id)
    return JSONResponse({"replayed": count})


def _show(delivery: Delivery, event: Event) -> dict[str, Any]:
    return {
        "state": delivery.state,
        "attempts": delivery.attempts,
        "outcome": delivery.outcome,
        "nextAttempt": timestamp(delivery.due) if delivery.state == "pending" else None,
        "event": envelope(event),
    }
